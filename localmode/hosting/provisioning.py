"""What the servers of endpoints need: the model on disk, environment variables and a log."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from localmode.core.settings import Settings
from localmode.hosting.fleet import Fleet, Server, Specification
from localmode.hosting.model_archive import prepare
from localmode.hosting.server_process import STARTUP_SECONDS, Limits, ModelServer
from localmode.s3.storage import Storage, StorageError, parse_uri
from localmode.services.backend import Services
from localmode.services.logs import Logs

LOG_GROUP = "/aws/sagemaker/Endpoints/"  # followed by the endpoint's name


class Hosting:
    """Makes the fleets of endpoints; localmode.hosting.endpoint.Fleets says how they are used.

    `aws` are the environment variables that direct AWS clients in `inference.py` to the daemon. `generator` chooses the
    variant and the instance for a request. `make_server` is ModelServer or has its parameters.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        services: Services,
        aws: dict[str, str],
        generator: random.Random | None = None,
        make_server: Callable[..., Server] = ModelServer,
    ) -> None:
        self._storage = storage
        self._services = services
        self._aws = aws
        self._generator = generator or random.Random()
        self._make_server = make_server
        self._models = settings.home / "serving"
        self._models.mkdir(exist_ok=True)
        self._temporary = settings.home / "tmp"
        shutil.rmtree(self._temporary, ignore_errors=True)  # files of a killed daemon's servers
        self._temporary.mkdir(exist_ok=True)
        self._logs_root = settings.home / "logs" / "endpoints"
        self._logs_root.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()  # held while the log of an endpoint is opened
        self._logs: dict[str, Logs] = {}
        for directory in sorted(self._logs_root.iterdir()):
            if directory.is_dir():
                self._logs_of(directory.name)

    def make(self, endpoint: str, generation: str, variants: list[Specification]) -> Fleet:
        """Return a fleet that has not been started; its files are kept under `generation`."""
        return Fleet(variants, lambda variant: self._server(endpoint, generation, variant), self._generator)

    def discard(self, endpoint: str, generation: str = "") -> None:
        """Remove the files of a generation of an endpoint, or of all its generations."""
        _remove(self._models / endpoint / generation, self._temporary)

    def sweep(self, kept: set[tuple[str, str]]) -> None:
        """Remove the files of all endpoints and generations but those `kept`, before any fleet starts."""
        names = {name for name, _ in kept}
        for directory in self._models.iterdir():
            if directory.name not in names:
                self.discard(directory.name)
                continue
            for generation in directory.iterdir():
                if (directory.name, generation.name) not in kept:
                    self.discard(directory.name, generation.name)

    def _server(self, endpoint: str, generation: str, variant: Specification) -> Server:
        directory = self._models / endpoint / generation / variant["VariantName"]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self._aws,
            **variant["Environment"],
        }
        log = self._writer(endpoint, f"{variant['VariantName']}/i-{secrets.token_hex(8)}")
        if not directory.exists():  # another instance or the daemon before may have unpacked it
            prepare(self._archive(variant["ModelDataUrl"]), directory, environment, log)
        temporary = self._temporary / secrets.token_hex(4)  # a short path: TensorFlow may make Unix sockets there
        limits = Limits(startup=variant.get("StartupSeconds", STARTUP_SECONDS))
        return self._make_server(directory, environment, log, temporary, limits)

    def _archive(self, uri: str) -> Path:
        bucket, key = parse_uri(uri)
        entry = self._storage.get(bucket, key)
        if entry is None:
            raise StorageError(f"There is no model archive at {uri}")
        return entry.path

    def _writer(self, endpoint: str, stream: str) -> Callable[[list[str]], None]:
        return lambda lines: self._logs_of(endpoint).stream(stream).write(lines)

    def _logs_of(self, endpoint: str) -> Logs:
        logs = self._logs.get(endpoint)
        if logs is None:
            with self._lock:
                if endpoint not in self._logs:
                    self._logs[endpoint] = Logs(self._logs_root / endpoint, self._services, LOG_GROUP + endpoint)
                logs = self._logs[endpoint]
        return logs


def _remove(directory: Path, temporary: Path) -> None:
    """Remove a directory, whose name is free at once, so that nobody finds a half-removed model."""
    aside = temporary / secrets.token_hex(4)
    with suppress(OSError):  # there is no such directory; or the disk refuses, and the next daemon removes it
        directory.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
