"""How processes find the daemon of a state directory: a lock that it holds, and what it wrote about itself."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from localmode.core.errors import LocalModeError

STATE_FILE = "daemon.json"
_LOCK_FILE = "daemon.lock"
_SAFE_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # the SDK's shell scripts do not quote
_ELSEWHERE = "localmode-"  # how names of directories begin that a state directory's `run` points to


def claim(home: Path) -> None:
    """Make a state directory; raise LocalModeError for one that holds something else, which is to stay as it is."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        names = [path.name for path in home.iterdir()]
        if names and _LOCK_FILE not in names:
            raise LocalModeError(f"{home} is not localmode's state directory; choose a new or an empty one")
        (home / _LOCK_FILE).touch()  # before anything else, so that others see whose it is
        home.chmod(0o700)
    except FileNotFoundError:  # another process has deleted it at this moment
        claim(home)


def is_home(directory: Path) -> bool:
    """Tell whether a directory is localmode's."""
    return (directory / _LOCK_FILE).is_file()


def make_run_directory(home: Path) -> Path:
    """Make HOME/run for the hosts of jobs, empty; if a shell could not take its path, it points to one elsewhere."""
    remove_run_directory(home)  # what a killed daemon's hosts left
    run = home / "run"
    if _SAFE_PATH.fullmatch(str(run)):
        run.mkdir()
        return run
    elsewhere = Path(tempfile.mkdtemp(prefix=_ELSEWHERE))
    run.symlink_to(elsewhere)
    return elsewhere


def remove_run_directory(home: Path) -> None:
    """Remove HOME/run and all that is in it, also where it points to."""
    run = home / "run"
    if run.is_symlink():
        elsewhere = run.readlink()
        if elsewhere.name.startswith(_ELSEWHERE):
            shutil.rmtree(elsewhere, ignore_errors=True)
        run.unlink()
    shutil.rmtree(run, ignore_errors=True)


def take_lock(home: Path) -> int:
    """Take the lock that a daemon holds until its process has ended; wait for those who only look. Return its file."""
    lock = os.open(home / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def holds(lock: int, home: Path) -> bool:
    """Tell whether a lock is that of a state directory; it is not once somebody has deleted the directory."""
    return is_in_place(lock, home / _LOCK_FILE)


def is_in_place(file: int, path: Path) -> bool:
    """Tell whether an open file is still the one of this path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_running(home: Path) -> bool:
    """Tell whether a daemon runs over a directory; no trace is left in it."""
    if not is_home(home):
        return False
    with (home / _LOCK_FILE).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until_gone(home: Path) -> None:
    """Wait for the end of the daemon of a state directory."""
    with (home / _LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def read_state(home: Path) -> dict[str, Any]:
    """Return what the last daemon wrote about itself; empty if there was none. Raise LocalModeError if damaged."""
    path = home / STATE_FILE
    try:
        state = json.loads(path.read_bytes())
        if state["port"] not in range(1, 1 << 16) or not isinstance(state["access_key"] + state["secret_key"], str):
            raise ValueError("port or keys make no sense")
        return dict(state)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, LookupError) as error:
        raise LocalModeError(f"{path} is damaged; stop localmode, delete the file and start again") from error


@contextmanager
def start_lock(home: Path) -> Iterator[IO[str] | None]:
    """Let one process at a time start or stop a daemon, or delete its state; yield its lock.

    None is for a state directory that another process has deleted meanwhile.
    """
    path = home / "start.lock"
    try:
        lock = path.open("a")
    except FileNotFoundError:
        yield None
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock if is_in_place(lock.fileno(), path) else None
