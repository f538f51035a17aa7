"""One attempt: hosts made ready, containers run on them, signals, and what they leave in S3.

An interruption is what it is on EC2: SIGTERM to PID 1, a grace period, SIGKILL to everything; of every host.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from localmode.cluster import artifacts
from localmode.cluster.containers.docker import ImageError
from localmode.cluster.host import Host, Machine
from localmode.core.runners import too_many
from localmode.s3.storage import StorageError
from localmode.training.job import TrainingJob


class Reclaimed(Exception):
    """The instances have been taken away."""


class Terminated(Exception):
    """The job is being stopped before its containers have started."""


class Attempt(threading.Thread):
    """One attempt, from empty directories to the upload of what came of it."""

    def __init__(self, machine: Machine, job: TrainingJob, number: int, forget: Callable[[Attempt], None]) -> None:
        super().__init__(name=f"{job.record.name} attempt {number}", daemon=True)
        self.job = job
        self.hosts: list[Host] = []
        self._machine = machine
        self._number = number
        self._forget = forget
        self._root = machine.root / job.record.name / str(number)
        self._lock = threading.Lock()
        self._terminating = False
        self._reclaiming = False
        self._abandoned = False
        self._plug_pulled = False
        self._timers: list[threading.Timer] = []

    # Orders, from other threads.

    def terminate(self) -> None:
        """Ask the containers to end; kill them after the grace period."""
        with self._lock:
            self._terminating = True
        self._begin_grace()

    def reclaim(self) -> None:
        """The same, after which the instances are gone."""
        with self._lock:
            self._reclaiming = True
        self._begin_grace()

    def abandon(self) -> None:
        """End at once and report nothing: the daemon itself is ending."""
        with self._lock:
            self._reclaiming = self._abandoned = True
        self._pull_plug()

    def _begin_grace(self) -> None:
        self._send(b"T")
        timer = threading.Timer(self._machine.settings.grace_seconds, self._pull_plug)
        timer.daemon = True
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def _pull_plug(self) -> None:
        self._plug_pulled = True
        if self._reclaiming:
            for host in self.hosts:
                host.stop_mirror()  # nothing is uploaded once the host is gone
        self._send(b"K")

    def _send(self, order: bytes) -> None:
        with self._lock:
            for host in self.hosts:
                host.send(order)

    # The attempt itself.

    def run(self) -> None:
        """Live through the attempt and report how it ended."""
        over = False
        try:
            over = self._live()
        except Reclaimed:
            pass
        except Exception:
            if not self._reclaiming:
                reason = "InternalServerError: an unexpected error in localmode; its log has the details"
                over = self.job.on_finished(self._number, "", reason)
            raise  # to the daemon's log
        finally:
            for timer in self._timers:
                timer.cancel()
            shutil.rmtree(self._root, ignore_errors=True)
            with suppress(OSError):  # another attempt's directory may be there
                self._root.parent.rmdir()
            self._forget(self)
            if not over and not self._abandoned:
                self.job.on_lost(self._number)

    def _live(self) -> bool:
        exit_code, failure = None, ""
        self.job.on_downloading(self._number)
        try:
            self._prepare()
            failed = self._execute()
            exit_code = failed.exit_code if failed else 0
            failure = failed.explain() if failed else ""
        except Terminated:
            pass
        except (StorageError, ImageError) as error:
            failure = f"ClientError: {error}"
        except OSError as error:
            failure = f"InternalServerError: {error}"
        self._check_plug()
        with_model = self.job.on_exited(self._number, exit_code)
        uris = ""
        if exit_code is not None:
            record, storage = self.job.record, self._machine.storage
            try:
                uris = artifacts.upload(record.request, record.name, self.hosts, storage, with_model, self._check_plug)
            except (StorageError, OSError) as error:
                failure = failure or f"ClientError: the artifacts could not be uploaded: {error}"
        return self.job.on_finished(self._number, uris, failure)

    def _check_plug(self) -> None:
        if self._reclaiming:
            raise Reclaimed

    def _check(self) -> None:
        """Between two steps of the preparation: is it to go on?"""
        self._check_plug()
        if self._terminating:
            raise Terminated

    def _prepare(self) -> None:
        """Make the hosts, with their checkpoints, channels and configuration."""
        count = self.job.record.instance_count
        if refusal := too_many(count, self._machine.runner):  # not so when the job was accepted, by another daemon
            raise OSError(refusal)
        for index in range(count):
            host = Host(self._machine, self.job, self._root / f"algo-{index + 1}", index, count)
            self.hosts.append(host)
            host.prepare(self._check)

    def _execute(self) -> Host | None:
        """Run the containers to their end; return the host that failed first, which ends the others."""
        with self._machine.addresses.lent(len(self.hosts)) as addresses:
            try:
                self.job.on_training(self._number)  # before a container says or does anything
                for host in self.hosts:
                    host.make_ready()
                with self._lock:  # an order that comes now finds the containers
                    self._check()
                    names = {host.name: address for host, address in zip(self.hosts, addresses, strict=True)}
                    for host in self.hosts:
                        host.start(names)
                return self._follow()
            finally:
                for host in self.hosts:
                    host.close()

    def _follow(self) -> Host | None:
        """Follow all hosts to their end; raise what one of them raised."""
        failed: Host | None = None
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            running = {pool.submit(host.run, self._is_gone): host for host in self.hosts}
            for ended in as_completed(running):
                if failed is None and (ended.exception() or ended.result()):
                    failed = running[ended]
                    if len(self.hosts) > 1:
                        self._begin_grace()
        for ended in running:
            ended.result()
        return failed

    def _is_gone(self) -> bool:
        return self._reclaiming and self._plug_pulled
