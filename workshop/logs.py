"""The log of a training job.

    for line in logs.lines("my-training-job"): ...

It is in CloudWatch Logs, from which this module reads it with plain boto3.
"""

import re
from collections.abc import Iterator

import boto3

GROUP = "/aws/sagemaker/TrainingJobs"


class LogReader:
    """Reads the log of a training job; each call of `new_lines` continues where the last one ended."""

    def __init__(self, training_job_name: str) -> None:
        self._name = training_job_name
        self._client = boto3.client("logs")
        self._tokens: dict[str, str] = {}

    def new_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that all hosts and attempts have written since the last call.

        Each comes with its time in milliseconds since the epoch.
        """
        for stream in self._streams():
            while True:
                token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
                page = self._client.get_log_events(
                    logGroupName=GROUP, logStreamName=stream, startFromHead=True, **token
                )
                self._tokens[stream] = page["nextForwardToken"]
                if not page["events"]:
                    break
                yield from ((event["timestamp"], event["message"].rstrip()) for event in page["events"])

    def _streams(self) -> list[str]:
        try:
            pages = self._client.get_paginator("describe_log_streams").paginate(
                logGroupName=GROUP, logStreamNamePrefix=f"{self._name}/"
            )
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:
            return []  # the log group does not exist before the first line of the account's first job


def lines(training_job_name: str) -> list[str]:
    """Return all lines of a job's log so far."""
    return [line for _, line in LogReader(training_job_name).new_lines()]


def value(training_job_name: str, field: str) -> str:
    """Return the text after `field=` in the last line of a job's log that contains it; raise LookupError if none does.

    The text ends at the next white space.
    """
    found = [match[1] for line in lines(training_job_name) if (match := re.search(rf"\b{field}=(\S+)", line))]
    if not found:
        raise LookupError(f"the log of {training_job_name} has no line with {field}=")
    return found[-1]
