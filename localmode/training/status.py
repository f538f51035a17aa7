"""The statuses of a training job, and which secondary status may follow which.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SecondaryStatusTransition.html
https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html
"""

from __future__ import annotations

from enum import StrEnum


class TrainingJobStatus(StrEnum):
    """TrainingJobStatus of DescribeTrainingJob."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


class SecondaryStatus(StrEnum):
    """SecondaryStatus of DescribeTrainingJob, as far as localmode uses them."""

    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"
    INTERRUPTED = "Interrupted"
    RESTARTING = "Restarting"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"

    @property
    def status(self) -> TrainingJobStatus:
        """The TrainingJobStatus that goes with it."""
        return _STATUSES.get(self, TrainingJobStatus.IN_PROGRESS)


_S = SecondaryStatus
_STATUSES = {
    _S.STOPPING: TrainingJobStatus.STOPPING,
    _S.COMPLETED: TrainingJobStatus.COMPLETED,
    _S.FAILED: TrainingJobStatus.FAILED,
    _S.STOPPED: TrainingJobStatus.STOPPED,
    _S.MAX_RUNTIME_EXCEEDED: TrainingJobStatus.STOPPED,
    _S.MAX_WAIT_TIME_EXCEEDED: TrainingJobStatus.STOPPED,
}
_ANY_TIME = frozenset({_S.INTERRUPTED, _S.RESTARTING, _S.STOPPING, _S.FAILED})  # while an attempt runs

# A job begins in Starting. A record refuses a transition that is not in this table.
TRANSITIONS: dict[SecondaryStatus, frozenset[SecondaryStatus]] = {
    _S.STARTING: _ANY_TIME | {_S.DOWNLOADING},
    _S.DOWNLOADING: _ANY_TIME | {_S.TRAINING},
    _S.TRAINING: _ANY_TIME | {_S.UPLOADING},
    _S.UPLOADING: _ANY_TIME | {_S.COMPLETED},
    _S.INTERRUPTED: frozenset({_S.STARTING, _S.STOPPING}),
    _S.RESTARTING: frozenset({_S.STARTING, _S.STOPPING}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.MAX_RUNTIME_EXCEEDED, _S.MAX_WAIT_TIME_EXCEEDED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.STOPPED: frozenset(),
    _S.MAX_RUNTIME_EXCEEDED: frozenset(),
    _S.MAX_WAIT_TIME_EXCEEDED: frozenset(),
}
