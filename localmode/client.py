"""Starts or joins the daemon, and points this process's AWS clients at it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from localmode.settings import LocalModeError, Settings, default_home, from_environment
from localmode.state import claim, is_home, is_in_place, is_running, read_state, remove_run_directory, wait_until_gone

_MISLEADING = (  # they would lead away from the daemon
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
_SDK_DEFAULTS = "sagemaker-config.yaml"


def ensure_daemon(settings: Settings) -> bool:
    """Start a daemon unless one runs; return whether one was started. Raise LocalModeError if it cannot start."""
    home = settings.home
    try:
        while True:
            claim(home)
            with _one_starter(home) as lock:
                if lock is not None:
                    return _start(settings, lock)
    except OSError as error:
        raise LocalModeError(f"localmode cannot use its state directory {home}: {error}") from error


def _start(settings: Settings, lock: IO[str]) -> bool:
    if is_running(settings.home):
        return False
    (settings.home / "logs").mkdir(exist_ok=True)
    _write_sdk_defaults(settings)  # before there is a daemon to join
    _spawn(settings, lock)
    return True


def environment(home: Path) -> dict[str, str]:
    """Return the variables by which any AWS client finds the daemon; raise LocalModeError if none runs."""
    state = _running_state(home)
    bypass = [part for name in ("NO_PROXY", "no_proxy") for part in os.environ.get(name, "").split(",") if part]
    no_proxy = ",".join(dict.fromkeys([*bypass, "127.0.0.1"]))
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{state['port']}",
        "AWS_ACCESS_KEY_ID": state["access_key"],
        "AWS_SECRET_ACCESS_KEY": state["secret_key"],
        "AWS_DEFAULT_REGION": state["region"],
        "AWS_REGION": state["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(home / _SDK_DEFAULTS),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,  # wins where both are set
    }


def misleading() -> list[str]:
    """Return the names of variables that would lead AWS clients away from the daemon."""
    own_addresses = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]  # of single services
    return [*_MISLEADING, *sorted(own_addresses)]


def point_here(home: Path) -> None:
    """Make this process's AWS clients, from now on, talk to the daemon."""
    os.environ.update(environment(home))
    for name in misleading():
        os.environ.pop(name, None)
    import boto3

    boto3.setup_default_session()
    # The SDK asks STS at an address of its own making, whatever AWS_ENDPOINT_URL says.
    boto3.DEFAULT_SESSION._session.register("request-created.sts", _redirect)


def _redirect(request: Any, **_: Any) -> None:
    request.url = os.environ["AWS_ENDPOINT_URL"] + "/"


def command(home: Path, name: str, **parameters: Any) -> dict[str, Any]:
    """Give the daemon a command of localmode's own; raise LocalModeError with its answer if it refuses."""
    return _send(home, _running_state(home), name, parameters)


def _send(home: Path, state: dict[str, Any], name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", state["port"])
    try:
        headers = {"X-Localmode-Key": state["secret_key"]}
        connection.request("POST", f"/_localmode/{name}", json.dumps(parameters), headers)
        response = connection.getresponse()
        answer = dict(json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        log = home / "logs" / "daemon.log"
        raise LocalModeError(f"The daemon over {home} does not answer ({error}); see {log}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LocalModeError(answer["message"])
    return answer


def stop(home: Path) -> bool:
    """Stop the daemon and wait until it and all that it started are gone; False if none runs."""
    if not is_running(home):
        return False
    with _one_starter(home) as lock:  # a start that comes meanwhile does not join a daemon that is about to end
        return lock is not None and _stop(home)


def _stop(home: Path) -> bool:
    if not is_running(home):
        return False
    _send(home, read_state(home), "stop", {})
    wait_until_gone(home)
    return True


def reset(home: Path) -> None:
    """Stop the daemon and delete its state: jobs, objects, logs. Raise LocalModeError if that cannot be done."""
    if not home.exists():
        return
    if not is_home(home):
        raise LocalModeError(f"{home} is not localmode's state directory; nothing was deleted")
    with _one_starter(home) as lock:
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


def _running_state(home: Path) -> dict[str, Any]:
    if is_running(home):
        with _one_starter(home):  # a daemon that is being started has not yet said where it is
            if is_running(home):
                return read_state(home)
    raise LocalModeError(f"No daemon runs over {home}; `python -m localmode start` starts one")


@contextmanager
def _one_starter(home: Path) -> Iterator[IO[str] | None]:
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


def _write_sdk_defaults(settings: Settings) -> None:
    """Write the SDK's own defaults file (https://sagemaker.readthedocs.io: configuring defaults)."""
    (settings.home / _SDK_DEFAULTS).write_text(
        "SchemaVersion: '1.0'\n"
        "SageMaker:\n"
        "  PythonSDK:\n"
        "    Modules:\n"
        "      TelemetryOptOut: true\n"
        "      Session:\n"
        f"        DefaultS3Bucket: {settings.default_bucket}\n"
        "  TrainingJob:\n"
        f"    RoleArn: {settings.role_arn}\n"
        "  Model:\n"
        f"    ExecutionRoleArn: {settings.role_arn}\n"
    )


def settings_for(home: str | Path | None, runner: str | None) -> Settings:
    """Return the settings for what a caller chose, the environment filling in the rest."""
    directory = Path(home).absolute() if home else default_home()
    environ = {**os.environ, **({"LOCALMODE_RUNNER": runner} if runner else {})}
    return from_environment(directory, environ)
