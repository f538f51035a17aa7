"""Managed Spot Training: capacity, training time and billable time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localmode.core.durable import sync_directory


@dataclass(frozen=True)
class AttemptTimes:
    """The times of one attempt, in seconds since the epoch; None for a phase that it did not reach."""

    downloading: float | None = None
    training: float | None = None
    ended: float | None = None

    def used(self, now: float) -> float:
        """Seconds on the instance: downloading, training and uploading."""
        if self.downloading is None:
            return 0.0
        return max(0.0, (self.ended if self.ended is not None else now) - self.downloading)

    def download(self, now: float) -> float:
        """Seconds of them that were spent downloading."""
        if self.downloading is None:
            return 0.0
        if self.training is not None:
            return max(0.0, self.training - self.downloading)
        return self.used(now)


def training_seconds(attempts: Sequence[AttemptTimes], now: float) -> int:
    """TrainingTimeInSeconds: the time on instances over all attempts; waiting for capacity does not count."""
    return math.ceil(sum(attempt.used(now) for attempt in attempts))


def billable_seconds(attempts: Sequence[AttemptTimes], discount: float, now: float) -> int:
    """BillableTimeInSeconds of one instance.

    `discount` is 0 for On-Demand. However often a Spot job restarts, data download is charged once
    (https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html). The result does not depend on
    InstanceCount: AWS reports wall-clock time, which the reader multiplies.
    """
    downloads = [attempt.download(now) for attempt in attempts]
    charged = sum(attempt.used(now) for attempt in attempts) - sum(downloads) + max(downloads, default=0.0)
    return math.ceil(round(charged * (1 - discount), 6))


def savings_percent(training: float, billable: float) -> float:
    """Managed Spot Training savings: (1 - BillableTimeInSeconds / TrainingTimeInSeconds) * 100."""
    return (1 - billable / training) * 100 if training else 0.0


class SpotMarket:
    """Whether there is Spot capacity; the same for all jobs, and kept over restarts of the daemon."""

    def __init__(self, absence: Path) -> None:
        self._absence = absence  # a file that exists while there is no capacity

    @property
    def available(self) -> bool:
        """True while Spot instances can be launched."""
        return not self._absence.exists()

    def set_capacity(self, available: bool) -> None:
        """Withdraw or restore all Spot capacity; running instances are not reclaimed. Raises OSError."""
        if available:
            self._absence.unlink(missing_ok=True)
        else:
            self._absence.touch()
        sync_directory(self._absence.parent)
