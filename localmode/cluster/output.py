"""The output of a container: its lines, and the metrics in them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import regex

from localmode.services.logs import MAX_EVENT_BYTES

_REGEX_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Lines:
    """Splits the output of a container into lines; a line longer than an event of CloudWatch Logs becomes several."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Add some output; return the lines that are complete."""
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        lines = [piece for line in complete for piece in _pieces(line)]
        *cut, self._rest = _pieces(self._rest)
        return [_text(line) for line in lines + cut]

    def rest(self) -> list[str]:
        """Return the last line if it has no newline."""
        return [_text(self._rest)] if self._rest else []


def _pieces(line: bytes) -> list[bytes]:
    """Split a line that is too long, but no character of it."""
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

        Each regex has one second for a line, since some never end, and other threads run meanwhile.
        """
        for name, pattern in self._patterns:
            try:
                match = pattern.search(line, concurrent=True, timeout=_REGEX_SECONDS)
            except TimeoutError:
                _log.warning("The regex of metric %s takes too long for a line of %d characters", name, len(line))
                continue
            if match:
                text = match[1] if pattern.groups else match[0]
                try:
                    value = float(text)
                except (TypeError, ValueError):
                    continue  # the match is not a number
                self._report(name, value)
