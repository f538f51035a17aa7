"""The log of a training job or an endpoint: on disk first, then in CloudWatch Logs, and searched for metrics."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from localmode.replay import at
from localmode.services import Services
from localmode.settings import LocalModeError

GROUP = "/aws/sagemaker/TrainingJobs"
_BATCH = 1000
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_MAX_EVENT = 256 * 1024 - 26


class Logs:
    """All log streams of a group, in files that outlive the daemon."""

    def __init__(self, directory: Path, services: Services, group: str = GROUP) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._services = services
        self._group = group
        services.keep_log_group(group, self._forget)
        for path in sorted(directory.glob("*.jsonl")):
            self._restore(path)

    def stream(self, name: str) -> LogStream:
        """Open a stream for appending; the same name continues the same stream."""
        path = self._path(name)
        stream = LogStream(path, name, self._services, self._group)
        if not path.exists():
            path.touch()
            stream.create()
        return stream

    def _path(self, stream: str) -> Path:
        return self._directory / f"{quote(stream, safe='')}.jsonl"

    def _forget(self, stream: str | None) -> None:
        """Delete the events of a stream, or of all of them."""
        for path in [self._path(stream)] if stream is not None else self._directory.glob("*.jsonl"):
            path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        stream = LogStream(path, unquote(path.stem), self._services, self._group)
        complete, end, _ = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(complete + end))  # a line that was being written when the daemon was killed
        try:
            events = [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise LocalModeError(f"{path} is damaged ({error}); move it away to start without this log") from error
        for start in range(0, len(events), _BATCH):
            batch = events[start : start + _BATCH]
            with at(batch[-1]["timestamp"] / 1000):  # or what is older than two weeks would be refused
                stream.publish(batch)


class LogStream:
    """One stream: one line, one event."""

    def __init__(self, path: Path, name: str, services: Services, group: str) -> None:
        self.name = name
        self._path = path
        self._group = group
        self._services = services

    def write(self, lines: list[str]) -> None:
        """Append lines; they can be read from CloudWatch Logs when this returns."""
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line]
        if not events:
            return
        content = "".join(json.dumps(event) + "\n" for event in events).encode()
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            if file.write(content) != len(content):  # the disk is full: half a line would damage the next one
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        for start in range(0, len(events), _BATCH):
            self.publish(events[start : start + _BATCH])

    def create(self) -> None:
        """Create the stream in CloudWatch Logs, and its group, where they are not there."""
        for operation, names in (
            ("CreateLogGroup", {"logGroupName": self._group}),
            ("CreateLogStream", {"logGroupName": self._group, "logStreamName": self.name}),
        ):
            try:
                self._services.logs(operation, **names)
            except RuntimeError as error:
                if "ResourceAlreadyExists" not in str(error):
                    raise

    def publish(self, events: list[dict[str, Any]]) -> None:
        """Hand events to CloudWatch Logs, also where a client has deleted the stream."""
        request = {"logGroupName": self._group, "logStreamName": self.name, "logEvents": events}
        try:
            self._services.logs("PutLogEvents", **request)
        except RuntimeError as error:
            if "ResourceNotFound" not in str(error):
                raise
            self.create()
            self._services.logs("PutLogEvents", **request)

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines written."""
        return [json.loads(line)["message"] for line in self._path.read_bytes().splitlines()[-count:]]


class Lines:
    """Cuts what a container says into lines; one longer than an event of CloudWatch Logs becomes several."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Take some bytes; return the lines that are complete."""
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        lines = [piece for line in complete for piece in _pieces(line)]
        *cut, self._rest = _pieces(self._rest)
        return [_text(line) for line in lines + cut]

    def rest(self) -> list[str]:
        """Return what has no end yet."""
        return [_text(self._rest)] if self._rest else []


def _pieces(line: bytes) -> list[bytes]:
    """Cut a line where it is too long, but no character in two."""
    pieces = []
    while len(line) > _MAX_EVENT:
        end = _MAX_EVENT
        while end > _MAX_EVENT - 4 and line[end] & 0xC0 == 0x80:  # the middle of a character in UTF-8
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


class MetricScanner:
    """Finds a job's metrics in its log lines by its MetricDefinitions."""

    def __init__(self, definitions: list[dict[str, str]], report: Callable[[str, float], None]) -> None:
        self._patterns = [(definition["Name"], re.compile(definition["Regex"])) for definition in definitions]
        self._report = report

    def scan(self, line: str) -> None:
        """Report each metric whose regex finds a number in the line, in its first group or as a whole."""
        for name, pattern in self._patterns:
            if match := pattern.search(line):
                text = match[1] if pattern.groups else match[0]
                try:
                    value = float(text)
                except (TypeError, ValueError):
                    continue  # the regex matched something else
                self._report(name, value)
