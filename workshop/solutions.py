"""Solutions of the exercises: one function for each, with the answer in its docstring.

    from workshop import solutions

    solutions.best_cadence(0.006, 7200)

Call them in the notebook of the exercise.
"""

import io
import math
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.exceptions import ClientError

from source_dir import checkpoint
from workshop import progress

# Notebook 1


def best_cadence(checkpoint_seconds: float, seconds_between_interruptions: float) -> float:
    """1.1: the best number of seconds between two checkpoints.

    If a checkpoint takes c seconds, saving every t seconds costs c / t of the time. If an interruption comes every
    m seconds, it loses t / 2 on average, which is t / (2 m) of the time. The sum has its minimum where both are
    equal, at t = sqrt(2 c m): 9 seconds for 6 ms and two hours, 30 seconds for 63 ms. Therefore train.py saves
    every eight seconds by default. The minimum is flat: saving half or twice as often costs a quarter more of a
    very small cost.
    """
    return math.sqrt(2 * checkpoint_seconds * seconds_between_interruptions)


def damaged_newest(checkpoints: Path) -> tuple[str, str]:
    """1.2: the name of the newest checkpoint, after bytes of it were overwritten, and of the one that is loaded.

    train.py resumes from the checkpoint before: the content of the newest no longer has the hash in its name.
    The log says so, and only a few steps are lost. (This function damages a copy of the directory.)
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(checkpoints, scratch, dirs_exist_ok=True))
        newest = max(copy.glob("checkpoint-*.npz"))
        content = bytearray(newest.read_bytes())
        content[1000:1004] = b"oops"
        newest.write_bytes(content)
        loaded = checkpoint.load_newest(copy)
    assert loaded is not None
    return newest.name, loaded.name


def without_momentum(command: Callable[[Path], Sequence[str]], whole: Path, out: Path) -> tuple[bool, float]:
    """1.3: whether the final hashes are equal, and the largest difference between two weights.

    They are not equal: Adam's next steps depend on the average of the last gradients. After a few steps some weights
    differ in the second or even the first decimal place. A loss curve would hardly show it; a hash does.

    command is the function of the notebook, whole the directory of the finished run, out a new directory.
    """
    oldest = min((whole / "checkpoints").glob("checkpoint-*.npz"))  # a few steps before the end
    (out / "checkpoints").mkdir(parents=True)
    shutil.copy(oldest, out / "checkpoints")
    saved = checkpoint.load_newest(out / "checkpoints")
    assert saved is not None
    forgotten = {n: np.zeros_like(a) if n.endswith("_momentum") else a for n, a in saved.arrays.items()}
    (out / "checkpoints" / saved.name).unlink()
    checkpoint.save(out / "checkpoints", saved.step, forgotten, saved.meta)
    _, process = progress.run(command(out))
    assert process.wait() == 0
    one, other = (checkpoint.load_newest(directory / "checkpoints") for directory in (whole, out))
    assert one is not None and other is not None
    differences = {n: float(np.abs(a - other.arrays[n]).max()) for n, a in one.arrays.items() if n.startswith("model/")}
    return not any(differences.values()), max(differences.values())


# Notebook 2


def seconds_by_status(transitions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """2.1: the seconds that a finished job spent in each secondary status.

    The sum of Downloading, Training and Uploading, rounded up, is TrainingTimeInSeconds. Starting is not part of it:
    SageMaker looks for an instance then, and does not bill that time.
    """
    seconds: dict[str, float] = {}
    for transition in transitions:
        taken = (transition["EndTime"] - transition["StartTime"]).total_seconds()
        seconds[transition["Status"]] = seconds.get(transition["Status"], 0.0) + taken
    return seconds


def too_short(trainer: Any, inputs: Sequence[Any]) -> tuple[str, str, bool]:
    """2.2: status and secondary status of a job that may run for two seconds, and whether it has a model.

    They are Stopped and MaxRuntimeExceeded. The job has not Failed, so a program that only looks for failures misses
    it. SageMaker stops the container as StopTrainingJob does, and uploads the content of /opt/ml/model. That
    directory is still empty here, and so is the archive.
    """
    trainer.stopping_condition.max_runtime_in_seconds = 2
    trainer.train(input_data_config=inputs, wait=False)
    job = progress.follow(trainer._latest_training_job.training_job_name)
    location = job.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    return job["TrainingJobStatus"], job["SecondaryStatus"], bool(location and _files_in(location))


def _files_in(location: str) -> list[str]:
    """Return the names of the files in a .tar.gz in S3, or none if the object does not exist."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    try:
        body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return []
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return [member.name for member in tar if member.isfile()]


# Notebook 3


def savings(
    interruptions: int, hours: float = 1.0, discount: float = 0.65, minutes_lost: float = 9.0
) -> tuple[float, float]:
    """3.1: the savings that SageMaker reports, and the savings against an uninterrupted on-demand job, in percent.

    The first number is always the discount: an interrupted job pays less per second, but it trains for more seconds.
    After three interruptions of 9 minutes SageMaker still reports 65 %, and the real savings are 49 %. From the
    13th interruption on, Spot costs more than on demand. The less an interruption loses, the later that happens.
    """
    training = hours + interruptions * minutes_lost / 60
    billable = training * (1 - discount)
    return 100 * (1 - billable / training), 100 * (1 - billable / hours)


def neighbours(bucket: str, prefix: str) -> tuple[list[str], list[str]]:
    """3.2: the keys that the prefix `run-1` matches, and those that `run-1/` matches.

    S3 compares characters, so `run-1` also matches run-10/. The job would restore the checkpoints of another job
    beside its own, and resume from those if their step is higher.
    """
    s3 = boto3.client("s3")
    keys = [f"{prefix}/{run}/checkpoint" for run in ("run-1", "run-10")]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    listings = [s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/{run}") for run in ("run-1", "run-1/")]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    without, with_slash = ([item["Key"].removeprefix(f"{prefix}/") for item in one["Contents"]] for one in listings)
    return without, with_slash


# Notebook 4


def wrong_size(endpoint_name: str) -> tuple[str, int, str]:
    """4.1: the code of the error, and the status and message of the model server.

    ModelError comes from SageMaker: the request reached the container, and the container refused it. The status and
    the message inside come from the model server; the message names the shapes that do not fit. A request that does
    not reach a container has another code, such as ValidationError for an endpoint that does not exist.
    """
    runtime = boto3.client("sagemaker-runtime")
    try:
        body = b'{"instances": [[[1], [2]]]}'
        runtime.invoke_endpoint(EndpointName=endpoint_name, ContentType="application/json", Body=body)
    except runtime.exceptions.ModelError as error:
        response = error.response
        return response["Error"]["Code"], response["OriginalStatusCode"], response["OriginalMessage"]
    raise AssertionError("an image of 1 x 2 pixels was accepted")


def request_and_image(seconds: float, images: int, more_seconds: float, more_images: int) -> tuple[float, float]:
    """4.2: the seconds that a request takes, and the seconds that each image in it adds, from two medians.

    On one machine a request takes about 4 ms, and an image adds less than a tenth of a millisecond. However large
    the batches, one client cannot send more than 1 / (seconds per image) images a second. On AWS the network adds to
    the first number and hardly to the second, so batches save even more.
    """
    image = (more_seconds - seconds) / (more_images - images)
    return seconds - images * image, image


def share_of_day(images: int, batch_size: int, request_seconds: float, image_seconds: float) -> float:
    """4.3: the share of a day in which an endpoint works, from 0 to 1.

    10,000 images a day in batches of 60 keep it busy for two seconds, so predictions account for far less than a
    thousandth of the 5.52 USD. For so few images use batch transform or a serverless endpoint: they cost nothing
    while no request arrives.
    """
    batches = math.ceil(images / batch_size)
    return (batches * request_seconds + images * image_seconds) / 86_400
