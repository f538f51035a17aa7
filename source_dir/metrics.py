"""The line that train.py prints for each epoch, and how SageMaker reads the metrics from it.

    from source_dir.metrics import METRIC_DEFINITIONS    # for a training job's AlgorithmSpecification

Does not import TensorFlow, so a notebook can use it at once.
"""

from typing import TypedDict


class Epoch(TypedDict):
    """The record of a finished epoch, as in history.json and in every checkpoint.

    It contains no times, so that an interrupted run leaves the same records as an uninterrupted one.
    """

    epoch: int  # counted from 1
    step: int  # optimizer steps since the start of the training, up to the end of this epoch
    loss: float  # cross-entropy in nats, mean over the training images, with dropout
    accuracy: float  # 0 to 1, over the same images
    val_loss: float  # over the validation images, after the last step of the epoch
    val_accuracy: float


def _definition(name: str, field: str) -> dict[str, str]:
    # \b prevents a match of "loss=" inside "val_loss=": the underscore is a word character.
    return {"Name": name, "Regex": rf"\b{field}=([0-9.]+)"}


METRIC_DEFINITIONS = [
    _definition("train:loss", "loss"),
    _definition("train:accuracy", "accuracy"),
    _definition("validation:loss", "val_loss"),
    _definition("validation:accuracy", "val_accuracy"),
]


def best_epoch(history: list[Epoch]) -> Epoch:
    """Return the epoch with the lowest validation loss, the first one if several have it."""
    return min(history, key=lambda row: row["val_loss"])


def epoch_line(row: Epoch, seconds: float) -> str:
    """Format an epoch for the log; seconds is the wall time that this attempt spent on it."""
    return (
        f"epoch={row['epoch']} step={row['step']} loss={row['loss']:.4f} accuracy={row['accuracy']:.4f} "
        f"val_loss={row['val_loss']:.4f} val_accuracy={row['val_accuracy']:.4f} seconds={seconds:.2f}"
    )
