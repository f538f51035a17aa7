"""Fixtures for the tests of localmode."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from localmode.core.settings import Settings
from localmode.s3.storage import Storage
from localmode.s3.store.objects import ObjectStore
from localmode.services.backend import Services
from localmode.services.logs import Logs
from tests.support.local import BUCKET, RUNNERS, Daemon, Pipe, Rooms, containers, processes_naming

if "docker" not in RUNNERS:
    collect_ignore = ["localmode/cluster/test_docker.py"]


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Check that no process and no container of the tests is left when they end."""
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))  # TensorFlow, killed, leaves files there
    yield
    if sys.platform == "linux":
        assert processes_naming(str(tmp_path_factory.getbasetemp())) == []
    if "docker" in RUNNERS:
        assert containers(str(tmp_path_factory.getbasetemp())) == []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A resource name that no other test uses."""
    words = re.sub("[^a-zA-Z0-9]+", "-", request.node.name.removeprefix("test_"))
    return f"{words[-50:].strip('-')}-{abs(hash(request.node.nodeid)) % 100000}"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that tests share; they do not stop it."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon") / "home").start()
    yield daemon
    daemon.stop()


@pytest.fixture
def at_daemon(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The daemon, to which the environment directs the AWS clients of this process."""
    for line in daemon.cli("env").stdout.splitlines():
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals:
            monkeypatch.setenv(name, value.strip("'"))
    boto3.setup_default_session()
    yield daemon
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes a daemon, not yet started, which the test may kill."""
    made: list[Daemon] = []

    def make(home: Path = tmp_path / "home", **settings: str) -> Daemon:
        made.append(Daemon(home, **settings))
        return made[-1]

    yield make
    for daemon in made:
        daemon.cli("stop")


@pytest.fixture(scope="session")
def rooms_by_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Rooms]]:
    """The rooms in this process, one set for each runner; they share S3 and the logs."""
    root = tmp_path_factory.mktemp("rooms")
    services = Services(Settings(home=root))
    storage = Storage(ObjectStore(root / "s3"))
    storage.store.create_bucket(BUCKET)
    logs = Logs(root / "logs", services)
    made: dict[str, Rooms] = {}

    def make(runner: str) -> Rooms:
        if runner not in made:
            made[runner] = Rooms(root / runner, services, storage, logs, runner)
        return made[runner]

    yield make
    for rooms in made.values():
        rooms.jobs.close()


@pytest.fixture(params=RUNNERS)
def rooms(request: pytest.FixtureRequest, rooms_by_runner: Callable[[str], Rooms]) -> Rooms:
    """The rooms in this process, with each runner in turn."""
    return rooms_by_runner(request.param)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    """A pipe from a job's container to the test."""
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.close()


@pytest.fixture
def order(tmp_path: Path) -> Iterator[Pipe]:
    """A pipe from the test to a job's container."""
    pipe = Pipe(tmp_path / "order")
    yield pipe
    pipe.close()
