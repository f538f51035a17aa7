"""The log of a training job: on disk first, then in CloudWatch Logs, and searched for metrics."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from localmode.services import Services

GROUP = "/aws/sagemaker/TrainingJobs"
_BATCH = 1000


class Logs:
    """All log streams of the group, in files that outlive the daemon."""

    def __init__(self, directory: Path, services: Services) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._services = services
        self._services.logs("CreateLogGroup", logGroupName=GROUP)
        for path in sorted(directory.glob("*.jsonl")):
            self._restore(path)

    def stream(self, name: str) -> LogStream:
        """Open a stream for appending; the same name continues the same stream."""
        path = self._directory / f"{quote(name, safe='')}.jsonl"
        if not path.exists():
            path.touch()
            self._services.logs("CreateLogStream", logGroupName=GROUP, logStreamName=name)
        return LogStream(path, name, self._services)

    def _restore(self, path: Path) -> None:
        stream = LogStream(path, unquote(path.stem), self._services)
        self._services.logs("CreateLogStream", logGroupName=GROUP, logStreamName=stream.name)
        complete, end, _ = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(complete + end))  # a line that was being written when the daemon was killed
        events = [json.loads(line) for line in complete.splitlines()]
        for start in range(0, len(events), _BATCH):
            stream.publish(events[start : start + _BATCH])


class LogStream:
    """One stream: one line, one event."""

    def __init__(self, path: Path, name: str, services: Services) -> None:
        self.name = name
        self._path = path
        self._services = services

    def write(self, lines: list[str]) -> None:
        """Append lines; they can be read from CloudWatch Logs when this returns."""
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line]
        if not events:
            return
        with self._path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)
        for start in range(0, len(events), _BATCH):
            self.publish(events[start : start + _BATCH])

    def publish(self, events: list[dict[str, Any]]) -> None:
        """Hand events to CloudWatch Logs."""
        self._services.logs("PutLogEvents", logGroupName=GROUP, logStreamName=self.name, logEvents=events)

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines written."""
        return [json.loads(line)["message"] for line in self._path.read_bytes().splitlines()[-count:]]


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
