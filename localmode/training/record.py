"""The record of a training job: its request and its progress, as the journal keeps them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from localmode.training.errors import IllegalTransition
from localmode.training.spot import AttemptTimes
from localmode.training.status import TRANSITIONS, SecondaryStatus, TrainingJobStatus

DEFAULT_MAX_RUNTIME = 86400
_FINAL = (TrainingJobStatus.COMPLETED, TrainingJobStatus.FAILED, TrainingJobStatus.STOPPED)


@dataclass(frozen=True)
class Record:
    """One state of a job; every change makes a new record. Times are seconds since the epoch.

    Requests, transitions and metrics are dictionaries that nobody may change in place.
    """

    name: str
    arn: str
    request: dict[str, Any]
    created: float
    secondary_status: SecondaryStatus
    transitions: tuple[dict[str, Any], ...]  # SecondaryStatusTransitions
    stop_reason: str = ""  # the secondary status that a stopping job will end in
    failure_reason: str = ""
    attempts: tuple[AttemptTimes, ...] = ()
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)  # last value, and when it was logged
    modified: float = 0.0
    launch_after: float = 0.0
    retries: int = 0
    model_artifacts: str = ""

    @classmethod
    def new(cls, name: str, arn: str, request: dict[str, Any], created: float) -> Record:
        """Return the record of a job that has just been accepted."""
        first = _transition(SecondaryStatus.STARTING, created, "Starting the training job")
        return cls(name, arn, request, created, SecondaryStatus.STARTING, (first,))

    @property
    def status(self) -> TrainingJobStatus:
        """The TrainingJobStatus, which follows from the secondary status."""
        return self.secondary_status.status

    @property
    def is_final(self) -> bool:
        """True for a job that has ended."""
        return self.status in _FINAL

    @property
    def is_spot(self) -> bool:
        """True for Managed Spot Training."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def instance_count(self) -> int:
        """The number of hosts."""
        return int(self.request.get("ResourceConfig", {}).get("InstanceCount", 1))

    def limits(self, now: float) -> list[tuple[float, SecondaryStatus]]:
        """Return the times at which the job must stop, each with the secondary status that it then ends in."""
        condition = self.request.get("StoppingCondition", {})
        limits = []
        if self.is_spot and "MaxWaitTimeInSeconds" in condition:
            limits.append((self.created + condition["MaxWaitTimeInSeconds"], SecondaryStatus.MAX_WAIT_TIME_EXCEEDED))
        running = self.attempts[-1] if self.attempts and self.attempts[-1].ended is None else None
        if running is not None and running.training is not None:
            before = sum(attempt.used(now) for attempt in self.attempts[:-1])
            allowed = condition.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME) - before
            limits.append(((running.downloading or now) + allowed, SecondaryStatus.MAX_RUNTIME_EXCEEDED))
        return limits

    def entered(self, secondary: SecondaryStatus, message: str, now: float, **changes: Any) -> Record:
        """Return the record with another secondary status, or only another message for the same one.

        `changes` are other fields that change with it. Raises IllegalTransition.
        """
        *before, last = self.transitions
        if secondary == self.secondary_status:
            transitions = [*before, {**last, "StatusMessage": message}]
        elif secondary in TRANSITIONS[self.secondary_status]:
            transitions = [*before, {**last, "EndTime": now}, _transition(secondary, now, message)]
        else:
            raise IllegalTransition(f"Training job {self.name}: {self.secondary_status} cannot become {secondary}")
        return replace(self, secondary_status=secondary, transitions=tuple(transitions), modified=now, **changes)

    def with_last_attempt(self, **times: float) -> tuple[AttemptTimes, ...]:
        """Return the attempts, the last of them with other times."""
        return (*self.attempts[:-1], replace(self.attempts[-1], **times))

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-able values."""
        return {**asdict(self), "status": self.status}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Record:
        """Read what `to_json` returned, in this version or the one before; raise what `read_document` expects."""
        members = {member: value for member, value in document.items() if member != "status"}
        new = cls.new(members["name"], members["arn"], members["request"], members["created"])
        return replace(
            new,
            **members
            | {
                "secondary_status": SecondaryStatus(members["secondary_status"]),
                # The version before wrote none before the job had begun.
                "transitions": tuple(dict(each) for each in members["transitions"]) or new.transitions,
                "attempts": tuple(AttemptTimes(**attempt) for attempt in members["attempts"]),
                "metrics": {name: (value[0], value[1]) for name, value in members["metrics"].items()},
            },
        )


def _transition(secondary: SecondaryStatus, now: float, message: str) -> dict[str, Any]:
    transition = {"Status": secondary, "StartTime": now, "StatusMessage": message}
    return {**transition, "EndTime": now} if secondary.status in _FINAL else transition
