"""How localmode holds up when much happens at once.

    make bench

What is compared is measured in turns and in one run; latencies are those of boto3's DescribeTrainingJob, the client's
own time included.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

import localmode
from localmode.client import lifecycle as client

LARGE = 200_000_000
CHECKPOINT = 500_000_000
SMALL = 1000
ROUNDS = 7
CLIENTS = 8
SECONDS = 5.0


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "state"
        os.environ["LOCALMODE_HOME"] = str(home)
        try:
            localmode.start()
            state = localmode.status()
            bucket = state["default_bucket"]
            run(state, "described", ["true"])
            describe_latency(bucket)
            large_checkpoint(state)
            sustained_rate()
            large_object(bucket, Path(directory))
            small_objects(bucket)
            reads_beside_writes(bucket)
            many_jobs(state)
            pages = int(Path(f"/proc/{state['pid']}/statm").read_text().split()[1])
            print(f"daemon afterwards: {pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB")
        finally:
            client.stop(home)
    return 0


def sagemaker() -> Any:
    return boto3.client("sagemaker", config=Config(retries={"total_max_attempts": 1}))


def run(state: dict[str, Any], name: str, command: list[str], **members: Any) -> None:
    """Submit a job; the last one of a series is waited for by its caller."""
    algorithm = {"TrainingImage": "none", "TrainingInputMode": "File", "ContainerEntrypoint": command}
    sagemaker().create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification=algorithm,
        RoleArn=state["role_arn"],
        OutputDataConfig={"S3OutputPath": f"s3://{state['default_bucket']}/bench"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        **members,
    )


def latencies(until: Callable[[], bool]) -> list[float]:
    """Milliseconds that each call of DescribeTrainingJob took, one after the other."""
    api, taken = sagemaker(), []
    while not until():
        began = time.perf_counter()
        api.describe_training_job(TrainingJobName="described")
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def show(title: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    p99 = ordered[int(0.99 * len(ordered))]
    print(f"{title:<46} median {statistics.median(taken):6.1f} ms, p99 {p99:6.1f} ms, worst {ordered[-1]:6.1f} ms")


def describe_latency(bucket: str) -> None:
    end = time.monotonic() + SECONDS
    show("DescribeTrainingJob, idle", latencies(lambda: time.monotonic() > end))
    upload = threading.Thread(target=lambda: put(bucket, "beside", os.urandom(LARGE)))
    upload.start()
    show(f"DescribeTrainingJob, while {LARGE // 10**6} MB are uploaded", latencies(lambda: not upload.is_alive()))


def large_checkpoint(state: dict[str, Any]) -> None:
    """DescribeTrainingJob while a job's checkpoint goes to S3."""
    prefix = "bench/large-checkpoint/"
    script = f"head -c {CHECKPOINT} /dev/urandom > /opt/ml/code/draft; mv /opt/ml/code/draft /opt/ml/checkpoints/whole"
    where = {"S3Uri": f"s3://{state['default_bucket']}/{prefix}"}
    run(state, "checkpointed", ["sh", "-c", f"{script}; sleep 60"], CheckpointConfig=where)
    s3, api = boto3.client("s3"), sagemaker()
    done = threading.Event()

    def watch() -> None:
        while not s3.list_objects_v2(Bucket=state["default_bucket"], Prefix=f"{prefix}whole").get("Contents"):
            time.sleep(0.1)
        done.set()

    threading.Thread(target=watch).start()
    show(f"DescribeTrainingJob, with a {CHECKPOINT // 10**6} MB checkpoint", latencies(done.is_set))
    api.stop_training_job(TrainingJobName="checkpointed")


def sustained_rate() -> None:
    """Requests per second of several client processes."""
    code = (
        "import boto3, sys, time\n"
        "api, count, end = boto3.client('sagemaker'), 0, time.monotonic() + float(sys.argv[1])\n"
        "while time.monotonic() < end:\n"
        "    api.describe_training_job(TrainingJobName='described'); count += 1\n"
        "print(count)"
    )
    clients = [
        subprocess.Popen([sys.executable, "-c", code, str(SECONDS)], stdout=subprocess.PIPE, text=True)
        for _ in range(CLIENTS)
    ]
    total = sum(int(process.communicate()[0]) for process in clients)
    print(f"{CLIENTS} clients: {total / SECONDS:.0f} requests/s")


def put(bucket: str, key: str, body: bytes) -> float:
    began = time.perf_counter()
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=io.BytesIO(body))
    return time.perf_counter() - began


def large_object(bucket: str, scratch: Path) -> None:
    """PUT and GET against a plain copy with fsync, in turns."""
    body, source = os.urandom(LARGE), scratch / "large"
    with source.open("wb") as file:
        file.write(body)
        os.fsync(file.fileno())
    taken: dict[str, list[float]] = {"copy with fsync": [], "S3 PUT": [], "S3 GET": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(["dd", f"if={source}", f"of={source}.copy", "bs=1M", "conv=fsync", "status=none"], check=True)
        taken["copy with fsync"].append(time.perf_counter() - began)
        taken["S3 PUT"].append(put(bucket, "large", body))
        began = time.perf_counter()
        assert boto3.client("s3").get_object(Bucket=bucket, Key="large")["Body"].read() == body
        taken["S3 GET"].append(time.perf_counter() - began)
    for title, times in taken.items():
        shares = sorted(copy / mine for copy, mine in zip(taken["copy with fsync"], times, strict=True))
        rate = LARGE / statistics.median(times) / 1e6
        spread = f"{shares[0]:.2f} to {shares[-1]:.2f}"
        print(f"{title:<16}{rate:8.0f} MB/s, {statistics.median(shares):.2f} of the copy ({spread})")


def small_objects(bucket: str) -> None:
    s3, began = boto3.client("s3"), time.perf_counter()
    for number in range(SMALL):
        s3.put_object(Bucket=bucket, Key=f"small/{number:04}", Body=str(number).encode())
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="small/")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert [int(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys] == list(range(SMALL))
    print(f"{SMALL} small objects written, listed and read: {time.perf_counter() - began:.1f} s")


def reads_beside_writes(bucket: str) -> None:
    """HEAD and GET of a small object, alone and while another process PUTs objects with metadata."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket=bucket, Key="read", Body=b"1")
    code = (
        "import boto3, itertools, sys\n"
        "s3 = boto3.client('s3')\n"
        "for number in itertools.count():\n"
        "    s3.put_object(Bucket=sys.argv[1], Key=f'beside/{number % 50}', Body=b'1', Metadata={'n': str(number)})\n"
        "    print(number, flush=True)"
    )
    for title in ("alone", "beside PUTs with metadata"):
        writer = None
        if title != "alone":
            writer = subprocess.Popen([sys.executable, "-c", code, bucket], stdout=subprocess.PIPE)
            assert writer.stdout is not None
            writer.stdout.readline()  # the first object has been written
            threading.Thread(target=writer.stdout.read, daemon=True).start()  # so that the pipe does not fill up
        taken: dict[str, list[float]] = {"HEAD": [], "GET": []}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.perf_counter()
            s3.head_object(Bucket=bucket, Key="read")
            between = time.perf_counter()
            s3.get_object(Bucket=bucket, Key="read")["Body"].read()
            taken["HEAD"].append(1000 * (between - began))
            taken["GET"].append(1000 * (time.perf_counter() - between))
        if writer is not None:
            writer.kill()
            writer.wait()
        for operation, times in taken.items():
            show(f"S3 {operation}, {title}", times)


def many_jobs(state: dict[str, Any]) -> None:
    names, began = [f"job-{number}" for number in range(16)], time.perf_counter()
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: run(state, name, ["true"]), names))
    api, taken = sagemaker(), []
    while True:
        start = time.perf_counter()
        jobs = [api.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] for name in names]
        taken.append(1000 * (time.perf_counter() - start) / len(names))
        if "InProgress" not in jobs:
            break
    assert jobs == ["Completed"] * len(names), jobs
    print(f"{len(names)} jobs at once, all completed after {time.perf_counter() - began:.1f} s")
    show("DescribeTrainingJob meanwhile (mean of 16)", taken)


if __name__ == "__main__":
    sys.exit(main())
