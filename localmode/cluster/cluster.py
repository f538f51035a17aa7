"""The attempts of training jobs that run on this machine, and the choice of their runner."""

from __future__ import annotations

import logging
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

_log = logging.getLogger(__name__)


class Cluster:
    """Runs attempts on this machine, each in a thread of its own; implements training.job.Instances."""

    def __init__(self, settings: Settings, storage: Storage, logs: Logs, aws: dict[str, str]) -> None:
        """Choose the runner; raise LocalModeError if the one in the settings cannot be used."""
        self.root = make_run_directory(settings.home)
        runner = _choose_runner(settings, self.root)
        options = engine.options(settings) if runner == "docker" else []
        self._machine = Machine(settings, storage, logs, aws, self.root, runner, Addresses(settings.home), options)
        self._attempts: dict[tuple[str, int], Attempt] = {}  # by job and number, until they are over
        self._closed = False
        self._lock = threading.Lock()

    @property
    def runner(self) -> str:
        """The runner in use: `namespace`, `rewrite` or `docker`."""
        return self._machine.runner

    def launch(self, job: TrainingJob, attempt: int) -> None:
        """Start an attempt; while the daemon is ending, leave the job to the next daemon."""
        started = Attempt(self._machine, job, attempt, self._forget)
        with self._lock:
            if self._closed:
                return
            self._attempts[job.record.name, attempt] = started
            try:
                started.start()
                return
            except RuntimeError:  # the system has no thread left
                _log.exception("Attempt %d of %s could not be started", attempt, job.record.name)
                del self._attempts[job.record.name, attempt]
        job.on_finished(attempt, "", "InternalServerError: localmode could not start a thread for the attempt")

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        """Send SIGTERM, and SIGKILL after the grace period."""
        if running := self._running(job, attempt):
            running.terminate()

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        """Send SIGTERM, and SIGKILL after the grace period; nothing is uploaded afterwards."""
        if running := self._running(job, attempt):
            running.reclaim()

    def close(self) -> None:
        """Kill all attempts, wait until they have ended, and launch no others."""
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

    def _running(self, job: TrainingJob, attempt: int) -> Attempt | None:
        """Return an attempt; None for one that is over and is about to report that to its job."""
        with self._lock:
            return self._attempts.get((job.record.name, attempt))

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            self._attempts.pop((attempt.job.record.name, attempt.number), None)


def _choose_runner(settings: Settings, scratch: Path) -> str:
    if settings.runner != "docker":
        return "namespace" if _has_namespaces(settings, scratch) else "rewrite"
    if error := engine.problem():
        raise LocalModeError(
            f"The docker runner needs a running Docker engine ({error}); start one, or choose another runner"
        )
    engine.sweep(settings.home)  # containers that were left when a daemon and its shims were killed together
    return "docker"


def _has_namespaces(settings: Settings, scratch: Path) -> bool:
    if settings.runner == "rewrite" or sys.platform != "linux":
        if settings.runner == "namespace":
            raise LocalModeError("The namespace runner needs Linux; choose LOCALMODE_RUNNER=rewrite")
        return False
    error = try_namespaces(scratch)
    if error and settings.runner == "namespace":
        raise LocalModeError(
            f"This kernel does not allow the namespace runner ({error}); choose LOCALMODE_RUNNER=rewrite"
        )
    return not error


def try_namespaces(scratch: Path) -> str:
    """Run an empty container below a directory; return why it failed, or nothing."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        root = Path(directory)
        (root / "ml").mkdir()
        launcher = spawn(root, root / "ml", ["true"], {"PATH": "/usr/bin:/bin"}, "namespace", {})
        with launcher:  # which closes its control pipe at the end only
            assert launcher.stdout is not None
            output = launcher.stdout.read().decode().strip()
    return output.rpartition("\n")[2] or "no reason given" if launcher.returncode else ""
