"""All training jobs: creation, lookup, the journal, and the thread that enforces time limits and launches attempts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from localmode.core.durable import Journal
from localmode.core.errors import LocalModeError
from localmode.core.settings import Settings
from localmode.core.threads import start_thread
from localmode.training.job import Instances, TrainingJob
from localmode.training.record import Record
from localmode.training.spot import SpotMarket

_log = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class TrainingJobs:
    """The training jobs of a daemon.

    `_wake` guards the dictionary and the flags of the timer. It is held for moments only; a job's own lock may be
    held when it is taken, never the other way round.
    """

    def __init__(self, settings: Settings, journal: Journal, instances: Instances) -> None:
        """Load the jobs of the journal; raise LocalModeError for one that cannot be read."""
        self._settings = settings
        self._journal = journal
        self._heartbeat = settings.home / "alive"  # touched while jobs run: the last sign of life of a daemon
        self._instances = instances
        self._market = SpotMarket(settings.home / "no-spot-capacity")
        self._wake = threading.Condition()
        self._closing = False
        self._changed = False
        self._timer: threading.Thread | None = None
        self._jobs = {name: self._make(record) for name, record in journal.load(Record.from_json).items()}
        self._reserved: set[str] = set()  # names of jobs that are being accepted

    def start(self) -> None:
        """Interrupt, restart or fail the jobs that ran when the last daemon ended, and start the timer."""
        last_alive = self._heartbeat.stat().st_mtime if self._heartbeat.exists() else time.time()
        for job in self.all():
            job.lose_host(last_alive)
        consequence = "Time limits are not enforced and no attempt is launched until localmode is restarted."
        self._timer = start_thread("job timer", self._watch, consequence)

    @property
    def runner(self) -> str:
        """The runner in use: `namespace`, `rewrite` or `docker`."""
        return self._instances.runner

    def create(self, name: str, request: dict[str, Any]) -> TrainingJob | None:
        """Accept a job and start it; None if there is one of that name. Raises OSError if it cannot be saved."""
        record = Record.new(name, self._settings.arn("training-job", name), request, time.time())
        with self._wake:
            if name in self._jobs or name in self._reserved:
                return None
            self._reserved.add(name)
        try:
            self._journal.save(name, record.to_json())  # before any request can find it: the disk may refuse it
            job = self._make(record)
            with self._wake:
                self._jobs[name] = job
        finally:
            with self._wake:
                self._reserved.remove(name)
        job.start()
        return job

    def stop(self, job: TrainingJob) -> None:
        """Stop a job at the user's request; raise OSError if that cannot be saved."""
        job.stop()
        job.save()

    def tags(
        self, name: str, change: Callable[[list[dict[str, str]]], list[dict[str, str]]] | None = None
    ) -> list[dict[str, str]] | None:
        """Return a job's tags, changed by `change` if that is given; None for an unknown job. Raises OSError."""
        job = self.get(name)
        if job is None:
            return None
        return job.change_tags(change) if change else list(job.request.get("Tags", []))

    def get(self, name: str) -> TrainingJob | None:
        """Return a job by name."""
        with self._wake:
            return self._jobs.get(name)

    def all(self) -> list[TrainingJob]:
        """Return all jobs, in no particular order."""
        with self._wake:
            return list(self._jobs.values())

    def interrupt(self, name: str, outage: float) -> None:
        """Reclaim a Spot job's instance and return once it is gone; raise LocalModeError if it has none.

        No other instance is launched for `outage` seconds.
        """
        job = self.get(name)
        if job is None:
            raise LocalModeError(f"There is no training job {name!r}")
        if not job.is_spot:
            raise LocalModeError(f"{name} does not use Spot instances: only those are interrupted")
        with job.changed:
            attempt = job.attempt
            if not job.interrupt(outage):
                status = f"{job.record.status}, {job.record.secondary_status}"
                raise LocalModeError(f"{name} has no running instance to reclaim: it is {status}")
            job.changed.wait_for(lambda: job.has_ended(attempt))

    @property
    def spot_capacity(self) -> bool:
        """Whether Spot instances can be launched."""
        return self._market.available

    def set_spot_capacity(self, available: bool) -> None:
        """Withdraw or restore all Spot capacity, also for daemons to come; running instances stay."""
        self._market.set_capacity(available)
        self._notify()

    def close(self) -> None:
        """Stop the timer and kill all attempts; the journal keeps unfinished jobs as they are."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._timer is not None:
            self._timer.join()
        self._instances.close()

    def _make(self, record: Record) -> TrainingJob:
        return TrainingJob(record, time.time, self._instances, self._save, lambda: self._market.available)

    def _save(self, record: Record) -> None:
        try:
            self._journal.save(record.name, record.to_json())
        finally:
            if threading.current_thread() is not self._timer:  # the timer looks at the job's deadline anyway
                self._notify()

    def _notify(self) -> None:
        with self._wake:
            self._changed = True
            self._wake.notify_all()

    def _watch(self) -> None:
        """Serve all jobs, then wait until a deadline or a change."""
        while not self._closing:
            pauses = [pause for job in self.all() for pause in self._serve(job)]
            if self._beat():
                pauses.append(_HEARTBEAT_SECONDS)
            with self._wake:
                pause = min([*pauses, threading.TIMEOUT_MAX])
                self._wake.wait_for(lambda: self._changed or self._closing, pause)
                self._changed = False

    def _serve(self, job: TrainingJob) -> list[float]:
        """Do what is due for one job; return in how many seconds it must be served again."""
        try:
            job.save()
        except OSError as error:
            _log.error("%s still cannot be written to the journal: %s", job.record.name, error)
        try:
            job.tick()
            deadline = job.deadline()
        except Exception:  # noqa: BLE001 - an error in one job must not stop the timer for the others
            _log.exception("%s could not be served; localmode tries again at the next change", job.record.name)
            deadline = None
        pauses = [] if deadline is None else [max(0.0, deadline - time.time())]
        return pauses if job.is_saved else [*pauses, _RETRY_SECONDS]

    def _beat(self) -> bool:
        """Touch the heartbeat file if any job runs; return whether one does."""
        running = any(job.has_instance for job in self.all())
        if running:
            try:
                self._heartbeat.touch()
            except OSError:
                _log.exception("%s could not be touched", self._heartbeat)
        return running
