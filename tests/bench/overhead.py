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
from pathlib import Path

import boto3

import localmode
from localmode import client

RUNS = 7
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


def trivial_job(number: int) -> None:
    """CreateTrainingJob to Completed, polling every 50 ms."""
    sagemaker, name = boto3.client("sagemaker"), f"trivial-{number}"
    state = localmode.status()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": "none",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": TRIVIAL[:1],
            "ContainerArguments": TRIVIAL[1:],
        },
        RoleArn=state["role_arn"],
        OutputDataConfig={"S3OutputPath": f"s3://{state['default_bucket']}/bench"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    while (status := sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]) == "InProgress":
        time.sleep(0.05)
    assert status == "Completed", status


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
            jobs = [timed(lambda number=number: trivial_job(number)) for number in range(RUNS)]  # type: ignore[misc]
            bare = [timed(lambda: subprocess.run(TRIVIAL, check=True)) for _ in range(RUNS)]
            show("a job that does nothing, Create to Completed", "s", jobs)
            show("the same command, bare", "s", bare)
            show("difference", "s", [job - statistics.median(bare) for job in jobs])
            megabytes, _ = idle(localmode.status()["pid"], 1)
            print(f"daemon afterwards: {megabytes:.0f} MB")
        finally:
            client.stop(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
