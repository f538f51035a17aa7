"""The state directory: its format, the daemon's lock, and the file that says how to reach the daemon.

A state directory has a version, in HOME/format. A daemon reads its own version and all older ones, and refuses newer
ones. Version 1: jobs/, models/, endpoint-configs/ and endpoints/ with a JSON document for each resource, s3/ with the
objects, logs/ with the logs of jobs and endpoints, changes.jsonl with the changes of IAM and CloudWatch Logs.
"""

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

from localmode.core.durable import replace_atomically
from localmode.core.errors import LocalModeError

FORMAT = 1
STATE_FILE = "daemon.json"
_FORMAT_FILE = "format"
_LOCK_FILE = "daemon.lock"
_SAFE_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # the SDK's shell scripts do not quote
_ELSEWHERE = "localmode-"  # the prefix of temporary directories that a state directory's `run` links to


def claim(home: Path) -> None:
    """Make a state directory, or check that this version of localmode can use the one that exists.

    Raises LocalModeError, and leaves the directory as it is, if it holds something else or has a newer format.
    """
    while True:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            names = [path.name for path in home.iterdir()]
            if names and _LOCK_FILE not in names:
                raise LocalModeError(f"{home} is not localmode's state directory; choose a new or an empty one")
            check_format(home)
            (home / _LOCK_FILE).touch()  # before anything else: it marks the directory as localmode's
            home.chmod(0o700)
            return
        except FileNotFoundError:  # another process has deleted the directory at this moment
            continue


def check_format(home: Path) -> None:
    """Raise LocalModeError if a state directory was written by a newer localmode, in a format unknown to this one."""
    path = home / _FORMAT_FILE
    try:
        version = int(path.read_bytes())
    except FileNotFoundError:  # before there was this file, there was version 1
        return
    except ValueError as error:
        raise LocalModeError(f"{path} is damaged; write the version of the directory's format into it, 1") from error
    if version > FORMAT:
        raise LocalModeError(
            f"{home} was written by a newer localmode (its format is version {version}, and this localmode reads up to "
            f"{FORMAT}); update localmode, or choose another state directory"
        )


def write_format(home: Path, scratch: Path) -> None:
    """Write the version of the format into a state directory, for localmodes to come; `scratch` is in it."""
    with replace_atomically(home / _FORMAT_FILE, scratch) as file:
        file.write(b"%d\n" % FORMAT)


def is_home(directory: Path) -> bool:
    """Tell whether a directory is localmode's."""
    return (directory / _LOCK_FILE).is_file()


def make_run_directory(home: Path) -> Path:
    """Make HOME/run, empty, for the hosts of jobs; return its path.

    If the path has characters that a shell would interpret, HOME/run is a link to a temporary directory.
    """
    remove_run_directory(home)  # a killed daemon's hosts leave files there
    run = home / "run"
    if _SAFE_PATH.fullmatch(str(run)):
        run.mkdir()
        return run
    elsewhere = Path(tempfile.mkdtemp(prefix=_ELSEWHERE))
    run.symlink_to(elsewhere)
    return elsewhere


def remove_run_directory(home: Path) -> None:
    """Remove HOME/run and everything in it, or in the directory that it links to."""
    run = home / "run"
    if run.is_symlink():
        elsewhere = run.readlink()
        if elsewhere.name.startswith(_ELSEWHERE):
            shutil.rmtree(elsewhere, ignore_errors=True)
        run.unlink()
    shutil.rmtree(run, ignore_errors=True)


def take_lock(home: Path) -> int:
    """Take the lock that a daemon holds until its process has ended; return its file descriptor.

    Waits for processes that test the lock at this moment (is_running).
    """
    lock = os.open(home / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def holds(lock: int, home: Path) -> bool:
    """Tell whether a lock belongs to the state directory; it does not if the directory has been deleted since."""
    return is_in_place(lock, home / _LOCK_FILE)


def is_in_place(file: int, path: Path) -> bool:
    """Tell whether `path` still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_running(home: Path) -> bool:
    """Tell whether a daemon runs over a directory; writes nothing."""
    if not is_home(home):
        return False
    with (home / _LOCK_FILE).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until_gone(home: Path) -> None:
    """Wait until the daemon of a state directory has ended."""
    with (home / _LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def read_state(home: Path) -> dict[str, Any]:
    """Return the address and the keys of the last daemon, empty if there was none; raise LocalModeError if damaged."""
    path = home / STATE_FILE
    try:
        state = json.loads(path.read_bytes())
        if state["port"] not in range(1, 1 << 16) or not isinstance(state["access_key"] + state["secret_key"], str):
            raise ValueError("port or keys are not valid")
        return dict(state)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, LookupError) as error:
        raise LocalModeError(f"{path} is damaged; stop localmode, delete the file and start again") from error


@contextmanager
def start_lock(home: Path) -> Iterator[IO[str] | None]:
    """Let one process at a time start or stop a daemon, or delete its state.

    Yields the open lock file, or None if another process has deleted the state directory in the meantime.
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
