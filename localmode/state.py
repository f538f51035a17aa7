"""How processes find the daemon of a state directory: a lock that it holds, and what it wrote about itself."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import IO, Any

from localmode.settings import LocalModeError

STATE_FILE = "daemon.json"
_LOCK_FILE = "daemon.lock"


def take_lock(home: Path, wait: bool = False) -> IO[str] | None:
    """Take the lock that a daemon holds for life; None if one is running and `wait` is false."""
    lock = (home / _LOCK_FILE).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        return None
    return lock


def is_running(home: Path) -> bool:
    """Tell whether a daemon runs over a state directory."""
    if not home.is_dir():
        return False
    lock = take_lock(home)
    if lock is not None:
        lock.close()
    return lock is None


def read_state(home: Path) -> dict[str, Any]:
    """Return what the last daemon wrote about itself; empty if there was none."""
    path = home / STATE_FILE
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise LocalModeError(f"{path} is damaged; stop localmode, delete the file and start again") from error
