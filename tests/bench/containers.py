"""Measure a trivial job and a TensorFlow job, each run in four ways.

    make env && containers/image.sh && .venv/bin/python tests/bench/containers.py

Needs a running Docker engine. The four ways alternate for several rounds; figures are medians of the time from creating
a ModelTrainer to the end of its job. Most of that time is the SDK's own preparation. Therefore the job's own time is
given as well, and by how much it exceeds the bare command: from CreateTrainingJob to the end, and in the SDK's local
mode from the moment at which it calls Docker.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import boto3

import localmode
from workshop import ROOT, SOURCE_DIR, dataset

COMPOSED = "com.docker.compose.project.working_dir"  # a label
ROUNDS = 5
HYPERPARAMETERS = {"epochs": 20, "batch-size": 64}
CHANNELS = ("train", "validation")
TRIVIAL = ["/bin/bash", "-c", "true"]
NAMESPACE, DOCKER, SDK = "localmode, namespace", "localmode, docker", "SDK's local mode"


def image() -> str:
    command = [sys.executable, str(ROOT / "containers" / "name.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def model_trainer(source: dict[str, str], name: str, local_root: Path | None = None) -> Any:
    """Return a ModelTrainer; with a directory, one for the SDK's own local mode, which uses the directory."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.training.configs import Compute, SourceCode, StoppingCondition
    from sagemaker.train import ModelTrainer
    from sagemaker.train.model_trainer import Mode

    mode = {"training_mode": Mode.LOCAL_CONTAINER, "local_container_root": str(local_root)} if local_root else {}
    return ModelTrainer(
        sagemaker_session=Session(),
        training_image=image_name,
        base_job_name=name,
        source_code=SourceCode(**source),
        compute=Compute(instance_type="local_cpu" if local_root else "ml.m5.large", instance_count=1),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
        hyperparameters=HYPERPARAMETERS,
        **mode,
    )


def by_localmode(home: Path, runner: str, source: dict[str, str], data: Path, own: list[float]) -> Callable[[], None]:
    """Upload the data, and return a function that runs a job with a runner, polling every 50 ms.

    `own` gets the seconds from CreateTrainingJob to the job's end.
    """
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.training.configs import InputData

    localmode.start(home, runner)
    session = Session()
    bucket = session.default_bucket()
    inputs = []
    for name in CHANNELS if "entry_script" in source else ():
        session.upload_data(str(data / name), bucket, f"bench/{name}")
        inputs.append(InputData(channel_name=name, data_source=f"s3://{bucket}/bench/{name}/"))

    def run() -> None:
        localmode.start(home, runner)  # points the clients here
        sagemaker, trainer = boto3.client("sagemaker"), model_trainer(source, "bench")
        trainer.train(inputs, wait=False)
        name = trainer._latest_training_job.training_job_name
        while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
            time.sleep(0.05)
        assert job["TrainingJobStatus"] == "Completed", job
        own.append((job["TrainingEndTime"] - job["CreationTime"]).total_seconds())

    return run


def by_sdk(home: Path, root: Path, source: dict[str, str], data: Path, own: list[float]) -> None:
    """Run a job in the SDK's own local mode; `own` gets its seconds without the preparation of the SDK."""
    from sagemaker.core.training.configs import InputData
    from sagemaker.train.local.local_container import _LocalContainer

    localmode.start(home, "docker")  # the SDK looks up its role, also in this mode
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    names = CHANNELS if "entry_script" in source else ()
    inputs = [InputData(channel_name=name, data_source=str(data / name)) for name in names]
    with mock.patch.object(_LocalContainer, "train", _clocked(_LocalContainer.train, own)):
        model_trainer(source, "bench", root).train(inputs, wait=True)


def _clocked(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = function(*arguments, **named)
        seconds.append(time.perf_counter() - began)
        return result

    return run


def bare(source: dict[str, str], data: Path, out: Path) -> None:
    """Run the same command as a plain process."""
    if "entry_script" not in source:
        subprocess.run(TRIVIAL, check=True)
        return
    shutil.rmtree(out, ignore_errors=True)
    options = {name: data / name for name in CHANNELS} | HYPERPARAMETERS
    options |= {f"{name}-dir": out / name for name in ("model", "output-data", "checkpoint")}
    command = [sys.executable, str(SOURCE_DIR / "train.py"), *(f"--{key}={options[key]}" for key in options)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(action: Callable[[], object]) -> float:
    printed = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        action()
    return time.perf_counter() - began


def measure(title: str, source: dict[str, str], scratch: Path) -> dict[str, float]:
    """Print the table of a job; return by how many seconds each way exceeds the bare command, without preparation."""
    data, homes = scratch / "data", {runner: scratch / runner for runner in ("docker", "namespace")}
    own: dict[str, list[float]] = {NAMESPACE: [], DOCKER: [], SDK: []}
    ways: dict[str, Callable[[], None]] = {
        "bare": partial(bare, source, data, scratch / "bare"),
        NAMESPACE: by_localmode(homes["namespace"], "namespace", source, data, own[NAMESPACE]),
        DOCKER: by_localmode(homes["docker"], "docker", source, data, own[DOCKER]),
        SDK: partial(by_sdk, homes["docker"], scratch / "sdk", source, data, own[SDK]),
    }
    for way in ways.values():
        timed(way)  # warm: bytecode, layers of the image in memory
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(timed(way))
    floor = statistics.median(taken["bare"])
    print(f"{title}, median of {ROUNDS}; without the SDK's preparation, and what that is more than bare")
    for name, seconds in taken.items():
        line = f"    {name:<22}{statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
        if name in own:
            line += f"; {statistics.median(own[name][1:]):.2f} s, {statistics.median(own[name][1:]) - floor:+.2f} s"
        print(line, flush=True)
    return {name: statistics.median(seconds[1:]) - floor for name, seconds in own.items()}


def main() -> int:
    logging.disable()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        dataset.prepare("digits", scratch / "data")
        try:
            more = [
                measure("a job that does nothing", {"command": json.dumps(TRIVIAL[-1])}, scratch),
                measure("digits, 20 epochs", {"source_dir": str(SOURCE_DIR), "entry_script": "train.py"}, scratch),
            ]
        finally:
            for runner in ("docker", "namespace"):
                localmode.stop(scratch / runner)
            left = ["docker", "ps", "--all", "--quiet", "--filter", f"label={COMPOSED}={scratch / 'sdk'}"]
            names = subprocess.run(left, check=True, capture_output=True, text=True).stdout.split()
            subprocess.run(["docker", "rm", "--force", "--volumes", *names], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["docker", "network", "rm", "sagemaker-local"], capture_output=True)  # unless in use
    return int(any(max(job[NAMESPACE], job[DOCKER]) >= job[SDK] for job in more))


if __name__ == "__main__":
    image_name = image()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    sys.exit(main())
