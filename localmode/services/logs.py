"""The logs of training jobs and endpoints: on disk first, then in CloudWatch Logs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from localmode.core.durable import append_lines, read_lines
from localmode.services.backend import Services
from localmode.services.changes import at
from localmode.services.errors import ServiceError

GROUP = "/aws/sagemaker/TrainingJobs"
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MAX_EVENT_BYTES = 256 * 1024 - 26
_BATCH = 1000
_DAY = 24 * 3600 * 1000  # milliseconds


class Logs:
    """All log streams of a group, in files that outlive the daemon."""

    def __init__(self, directory: Path, services: Services, group: str = GROUP) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._services = services
        self._group = group
        self._lock = threading.Lock()  # guards _streams
        self._streams: dict[str, LogStream] = {}
        for path in sorted(directory.glob("*.jsonl")):
            self._restore(path)
        services.on_log_deletion(group, self._forget)  # last: if a log is damaged, its files stay

    def stream(self, name: str) -> LogStream:
        """Open a stream for appending; the same name is the same stream."""
        with self._lock:
            stream = self._streams.get(name)
            if stream is not None:
                return stream
            stream = self._streams[name] = self._open(name)
        stream.create()
        return stream

    def _open(self, name: str) -> LogStream:
        path = self._directory / f"{quote(name, safe='')}.jsonl"
        return LogStream(path, name, self._services, self._group)

    def _forget(self, stream: str | None) -> None:
        """Delete the events of a stream, or of all streams."""
        for path in self._directory.glob("*.jsonl"):
            if stream in (None, unquote(path.stem)):
                path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        events = read_lines(path, _event, "this log")
        stream = self._open(unquote(path.stem))
        self._streams[stream.name] = stream
        for batch in _batches(events):
            with at(batch[-1]["timestamp"] / 1000):  # CloudWatch Logs refuses events older than two weeks
                stream.publish(batch)
            stream.latest = max(stream.latest, batch[-1]["timestamp"])


def _event(document: Any) -> dict[str, Any]:
    """Return an event of a log file; raise TypeError or LookupError for anything else."""
    return {"timestamp": document["timestamp"] + 0, "message": document["message"]}


def _batches(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide events into batches that CloudWatch Logs accepts: limited in number, within a day, in order of time.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
    """
    batch: list[dict[str, Any]] = []
    for event in events:
        if batch and not (
            len(batch) < _BATCH and batch[-1]["timestamp"] <= event["timestamp"] <= batch[0]["timestamp"] + _DAY
        ):
            yield batch
            batch = []
        batch.append(event)
    if batch:
        yield batch


class LogStream:
    """One log stream: each line is an event."""

    def __init__(self, path: Path, name: str, services: Services, group: str) -> None:
        self.name = name
        self.latest = 0  # milliseconds since the epoch, of its newest event
        self._path = path
        self._group = group
        self._services = services
        self._lock = threading.Lock()  # keeps the events of two writers in one order, on disk and in CloudWatch Logs

    def write(self, lines: list[str]) -> None:
        """Append lines; they can be read from CloudWatch Logs when this returns."""
        with self._lock:
            self.latest = max(self.latest, int(time.time() * 1000))  # the clock may have been set back
            events = [{"timestamp": self.latest, "message": line} for line in lines if line]
            append_lines(self._path, events)
            done = 0
            for batch in _batches(events):
                if self.publish(batch) and not self._path.exists():  # deleted together with the stream
                    append_lines(self._path, events[done:])
                done += len(batch)

    def create(self) -> None:
        """Create the stream and its group in CloudWatch Logs if they do not exist."""
        while True:
            self._call("CreateLogGroup")
            if self._call("CreateLogStream", logStreamName=self.name):
                return
            # A client has deleted the group in between.

    def publish(self, events: list[dict[str, Any]]) -> bool:
        """Send events to CloudWatch Logs; return whether the stream had to be created again."""
        created = False
        while not self._call("PutLogEvents", logStreamName=self.name, logEvents=events):
            created = True
            self.create()  # which waits for the end of the deletion
        return created

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines written; none if a client has deleted the log."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line)["message"] for line in content.splitlines()[-count:]]

    def _call(self, operation: str, **request: Any) -> bool:
        """Call an operation on the group; return False if the group or the stream does not exist."""
        try:
            self._services.logs(operation, logGroupName=self._group, **request)
        except ServiceError as error:
            if error.code == "ResourceNotFoundException":
                return False
            if error.code != "ResourceAlreadyExistsException":
                raise
        return True
