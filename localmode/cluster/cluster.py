"""Runs training jobs on this machine: which runner it can use, and the attempts that are under way."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from localmode.cluster.attempt import Attempt
from localmode.cluster.containers import docker as engine
from localmode.cluster.containers.launch import spawn
from localmode.cluster.host import Addresses, Machine
from localmode.core.errors import LocalModeError
from localmode.core.home import make_run_directory, remove_run_directory
from localmode.core.settings import Settings
from localmode.s3.storage import Storage
from localmode.services.logs import Logs
from localmode.training.job import TrainingJob


class LocalInstances:
    """Runs attempts on this machine; what training.py calls Instances."""

    def __init__(self, settings: Settings, storage: Storage, logs: Logs, aws: dict[str, str]) -> None:
        self.root = make_run_directory(settings.home)
        runner, options = self._choose_runner(settings), engine.options(settings) if settings.runner == "docker" else []
        self._machine = Machine(settings, storage, logs, aws, self.root, runner, Addresses(settings.home), options)
        self._attempts: dict[str, Attempt] = {}
        self._closed = False
        self._lock = threading.Lock()

    @property
    def runner(self) -> str:
        """The runner in use: `namespace`, `rewrite` or `docker`."""
        return self._machine.runner

    def launch(self, job: TrainingJob, attempt: int) -> None:
        """Begin an attempt in a thread of its own; not while the daemon is ending, as the job is the next one's."""
        with self._lock:
            if self._closed:
                return
            self._attempts[job.record.name] = Attempt(self._machine, job, attempt, self._forget)
            self._attempts[job.record.name].start()

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        """SIGTERM, a grace period, SIGKILL."""
        self._attempts[job.record.name].terminate()

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        """The same, and the instances are gone afterwards."""
        self._attempts[job.record.name].reclaim()

    def close(self) -> None:
        """Kill whatever still runs, and wait until it is gone."""
        with self._lock:
            self._closed = True
            attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.abandon()
        for attempt in attempts:
            attempt.join()
        if self.runner == "docker":
            engine.sweep(self._machine.settings.home)
        remove_run_directory(self._machine.settings.home)

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            if self._attempts.get(attempt.job.record.name) is attempt:
                del self._attempts[attempt.job.record.name]

    def _choose_runner(self, settings: Settings) -> str:
        if settings.runner != "docker":
            return "namespace" if self._has_namespaces(settings) else "rewrite"
        if error := engine.problem():
            raise LocalModeError(
                f"The docker runner needs a running Docker engine ({error}); start one, or choose another runner"
            )
        engine.sweep(settings.home)  # what a daemon left that was killed together with its launchers
        return "docker"

    def _has_namespaces(self, settings: Settings) -> bool:
        if settings.runner == "rewrite" or sys.platform != "linux":
            if settings.runner == "namespace":
                raise LocalModeError("The namespace runner needs Linux; choose LOCALMODE_RUNNER=rewrite")
            return False
        error = self._try_namespaces()
        if error and settings.runner == "namespace":
            raise LocalModeError(
                f"This kernel does not allow the namespace runner ({error}); choose LOCALMODE_RUNNER=rewrite"
            )
        return not error

    def _try_namespaces(self) -> str:
        """Run a container that does nothing; return why it failed, or nothing."""
        with tempfile.TemporaryDirectory(dir=self.root) as directory:
            scratch = Path(directory)
            (scratch / "ml").mkdir()
            launcher = spawn(scratch, scratch / "ml", ["true"], {"PATH": "/usr/bin:/bin"}, "namespace", {})
            with launcher:  # its leash must hold until it has ended
                assert launcher.stdout is not None
                output = launcher.stdout.read().decode().strip()
        return output.rpartition("\n")[2] or "no reason given" if launcher.returncode else ""
