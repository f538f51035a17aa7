"""What an endpoint costs: InvokeEndpoint against calling the same SavedModel directly, in one run.

    make bench

or `python tests/bench/modelserver/server.py --requests 2000` for a shorter one. Latencies are those that boto3's callers see,
the client's own time included; the clients are threads of one process. Ends with 1 where a limit is missed: no
error and no growth of memory over all requests, and at most 3 times the bare call plus 3 ms for a single image.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

import localmode
from localmode.client import lifecycle as client

SOURCE = Path(__file__).parents[2] / "source_dir"
BATCHES = (1, 64)
SHARES = {(1, 1): 0.1, (8, 1): 0.55, (64, 1): 0.2, (1, 64): 0.05, (8, 64): 0.05, (64, 64): 0.05}  # of the requests
FIRST_PASS = 0.2  # of each share, before memory is looked at
NAME = "bench"
WARM_UP = 50
MAX_GROWTH = 0.05  # of the memory after the first pass
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
    parser.add_argument("--load", nargs=3, type=int, metavar=("CLIENTS", "BATCH", "REQUESTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        return load(*arguments.load)
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LOCALMODE_HOME"] = str(Path(directory) / "state")
        try:
            bare = bare_call(Path(directory) / "model")
            localmode.start()
            deploy(Path(directory))
            return measure(arguments.requests, bare)
        finally:
            client.stop(Path(directory) / "state")


def bare_call(directory: Path, calls: int = 500) -> dict[int, list[float]]:
    """Export the digits' network; return the milliseconds that calls of the SavedModel take, by batch."""
    command = [sys.executable, "-c", BARE, str(SOURCE), str(directory), str(calls), *map(str, BATCHES)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for line in output.splitlines():
        batch, milliseconds = line.split()
        taken[int(batch)].append(float(milliseconds))
    for batch in BATCHES:
        print(f"bare SavedModel, batch {batch:<28} {quantiles(taken[batch])}")
    return taken


def deploy(directory: Path) -> None:
    with tarfile.open(directory / "model.tar.gz", "w:gz") as archive:
        archive.add(directory / "model" / "1", "1")
    state, sagemaker = localmode.status(), boto3.client("sagemaker")
    boto3.client("s3").upload_file(str(directory / "model.tar.gz"), state["default_bucket"], "bench/model.tar.gz")
    container = {"Image": "none", "ModelDataUrl": f"s3://{state['default_bucket']}/bench/model.tar.gz"}
    sagemaker.create_model(ModelName=NAME, PrimaryContainer=container, ExecutionRoleArn=state["role_arn"])
    variant = {"VariantName": "all", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})


def measure(requests: int, bare: dict[int, list[float]]) -> int:
    """Run every load twice; return 1 if a limit is missed."""
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
    print(
        "\n".join(f"MISSED: {what}" for what in missed) or f"{requests} requests, no error, no growth, all limits kept"
    )
    return 1 if missed else 0


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
    daemon = localmode.status()["pid"]
    children = Path(f"/proc/{daemon}/task/{daemon}/children")
    found = {"daemon": daemon}
    for task in children.parent.parent.iterdir():  # a child belongs to the thread that has started it
        for child in (task / "children").read_text().split():
            if b"modelserver/server.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found["model server"] = child

    def megabytes(process: Any) -> float:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    return {name: megabytes(process) for name, process in found.items()}


if __name__ == "__main__":
    sys.exit(main())
