"""What the instances of endpoints need: the model on disk, an environment, a log; gone when nobody serves it."""

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
from localmode.hosting.fleet import Fleet, Specification
from localmode.hosting.model_archive import prepare
from localmode.hosting.server_process import STARTUP_SECONDS, ModelServer
from localmode.s3.storage import Storage, StorageError, parse_uri
from localmode.services.backend import Services
from localmode.services.logs import Logs

LOG_GROUP = "/aws/sagemaker/Endpoints/"  # and the endpoint's name


class Hosting:
    """Makes fleets. `aws` are the variables by which AWS clients in `inference.py` find the daemon.

    `chance` decides which variant and which instance takes a request.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        services: Services,
        aws: dict[str, str],
        chance: random.Random | None = None,
    ) -> None:
        self._storage = storage
        self._services = services
        self._aws = aws
        self._chance = chance or random.Random()
        self._models = settings.home / "serving"
        self._models.mkdir(exist_ok=True)
        self._temporary = settings.home / "tmp"
        shutil.rmtree(self._temporary, ignore_errors=True)  # what a killed daemon's servers left
        self._temporary.mkdir(exist_ok=True)
        self._logs_root = settings.home / "logs" / "endpoints"
        self._logs_root.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._logs: dict[str, Logs] = {}
        for directory in sorted(self._logs_root.iterdir()):
            if directory.is_dir():
                self._logs_of(directory.name)

    def fleet(self, name: str, generation: str, variants: list[Specification]) -> Fleet:
        """Return a fleet, not yet started, for an endpoint; `generation` tells it from the endpoint's others."""
        return Fleet(variants, lambda variant: self._server(name, generation, variant), self._chance)

    def set_aside(self, kept: set[tuple[str, str]]) -> list[Path]:
        """Put the models of all endpoints and generations but these where nobody looks; return what can be removed."""
        found = [
            *(path for path in self._models.iterdir() if path.name not in {name for name, _ in kept}),
            *(path for path in self._models.glob("*/*") if (path.parent.name, path.name) not in kept),
        ]
        aside = []
        for path in found:
            with suppress(OSError):  # it went with its directory, or the disk refuses: then it stays until another time
                aside.append(path.rename(self._temporary / secrets.token_hex(4)))
        return aside

    def _server(self, name: str, generation: str, variant: Specification) -> ModelServer:
        directory = self._models / name / generation / variant["VariantName"]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self._aws,
            **variant["Environment"],
        }
        log = self._writer(name, f"{variant['VariantName']}/i-{secrets.token_hex(8)}")
        if not directory.exists():  # or another instance has it, or it is from before a restart
            prepare(self._archive(variant["ModelDataUrl"]), directory, environment, log)
        temporary = self._temporary / secrets.token_hex(4)  # short: Unix sockets may be made in there
        return ModelServer(directory, environment, log, temporary, variant.get("StartupSeconds", STARTUP_SECONDS))

    def _archive(self, uri: str) -> Path:
        bucket, key = parse_uri(uri)
        entry = self._storage.get(bucket, key)
        if entry is None:
            raise StorageError(f"There is no model archive at {uri}")
        return entry.path

    def _writer(self, name: str, stream: str) -> Callable[[list[str]], None]:
        return lambda lines: self._logs_of(name).stream(stream).write(lines)

    def _logs_of(self, name: str) -> Logs:
        with self._lock:
            if name not in self._logs:
                self._logs[name] = Logs(self._logs_root / name, self._services, LOG_GROUP + name)
            return self._logs[name]
