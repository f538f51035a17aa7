"""A training job whose clock, capacity, disk and instances belong to the test."""

import json
from typing import Any

from localmode.training.job import TrainingJob
from localmode.training.record import Record


class Life:
    """A job, its clock, its capacity, and the commands that its instances were given."""

    def __init__(self, spot: bool = True, started: bool = True, **request: Any) -> None:
        self.now = 1000.0
        self.capacity = True
        self.orders: list[tuple[str, int]] = []
        self.saved: list[str] = []
        request = {"EnableManagedSpotTraining": spot, **request}
        self.job = self.revive(Record.new("job", "arn:job", request, created=self.now))
        if started:
            self.job.start()

    def revive(self, record: Record) -> TrainingJob:
        def save(record: Record) -> None:
            self.saved.append(json.dumps(record.to_json()))

        return TrainingJob(record, lambda: self.now, self, save, lambda: self.capacity)

    # Instances

    runner = "none"

    def close(self) -> None:
        pass

    def launch(self, job: TrainingJob, attempt: int) -> None:
        self.orders.append(("launch", attempt))

    def terminate(self, job: TrainingJob, attempt: int) -> None:
        self.orders.append(("terminate", attempt))

    def reclaim(self, job: TrainingJob, attempt: int) -> None:
        self.orders.append(("reclaim", attempt))

    # What happens

    @property
    def attempt(self) -> int:
        return len(self.job.record.attempts)

    def wait(self, seconds: float) -> "Life":
        self.now += seconds
        self.job.tick()
        return self

    def download(self, seconds: float = 10) -> "Life":
        self.job.on_downloading(self.attempt)
        return self.wait(seconds)

    def train(self, seconds: float = 100) -> "Life":
        self.job.on_training(self.attempt)
        return self.wait(seconds)

    def exit(self, code: int | None = 0) -> "Life":
        self.uploads_model = self.job.on_exited(self.attempt, code)
        return self.wait(5)

    def finish(self, artifacts: str = "s3://b/model.tar.gz", failure: str = "") -> "Life":
        self.job.on_finished(self.attempt, artifacts, failure)
        return self

    def lose(self, outage: float = 0) -> "Life":
        assert self.job.interrupt(outage)
        self.job.on_lost(self.attempt)
        return self

    # What can be seen

    @property
    def statuses(self) -> list[str]:
        return [transition["Status"] for transition in self.job.record.transitions]

    @property
    def end(self) -> tuple[str, str]:
        return self.job.record.status, self.job.record.secondary_status

    @property
    def message(self) -> str:
        return str(self.job.record.transitions[-1]["StatusMessage"])


def limits(runtime: int, wait: int) -> dict[str, Any]:
    return {"StoppingCondition": {"MaxRuntimeInSeconds": runtime, "MaxWaitTimeInSeconds": wait}}
