"""The line that train.py prints for each epoch, and how SageMaker reads the metrics from it.

    from metrics import METRIC_DEFINITIONS    # for a training job's AlgorithmSpecification

Imports nothing heavy, so that a notebook can use it without starting TensorFlow.
"""

from typing import TypedDict


class Epoch(TypedDict):
    """The record of one finished epoch: what history.json and every checkpoint hold.

    No times are in it, so that a run which was interrupted leaves the same records as one which was not.
    """

    epoch: int  # counted from 1
    step: int  # optimizer steps since the start of the training, this epoch's included
    loss: float  # cross-entropy in nats, the mean over the epoch's training images, dropout active
    accuracy: float  # 0 to 1, over the same
    val_loss: float  # over the validation channel, after the epoch's last step
    val_accuracy: float


def _definition(name: str, field: str) -> dict[str, str]:
    # \b keeps "loss=" from matching inside "val_loss=": the underscore is part of the word.
    return {"Name": name, "Regex": rf"\b{field}=([0-9.]+)"}


METRIC_DEFINITIONS = [
    _definition("train:loss", "loss"),
    _definition("train:accuracy", "accuracy"),
    _definition("validation:loss", "val_loss"),
    _definition("validation:accuracy", "val_accuracy"),
]


def best_epoch(history: list[Epoch]) -> Epoch:
    """Return the epoch with the lowest validation loss, the first of them if there are several."""
    return min(history, key=lambda row: row["val_loss"])


def epoch_line(row: Epoch, seconds: float) -> str:
    """Format one epoch for the log; seconds is the wall time that this attempt spent on it."""
    return (
        f"epoch={row['epoch']} step={row['step']} loss={row['loss']:.4f} accuracy={row['accuracy']:.4f} "
        f"val_loss={row['val_loss']:.4f} val_accuracy={row['val_accuracy']:.4f} seconds={seconds:.2f}"
    )
