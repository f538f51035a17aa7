"""The register of the operations of the SageMaker API, and what those of every kind share: resources and pages.

Every function registered here takes a request that fits botocore's input shape and returns a dictionary that
fits its output shape; what it refuses, it refuses with SageMaker's error code. The register is what the
README's table of operations is checked against.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from localmode.api.validation import validate
from localmode.core.aws import Request, Tags
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.registry import Endpoints
from localmode.s3.storage import Storage
from localmode.training.scheduler import TrainingJobs

Operation = Callable[["SageMaker", Request], Request]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    """Register a function under the operation's name: create_model answers CreateModel."""
    OPERATIONS["".join(word.capitalize() for word in function.__name__.split("_"))] = function
    return function


class SageMaker:
    """What the operations work on."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        jobs: TrainingJobs,
        endpoints: Endpoints,
        models: Journal,
        configs: Journal,
        trusts_sagemaker: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.jobs = jobs
        self.endpoints = endpoints
        self.trusts_sagemaker = trusts_sagemaker
        self.models = Register(models, settings, "model", "model", "Model")
        self.configs = Register(configs, settings, "endpoint-config", "endpoint configuration", "EndpointConfig")

    def call(self, name: str, request: Any) -> Request:
        """Carry out one operation; raise ApiError where SageMaker would answer with an error."""
        if name not in OPERATIONS:
            raise ApiError("UnknownOperationException", f"localmode does not implement sagemaker:{name}")
        return OPERATIONS[name](self, validate(name, request))


class Register:
    """Resources that only are: models and endpoint configurations."""

    def __init__(self, journal: Journal, settings: Settings, kind: str, title: str, prefix: str) -> None:
        self._journal = journal
        self._settings = settings
        self._kind, self._title, self._prefix = kind, title, prefix
        self._entries = journal.load(self._read)
        self._lock = threading.RLock()

    def _read(self, document: Request) -> Request:
        """Take what the journal gives back; raise LookupError or TypeError if that is no such resource."""
        needed = {f"{self._prefix}{part}": document[f"{self._prefix}{part}"] for part in ("Name", "Arn")}
        return {**document, **needed, "CreationTime": document["CreationTime"]}

    def arn(self, name: str) -> str:
        """Return the ARN of a resource of this kind."""
        return self._settings.arn(self._kind, name)

    def add(self, name: str, entry: Request) -> str:
        """Keep a new resource; raise ApiError for a name in use. Return its ARN."""
        stored = {**entry, f"{self._prefix}Arn": self.arn(name), "CreationTime": time.time()}
        with self._lock:
            if name in self._entries:
                raise ApiError(
                    "ValidationException", f'Cannot create already existing {self._title} "{self.arn(name)}".'
                )
            self._journal.save(name, stored)
            self._entries[name] = stored
        return self.arn(name)

    def get(self, name: str) -> Request:
        """Return a resource; raise ApiError if there is none of that name."""
        entry = self._entries.get(name)  # at once: it may be deleted at this moment
        if entry is None:
            raise ApiError("ValidationException", f'Could not find {self._title} "{self.arn(name)}".')
        return _untagged(entry)

    def tags(self, name: str, change: Callable[[Tags], Tags] | None = None) -> Tags | None:
        """Return a resource's tags, after a change to them if one is given; None for an unknown resource."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and change:
                entry = {**entry, "Tags": change(entry.get("Tags", []))}
                self._journal.save(name, entry)
                self._entries[name] = entry
        return None if entry is None else list(entry.get("Tags", []))

    def delete(self, name: str) -> None:
        """Forget a resource; raise ApiError if there is none of that name."""
        with self._lock:
            self.get(name)
            self._journal.delete(name)
            del self._entries[name]

    def all(self) -> list[Request]:
        """Return all resources."""
        return [_untagged(entry) for entry in list(self._entries.values())]


def _untagged(entry: Request) -> Request:
    return {member: value for member, value in entry.items() if member != "Tags"}
