"""Train an image classifier that ends with the same weights, whenever and however often it is interrupted.

    python source_dir/train.py --train data/train --validation data/validation --model-dir out/model \
        --output-data-dir out/data --checkpoint-dir out/checkpoints --epochs 20

Kill the process and run the same command again: the training resumes from the newest checkpoint, and its last line,
final_weights_sha256=..., is the same as without an interruption. In a SageMaker training job the directories have
defaults, and hyperparameters arrive as options, in SM_HPS, or both.
"""

import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import checkpoint
from checkpoint import CheckpointError
from data import Channel, InputError, fingerprint, load_channel, require_same_kind, training_batches
from machine import has_bfloat16
from metrics import Epoch, best_epoch, epoch_line
from settings import Settings, parse_settings

if TYPE_CHECKING:
    from model import Trainer  # at run time, run() imports it after all checks

EXIT_SIGTERM = 128 + signal.SIGTERM  # 143, the status of a shell for a process that SIGTERM has ended

# A signal handler can run between any two lines, so it only appends to this list.
signals_received: list[int] = []


def main() -> int:
    """Run one attempt of a training job and return its exit status."""
    # Linux does not deliver SIGTERM to the first process of a container unless it has a handler.
    signal.signal(signal.SIGTERM, lambda number, frame: signals_received.append(number))
    try:
        return run(parse_settings(sys.argv[1:], os.environ, __doc__))
    except (InputError, CheckpointError) as error:
        return fail(" ".join(str(error).split()))


def run(settings: Settings) -> int:
    """Check the input, resume, train, export."""
    train, validation = load_channel(settings.train), load_channel(settings.validation)
    require_same_kind(str(settings.train), train, str(settings.validation), validation)
    for directory in (settings.model_dir, settings.output_data_dir, settings.checkpoint_dir):
        make_writable(directory)
    identity = identity_of(settings, train, validation)
    saved = checkpoint.load_newest(settings.checkpoint_dir)
    if saved:
        saved.require_identity(identity)

    import model  # not above: importing TensorFlow takes seconds, and errors in the input should show at once

    trainer = model.Trainer(
        train.images.shape[1:],
        len(train.class_names),
        settings.learning_rate,
        settings.seed,
        cosine_steps=settings.epochs * steps_per_epoch(settings, train) if settings.schedule == "cosine" else 0,
        precision=settings.precision,
    )
    if settings.precision == "bfloat16" and not has_bfloat16():
        say("warning: this processor has no instructions for bfloat16: float32 is faster here")
    here = model.environment()
    history: list[Epoch] = []
    if saved:
        trainer.restore(saved)
        history = saved.meta["history"]
        epoch = math.ceil(saved.step / steps_per_epoch(settings, train))
        say(f"resumed from {saved.name} at epoch {epoch}, step {saved.step}")
        if changes := saved.changes(here):
            say(f"warning: the weights may differ in the last bits, {saved.name} has {changes}")
        if epoch > max(len(history), settings.epochs):
            # An unfinished epoch has no record, and its weights have not been validated.
            say(f"epoch {epoch} has begun, so it is finished, although --epochs is {settings.epochs}")
            settings.epochs = epoch
    else:
        found = "usable checkpoint" if checkpoint.are_there(settings.checkpoint_dir) else "checkpoint found"
        say(f"no {found}, starting at step 0")

    if is_finished(history, settings):
        say(f"nothing left to train: {len(history)} epochs are done, --epochs is {settings.epochs}")
    fit(trainer, settings, train, validation, history, {"identity": identity, "environment": here})
    if not is_finished(history, settings):
        say(f"SIGTERM received: stopped after step {trainer.step}, everything is saved; exiting with {EXIT_SIGTERM}")
        return EXIT_SIGTERM
    # From here on SIGTERM is ignored: the rest takes a second, another attempt would take much longer.
    if settings.patience:
        trainer.use_best()
        say(f"best epoch of {len(history)}: {best_epoch(history)['epoch']}; its weights are the final ones")
    try:
        write_history(settings.output_data_dir / "history.json", history)
        if settings.tensorboard:
            model.write_events(settings.output_data_dir / "tensorboard", history)
        trainer.export(settings.model_dir / "1")
    except OSError as error:
        raise InputError(
            f"cannot write {error.filename2 or error.filename}: {error.strerror}; correct this and run the same "
            "command again, the trained weights are in the checkpoint"
        ) from error
    say(f"final_weights_sha256={trainer.weights_sha256()}")
    return 0


def identity_of(settings: Settings, train: Channel, validation: Channel) -> dict[str, Any]:
    """Return the settings that must not change between the attempts of a training.

    --epochs is not among them, because a training may continue for more epochs; with a cosine schedule it is.
    """
    return {
        "seed": settings.seed,
        "batch size": settings.batch_size,
        "learning rate": settings.learning_rate,
        "schedule": f"cosine over {settings.epochs} epochs" if settings.schedule == "cosine" else "constant",
        "precision": settings.precision,
        "early stopping": "on" if settings.patience else "off",  # only with it do checkpoints contain the best weights
        "data": fingerprint(train, validation),
    }


def fit(
    trainer: "Trainer",
    settings: Settings,
    train: Channel,
    validation: Channel,
    history: list[Epoch],
    meta: Mapping[str, Any],
) -> None:
    """Train to the last epoch, or after SIGTERM to the end of the current step, and append to the history.

    On return everything is in a checkpoint. A step has at most one checkpoint; for the last step of an epoch it is
    written after the validation, together with the record of the epoch. A run that is killed in between repeats the
    steps since the checkpoint before, and gets the same numbers. The line of an epoch is printed before its checkpoint
    is written, so the log may show an epoch twice but never lacks one.
    """
    saved_step, saved_at = trainer.step, time.monotonic()
    validation_seconds = math.inf  # unknown before the first validation

    def save() -> None:
        nonlocal saved_step, saved_at
        arrays = trainer.arrays()
        checkpoint.save(settings.checkpoint_dir, trainer.step, arrays, {**meta, "history": history})
        saved_step, saved_at = trainer.step, time.monotonic()

    def is_due(seconds_ahead: float = 0.0) -> bool:
        if settings.checkpoint_every:
            return trainer.step % settings.checkpoint_every == 0
        return time.monotonic() + seconds_ahead - saved_at >= settings.checkpoint_seconds

    while not is_finished(history, settings) and not signals_received:
        started = time.monotonic()
        epoch = len(history) + 1
        last = epoch * steps_per_epoch(settings, train)
        done = trainer.step - len(history) * steps_per_epoch(settings, train)
        for images, labels in training_batches(train, settings.batch_size, settings.seed, epoch, skip=done):
            trainer.train(images, labels)
            # No checkpoint can be written during the validation, so save before it if one would become due.
            ahead = validation_seconds if trainer.step == last - 1 else 0.0
            if trainer.step < last and (signals_received or is_due(ahead)):
                save()
                if signals_received:
                    return

        trained = time.monotonic()
        loss, accuracy = trainer.take_metrics()
        val_loss, val_accuracy = trainer.evaluate(validation)
        validation_seconds = time.monotonic() - trained
        if not math.isfinite(loss + val_loss):
            raise InputError(
                f"the training diverged in epoch {epoch} (loss {loss}, validation loss {val_loss}): choose a "
                f"--learning-rate below {settings.learning_rate} and an empty --checkpoint-dir"
            )
        row = Epoch(epoch=epoch, step=last, loss=loss, accuracy=accuracy, val_loss=val_loss, val_accuracy=val_accuracy)
        history.append(row)
        if settings.patience and best_epoch(history) == row:
            trainer.keep_best()
        say(epoch_line(row, time.monotonic() - started))
        if settings.checkpoint_every or is_due():
            save()
    if trainer.step > saved_step:
        save()


def is_finished(history: list[Epoch], settings: Settings) -> bool:
    """Return whether all epochs are done, or the last --patience of them did not lower the validation loss.

    This depends on the history only, which every checkpoint contains.
    """
    since_best = len(history) - best_epoch(history)["epoch"] if history else 0
    return len(history) >= settings.epochs or 0 < settings.patience <= since_best


def steps_per_epoch(settings: Settings, train: Channel) -> int:
    """Return the number of batches of an epoch, including the last, smaller one."""
    return math.ceil(len(train.images) / settings.batch_size)


def write_history(path: Path, history: list[Epoch]) -> None:
    """Write the records of all epochs, including those of earlier attempts, atomically."""
    draft = path.with_name(path.name + checkpoint.TEMPORARY)
    draft.write_text(json.dumps(history, indent=2) + "\n")
    draft.replace(path)


def make_writable(directory: Path) -> None:
    """Create a directory if it does not exist; raise InputError if files cannot be written to it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, suffix=checkpoint.TEMPORARY):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {directory} ({error.strerror}): choose another directory") from None


def say(line: str) -> None:
    """Print a line without buffering, so that it shows in the log of a job while it runs."""
    print(line, flush=True)


def fail(message: str) -> int:
    """Report an error in one line on stderr, and to SageMaker as the FailureReason of the job; return 1."""
    print(f"train.py: error: {message}", file=sys.stderr, flush=True)
    failure = Path(os.environ.get("SM_OUTPUT_FAILURE") or "/opt/ml/output/failure")
    if failure.parent.is_dir():
        failure.write_text(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
