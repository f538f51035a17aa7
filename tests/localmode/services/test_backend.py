"""Changes of IAM and CloudWatch Logs: made one at a time, on disk before the answer, and without blocking reads."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import create_backend_app

from localmode.core.settings import Settings
from localmode.services.backend import Services
from localmode.services.errors import ServiceError
from tests.support.gate import Gate
from tests.support.local import SOON


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Services with a new journal. Moto has one IAM per process; tests therefore use different user names."""
    (tmp_path / "changes.jsonl").touch()  # it is not the first start: the execution role exists
    return Services(Settings(tmp_path))


def users(services: Services, name: str = "") -> list[str]:
    """Return the names of the users that begin with `name`."""
    answer = services.query(Action="ListUsers").get_data(as_text=True)
    found = [part.partition("<")[0] for part in answer.split("<UserName>")[1:]]
    return [user for user in found if user.startswith(name)]


def on_disk(home: Path) -> list[str]:
    """Return the names of the users that are created in the journal."""
    bodies = [json.loads(line)["body"] for line in (home / "changes.jsonl").read_text().splitlines()]
    return [body.rpartition("UserName=")[2] for body in bodies if "UserName=" in body]


def create(services: Services, name: str) -> None:
    services.query(Action="CreateUser", UserName=name)


def test_a_read_does_not_wait_for_the_disk(services: Services, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Gate()
    monkeypatch.setattr("localmode.core.durable.os.fsync", lambda file: disk.wait())
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(create, services, name)
        disk.arrived()
        try:
            assert pool.submit(users, services, name).result(SOON) == [name]
            assert not writing.done()
        finally:
            disk.opened.set()
        writing.result(SOON)


def test_a_change_is_acknowledged_only_when_it_is_on_disk(
    tmp_path: Path, services: Services, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any) -> None:
        raise OSError(28, "No space left on device")

    before = (tmp_path / "changes.jsonl").read_bytes()
    monkeypatch.setattr("localmode.core.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        create(services, name)
    with pytest.raises(OSError, match="No space left"):  # EntityAlreadyExists would acknowledge it
        create(services, name)
    assert (tmp_path / "changes.jsonl").read_bytes() == before
    monkeypatch.undo()
    with pytest.raises(ServiceError, match="EntityAlreadyExists"):  # the client tries again
        create(services, name)
    assert on_disk(tmp_path) == [name]


@pytest.mark.parametrize("other", [users, lambda services: create(services, "some-other")], ids=["read", "change"])
def test_moto_handles_no_other_request_during_a_change(
    tmp_path: Path, name: str, other: Callable[[Services], object]
) -> None:
    """Another request would use the random generator whose seed the change has set."""
    moto, watched = Gate(), threading.Event()

    def create_app(service: str) -> Any:
        application = create_backend_app(service)

        def wait_first(environ: dict[str, Any], start_response: Any) -> Any:
            if watched.is_set():
                moto.wait()
            return application(environ, start_response)

        return wait_first

    (tmp_path / "changes.jsonl").touch()
    services = Services(Settings(tmp_path), create_app)
    watched.set()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(create, services, name)
        moto.arrived()
        second = pool.submit(other, services)
        alone = not moto.reached.acquire(timeout=0.3)
        moto.opened.set()
        assert (alone, first.result(SOON)) == (True, None)
        second.result(SOON)
