"""What localmode itself costs: starting the daemon, keeping it, and running a job that does nothing.

    make bench

Every figure is a median of several runs, with the lowest and the highest beside it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import boto3

import localmode
from localmode.client import lifecycle as client

RUNS = 7
MODEL_MB = 200
IDLE_SECONDS = 60
TRIVIAL = ["/bin/bash", "-c", "true"]


def show(title: str, unit: str, figures: list[float]) -> None:
    print(f"{title:<52}{statistics.median(figures):8.2f} {unit:<4} ({min(figures):.2f} to {max(figures):.2f})")


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def start_and_stop(home: Path) -> list[float]:
    """Seconds that `python -m localmode start` takes; the daemon of the last run stays."""
    command = [sys.executable, "-m", "localmode", "start", "--home", str(home)]
    figures = []
    for _ in range(RUNS):
        client.stop(home)
        figures.append(timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)))
    return figures


def idle(pid: int, seconds: float) -> tuple[float, float]:
    """Resident memory in MB, and CPU time as a percentage of one core over some seconds of idling."""
    began = _cpu_seconds(pid)
    time.sleep(seconds)
    used = _cpu_seconds(pid) - began
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 100 * used / seconds


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_job(name: str, command: list[str]) -> None:
    """CreateTrainingJob to Completed, polling every 50 ms."""
    sagemaker, state = boto3.client("sagemaker"), localmode.status()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": "none",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": command,
        },
        RoleArn=state["role_arn"],
        OutputDataConfig={"S3OutputPath": f"s3://{state['default_bucket']}/bench"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    while (status := sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]) == "InProgress":
        time.sleep(0.05)
    assert status == "Completed", status


def model_upload(home: Path) -> None:
    """A job that copies a 200 MB model, against `tar czf` and a copy with fsync of the same file."""
    model = home.parent / "model.bin"
    model.write_bytes(os.urandom(MODEL_MB * 1_000_000))
    job = timed(lambda: run_job("large-model", ["cp", str(model), "/opt/ml/model/model.bin"]))
    archive = home.parent / "model.tar.gz"
    pack = timed(lambda: subprocess.run(["tar", "czf", archive, "-C", model.parent, model.name], check=True))
    copy = timed(
        lambda: subprocess.run(["dd", f"if={archive}", f"of={archive}.2", "bs=1M", "conv=fsync", "status=none"])
    )
    print(f"a job with a model of {MODEL_MB} MB: {job:.1f} s; tar czf {pack:.1f} s + copy with fsync {copy:.1f} s")
    print(f"ratio: {job / (pack + copy):.2f}")
    stages = boto3.client("sagemaker").describe_training_job(TrainingJobName="large-model")
    for stage in stages["SecondaryStatusTransitions"]:
        print(f"    {stage['Status']:<12}{(stage['EndTime'] - stage['StartTime']).total_seconds():6.2f} s")


def idle_job(seconds: float) -> None:
    """Memory and CPU of the daemon while a job with checkpoints does nothing."""
    sagemaker, state = boto3.client("sagemaker"), localmode.status()
    sagemaker.create_training_job(
        TrainingJobName="idle",
        AlgorithmSpecification={
            "TrainingImage": "none",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["sleep", "3600"],
        },
        RoleArn=state["role_arn"],
        OutputDataConfig={"S3OutputPath": f"s3://{state['default_bucket']}/bench"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600},
        EnableManagedSpotTraining=True,
        CheckpointConfig={"S3Uri": f"s3://{state['default_bucket']}/bench-checkpoints"},
    )
    megabytes, percent = idle(state["pid"], seconds)
    print(f"daemon while a job idles for {seconds:.0f} s: {megabytes:.0f} MB, {percent:.1f} % of a core")
    sagemaker.stop_training_job(TrainingJobName="idle")


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "state"
        os.environ["LOCALMODE_HOME"] = str(home)
        try:
            show("localmode start", "s", start_and_stop(home))
            localmode.start()
            print(f"runner: {localmode.status()['runner']}")
            megabytes, percent = idle(localmode.status()["pid"], 10)
            print(f"daemon idle: {megabytes:.0f} MB, {percent:.1f} % of a core")
            jobs = [timed(partial(run_job, f"trivial-{number}", TRIVIAL)) for number in range(RUNS)]
            bare = [timed(lambda: subprocess.run(TRIVIAL, check=True)) for _ in range(RUNS)]
            show("a job that does nothing, Create to Completed", "s", jobs)
            show("the same command, bare", "s", bare)
            show("difference", "s", [job - statistics.median(bare) for job in jobs])
            idle_job(IDLE_SECONDS)
            model_upload(home)
            megabytes, _ = idle(localmode.status()["pid"], 1)
            print(f"daemon afterwards: {megabytes:.0f} MB")
        finally:
            client.stop(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
