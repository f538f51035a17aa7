"""One attempt of a training job: prepare its hosts, run their containers, upload what they leave.

An interruption is what it is on EC2: SIGTERM to PID 1 of every host, a grace period, SIGKILL to all processes.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from localmode.cluster import artifacts
from localmode.cluster.containers.launch import KILL, TERMINATE
from localmode.cluster.errors import ImageError, Reclaimed, Terminated
from localmode.cluster.host import Host, Machine
from localmode.core.runners import too_many
from localmode.core.threads import start_thread
from localmode.s3.storage import StorageError
from localmode.training.job import TrainingJob

_INTERNAL_ERROR = "InternalServerError: an unexpected error in localmode; the daemon's log has its traceback"


class Attempt:
    """One attempt, from empty directories to the upload of its model.

    `_lock` guards the hosts that run and the signals that they have been sent. Nothing blocks while it is held.
    """

    def __init__(self, machine: Machine, job: TrainingJob, number: int, forget: Callable[[Attempt], None]) -> None:
        """`forget` is called when the attempt is over, before its job is told that the instances are gone."""
        self.job = job
        self.number = number
        self._machine = machine
        self._forget = forget
        self._root = machine.root / job.record.name / str(number)
        self._hosts: list[Host] = []  # used by the attempt's own thread only
        self._lock = threading.Lock()
        self._running: list[Host] = []  # hosts with a container
        self._signals: list[bytes] = []  # those sent so far, also to hosts whose containers start later
        self._terminating = False
        self._reclaiming = False
        self._abandoned = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run the attempt in a thread of its own; raise RuntimeError if there can be none."""
        name = f"{self.job.record.name} attempt {self.number}"
        self._thread = start_thread(name, self._run, "The training job fails.", self._report_crash)

    def join(self) -> None:
        """Wait for the end of an attempt that has been started."""
        if self._thread is not None:
            self._thread.join()

    # Commands, from other threads. None of them waits for the attempt.

    def terminate(self) -> None:
        """Send SIGTERM to the containers; kill them after the grace period."""
        self._terminating = True
        self._begin_grace_period()

    def reclaim(self) -> None:
        """Send SIGTERM to the containers; kill them after the grace period, when the instances are gone."""
        self._reclaiming = True
        self._begin_grace_period()

    def abandon(self) -> None:
        """Kill the containers at once, and report nothing to the job: the daemon itself is ending."""
        self._reclaiming = self._abandoned = True
        self._kill()

    def _begin_grace_period(self) -> None:
        self._send(TERMINATE)
        name = f"{self.job.record.name} attempt {self.number} grace period"
        try:
            start_thread(name, self._kill_after_grace_period, "The containers are not killed after the grace period.")
        except RuntimeError:  # the system has no thread left
            self._kill()

    def _kill_after_grace_period(self) -> None:
        if not self._over.wait(self._machine.settings.grace_seconds):
            self._kill()

    def _kill(self) -> None:
        """Kill the containers at once, whatever is being uploaded; of a reclaimed host, cut the upload off."""
        with self._lock:
            if self._reclaiming:
                for host in self._running:
                    host.cut_off()
            self._signal(KILL)

    def _send(self, signal: bytes) -> None:
        with self._lock:
            self._signal(signal)

    def _signal(self, signal: bytes) -> None:
        self._signals.append(signal)
        for host in self._running:
            host.send(signal)

    # The attempt itself, in its own thread

    def _run(self) -> None:
        """Run the attempt and report how it ended."""
        finished = False
        try:
            finished = self._live()
        except Reclaimed:
            pass
        finally:
            self._clean_up()
        if not finished:
            self._report_loss()

    def _report_crash(self, error: Exception) -> None:
        """Report an attempt that ended in an unexpected error."""
        if self._reclaiming or not self.job.on_finished(self.number, "", _INTERNAL_ERROR):
            self._report_loss()

    def _report_loss(self) -> None:
        if not self._abandoned:
            self.job.on_lost(self.number)

    def _clean_up(self) -> None:
        self._over.set()
        shutil.rmtree(self._root, ignore_errors=True)
        with suppress(OSError):  # another attempt's directory may be there
            self._root.parent.rmdir()
        self._forget(self)

    def _live(self) -> bool:
        """Prepare, run, upload, report; return False if the instances were reclaimed before the report."""
        exit_code, failure = None, ""
        self.job.on_downloading(self.number)
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
        self._check_reclaimed()
        with_model = self.job.on_exited(self.number, exit_code)
        uris = ""
        if exit_code is not None:
            record, storage = self.job.record, self._machine.storage
            try:
                uris = artifacts.upload(
                    record.request, record.name, self._hosts, storage, with_model, self._check_reclaimed
                )
            except (StorageError, OSError) as error:
                failure = failure or f"ClientError: the artifacts could not be uploaded: {error}"
        return self.job.on_finished(self.number, uris, failure)

    def _check_reclaimed(self) -> None:
        if self._reclaiming:
            raise Reclaimed

    def _check(self) -> None:
        """Raise Reclaimed or Terminated if the preparation must not go on."""
        self._check_reclaimed()
        if self._terminating:
            raise Terminated

    def _prepare(self) -> None:
        """Make the hosts, with their checkpoints, channels and configuration."""
        count = self.job.record.instance_count
        if refusal := too_many(count, self._machine.runner):  # another daemon, with another runner, accepted the job
            raise OSError(refusal)
        for index in range(count):
            host = Host(self._machine, self.job, self._root / f"algo-{index + 1}", index, count)
            self._hosts.append(host)
            host.prepare(self._check)

    def _execute(self) -> Host | None:
        """Run the containers to their end; return the host that failed first, which ends the others."""
        with self._machine.addresses.lent(len(self._hosts)) as addresses:
            try:
                self.job.on_training(self.number)  # before a container prints or does anything
                for host in self._hosts:
                    host.make_ready()
                self._check()
                names = {host.name: address for host, address in zip(self._hosts, addresses, strict=True)}
                for host in self._hosts:
                    host.start(names)
                    self._admit(host)
                return self._follow()
            finally:
                for host in self._hosts:
                    host.close()

    def _admit(self, host: Host) -> None:
        """Send later signals to this host, too, and those that came while its container started."""
        with self._lock:
            self._running.append(host)
            if KILL in self._signals and self._reclaiming:
                host.cut_off()
            for signal in self._signals:
                host.send(signal)

    def _follow(self) -> Host | None:
        """Follow all hosts to their end; raise what one of them raised."""
        failed: Host | None = None
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            running = {pool.submit(host.run): host for host in self._hosts}
            for ended in as_completed(running):
                if failed is None and (ended.exception() or ended.result()):
                    failed = running[ended]
                    if len(self._hosts) > 1:
                        self._begin_grace_period()
        for ended in running:
            ended.result()
        return failed
