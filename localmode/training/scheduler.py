"""All training jobs: created, found, kept on disk, and woken when their time has come."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from localmode.cluster.cluster import LocalInstances
from localmode.core.durable import Journal
from localmode.core.errors import LocalModeError
from localmode.core.settings import Settings
from localmode.training.job import TrainingJob
from localmode.training.record import Record
from localmode.training.spot import SpotMarket

_log = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class TrainingJobs:
    """The register of training jobs, and the thread that watches their clocks."""

    def __init__(self, settings: Settings, journal: Journal, instances: LocalInstances) -> None:
        self._settings = settings
        self._journal = journal
        self._unsaved: set[str] = set()  # jobs that have changed since the journal could last be written
        self._heartbeat = settings.home / "alive"  # touched while jobs run: until when was the last daemon there?
        self._instances = instances
        self._market = SpotMarket(settings.home / "no-spot-capacity")
        self._wake = threading.Condition()
        self._closing = False
        self._changed = False
        self._jobs: dict[str, TrainingJob] = {}
        self._taken: set[str] = set()  # names of jobs that are being accepted
        for name, record in journal.load(Record.from_json).items():
            self._jobs[name] = self._make(record)
        last_alive = self._heartbeat.stat().st_mtime if self._heartbeat.exists() else time.time()
        for job in self.all():
            job.lose_host(last_alive)
        self._timer = threading.Thread(target=self._watch, name="job timer", daemon=True)
        self._timer.start()

    @property
    def runner(self) -> str:
        """What runs the jobs: `namespace`, `rewrite` or `docker`."""
        return self._instances.runner

    def create(self, name: str, request: dict[str, Any]) -> TrainingJob | None:
        """Accept a job, and start it; None if there is one of that name."""
        arn = self._settings.arn("training-job", name)
        job = self._make(Record(name=name, arn=arn, request=request, created=time.time()))
        with self._wake:
            if name in self._jobs or name in self._taken:
                return None
            self._taken.add(name)
        try:
            self._journal.save(name, job.record.to_json())  # nobody sees it before: the disk may refuse it
            with job.changed:  # whoever finds it in the register waits until it has begun
                with self._wake:
                    self._jobs[name] = job
                job.start()
        finally:
            with self._wake:
                self._taken.remove(name)
        return job

    def stop(self, job: TrainingJob) -> None:
        """Stop a job at the user's request; raise OSError if that cannot be put on disk."""
        with job.changed:
            job.stop()
            if job.record.name in self._unsaved:
                self._journal.save(job.record.name, job.record.to_json())

    def tags(
        self, name: str, change: Callable[[list[dict[str, str]]], list[dict[str, str]]] | None = None
    ) -> list[dict[str, str]] | None:
        """Return a job's tags, after a change to them if one is given; None for an unknown job."""
        job = self.get(name)
        if job is None:
            return None
        with job.changed:
            if change:
                request = {**job.request, "Tags": change(job.request.get("Tags", []))}
                self._journal.save(name, replace(job.record, request=request).to_json())
                job.record.request = request
            return list(job.request.get("Tags", []))

    def get(self, name: str) -> TrainingJob | None:
        """Return a job by name."""
        with self._wake:
            return self._jobs.get(name)

    def all(self) -> list[TrainingJob]:
        """Return all jobs, in no order."""
        with self._wake:
            return list(self._jobs.values())

    def interrupt(self, name: str, outage: float) -> None:
        """Reclaim a Spot job's instance and return once it is gone; raise LocalModeError if it has none."""
        job = self.get(name)
        if job is None:
            raise LocalModeError(f"There is no training job {name!r}")
        if not job.is_spot:
            raise LocalModeError(f"{name} does not use Spot instances: only those are interrupted")
        with job.changed:
            if not job.interrupt(outage):
                status = f"{job.record.status}, {job.record.secondary_status}"
                raise LocalModeError(f"{name} has no running instance to reclaim: it is {status}")
            attempt = len(job.record.attempts)
            job.changed.wait_for(lambda: job.record.attempts[attempt - 1].ended is not None)

    @property
    def spot_capacity(self) -> bool:
        """Whether Spot instances can be had."""
        return self._market.available

    def set_spot_capacity(self, available: bool) -> None:
        """Take all Spot capacity away, or give it back, also for daemons to come; running instances stay."""
        self._market.set_capacity(available)
        self._notify()

    def close(self) -> None:
        """Stop watching, and kill what runs; the journal keeps unfinished jobs as they are."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._timer.join()
        self._instances.close()

    def _make(self, record: Record) -> TrainingJob:
        return TrainingJob(record, time.time, self._instances, self._save, lambda: self._market.available)

    def _save(self, record: Record) -> None:
        self._write_down(record)
        self._notify()

    def _write_down(self, record: Record) -> None:
        """Put a job on disk; if that fails, the job goes on and is put there as soon as it is possible."""
        try:
            self._journal.save(record.name, record.to_json())
            self._unsaved.discard(record.name)
        except OSError:
            _log.exception("%s could not be written to the journal", record.name)
            self._unsaved.add(record.name)

    def _save_again(self) -> None:
        for job in self.all():
            with job.changed:
                if job.record.name in self._unsaved:
                    self._write_down(job.record)

    def _tick(self, job: TrainingJob) -> None:
        try:
            job.tick()
        except Exception:  # noqa: BLE001 - whatever is wrong with a job, the others' clocks go on
            _log.exception("%s could not be looked after", job.record.name)

    def _beat(self) -> bool:
        """Leave a sign of life while jobs run; return whether any does."""
        running = any(job.has_instance for job in self.all())
        if running:
            try:
                self._heartbeat.touch()
            except OSError:
                _log.exception("%s could not be touched", self._heartbeat)
        return running

    def _notify(self) -> None:
        with self._wake:
            self._changed = True
            self._wake.notify_all()

    def _watch(self) -> None:
        while not self._closing:
            self._save_again()
            for job in self.all():
                self._tick(job)
            deadlines = [deadline for job in self.all() if (deadline := job.deadline()) is not None]
            pauses = [max(0.0, deadline - time.time()) for deadline in deadlines]
            if self._beat():
                pauses.append(_HEARTBEAT_SECONDS)
            if self._unsaved:
                pauses.append(_RETRY_SECONDS)
            with self._wake:
                pause = min([*pauses, threading.TIMEOUT_MAX])
                self._wake.wait_for(lambda: self._changed or self._closing, pause)
                self._changed = False
