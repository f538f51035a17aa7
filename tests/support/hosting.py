"""Endpoints in this process, with stand-ins for their model servers."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localmode.core.settings import Settings
from localmode.hosting.endpoint import Endpoint
from localmode.hosting.errors import ModelServerError
from localmode.hosting.fleet import Specification
from localmode.hosting.registry import Endpoints
from localmode.hosting.runtime import Invoker
from localmode.hosting.server_process import Answer, Limits
from tests.support.local import BUCKET, SOON


class StandInServer:
    """A server without a process: it answers with its name."""

    def __init__(self, name: str, limits: Limits, servers: "StandInServers") -> None:
        self.name = name
        self.limits = limits
        self.answers = False
        self._stopped = False
        self._servers = servers

    def start(self) -> None:
        self._servers.starting.release()
        assert self._servers.may_start.wait(SOON)
        if self._servers.error or self._stopped:
            raise ModelServerError(self._servers.error or "stopped")
        self.answers = True

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._stopped:
            raise ConnectionRefusedError("gone")
        if headers.get("raise") == "timeout":
            raise TimeoutError
        status = int(headers.get("status", 200))
        return Answer(status, "text/plain", self.name.encode() + body * int(headers.get("times", 1)))

    def stop(self) -> None:
        self.answers = False
        self._stopped = True
        self._servers.stopped.append(self.name)
        if self._servers.stop_error:
            raise self._servers.stop_error


class StandInServers:
    """Makes the stand-ins, and decides when and how they start. They start at once unless `may_start` is cleared."""

    def __init__(self) -> None:
        self.may_start = threading.Event()
        self.may_start.set()
        self.starting = threading.Semaphore(0)  # released by each server that begins to start
        self.made: list[StandInServer] = []
        self.stopped: list[str] = []
        self.error = ""  # why no server starts
        self.stop_error: Exception | None = None

    def __call__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        log: Callable[[list[str]], None],
        temporary: Path,
        limits: Limits,
    ) -> StandInServer:
        """Make a server as Hosting does."""
        return self._make(f"{directory.name} {environment['NUMBER']}", limits)

    def make(self, specification: Specification) -> StandInServer:
        """Make a server as Fleet does."""
        return self._make(f"{specification['VariantName']} {specification['Environment']['NUMBER']}", Limits())

    def _make(self, name: str, limits: Limits) -> StandInServer:
        server = StandInServer(name, limits, self)
        self.made.append(server)
        return server

    def wait_until_starting(self) -> None:
        """Wait until one more server has begun to start."""
        assert self.starting.acquire(timeout=SOON)


def variant(name: str = "model", **members: Any) -> Specification:
    """Return the specification of a variant called `mine`; its servers answer with its name and number."""
    url, number = f"s3://{BUCKET}/{name}/model", str(members.pop("number", 1))
    usual = {"VariantName": "mine", "Weight": 1.0, "InstanceCount": 1, "Routing": "RANDOM"}
    return {**usual, "ModelDataUrl": url, "Environment": {"NUMBER": number}, **members}


def record(name: str, *variants: Specification) -> dict[str, Any]:
    """Return the record of an endpoint that is to be created."""
    about = {"EndpointName": name, "EndpointArn": "arn", "EndpointConfigName": "x", "CreationTime": 0}
    return {**about, "LastModifiedTime": 0, "Variants": list(variants or [variant(name)])}


def created(endpoints: Endpoints, name: str, *variants: Specification) -> Endpoint:
    """Create an endpoint and return it when its servers answer or have failed."""
    assert endpoints.create(record(name, *variants))
    settled(endpoints, name)
    return endpoints.get(name)


def settled(endpoints: Endpoints, name: str) -> dict[str, Any]:
    """Wait for the end of a creation or an update; return the record and the numbers of running instances."""
    endpoint = endpoints.get(name)
    assert endpoint.wait_until_settled(SOON)
    return endpoint.describe()


def gone(endpoints: Endpoints, name: str) -> None:
    """Wait for the end of a deletion."""
    for thread in threading.enumerate():
        if thread.name == f"delete endpoint {name}":
            thread.join(SOON)
    assert endpoints.find(name) is None


def ask(endpoints: Endpoints, *request: Any) -> tuple[str, Answer]:
    return Invoker(Settings(Path()), endpoints).invoke(*request)


def answer(endpoints: Endpoints, name: str, target: str = "", **headers: str) -> str:
    """Invoke an endpoint; return the name of the server that has answered."""
    served, reply = ask(endpoints, name, b"", headers, target)
    assert reply.body.decode().startswith(served)
    return reply.body.decode()
