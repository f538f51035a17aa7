"""What a training job is: its request, how far it has come, when its time is up. The journal keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from localmode.training.spot import AttemptTimes

DEFAULT_MAX_RUNTIME = 86400


@dataclass
class Record:
    """All that a job is: what the journal keeps. Times are seconds since the epoch."""

    name: str
    arn: str
    request: dict[str, Any]
    created: float
    status: str = "InProgress"
    secondary_status: str = "Starting"
    stop_reason: str = ""
    failure_reason: str = ""
    transitions: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[AttemptTimes] = field(default_factory=list)
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    modified: float = 0.0
    launch_after: float = 0.0
    retries: int = 0
    model_artifacts: str = ""

    @property
    def is_spot(self) -> bool:
        """True for Managed Spot Training."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def instance_count(self) -> int:
        """How many hosts it has."""
        return int(self.request.get("ResourceConfig", {}).get("InstanceCount", 1))

    def limits(self, now: float) -> list[tuple[float, str]]:
        """When the job is out of time, and what it is then called. The last attempt runs unless it has ended."""
        condition = self.request.get("StoppingCondition", {})
        limits = []
        if self.is_spot and "MaxWaitTimeInSeconds" in condition:
            limits.append((self.created + condition["MaxWaitTimeInSeconds"], "MaxWaitTimeExceeded"))
        running = self.attempts[-1] if self.attempts and self.attempts[-1].ended is None else None
        if running is not None and running.training is not None:
            before = sum(attempt.used(now) for attempt in self.attempts[:-1])
            allowed = condition.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME) - before
            limits.append(((running.downloading or now) + allowed, "MaxRuntimeExceeded"))
        return limits

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Record:
        """Read what `to_json` gave."""
        attempts = [AttemptTimes(**attempt) for attempt in document["attempts"]]
        metrics = {name: (value[0], value[1]) for name, value in document["metrics"].items()}
        return cls(**{**document, "attempts": attempts, "metrics": metrics})
