"""The servers of one endpoint configuration, and which of them gets a request."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from localmode.core.archives import ArchiveError
from localmode.hosting.errors import ModelServerError, Retired, Unavailable, UnknownVariant
from localmode.hosting.server_process import TIMEOUT_SECONDS, Answer
from localmode.s3.storage import StorageError

_STARTED_AT_ONCE = 2  # a server occupies a core while it imports TensorFlow
# The members of a production variant: VariantName, ModelDataUrl, Environment, Weight, InstanceCount, Routing; and Image
# and StartupSeconds, which an earlier release did not write.
Specification = dict[str, Any]


class Server(Protocol):
    """One instance; localmode.hosting.server_process.ModelServer is one."""

    @property
    def answers(self) -> bool:
        """Whether requests can be sent to it."""

    def start(self) -> None:
        """Return when it answers; raise ModelServerError with the reason if it cannot be started."""

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Return the answer to a request; raise TimeoutError or ConnectionError if there is none."""

    def stop(self) -> None:
        """End it for good; a `start` in another thread fails."""


@dataclass(eq=False)
class _Instance:
    """A server of a fleet and the number of requests that it has not answered yet."""

    server: Server
    outstanding: int = 0


@dataclass
class _Variant:
    """A production variant: its specification and its instances."""

    specification: Specification
    instances: list[_Instance] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.specification["VariantName"])


@dataclass(frozen=True)
class Reservation:
    """A server that waits for one request; `release` must follow."""

    variant: str
    server: Server
    release: Callable[[], None]


class Fleet:
    """The production variants of one endpoint configuration. Its lock is never held while a server starts or stops."""

    def __init__(
        self,
        specifications: list[Specification],
        make_server: Callable[[Specification], Server],
        generator: random.Random,
    ) -> None:
        self._make_server = make_server
        self._generator = generator
        self._up = threading.Event()
        self._changed = threading.Condition()
        self._closed = False
        self._starting: list[Server] = []
        self._variants = {each["VariantName"]: _Variant(each) for each in specifications}

    def start(self) -> None:
        """Start all servers; raise ModelServerError if one cannot be started: then `abandon` must follow."""
        try:
            self.scale([variant.specification for variant in self._variants.values()])
        finally:
            self._up.set()

    def wait_until_up(self, timeout: float) -> bool:
        """Wait until all servers answer or one could not be started; return False if that takes too long."""
        return self._up.wait(timeout)

    def scale(self, specifications: list[Specification]) -> None:
        """Give the variants other weights and instance counts.

        Raises ModelServerError if a server cannot be started. Then nothing has changed, and `abandon` must follow.
        """
        added = []
        for wanted in specifications:
            variant = self._variants[wanted["VariantName"]]
            for _ in range(wanted["InstanceCount"] - len(variant.instances)):
                added.append((variant, self._made(wanted)))
        self._start_servers(added)
        removed: list[_Instance] = []
        with self._changed:
            if self._closed:
                return
            self._starting = []
            for variant, server in added:
                variant.instances.append(_Instance(server))
            for wanted in specifications:
                variant = self._variants[wanted["VariantName"]]
                variant.specification = wanted
                removed += variant.instances[wanted["InstanceCount"] :]
                del variant.instances[wanted["InstanceCount"] :]
        self._retire(removed)

    def abandon(self) -> None:
        """Stop the servers of a start that has failed."""
        with self._changed:
            starting, self._starting = self._starting, []
        _stop(starting)

    def running(self) -> dict[str, int]:
        """Return how many servers of each variant answer."""
        with self._changed:
            return {
                name: sum(instance.server.answers for instance in variant.instances)
                for name, variant in self._variants.items()
            }

    def reserve(self, target: str) -> Reservation:
        """Choose a server for a request: of the variant `target` or, if that is empty, by the variants' weights.

        Raises UnknownVariant, Unavailable or, once the servers are being stopped, Retired.
        """
        with self._changed:
            if self._closed:
                raise Retired("its servers are being stopped")
            variant = self._choose(target)
            instances = [instance for instance in variant.instances if instance.server.answers]
            if not instances:
                raise Unavailable(f"no instance of production variant {variant.name} is running")
            if variant.specification["Routing"] == "LEAST_OUTSTANDING_REQUESTS":
                instance = min(instances, key=lambda each: each.outstanding)
            else:
                instance = self._generator.choice(instances)
            instance.outstanding += 1
        return Reservation(variant.name, instance.server, lambda: self._release(instance))

    def retire(self) -> None:
        """Take no more requests, and stop the servers when they have answered those that they have."""
        instances, starting = self._close()
        self._retire(instances)
        _stop(starting)

    def stop(self) -> None:
        """Stop all servers now."""
        instances, starting = self._close()
        _stop([*(instance.server for instance in instances), *starting])

    def _release(self, instance: _Instance) -> None:
        with self._changed:
            instance.outstanding -= 1
            self._changed.notify_all()

    def _close(self) -> tuple[list[_Instance], list[Server]]:
        """Take no more requests; return the instances and the servers that are being started."""
        with self._changed:
            self._closed = True
            instances = [instance for variant in self._variants.values() for instance in variant.instances]
            for variant in self._variants.values():
                variant.instances = []
            return instances, list(self._starting)

    def _choose(self, target: str) -> _Variant:
        if target and target not in self._variants:
            raise UnknownVariant(f"there is no production variant {target!r}; there is {', '.join(self._variants)}")
        if target:
            return self._variants[target]
        weights = [variant.specification["Weight"] for variant in self._variants.values()]
        if not sum(weights):
            raise UnknownVariant("every production variant has the weight 0: choose one with TargetVariant")
        return self._generator.choices(list(self._variants.values()), weights)[0]

    def _made(self, specification: Specification) -> Server:
        try:
            return self._make_server(specification)
        except ArchiveError as error:
            raise _failure(specification["VariantName"], f"model.tar.gz {error}") from error
        except (StorageError, OSError) as error:
            raise _failure(specification["VariantName"], error) from error

    def _start_servers(self, added: list[tuple[_Variant, Server]]) -> None:
        with self._changed:
            if self._closed:
                raise ModelServerError("The endpoint is being deleted.")
            self._starting = [server for _, server in added]
        with ThreadPoolExecutor(_STARTED_AT_ONCE) as pool:
            starts = [(variant, pool.submit(server.start)) for variant, server in added]
        for variant, start in starts:
            try:
                start.result()
            except (ModelServerError, OSError) as error:
                raise _failure(variant.name, error) from error

    def _retire(self, instances: list[_Instance]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not any(each.outstanding for each in instances), TIMEOUT_SECONDS)
        _stop([instance.server for instance in instances])


def _stop(servers: Iterable[Server]) -> None:
    """Stop servers: all of them, even if one raises an exception."""
    with ExitStack() as stops:
        for server in servers:
            stops.callback(server.stop)


def _failure(variant: str, error: object) -> ModelServerError:
    return ModelServerError(f"The primary container for production variant {variant} cannot serve the model: {error}")
