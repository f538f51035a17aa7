"""Let model servers that start leave the processor to those that answer requests."""

from __future__ import annotations

import errno
import time
from pathlib import Path

STARTING = 10  # niceness of a session whose server imports TensorFlow and loads its model
ANSWERING = 0
_ATTEMPTS = 20
_RETRY_SECONDS = 0.1


def set_niceness(session: int, niceness: int) -> None:
    """Set the niceness of a session of processes, given by its ID, on Linux with autogroups; elsewhere do nothing.

    A niceness that is set with setpriority counts only within a session, and an ordinary user cannot lower it again.
    Both are different for autogroups: https://man7.org/linux/man-pages/man7/sched.7.html.
    """
    path = Path(f"/proc/{session}/autogroup")
    for _ in range(_ATTEMPTS):
        try:
            path.write_text(str(niceness))
        except OSError as error:
            if error.errno != errno.EAGAIN:  # not Linux, no autogroups, or the process has ended
                return
            time.sleep(_RETRY_SECONDS)  # an ordinary user may change one session in a tenth of a second
        else:
            return
