"""Follow a process, a training job or an endpoint while it works.

    description = progress.follow("my-training-job")    # prints until the job ends

Plain boto3: the functions work on AWS as they do in local mode.
"""

import io
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
import numpy as np
from botocore.exceptions import ClientError

from workshop import logs

# Regular expression: the lines of train.py that are shown; of the epochs every fifth.
WORTH_SHOWING = (
    r"^(epoch=\d*[05] |resumed from|no (?:usable )?checkpoint|final_weights_sha256="
    r"|skipped|best epoch|warning|WARNING|SIGTERM)"
)
_LINE_WITH_STEP = re.compile(r"^(?:epoch=.*|resumed from .*|no (?:usable )?checkpoint.*)\bstep[ =](\d+)")


class TrainingFailed(RuntimeError):
    """A training job failed; the message contains its FailureReason and the last lines of its log."""


def follow(training_job_name: str, show: str = WORTH_SHOWING, poll_seconds: float = 0.5) -> dict[str, Any]:
    """Print a job's secondary statuses, and its log lines that match `show`, until it ends.

    Return its description (boto3's DescribeTrainingJob); raise TrainingFailed if it fails.
    """
    sagemaker = boto3.client("sagemaker")
    reader, pattern, shown = logs.LogReader(training_job_name), re.compile(show), 0
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=training_job_name)
        events = [(moment, f"    {line}") for moment, line in reader.new_lines() if pattern.search(line)]
        for transition in job["SecondaryStatusTransitions"][shown:]:
            moment = int(transition["StartTime"].timestamp() * 1000)
            events.append((moment, f"{transition['Status']}: {transition.get('StatusMessage', '')}"))
            shown += 1
        for _, text in sorted(events, key=lambda event: event[0]):
            print(text, flush=True)
        if job["TrainingJobStatus"] == "Failed":
            raise TrainingFailed(_explain(job))
        if job["TrainingJobStatus"] in ("Completed", "Stopped"):
            return dict(job)
        time.sleep(poll_seconds)


def stop(training_job_name: str, show: str = WORTH_SHOWING) -> dict[str, Any]:
    """Stop a job, unless it has ended, and follow it to its end; return its description, as `follow` does."""
    sagemaker = boto3.client("sagemaker")
    try:
        sagemaker.stop_training_job(TrainingJobName=training_job_name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":
            raise
        job = sagemaker.describe_training_job(TrainingJobName=training_job_name)
        if job["TrainingJobStatus"] == "InProgress":  # AWS refused the request for another reason
            raise
    return follow(training_job_name, show)


def wait_for_line(training_job_name: str, pattern: str, poll_seconds: float = 0.2) -> None:
    """Wait until a line of a job's log matches, and print it; raise TrainingFailed if the job ends first."""
    sagemaker, reader = boto3.client("sagemaker"), logs.LogReader(training_job_name)
    print(f"waiting for {training_job_name}", flush=True)
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=training_job_name)
        for _, line in reader.new_lines():
            if re.search(pattern, line):
                print(f"    {line}", flush=True)
                return
        if job["TrainingJobStatus"] != "InProgress":
            raise TrainingFailed(_explain(job))
        time.sleep(poll_seconds)


def _explain(job: dict[str, Any]) -> str:
    """Return why a job failed, and the last lines of its script, or of the SDK's driver if no script started."""
    lines = logs.lines(job["TrainingJobName"])
    began = max((number + 1 for number, line in enumerate(lines) if line.startswith("Executing command:")), default=0)
    ended = (number for number, line in enumerate(lines) if line.startswith("Command failed with exit code"))
    last = "\n".join(f"    {line}" for line in lines[began : next(ended, None)][-10:])
    reason = job.get("FailureReason", f"no reason given, {job['SecondaryStatus']}")
    return f"{job['TrainingJobName']}: {reason}\nThe log of the script ends with\n{last}"


def phases(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a finished job's SecondaryStatusTransitions, with each Training divided further by the job's log.

    "Script starts" ends with the line of train.py that names the step at which it starts or resumes. "Work lost"
    begins at the step from which the next attempt resumes; its time is interpolated between the lines of the epochs.
    """
    lines = list(logs.LogReader(job["TrainingJobName"]).new_lines())
    steps = [(moment / 1000, int(match[1])) for moment, line in lines if (match := _LINE_WITH_STEP.search(line))]
    divided: list[dict[str, Any]] = []
    for transition in job["SecondaryStatusTransitions"]:
        if transition["Status"] == "Training" and "EndTime" in transition:
            divided += _divided(transition, steps)
        else:
            divided.append(transition)
    return divided


def _divided(training: dict[str, Any], steps: list[tuple[float, int]]) -> list[dict[str, Any]]:
    """Divide one Training; `steps` are the times, in seconds, and steps of the log lines that name a step."""
    start, end = training["StartTime"].timestamp(), training["EndTime"].timestamp()
    here = [(moment, step) for moment, step in steps if start <= moment <= end]
    if not here:
        return [{**training, "Status": "Script starts"}]
    lost = end
    if after := [step for moment, step in steps if moment > end]:  # the first of them is where the next attempt resumes
        moments, reached = zip(*here, strict=True)
        lost = float(np.interp(after[0], reached, moments)) if after[0] < reached[-1] else end
    borders = [start, here[0][0], max(here[0][0], lost), end]
    return [
        {
            **training,
            "Status": status,
            "StartTime": datetime.fromtimestamp(begin, UTC),
            "EndTime": datetime.fromtimestamp(until, UTC),
        }
        for status, begin, until in zip(("Script starts", "Training", "Work lost"), borders, borders[1:], strict=False)
        if until > begin
    ]


def follow_endpoint(endpoint_name: str, poll_seconds: float = 0.5) -> None:
    """Print an endpoint's status until it is in service; raise RuntimeError with its FailureReason if it fails."""
    sagemaker, last = boto3.client("sagemaker"), ""
    while True:
        endpoint = sagemaker.describe_endpoint(EndpointName=endpoint_name)
        if endpoint["EndpointStatus"] != last:
            last = endpoint["EndpointStatus"]
            print(last, flush=True)
        if last == "InService":
            return
        if last == "Failed":
            raise RuntimeError(f"{endpoint_name}: {endpoint.get('FailureReason', 'no reason given')}")
        time.sleep(poll_seconds)


def newest_job(name_contains: str) -> dict[str, Any]:
    """Return the description of the newest completed job whose name contains a text, {} if there is none."""
    sagemaker = boto3.client("sagemaker")
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=name_contains, StatusEquals="Completed", SortBy="CreationTime", SortOrder="Descending"
    )
    name = next(pages.search("TrainingJobSummaries[].TrainingJobName"), "")  # an empty page may precede others
    return dict(sagemaker.describe_training_job(TrainingJobName=name)) if name else {}


def saved_step(training_job_name: str) -> int:
    """Return the highest step of a job's checkpoints in S3, which an interruption does not touch; 0 without any."""
    job = boto3.client("sagemaker").describe_training_job(TrainingJobName=training_job_name)
    location = urlparse(job["CheckpointConfig"]["S3Uri"])
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=location.netloc, Prefix=location.path.lstrip("/")).search("Contents[].Key")
    return newest_step(key for key in found if key)


def wait_for_checkpoint(training_job_name: str, after_step: int, poll_seconds: float = 0.2) -> bool:
    """Wait until a checkpoint beyond a step is in S3. Return False if the job ends first.

    Raises TrainingFailed if it fails.
    """
    sagemaker = boto3.client("sagemaker")
    print(f"waiting for a checkpoint beyond step {after_step} in S3", flush=True)
    while True:
        step = saved_step(training_job_name)
        job = sagemaker.describe_training_job(TrainingJobName=training_job_name)
        if job["TrainingJobStatus"] == "Failed":
            raise TrainingFailed(_explain(job))
        if job["TrainingJobStatus"] != "InProgress":
            print(f"the job has ended: {job['TrainingJobStatus']}", flush=True)
            return False
        if step > after_step:
            print(f"checkpoints in S3 up to step {step}", flush=True)
            return True
        time.sleep(poll_seconds)


def output_file(job: dict[str, Any], name: str) -> bytes:
    """Return a file that a finished job wrote to /opt/ml/output/data; SageMaker uploads it in output.tar.gz."""
    location = urlparse(job["OutputDataConfig"]["S3OutputPath"])
    prefix = location.path.strip("/")
    key = "/".join(part for part in (prefix, job["TrainingJobName"], "output", "output.tar.gz") if part)
    archive = boto3.client("s3").get_object(Bucket=location.netloc, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(name)
        if member is None:
            raise FileNotFoundError(f"{name} is not a file in s3://{location.netloc}/{key}")
        return member.read()


def run(command: Sequence[str], until: str = "$^") -> tuple[list[str], "subprocess.Popen[str]"]:
    """Start a process on this machine, print the lines that `follow` would print, and return all lines so far.

    Return when the process closes its output, or after a line that matches `until`.
    """
    print(f"{Path(command[1]).name} starts", flush=True)
    process, lines = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if re.search(WORTH_SHOWING, line):
            print(line, end="", flush=True)
        if re.search(until, line):
            break
    else:
        process.stdout.close()
    return lines, process


def fresh(directory: Path) -> Path:
    """Delete a directory of an earlier run, if it exists, and return its path."""
    shutil.rmtree(directory, ignore_errors=True)
    return directory


def newest_step(files: Iterable[str | Path]) -> int:
    """Return the highest step among the files with names like checkpoint-00000272-0f3a....npz; 0 without any."""
    found = (re.search(r"\bcheckpoint-(\d+)-[0-9a-f]+\.npz$", str(file)) for file in files)
    return max((int(match[1]) for match in found if match), default=0)
