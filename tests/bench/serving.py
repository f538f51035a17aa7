"""What an endpoint costs: InvokeEndpoint against calling the same SavedModel directly, in one run.

    make bench

or `python tests/bench/serving.py --requests 2000 --rounds 1` for a shorter one. Latencies are those that callers of
boto3 see, the client's own time included; the clients are threads of one process. Exits with 1 if a limit is missed: no
error and no growth of memory over all requests; at most 3 times the bare call plus 3 ms for a single image; and the
99th percentile of one endpoint while another is created, updated and deleted 20 times at most 1.5 times that without.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

import localmode

SOURCE = Path(__file__).parents[2] / "source_dir"
BATCHES = (1, 64)
SHARES = {(1, 1): 0.1, (8, 1): 0.55, (64, 1): 0.2, (1, 64): 0.05, (8, 64): 0.05, (64, 64): 0.05}  # of the requests
FIRST_PASS = 0.2  # of each share, before memory is looked at
NAME = "bench"
WARM_UP = 50
MAX_GROWTH = 0.05  # of the memory after the first pass
CHANGES = 20  # creations, updates and deletions of the other endpoint
QUIET_SECONDS = 10.0
POLL_SECONDS = 0.1
MAX_RATIO = 1.5  # of the 99th percentiles
# A model server that starts at once: what remains is the work of the daemon. The model's environment has PYTHONPATH.
STAND_IN = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
os.write(1, b'{"url": "http://127.0.0.1:%d/x"}\\n' % listener.getsockname()[1])
while os.read(0, 4096):
    pass
os._exit(0)
"""
BARE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from model import build_model
import numpy as np, tensorflow as tf
net = build_model((8, 8, 1), 10)
net.export(sys.argv[2] + "/1", verbose=False)
predict = tf.saved_model.load(sys.argv[2] + "/1").signatures["serving_default"]
(name,) = predict.structured_input_signature[1]
for batch in map(int, sys.argv[4:]):
    images = np.random.default_rng(0).random((batch, 8, 8, 1), np.float32)
    for number in range(int(sys.argv[3]) + 50):
        began = time.perf_counter()
        predict(**{name: tf.constant(images)})["output_0"].numpy()
        if number >= 50:
            print(batch, 1000 * (time.perf_counter() - began))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="in all; 20000 unless told")
    parser.add_argument("--rounds", type=int, default=3, help="of changes of another endpoint; 3 unless told")
    parser.add_argument("--load-until-eof", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=3, type=int, metavar=("CLIENTS", "BATCH", "REQUESTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        return load(*arguments.load)
    if arguments.load_until_eof:
        return load_until_eof()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LOCALMODE_HOME"] = str(Path(directory) / "state")
        try:
            bare = bare_call(Path(directory) / "model")
            localmode.start()
            archive = upload(Path(directory))
            describe(NAME, archive)
            create(NAME, NAME)
            missed = measure(arguments.requests, bare) if arguments.requests else []
            if arguments.rounds:
                missed += measure_beside_changes(arguments.rounds, archive, Path(directory))
            print("\n".join(f"MISSED: {what}" for what in missed) or "no error, no growth, all limits kept")
            return 1 if missed else 0
        finally:
            localmode.stop()


def bare_call(directory: Path, calls: int = 500) -> dict[int, list[float]]:
    """Export the digits' network; return the milliseconds that calls of the SavedModel take, by batch."""
    command = [sys.executable, "-c", BARE, str(SOURCE), str(directory), str(calls), *map(str, BATCHES)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for line in output.splitlines():
        called, milliseconds = line.split()
        taken[int(called)].append(float(milliseconds))
    for batch in BATCHES:
        print(f"bare SavedModel, batch {batch:<28} {quantiles(taken[batch])}")
    return taken


def upload(directory: Path) -> str:
    """Upload the model's archive; return its URI."""
    with tarfile.open(directory / "model.tar.gz", "w:gz") as archive:
        archive.add(directory / "model" / "1", "1")
    bucket = localmode.status()["default_bucket"]
    boto3.client("s3").upload_file(str(directory / "model.tar.gz"), bucket, "bench/model.tar.gz")
    return f"s3://{bucket}/bench/model.tar.gz"


def describe(name: str, archive: str, **environment: str) -> None:
    """Create a model and an endpoint configuration of one name."""
    sagemaker, role = boto3.client("sagemaker"), localmode.status()["role_arn"]
    container = {"Image": "none", "ModelDataUrl": archive, "Environment": environment}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def create(name: str, config: str) -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    wait(sagemaker, name)


def wait(sagemaker: Any, name: str) -> None:
    """Wait until an endpoint is in service or gone."""
    while True:
        found = [each for each in sagemaker.list_endpoints()["Endpoints"] if each["EndpointName"] == name]
        if not found or found[0]["EndpointStatus"] == "InService":
            return
        assert found[0]["EndpointStatus"] != "Failed", sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]
        time.sleep(POLL_SECONDS)


def change(sagemaker: Any, config: str) -> None:
    """Create, update and delete another endpoint again and again."""
    for _ in range(CHANGES):
        sagemaker.create_endpoint(EndpointName="other", EndpointConfigName=config)
        wait(sagemaker, "other")
        sagemaker.update_endpoint(EndpointName="other", EndpointConfigName=config)
        wait(sagemaker, "other")
        sagemaker.delete_endpoint(EndpointName="other")
        wait(sagemaker, "other")


def measure_beside_changes(rounds: int, archive: str, directory: Path) -> list[str]:
    """Compare the 99th percentile of one client with that while another endpoint changes; return the missed limits."""
    (directory / "stand-in").mkdir()
    (directory / "stand-in" / "sitecustomize.py").write_text(STAND_IN)
    describe("stand-in", archive, PYTHONPATH=str(directory / "stand-in"))
    missed, sagemaker = [], boto3.client("sagemaker")
    for config, title in (("stand-in", "a stand-in as model server"), (NAME, "TensorFlow")):
        ratios = []
        for _ in range(rounds):
            quiet = while_it_lasts(lambda: time.sleep(QUIET_SECONDS))
            busy = while_it_lasts(lambda config=config: change(sagemaker, config))  # type: ignore[misc]
            ratios.append(float(np.quantile(busy, 0.99) / np.quantile(quiet, 0.99)))
            print(f"alone                                        {quantiles(quiet)}, {len(quiet)} requests")
            print(f"beside changes of another, {title:<17.17} {quantiles(busy)}, {len(busy)} requests")
        median, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"ratio of the p99s with {title}: median {median:.2f}, {spread} in {rounds} rounds")
        missed += [f"the p99 beside changes with {title} is above {MAX_RATIO} times"] * (median > MAX_RATIO)
    return missed


def while_it_lasts(do: Callable[[], None]) -> list[float]:
    """Send requests from a process of their own while `do` runs; return the milliseconds of each."""
    command = [sys.executable, __file__, "--load-until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it is warm
        do()
        process.stdin.close()
        return list(json.loads(process.stdout.read()))


def load_until_eof() -> int:
    """Send requests until standard input ends; an error ends the benchmark."""
    runtime = boto3.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
    body = json.dumps({"instances": np.random.default_rng(0).random((1, 8, 8, 1)).round(4).tolist()})
    ended, taken = threading.Event(), []

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not ended.is_set():
        began = time.perf_counter()
        runtime.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=body)["Body"].read()
        taken.append(1000 * (time.perf_counter() - began))
        if len(taken) == WARM_UP:
            print(flush=True)
    print(json.dumps(taken[WARM_UP:]))
    return 0


def measure(requests: int, bare: dict[int, list[float]]) -> list[str]:
    """Run every load twice; return the missed limits."""
    missed = []
    for (clients, batch), share in SHARES.items():
        under_load(clients, batch, int(requests * share * FIRST_PASS))
    before = memory()
    for (clients, batch), share in SHARES.items():
        taken, seconds, errors = under_load(clients, batch, int(requests * share * (1 - FIRST_PASS)))
        ratio = float(np.median(taken) / np.median(bare[batch]))
        title = f"InvokeEndpoint, {clients:>2} clients, batch {batch}"
        rate = f"{len(taken) / seconds:5.0f} requests/s, {len(taken) * batch / seconds:6.0f} images/s"
        print(f"{title:<44} {quantiles(taken)}, {rate}, {ratio:.1f} times the bare call")
        missed += [f"{errors} errors with {clients} clients and batch {batch}"] * bool(errors)
        limit = 3 * float(np.median(bare[batch])) + 3
        if (clients, batch) == (1, 1):
            print(f"{'':<44} limit of the median {limit:.1f} ms")
            missed += [f"the median of a single image is above {limit:.1f} ms"] * bool(np.median(taken) > limit)
    for process, size in memory().items():
        print(f"memory of the {process:<30} {before[process]:.0f} MB, then {size:.0f} MB")
        missed += [f"the {process} has grown"] * bool(size > before[process] * (1 + MAX_GROWTH))
    return missed


def under_load(clients: int, batch: int, requests: int) -> tuple[list[float], float, int]:
    """Have a process of its own send the requests; return milliseconds of each, seconds in all, and errors."""
    command = [sys.executable, __file__, "--load", str(clients), str(batch), str(requests)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer["taken"], answer["seconds"], answer["errors"]


def load(clients: int, batch: int, requests: int) -> int:
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=clients)
    runtime = boto3.client("sagemaker-runtime", config=config)
    body = json.dumps({"instances": np.random.default_rng(0).random((batch, 8, 8, 1)).round(4).tolist()})
    lock, left, taken, errors = threading.Lock(), iter(range(requests + WARM_UP)), [], []

    def numbers() -> Iterator[int]:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            yield number

    def ask(_: int) -> None:
        for number in numbers():
            began = time.perf_counter()
            try:
                answer = runtime.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=body)
                assert len(json.loads(answer["Body"].read())["predictions"]) == batch
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                errors.append(repr(error))
            if number >= WARM_UP:
                taken.append(1000 * (time.perf_counter() - began))

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    seconds = time.perf_counter() - began
    if errors:
        print(errors[0], file=sys.stderr)
    print(json.dumps({"taken": taken, "seconds": seconds, "errors": len(errors)}))
    return 0


def quantiles(taken: list[float]) -> str:
    worst = f"worst {max(taken):7.2f} ms"
    return f"p50 {np.median(taken):6.2f} ms, p99 {np.quantile(taken, 0.99):7.2f} ms, {worst}"


def memory() -> dict[str, float]:
    """Return the megabytes that the daemon and the model server have."""
    daemon = int(localmode.status()["pid"])
    found = {"daemon": daemon}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended meanwhile
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == daemon and b"modelserver" in (process / "cmdline").read_bytes():
                found["model server"] = int(process.name)

    def megabytes(process: int) -> float:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    return {name: megabytes(process) for name, process in found.items()}


if __name__ == "__main__":
    sys.exit(main())
