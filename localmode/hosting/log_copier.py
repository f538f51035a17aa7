"""Copy what a model server writes to standard error into its log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import IO

MAX_LINE_BYTES = 1 << 16
_log = logging.getLogger(__name__)


def copy_log(stream: IO[bytes], write: Callable[[list[str]], None]) -> None:
    """Pass the lines of a pipe to `write` until the pipe ends, then close it.

    The pipe is drained even while `write` fails, for example because the disk is full: with a full pipe, the model
    server would block at its next line, in the middle of an invocation. Lines that cannot be written are lost; the
    daemon's log says so once, and the server's log says how many as soon as it can be written again.
    """
    lost = 0
    with stream:
        while line := stream.readline(MAX_LINE_BYTES):
            text = line.decode(errors="replace").rstrip()
            try:
                write([f"localmode could not write {lost} lines of this log", text] if lost else [text])
                lost = 0
            except Exception:  # noqa: BLE001 - whatever fails, the pipe must be drained
                if not lost:
                    _log.exception("Lines of a model server's log are lost, because the log cannot be written.")
                lost += 1
