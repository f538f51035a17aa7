"""One training job: its state machine.

Pure state: the clock, the instances and the journal are injected, so that every path can be walked in a
test without waiting. The statuses, their order and their messages are those of
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SecondaryStatusTransition.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html.

    Starting -> Downloading -> Training -> Uploading -> Completed | Failed
    any of them, on Spot, when the instance is reclaimed -> Interrupted -> Starting -> ...
    any of them, when stopped or out of time -> Stopping -> Stopped | MaxRuntimeExceeded | MaxWaitTimeExceeded
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from localmode.training.record import Record
from localmode.training.spot import AttemptTimes

_NO_CAPACITY = "Insufficient capacity error from EC2 while launching instances, retrying!"
_FINAL = ("Completed", "Failed", "Stopped")
MAX_FAILURE_REASON = 1024


class Instances(Protocol):
    """What runs a job's attempts. No call may block; what happens is reported to the job's `on_` methods."""

    def launch(self, job: TrainingJob, attempt: int) -> None:
        """Begin an attempt on a fresh instance."""

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        """SIGTERM, a grace period, SIGKILL; then the attempt goes on to `on_exited`."""

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        """SIGTERM, a grace period, SIGKILL, and nothing after it: the attempt ends in `on_lost`."""


class TrainingJob:
    """The life of one job. Thread-safe; events of an attempt that is over are ignored."""

    def __init__(
        self,
        record: Record,
        clock: Callable[[], float],
        instances: Instances,
        save: Callable[[Record], None],
        capacity: Callable[[], bool] = lambda: True,
    ) -> None:
        self.record = record
        self.changed = threading.Condition(threading.RLock())
        self._clock = clock
        self._instances = instances
        self._save = save
        self._capacity = capacity
        self._running = False  # whether the last attempt has an instance
        self._outage: float | None = None  # set once the instance is being reclaimed

    # What it is.

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
        with self.changed:
            return self._running

    @property
    def is_final(self) -> bool:
        """True once nothing more will happen to it."""
        return self.record.status in _FINAL

    def deadline(self) -> float | None:
        """When `tick` must be called next, in seconds since the epoch; None if no time limit is near."""
        with self.changed:
            if self.is_final:
                return None
            deadlines = [deadline for deadline, _ in self._limits()]
            if not self._running and self.record.status == "InProgress" and self._may_launch():
                deadlines.append(self.record.launch_after)
            return min(deadlines, default=None)

    def _limits(self) -> list[tuple[float, str]]:
        return self.record.limits(self._clock()) if self.record.status == "InProgress" else []

    # What happens to it.

    def start(self) -> None:
        """Begin: the job has been accepted."""
        with self.changed:
            self._enter("Starting", "Starting the training job")
            self.tick()

    def tick(self) -> None:
        """Do what the clock or the Spot market now allows or demands."""
        with self.changed:
            now = self._clock()
            for deadline, reason in self._limits():
                if now >= deadline:
                    self._stop(reason)
                    return
            if self.record.status != "InProgress" or self._running or now < self.record.launch_after:
                return
            if self._may_launch():
                self._launch()
            elif self.record.transitions[-1]["StatusMessage"] != _NO_CAPACITY:  # said once, not at every tick
                self._enter("Starting", _NO_CAPACITY)

    def stop(self) -> None:
        """Stop it at the user's request; nothing happens to a job that is stopping or over."""
        with self.changed:
            if self.record.status == "InProgress":
                self._stop("Stopped")

    def interrupt(self, outage: float) -> bool:
        """Reclaim a Spot job's instance and offer no other for `outage` seconds; False if it has none."""
        with self.changed:
            if not self._running or self.record.status != "InProgress" or self._outage is not None:
                return False
            self._outage = outage
            self._instances.reclaim(self, len(self.record.attempts))
            return True

    def lose_host(self, last_alive: float) -> None:
        """The machine went down with the daemon, some time after `last_alive`: what follows depends on the job."""
        with self.changed:
            self._running = False
            if self.is_final:
                return
            begun = self.record.transitions[-1]["StartTime"] if self.record.transitions else self.record.created
            self._end_attempt(max(last_alive, begun))
            if self.record.status == "Stopping":
                self._finish("Stopped", self.record.stop_reason)
            elif self.is_spot:
                self._enter("Interrupted", "The instance was lost")
            elif self.record.retries < self.request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0):
                self.record.retries += 1
                self._enter("Restarting", "Restarting the training job after an InternalServerError")
            else:
                reason = "InternalServerError: We encountered an internal error. Please try again."
                self.record.failure_reason = reason
                self._finish("Failed", "Failed", "Training job failed")

    # What its attempt reports.

    def on_downloading(self, attempt: int) -> None:
        """The instance is there and fetches checkpoints and channels."""
        with self.changed:
            if self._is_current(attempt):
                self.record.attempts[-1].downloading = self._clock()
                self._enter("Downloading", "Downloading input data")

    def on_training(self, attempt: int) -> None:
        """The container runs."""
        with self.changed:
            if self._is_current(attempt):
                self.record.attempts[-1].training = self._clock()
                self._enter("Training", "Training image download completed. Training in progress.")

    def on_metric(self, name: str, value: float) -> None:
        """The log showed a metric; the last value is the final one."""
        with self.changed:
            self.record.metrics[name] = (value, self._clock())

    def on_exited(self, attempt: int, exit_code: int | None) -> bool:
        """The container ended (None: it never ran). Return whether its model is to be uploaded."""
        with self.changed:
            if not self._has_instance(attempt):
                return False
            if self.record.status == "Stopping":
                return True
            if exit_code is None:
                return False
            self._enter("Uploading", "Uploading generated training model")
            return exit_code == 0

    def on_finished(self, attempt: int, model_artifacts: str, failure: str = "") -> bool:
        """The attempt is over, `failure` says what went wrong. Return False if the instance was reclaimed first."""
        with self.changed:
            if not self._has_instance(attempt):
                return False
            self._running = False
            self._end_attempt()
            self.record.model_artifacts = model_artifacts
            if self.record.status == "Stopping":
                self._finish("Stopped", self.record.stop_reason)
            elif failure:
                self.record.failure_reason = failure[:MAX_FAILURE_REASON]
                self._finish("Failed", "Failed", "Training job failed")
            else:
                self._finish("Completed", "Completed", "Training job completed")
            return True

    def on_lost(self, attempt: int) -> None:
        """The instance is gone, with all that was not in S3."""
        with self.changed:
            if len(self.record.attempts) != attempt or not self._running:
                return
            self._running = False
            self._end_attempt()
            outage, self._outage = self._outage or 0.0, None
            if self.record.status == "Stopping":
                self._finish("Stopped", self.record.stop_reason)
                return
            self.record.launch_after = self._clock() + outage
            self._enter("Interrupted", "Interrupted by EC2: the Spot instance was reclaimed")
            self.tick()

    # How it changes.

    def _may_launch(self) -> bool:
        return not self.is_spot or self._capacity()

    def _has_instance(self, attempt: int) -> bool:
        """Whether this attempt is the running one and its instance is not being taken away."""
        return len(self.record.attempts) == attempt and self._running and self._outage is None

    def _is_current(self, attempt: int) -> bool:
        return self._has_instance(attempt) and self.record.status == "InProgress"

    def _launch(self) -> None:
        self._running = True
        self.record.attempts.append(AttemptTimes())
        self._enter("Starting", "Preparing the instances for training")
        self._instances.launch(self, len(self.record.attempts))

    def _stop(self, reason: str) -> None:
        self.record.status = "Stopping"
        self.record.stop_reason = reason
        self._enter("Stopping", "Stopping the training job")
        if not self._running:
            self._finish("Stopped", reason)
        elif self._outage is None:
            self._instances.terminate(self, len(self.record.attempts))

    def _end_attempt(self, moment: float | None = None) -> None:
        if self.record.attempts and self.record.attempts[-1].ended is None:
            self.record.attempts[-1].ended = self._clock() if moment is None else moment

    def _finish(self, status: str, secondary: str, message: str = "") -> None:
        self.record.status = status
        self._enter(secondary, message or f"Training job {secondary}")

    def _enter(self, secondary: str, message: str) -> None:
        """Change the secondary status, or only its message, and put it on disk."""
        now = self._clock()
        self.record.modified = now
        transitions = self.record.transitions
        if transitions and self.record.secondary_status == secondary:
            transitions[-1]["StatusMessage"] = message
        else:
            if transitions:
                transitions[-1]["EndTime"] = now
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        if self.is_final:
            transitions[-1]["EndTime"] = now
        self.record.secondary_status = secondary
        self._save(self.record)
        self.changed.notify_all()
