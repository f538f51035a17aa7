"""Start, join and stop the daemon of a state directory, and delete its state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

from localmode.client.commands import send
from localmode.client.environment import write_sdk_defaults
from localmode.core.errors import LocalModeError
from localmode.core.home import (
    claim,
    is_home,
    is_running,
    read_state,
    remove_run_directory,
    start_lock,
    wait_until_gone,
)
from localmode.core.settings import Settings, default_home, from_environment


def ensure_daemon(settings: Settings) -> bool:
    """Start a daemon unless one runs; return whether one was started. Raise LocalModeError if it cannot start."""
    home = settings.home
    try:
        while True:
            claim(home)
            with start_lock(home) as lock:
                if lock is not None:
                    return _start(settings, lock)
    except OSError as error:
        raise LocalModeError(f"localmode cannot use its state directory {home}: {error}") from error


def _start(settings: Settings, lock: IO[str]) -> bool:
    if is_running(settings.home):
        return False
    (settings.home / "logs").mkdir(exist_ok=True)
    write_sdk_defaults(settings)  # before there is a daemon to join
    _spawn(settings, lock)
    return True


def stop(home: Path) -> bool:
    """Stop the daemon and wait until it and all that it started are gone; False if none runs."""
    if not is_running(home):
        return False
    with start_lock(home) as lock:  # a start that comes meanwhile does not join a daemon that is about to end
        return lock is not None and _stop(home)


def _stop(home: Path) -> bool:
    if not is_running(home):
        return False
    send(home, read_state(home), "stop", {})
    wait_until_gone(home)
    return True


def reset(home: Path) -> None:
    """Stop the daemon and delete its state: jobs, objects, logs. Raise LocalModeError if that cannot be done."""
    if not home.exists():
        return
    if not is_home(home):
        raise LocalModeError(f"{home} is not localmode's state directory; nothing was deleted")
    with start_lock(home) as lock:
        if lock is not None:
            _stop(home)
            try:
                remove_run_directory(home)
                _delete(home)
            except OSError as error:
                raise LocalModeError(f"{home} cannot be deleted: {error}") from error


def _delete(home: Path) -> None:
    """Delete a state directory; it stays one until the end, so that who starts a daemon meanwhile waits for that."""
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()
    emptied = home.with_name(f"{home.name}-{os.getpid()}")
    home.rename(emptied)
    shutil.rmtree(emptied)


def _spawn(settings: Settings, lock: IO[str]) -> None:
    """Start the daemon and wait for its word. Until then it holds the lock, too: this process may be killed."""
    log_path = settings.home / "logs" / "daemon.log"
    with log_path.open("ab") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-m", "localmode", "serve", "--home", str(settings.home)],
            stdin=lock,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "LOCALMODE_RUNNER": settings.runner},
            start_new_session=True,
        )
    assert daemon.stdout is not None
    with daemon.stdout:
        word = daemon.stdout.readline().strip()
    if word != "ready":
        daemon.wait()
        raise LocalModeError(f"localmode cannot start: {word or f'see {log_path}'}")
    daemon.returncode = 0  # it lives on by itself: no warning that it was left behind


def settings_for(home: str | Path | None, runner: str | None) -> Settings:
    """Return the settings for what a caller chose, the environment filling in the rest."""
    directory = Path(home).absolute() if home else default_home()
    environ = {**os.environ, **({"LOCALMODE_RUNNER": runner} if runner else {})}
    return from_environment(directory, environ)
