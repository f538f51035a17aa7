"""Start, join and stop the daemon of a state directory, and delete the directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

from localmode.client.commands import command, send
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


def settings_for(home: str | Path | None, runner: str | None) -> Settings:
    """Return the settings for what a caller chose; the environment supplies the rest."""
    directory = Path(home).absolute() if home else default_home()
    environ = {**os.environ, **({"LOCALMODE_RUNNER": runner} if runner else {})}
    return from_environment(directory, environ)


def start(home: str | Path | None, runner: str | None) -> tuple[Path, bool]:
    """Start the daemon of a state directory, or join the one that runs.

    Returns the state directory, and whether a daemon was started. Raises LocalModeError if none can be started, or if
    the daemon that runs does not use the runner that the caller chose.
    """
    settings = settings_for(home, runner)
    started = ensure_daemon(settings)
    if runner not in (None, "auto") and not started:
        used = command(settings.home, "status")["runner"]
        if used != runner:
            raise LocalModeError(
                f"The daemon over {settings.home} uses the {used} runner; stop it before you start one with the "
                f"{runner} runner"
            )
    return settings.home, started


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
    write_sdk_defaults(settings)  # first, since other processes join a daemon as soon as it runs
    _spawn(settings, lock)
    return True


def _spawn(settings: Settings, lock: IO[str]) -> None:
    """Start the daemon's process and wait until it is ready.

    The daemon inherits the start lock as its standard input and releases it when it is ready: the lock is then held
    until that moment even if this process is killed.
    """
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
        line = daemon.stdout.readline().strip()
    if line != "ready":
        daemon.wait()
        raise LocalModeError(f"localmode cannot start: {line or f'see {log_path}'}")
    daemon.returncode = 0  # the daemon outlives this process: no ResourceWarning about a child that still runs


def stop(home: Path) -> bool:
    """Stop the daemon and wait until it and all its processes have ended; return False if none runs."""
    if not is_running(home):
        return False
    with start_lock(home) as lock:  # so that no process joins a daemon that is about to end
        return lock is not None and _stop(home)


def _stop(home: Path) -> bool:
    if not is_running(home):
        return False
    send(home, read_state(home), "stop", {})
    wait_until_gone(home)
    return True


def reset(home: Path) -> None:
    """Stop the daemon and delete its state directory; raise LocalModeError if that is not possible."""
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
    """Delete a state directory; its locks go last, so that a process that starts a daemon waits for the end."""
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()
    emptied = home.with_name(f"{home.name}-{os.getpid()}")
    home.rename(emptied)
    shutil.rmtree(emptied)
