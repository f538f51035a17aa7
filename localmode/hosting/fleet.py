"""The instances behind an endpoint: production variants, each with its servers, and who of them takes a request."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from localmode.core.archives import ArchiveError
from localmode.hosting.server_process import TIMEOUT_SECONDS, ModelServer, ModelServerError
from localmode.s3.storage import StorageError

_STARTED_AT_ONCE = 2  # each takes a core until it has imported TensorFlow
# Of a variant: VariantName, ModelDataUrl, Environment, Weight, InstanceCount, Routing, StartupSeconds.
Specification = dict[str, Any]


class Unavailable(Exception):
    """No server can take the request now; the message says why."""


class UnknownVariant(Exception):
    """The endpoint has no variant of the name that a request asks for, or none that takes any traffic."""


@dataclass
class Variant:
    """One production variant: what was asked for, and the servers that there are."""

    specification: Specification
    servers: list[ModelServer] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The variant's name."""
        return str(self.specification["VariantName"])

    @property
    def running(self) -> int:
        """How many of its servers answer."""
        return sum(server.answers for server in self.servers)


class Fleet:
    """The variants of one endpoint configuration, running or being started."""

    def __init__(
        self,
        specifications: list[Specification],
        make: Callable[[Specification], ModelServer],
        chance: random.Random,
    ) -> None:
        self.up = threading.Event()  # set when all servers answer, or one has failed
        self._make = make
        self._chance = chance
        self._changed = threading.Condition()
        self._closed = False
        self._starting: list[ModelServer] = []
        self._variants = {each["VariantName"]: Variant(each) for each in specifications}

    def start(self) -> None:
        """Start all servers; raise ModelServerError if one cannot be started: then it is to be abandoned."""
        try:
            self.scale([variant.specification for variant in self._variants.values()])
        finally:
            self.up.set()

    def scale(self, specifications: list[Specification]) -> None:
        """Give the variants other weights and instance counts.

        On ModelServerError all is as before, but for servers that have begun to start: `abandon` ends them.
        """
        added = []
        for wanted in specifications:
            variant = self._variants[wanted["VariantName"]]
            for _ in range(wanted["InstanceCount"] - len(variant.servers)):
                added.append((variant, self._made(wanted)))
        self._start(added)
        removed: list[ModelServer] = []
        with self._changed:
            if self._closed:
                return
            self._starting = []
            for variant, server in added:
                variant.servers.append(server)
            for wanted in specifications:
                variant = self._variants[wanted["VariantName"]]
                variant.specification = wanted
                removed += variant.servers[wanted["InstanceCount"] :]
                del variant.servers[wanted["InstanceCount"] :]
        self._stop(removed)

    def abandon(self) -> None:
        """Stop the servers of a start that has failed."""
        with self._changed:
            starting, self._starting = self._starting, []
        for server in starting:
            server.stop()

    def running(self) -> dict[str, int]:
        """Return how many servers of each variant answer."""
        with self._changed:
            return {name: variant.running for name, variant in self._variants.items()}

    def reserve(self, target: str) -> tuple[str, ModelServer]:
        """Choose variant and server for a request; who gets them releases the server afterwards.

        Without a target by the variants' weights. Raises UnknownVariant or Unavailable.
        """
        with self._changed:
            variant = self._choose(target)
            servers = [server for server in variant.servers if server.answers]
            if not servers:
                raise Unavailable(f"no instance of production variant {variant.name} is running")
            if variant.specification["Routing"] == "LEAST_OUTSTANDING_REQUESTS":
                server = min(servers, key=lambda each: each.outstanding)
            else:
                server = self._chance.choice(servers)
            server.outstanding += 1
            return variant.name, server

    def release(self, server: ModelServer) -> None:
        """Say that a request is over."""
        with self._changed:
            server.outstanding -= 1
            self._changed.notify_all()

    def retire(self) -> None:
        """Stop all servers as soon as the requests that they have are over."""
        self._stop(self._close())

    def stop(self) -> None:
        """Stop all servers now."""
        for server in self._close():
            server.stop()

    def _close(self) -> list[ModelServer]:
        with self._changed:
            self._closed = True
            servers = [server for variant in self._variants.values() for server in variant.servers]
            servers += self._starting
            for variant in self._variants.values():
                variant.servers = []
        return servers

    def _choose(self, target: str) -> Variant:
        if target and target not in self._variants:
            raise UnknownVariant(f"there is no production variant {target!r}; there is {', '.join(self._variants)}")
        if target:
            return self._variants[target]
        weights = [variant.specification["Weight"] for variant in self._variants.values()]
        if not sum(weights):
            raise UnknownVariant("every production variant has the weight 0: choose one with TargetVariant")
        return self._chance.choices(list(self._variants.values()), weights)[0]

    def _made(self, specification: Specification) -> ModelServer:
        try:
            return self._make(specification)
        except ArchiveError as error:
            raise _failure(specification["VariantName"], f"model.tar.gz {error}") from error
        except (StorageError, OSError) as error:
            raise _failure(specification["VariantName"], error) from error

    def _start(self, added: list[tuple[Variant, ModelServer]]) -> None:
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

    def _stop(self, servers: list[ModelServer]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not any(server.outstanding for server in servers), TIMEOUT_SECONDS)
        for server in servers:
            server.stop()


def _failure(variant: str, error: object) -> ModelServerError:
    return ModelServerError(f"The primary container for production variant {variant} cannot serve the model: {error}")
