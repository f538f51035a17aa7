"""What a container prints: its lines, and the metrics in them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import regex

from localmode.services.logs import MAX_EVENT_BYTES

_LONGEST_SEARCH = 1.0  # seconds
_log = logging.getLogger(__name__)


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
    while len(line) > MAX_EVENT_BYTES:
        end = MAX_EVENT_BYTES
        while end > MAX_EVENT_BYTES - 4 and line[end] & 0xC0 == 0x80:  # the middle of a character in UTF-8
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


class MetricScanner:
    """Finds a job's metrics in its log lines by its MetricDefinitions."""

    def __init__(self, definitions: list[dict[str, str]], report: Callable[[str, float], None]) -> None:
        self._patterns = [(definition["Name"], regex.compile(definition["Regex"])) for definition in definitions]
        self._report = report

    def scan(self, line: str) -> None:
        """Report each metric whose regex finds a number in the line, in its first group or as a whole.

        Some expressions take for ever: each has a second for a line, in which other threads go on.
        """
        for name, pattern in self._patterns:
            try:
                match = pattern.search(line, concurrent=True, timeout=_LONGEST_SEARCH)
            except TimeoutError:
                _log.warning("the Regex of metric %s takes too long for a line of %d characters", name, len(line))
                continue
            if match:
                text = match[1] if pattern.groups else match[0]
                try:
                    value = float(text)
                except (TypeError, ValueError):
                    continue  # the regex matched something else
                self._report(name, value)
