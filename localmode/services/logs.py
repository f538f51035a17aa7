"""The log of a training job or an endpoint: on disk first, then in CloudWatch Logs, and searched for metrics."""

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

GROUP = "/aws/sagemaker/TrainingJobs"
_BATCH = 1000
_DAY = 24 * 3600 * 1000  # milliseconds
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MAX_EVENT_BYTES = 256 * 1024 - 26


class Logs:
    """All log streams of a group, in files that outlive the daemon."""

    def __init__(self, directory: Path, services: Services, group: str = GROUP) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._services = services
        self._group = group
        self._lock = threading.Lock()
        self._streams: dict[str, LogStream] = {}
        for path in sorted(directory.glob("*.jsonl")):
            self._restore(path)
        services.keep_log_group(group, self._forget)  # only now: whoever finds a damaged log keeps none

    def stream(self, name: str) -> LogStream:
        """Open a stream for appending; the same name is the same stream."""
        with self._lock:
            if name not in self._streams:
                path = self._directory / f"{quote(name, safe='')}.jsonl"
                self._streams[name] = LogStream(path, name, self._services, self._group)
                self._streams[name].create()
            return self._streams[name]

    def _forget(self, stream: str | None) -> None:
        """Delete the events of a stream, or of all of them."""
        for path in self._directory.glob("*.jsonl"):
            if stream in (None, unquote(path.stem)):
                path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        events = read_lines(path, _event, "this log")
        name = unquote(path.stem)
        stream = self._streams[name] = LogStream(path, name, self._services, self._group)
        for batch in _batches(events):
            with at(batch[-1]["timestamp"] / 1000):  # or what is older than two weeks would be refused
                stream.publish(batch)
            stream.latest = max(stream.latest, batch[-1]["timestamp"])


def _event(document: Any) -> dict[str, Any]:
    """Return an event as it was written down; raise TypeError or LookupError for anything else."""
    return {"timestamp": document["timestamp"] + 0, "message": document["message"]}


def _batches(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut events into what CloudWatch Logs takes at once: so many, within a day, and in the order of time.

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
    """One stream: one line, one event."""

    def __init__(self, path: Path, name: str, services: Services, group: str) -> None:
        self.name = name
        self.latest = 0  # milliseconds since the epoch, of its newest event
        self._path = path
        self._group = group
        self._services = services
        self._lock = threading.Lock()

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
        """Create the stream in CloudWatch Logs, and its group, where they are not there."""
        if not (self._call("CreateLogGroup") and self._call("CreateLogStream", logStreamName=self.name)):
            self.create()  # a client has deleted the group in between

    def publish(self, events: list[dict[str, Any]]) -> bool:
        """Hand events to CloudWatch Logs; return whether for that the stream had to be created anew."""
        anew = False
        while not self._call("PutLogEvents", logStreamName=self.name, logEvents=events):
            anew = True
            self.create()  # which waits for the end of the deletion
        return anew

    def _call(self, operation: str, **request: Any) -> bool:
        """Call an operation on the group; return False if that, or the stream, is not there."""
        try:
            self._services.logs(operation, logGroupName=self._group, **request)
        except RuntimeError as error:
            if "ResourceNotFound" in str(error):
                return False
            if "ResourceAlreadyExists" not in str(error):
                raise
        return True

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines written; none where a client has deleted the log."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line)["message"] for line in content.splitlines()[-count:]]
