"""The state machine of one training job.

It reads no clock, runs no process and writes no file itself: the clock, the instances and the function that saves a
record are arguments, so that tests reach every state without waiting. status.py has the table of transitions.

    Starting -> Downloading -> Training -> Uploading -> Completed | Failed
    each of them, on Spot, when the instance is reclaimed -> Interrupted -> Starting -> ...
    each of them, when stopped or out of time -> Stopping -> Stopped | MaxRuntimeExceeded | MaxWaitTimeExceeded
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from localmode.training.record import Record
from localmode.training.spot import AttemptTimes
from localmode.training.status import SecondaryStatus, TrainingJobStatus

_NO_CAPACITY = "Insufficient capacity error from EC2 while launching instances, retrying!"
_INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."
MAX_FAILURE_REASON = 1024
_log = logging.getLogger(__name__)


class Instances(Protocol):
    """What runs the attempts of jobs. No method but `close` may block; events go to the job's `on_` methods.

    The methods are called with the job's lock held.
    """

    @property
    def runner(self) -> str:
        """The runner in use: `namespace`, `rewrite` or `docker`."""

    def launch(self, job: TrainingJob, attempt: int) -> None:
        """Start an attempt on fresh instances."""

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        """Send SIGTERM, and SIGKILL after the grace period; the attempt goes on to `on_exited`."""

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        """Send SIGTERM, and SIGKILL after the grace period; the attempt ends in `on_lost`."""

    def close(self) -> None:
        """Kill all attempts and wait until they have ended; report nothing to the jobs, and launch no others."""


class TrainingJob:
    """One job. Thread-safe; events of an attempt that is over are ignored.

    A change happens under the lock of `changed`, is written to disk, and is acted on only then. `record` is the last
    state that is on disk, an immutable snapshot. A reader of it waits neither for the lock nor for the disk, and sees
    nothing that a SIGKILL of the daemon would undo: between a change and its fsync, `record` is the state before.
    If the disk refuses a change, the job goes on, `record` stays as it is, and `save` tries again. Only metrics
    appear in `record` at once: they come from the log, and a job that runs again logs them again.
    """

    def __init__(
        self,
        record: Record,
        clock: Callable[[], float],
        instances: Instances,
        save: Callable[[Record], None],
        capacity: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take a job whose record is on disk. `save` writes a record to disk or raises OSError."""
        self.record = record
        self.changed = threading.Condition(threading.RLock())
        self._current = record
        self._clock = clock
        self._instances = instances
        self._save = save
        self._capacity = capacity
        self._unsaved = False  # whether the disk has refused the current state
        self._running = False  # whether the last attempt has an instance
        self._outage: float | None = None  # set once the instance is being reclaimed

    # Queries

    @property
    def request(self) -> dict[str, Any]:
        """The CreateTrainingJob request."""
        return self.record.request

    @property
    def is_spot(self) -> bool:
        """True for Managed Spot Training."""
        return self.record.is_spot

    @property
    def has_instance(self) -> bool:
        """True while an attempt runs."""
        return self._running

    @property
    def is_final(self) -> bool:
        """True once the job has ended, also where the disk has refused to keep that."""
        return self._current.is_final

    @property
    def is_saved(self) -> bool:
        """False while the disk refuses the current state."""
        return not self._unsaved

    @property
    def attempt(self) -> int:
        """The number of the last attempt; 0 before the first one."""
        return len(self._current.attempts)

    def has_ended(self, attempt: int) -> bool:
        """Tell whether an attempt is over."""
        return self._current.attempts[attempt - 1].ended is not None

    def deadline(self) -> float | None:
        """Return when `tick` must be called next, in seconds since the epoch; None if no time limit applies."""
        with self.changed:
            deadlines = [deadline for deadline, _ in self._limits()]
            if not self._running and self._is_in_progress and self._may_launch():
                deadlines.append(self._current.launch_after)
            return min(deadlines, default=None)

    # Commands

    def start(self) -> None:
        """Launch the first attempt of a job that has been accepted, if there is capacity."""
        self.tick()

    def tick(self) -> None:
        """Stop the job if it is out of time, or launch an attempt if one is due."""
        with self.changed:
            now = self._clock()
            for deadline, reason in self._limits():
                if now >= deadline:
                    self._stop(reason)
                    return
            if not self._is_in_progress or self._running or now < self._current.launch_after:
                return
            if self._may_launch():
                self._launch()
            elif self._current.transitions[-1]["StatusMessage"] != _NO_CAPACITY:  # once, not at every tick
                self._enter(SecondaryStatus.STARTING, _NO_CAPACITY)

    def stop(self) -> None:
        """Stop the job at the user's request; do nothing if it is stopping or has ended."""
        with self.changed:
            if self._is_in_progress:
                self._stop(SecondaryStatus.STOPPED)

    def interrupt(self, outage: float) -> bool:
        """Reclaim a Spot job's instance and launch no other for `outage` seconds; False if it has none."""
        with self.changed:
            if not self._running or not self._is_in_progress or self._outage is not None:
                return False
            self._outage = outage
            self._instances.reclaim(self, self.attempt)
            return True

    def lose_host(self, last_alive: float) -> None:
        """Take note that the machine went down together with the daemon, at some time after `last_alive`."""
        with self.changed:
            self._running = False
            if self.is_final:
                return
            ended = self._attempts_ended(max(last_alive, self._current.transitions[-1]["StartTime"]))
            retries = self._current.retries
            if self._current.status == TrainingJobStatus.STOPPING:
                self._finish(SecondaryStatus(self._current.stop_reason), attempts=ended)
            elif ended == self._current.attempts:
                return  # it had no instance at that time
            elif self.is_spot:
                self._enter(SecondaryStatus.INTERRUPTED, "The instance was lost", attempts=ended)
            elif retries < self.request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0):
                message = "Restarting the training job after an InternalServerError"
                self._enter(SecondaryStatus.RESTARTING, message, attempts=ended, retries=retries + 1)
            else:
                self._finish(SecondaryStatus.FAILED, attempts=ended, failure_reason=_INTERNAL_ERROR)

    def save(self) -> None:
        """Write the current state to disk if the disk has refused it before; raise OSError if it still does."""
        with self.changed:
            if self._unsaved:
                self._save(self._current)
                self._publish()

    def change_tags(self, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> list[dict[str, str]]:
        """Replace the job's tags by what `change` returns for them, and return these; raise OSError."""
        with self.changed:
            tags = change(list(self._current.request.get("Tags", [])))
            changed = replace(self._current, request={**self._current.request, "Tags": tags})
            self._save(changed)
            self._current = changed
            self._publish()
            return tags

    # Events of its attempts

    def on_downloading(self, attempt: int) -> None:
        """The instance has started and downloads checkpoints and channels."""
        with self.changed:
            if self._is_current(attempt):
                times = self._current.with_last_attempt(downloading=self._clock())
                self._enter(SecondaryStatus.DOWNLOADING, "Downloading input data", attempts=times)

    def on_training(self, attempt: int) -> None:
        """The container is about to run."""
        with self.changed:
            if self._is_current(attempt):
                message = "Training image download completed. Training in progress."
                times = self._current.with_last_attempt(training=self._clock())
                self._enter(SecondaryStatus.TRAINING, message, attempts=times)

    def on_metric(self, name: str, value: float) -> None:
        """The log had a value of a metric; the last value is the final one."""
        with self.changed:
            metrics = {**self._current.metrics, name: (value, self._clock())}
            self._current = replace(self._current, metrics=metrics)
            self.record = replace(self.record, metrics=metrics)

    def on_exited(self, attempt: int, exit_code: int | None) -> bool:
        """The container has exited (None: it never ran). Return whether its model is to be uploaded."""
        with self.changed:
            if not self._has_instance(attempt):
                return False
            if self._current.status == TrainingJobStatus.STOPPING:
                return True
            if exit_code is None:
                return False
            self._enter(SecondaryStatus.UPLOADING, "Uploading generated training model")
            return exit_code == 0

    def on_finished(self, attempt: int, model_artifacts: str, failure: str = "") -> bool:
        """The attempt is over; `failure` is its FailureReason. Return False if the instance was reclaimed first."""
        with self.changed:
            if not self._has_instance(attempt):
                return False
            self._running = False
            changes: dict[str, Any] = {
                "attempts": self._attempts_ended(self._clock()),
                "model_artifacts": model_artifacts,
            }
            if self._current.status == TrainingJobStatus.STOPPING:
                self._finish(SecondaryStatus(self._current.stop_reason), **changes)
            elif failure:
                self._finish(SecondaryStatus.FAILED, failure_reason=failure[:MAX_FAILURE_REASON], **changes)
            else:
                self._finish(SecondaryStatus.COMPLETED, **changes)
            return True

    def on_lost(self, attempt: int) -> None:
        """The instance is gone, with everything that was not in S3."""
        with self.changed:
            if self.attempt != attempt or not self._running:
                return
            self._running = False
            now = self._clock()
            ended = self._attempts_ended(now)
            outage, self._outage = self._outage or 0.0, None
            if self._current.status == TrainingJobStatus.STOPPING:
                self._finish(SecondaryStatus(self._current.stop_reason), attempts=ended)
                return
            message = "Interrupted by EC2: the Spot instance was reclaimed"
            self._enter(SecondaryStatus.INTERRUPTED, message, attempts=ended, launch_after=now + outage)
            self.tick()

    # How the state changes. All of it happens with the lock held.

    @property
    def _is_in_progress(self) -> bool:
        return self._current.status == TrainingJobStatus.IN_PROGRESS

    def _limits(self) -> list[tuple[float, SecondaryStatus]]:
        return self._current.limits(self._clock()) if self._is_in_progress else []

    def _may_launch(self) -> bool:
        return not self.is_spot or self._capacity()

    def _has_instance(self, attempt: int) -> bool:
        """Tell whether this attempt is the running one and its instance is not being reclaimed."""
        return self.attempt == attempt and self._running and self._outage is None

    def _is_current(self, attempt: int) -> bool:
        return self._has_instance(attempt) and self._is_in_progress

    def _launch(self) -> None:
        self._running = True
        attempts = (*self._current.attempts, AttemptTimes())
        self._enter(SecondaryStatus.STARTING, "Preparing the instances for training", attempts=attempts)
        self._instances.launch(self, self.attempt)

    def _stop(self, reason: SecondaryStatus) -> None:
        self._enter(SecondaryStatus.STOPPING, "Stopping the training job", stop_reason=reason)
        if not self._running:
            self._finish(reason)
        elif self._outage is None:
            self._instances.terminate(self, self.attempt)

    def _attempts_ended(self, moment: float) -> tuple[AttemptTimes, ...]:
        """Return the attempts, of which the last has ended at this moment if it had not before."""
        attempts = self._current.attempts
        return self._current.with_last_attempt(ended=moment) if attempts and attempts[-1].ended is None else attempts

    def _finish(self, secondary: SecondaryStatus, **changes: Any) -> None:
        messages = {SecondaryStatus.COMPLETED: "completed", SecondaryStatus.FAILED: "failed"}
        self._enter(secondary, f"Training job {messages.get(secondary, secondary)}", **changes)

    def _enter(self, secondary: SecondaryStatus, message: str, **changes: Any) -> None:
        """Change the secondary status, or only its message, together with other fields; write it to disk."""
        self._current = self._current.entered(secondary, message, self._clock(), **changes)
        try:
            self._save(self._current)
            self._publish()
        except OSError:
            _log.exception("%s could not be written to the journal; localmode tries again", self._current.name)
            self._unsaved = True
            self.changed.notify_all()

    def _publish(self) -> None:
        """Let readers see the current state, which is on disk now."""
        self._unsaved = False
        self.record = self._current
        self.changed.notify_all()
