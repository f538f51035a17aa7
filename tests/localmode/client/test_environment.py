"""The environment variables that direct AWS clients, and localmode itself, to a daemon."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

import localmode
from localmode.client import environment
from localmode.core.errors import LocalModeError
from localmode.core.home import is_running
from tests.support.local import BUCKET, SOON, Daemon

Make = Callable[..., Daemon]


@pytest.fixture
def own_environment(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Restore the environment after the test; LOCALMODE_HOME is another directory."""
    for variable in (*environment.environment(daemon.home), *environment.misleading()):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("LOCALMODE_HOME", str(tmp_path / "default"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    yield


@pytest.mark.usefixtures("own_environment")
def test_start_directs_the_clients_of_this_process_to_the_daemon(daemon: Daemon) -> None:
    localmode.start(daemon.home)
    assert boto3.client("sts").get_caller_identity()["Arn"].endswith(":assumed-role/LocalModeExecutionRole/localmode")
    assert localmode.status(daemon.home)["pid"] == daemon.pid


@pytest.mark.usefixtures("own_environment")
def test_after_start_all_functions_use_its_state_directory(daemon: Daemon) -> None:
    assert not localmode.is_running()
    localmode.start(daemon.home)
    assert (localmode.is_running(), localmode.status()["home"]) == (True, str(daemon.home))
    localmode.set_spot_capacity(False)
    try:
        assert localmode.status(daemon.home)["spot_capacity"] is False
    finally:
        localmode.set_spot_capacity(True)
    with pytest.raises(LocalModeError, match="no training job 'unknown'"):
        localmode.interrupt("unknown")


@pytest.mark.usefixtures("own_environment")
def test_a_relative_state_directory_stays_the_same_after_chdir(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(daemon.home.parent)
    localmode.start(daemon.home.name)
    monkeypatch.chdir("/")
    assert localmode.status()["home"] == str(daemon.home)


@pytest.mark.usefixtures("own_environment")
def test_after_stop_the_functions_still_use_the_directory_of_the_stopped_daemon(
    new_daemon: Make, tmp_path: Path
) -> None:
    home = new_daemon().start().home
    localmode.start(home)
    localmode.stop()
    assert (is_running(home), localmode.is_running()) == (False, False)
    with pytest.raises(LocalModeError, match=f"No daemon runs over {home}"):
        localmode.status()
    assert not (tmp_path / "default").exists()


@pytest.mark.usefixtures("own_environment")
def test_joining_a_daemon_with_another_runner_is_refused(daemon: Daemon) -> None:
    used = localmode.status(daemon.home)["runner"]
    other = "rewrite" if used != "rewrite" else "docker"
    with pytest.raises(LocalModeError, match=f"{daemon.home} uses the {used} runner; stop it before"):
        localmode.start(daemon.home, runner=other)
    for runner in (None, "auto", used):
        localmode.start(daemon.home, runner=runner)


# In a shell

SCRIPT = """
import boto3
buckets = boto3.client("s3").list_buckets(Prefix="sagemaker-")["Buckets"]  # other tests have others
print(boto3.client("sts").get_caller_identity()["Account"], buckets[0]["Name"])
"""


def in_shell(daemon: Daemon, command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command after `eval "$(python -m localmode env)"`."""
    script = f'eval "$({sys.executable} -m localmode env --home {daemon.home})" && {command}'
    line = ["sh", "-c", script, *arguments]
    return subprocess.run(line, env={**daemon.environment, **variables}, capture_output=True, text=True, timeout=SOON)


def test_a_new_process_needs_only_the_variables_that_env_prints(daemon: Daemon) -> None:
    misleading = {
        "AWS_PROFILE": "production",
        "AWS_DEFAULT_PROFILE": "production",
        "AWS_SESSION_TOKEN": "x",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "example.com",
    }
    result = in_shell(daemon, f'exec {sys.executable} -c "$0"', SCRIPT, **misleading)
    assert result.stdout == f"123456789012 {BUCKET}\n", result.stderr


def test_commands_in_the_same_shell_use_the_same_state_directory(daemon: Daemon, tmp_path: Path) -> None:
    result = in_shell(daemon, f"exec {sys.executable} -m localmode status", LOCALMODE_HOME=str(tmp_path))
    assert json.loads(result.stdout)["home"] == str(daemon.home), result.stderr


def test_env_starts_a_daemon_where_none_runs(new_daemon: Make) -> None:
    daemon = new_daemon()
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in daemon.cli("env").stdout
    assert is_running(daemon.home)
