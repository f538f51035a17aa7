"""What a training job or an endpoint is doing, as it happens: plain boto3, on AWS as in local mode.

description = progress.follow("my-training-job")    # prints until the job is over
lines = progress.log_lines("my-training-job")
"""

import io
import re
import tarfile
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

import boto3

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
WORTH_SHOWING = (
    r"^(epoch=\d*[05] |resumed from|no checkpoint found|final_weights_sha256="  # a training as it should be
    r"|skipped|best epoch|warning|WARNING|SIGTERM)"
)


class TrainingFailed(RuntimeError):
    """A training job failed; the message has its FailureReason and the last lines of its log."""


class LogReader:
    """Reads a training job's log from CloudWatch Logs; each call of new_lines goes on where the last ended."""

    def __init__(self, training_job_name: str) -> None:
        self._name = training_job_name
        self._client = boto3.client("logs")
        self._tokens: dict[str, str] = {}

    def new_lines(self) -> Iterator[tuple[int, str]]:
        """Yield what has been written since the last call, by every host and attempt.

        A line comes with its time, in milliseconds since the epoch.
        """
        for stream in self._streams():
            while True:
                token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
                page = self._client.get_log_events(
                    logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token
                )
                self._tokens[stream] = page["nextForwardToken"]
                if not page["events"]:
                    break
                yield from ((event["timestamp"], event["message"].rstrip()) for event in page["events"])

    def _streams(self) -> list[str]:
        try:
            pages = self._client.get_paginator("describe_log_streams").paginate(
                logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._name}/"
            )
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:
            return []  # no job of this account has written a line yet


def log_lines(training_job_name: str) -> list[str]:
    """Return every line of a job's log so far."""
    return [line for _, line in LogReader(training_job_name).new_lines()]


def follow(training_job_name: str, show: str = WORTH_SHOWING, poll_seconds: float = 1.0) -> dict[str, Any]:
    """Print a job's secondary statuses and the log lines that match `show` until it is over.

    Return its description (boto3's DescribeTrainingJob). Raises TrainingFailed if it fails.
    """
    sagemaker = boto3.client("sagemaker")
    reader, pattern, shown = LogReader(training_job_name), re.compile(show), 0
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


def _explain(job: dict[str, Any]) -> str:
    last = "\n".join(f"    {line}" for line in log_lines(job["TrainingJobName"])[-10:])
    return f"{job['TrainingJobName']}: {job.get('FailureReason', 'no reason given')}\nThe log ends with\n{last}"


def follow_endpoint(endpoint_name: str, poll_seconds: float = 1.0) -> None:
    """Print an endpoint's status until it is in service; raise RuntimeError with its FailureReason otherwise."""
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


def output_file(job: dict[str, Any], name: str) -> bytes:
    """Return one file of what a finished job left in /opt/ml/output/data (its output.tar.gz in S3)."""
    location = urlparse(job["OutputDataConfig"]["S3OutputPath"])
    prefix = location.path.strip("/")
    key = "/".join(part for part in (prefix, job["TrainingJobName"], "output", "output.tar.gz") if part)
    archive = boto3.client("s3").get_object(Bucket=location.netloc, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(name)
        if member is None:
            raise FileNotFoundError(f"{name} is not a file in s3://{location.netloc}/{key}")
        return member.read()


def logged_value(training_job_name: str, field: str) -> str:
    """Return what stands behind `field=` in the last line of a job's log that has it."""
    found = [match[1] for line in log_lines(training_job_name) if (match := re.search(rf"\b{field}=(\S+)", line))]
    if not found:
        raise LookupError(f"no line with {field}= in the log of {training_job_name}")
    return found[-1]
