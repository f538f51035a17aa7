"""Solutions of the exercises: one function for each, with the answer in its docstring.

In the notebook of the exercise:

    from workshop import solutions

    solutions.best_cadence(0.006, 7200)
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
    """1.1: how many seconds from one checkpoint to the next.

    Saving every t seconds costs c / t of the time, for checkpoints of c seconds. An interruption every m seconds
    loses t / 2 on average, which is t / (2 m) of the time. The sum is least where both are equal, at sqrt(2 c m):
    every 9 seconds for 6 ms and two hours, every 30 seconds for 63 ms. So train.py saves every eight seconds
    unless told otherwise. The minimum is flat: half or twice as often costs a quarter more of very little.
    """
    return math.sqrt(2 * checkpoint_seconds * seconds_between_interruptions)


def damaged_newest(checkpoints: Path) -> tuple[str, str]:
    """1.2: the name of the newest checkpoint, of which bytes are overwritten, and of the one that is loaded.

    It is the one before: the content of the newest no longer has the hash that is in its name. train.py says so,
    and goes on from there; nothing but a few steps is lost. (Done on a copy of the directory.)
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
    """1.3: whether the final hashes are the same, and the largest difference of a weight.

    They are not: Adam's next steps depend on the average of the last gradients. After a few more steps some weights
    differ in the second decimal place or even in the first, and hardly a loss curve would show it. A hash does.

    command is the notebook's; whole the directory of the finished run, out a new one.
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

    Downloading, Training and Uploading together, rounded up, are TrainingTimeInSeconds. Starting is not among
    them: that is the time in which SageMaker looks for an instance, and it is not billed.
    """
    seconds: dict[str, float] = {}
    for transition in transitions:
        taken = (transition["EndTime"] - transition["StartTime"]).total_seconds()
        seconds[transition["Status"]] = seconds.get(transition["Status"], 0.0) + taken
    return seconds


def too_short(trainer: Any, inputs: Sequence[Any]) -> tuple[str, str, bool]:
    """2.2: status and secondary status of a job that may run for two seconds, and whether there is a model.

    Stopped, MaxRuntimeExceeded: not Failed, so that a program which looks for failures only will miss it. The
    container is stopped as by StopTrainingJob, and what is in /opt/ml/model by then is uploaded. Here that is
    nothing, and the archive is empty.
    """
    trainer.stopping_condition.max_runtime_in_seconds = 2
    trainer.train(input_data_config=inputs, wait=False)
    job = progress.follow(trainer._latest_training_job.training_job_name)
    location = job.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    return job["TrainingJobStatus"], job["SecondaryStatus"], bool(location and _files_in(location))


def _files_in(location: str) -> list[str]:
    """Return the names of the files in a .tar.gz in S3, none if there is no such object."""
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
    """3.1: the percentage that SageMaker reports, and the one saved against an uninterrupted on-demand job.

    The first is the discount, whatever happens: an interrupted job pays less for every second, and trains for
    more of them. After three interruptions of 9 minutes it still says 65 %, when 49 % are saved; from the 13th
    on, Spot is dearer. What makes the difference is how much an interruption loses.
    """
    training = hours + interruptions * minutes_lost / 60
    billable = training * (1 - discount)
    return 100 * (1 - billable / training), 100 * (1 - billable / hours)


def neighbours(bucket: str, prefix: str) -> tuple[list[str], list[str]]:
    """3.2: the keys that `run-1` matches, and those that `run-1/` matches, without the prefix.

    S3 compares characters. `run-1` matches run-10/ as well: the job would restore another job's checkpoints
    beside its own, and, if they are further on, resume from them.
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
    """4.1: the code of the error, the status of the model's server, and what the server says.

    ModelError is SageMaker's: the request has reached the container, and the container has refused it. Status
    and message inside are the server's own, with the shapes that do not fit. A request that does not reach a
    container has other codes: ValidationError for an endpoint that does not exist, for one.
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
    """4.2: the seconds that a request costs, and those that each image in it costs, from two medians.

    On one machine a request costs about 4 ms, and an image in it less than a tenth of one: one client cannot send
    more than 1 / (seconds for an image) images in a second, however large the batches. On AWS the network is on top
    of the first number and hardly of the second, so that batches gain more.
    """
    image = (more_seconds - seconds) / (more_images - images)
    return seconds - images * image, image


def share_of_day(images: int, batch_size: int, request_seconds: float, image_seconds: float) -> float:
    """4.3: which share of a day an endpoint works, 0 to 1.

    10,000 images a day in batches of 60 keep it busy for two seconds: far below a thousandth of the 5.52 USD were
    spent on predictions. For so few, batch transform or a serverless endpoint, which cost nothing while nobody
    asks, are the better choice.
    """
    batches = math.ceil(images / batch_size)
    return (batches * request_seconds + images * image_seconds) / 86_400
