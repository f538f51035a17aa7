"""Train an image classifier that can be interrupted at any moment and still ends with the same weights.

    python source_dir/train.py --train data/train --validation data/validation --model-dir out/model \
        --output-data-dir out/data --checkpoint-dir out/checkpoints --epochs 20

Kill its process and run the same line again: it goes on from the newest checkpoint, and its last line,
final_weights_sha256=..., is that of a run which was never interrupted. In a SageMaker training job the
directories have their defaults, and hyperparameters arrive as options, in SM_HPS, or both.
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
    from model import Trainer  # at run time it waits until everything else has been checked

EXIT_SIGTERM = 128 + signal.SIGTERM  # 143, a shell's status of a process that SIGTERM has ended

# A signal handler runs between any two lines, so this one only takes a note.
signals_received: list[int] = []


def main() -> int:
    """Run one attempt of a training job and return its exit status."""
    # Without a handler, the first process of a container never hears of SIGTERM.
    signal.signal(signal.SIGTERM, lambda number, frame: signals_received.append(number))
    try:
        return run(parse_settings(sys.argv[1:], os.environ, __doc__))
    except (InputError, CheckpointError) as error:
        return fail(" ".join(str(error).split()))


def run(settings: Settings) -> int:
    """Check everything, resume, fit, export."""
    train, validation = load_channel(settings.train), load_channel(settings.validation)
    require_same_kind(str(settings.train), train, str(settings.validation), validation)
    for directory in (settings.model_dir, settings.output_data_dir, settings.checkpoint_dir):
        make_writable(directory)
    identity = identity_of(settings, train, validation)
    saved = checkpoint.load_newest(settings.checkpoint_dir)
    if saved:
        saved.require_identity(identity)

    import model  # only now: TensorFlow takes seconds to start

    trainer = model.Trainer(
        train.images.shape[1:],
        len(train.class_names),
        settings.learning_rate,
        settings.seed,
        cosine_steps=settings.epochs * steps_per_epoch(settings, train) if settings.schedule == "cosine" else 0,
        precision=settings.precision,
    )
    if settings.precision == "bfloat16" and not has_bfloat16():
        say("warning: this processor has no instructions for bfloat16: float32 is quicker here")
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
            # Half an epoch has no record, and its weights were never validated.
            say(f"epoch {epoch} was begun: it is finished, though {settings.epochs} were asked for")
            settings.epochs = epoch
    else:
        found = "usable checkpoint" if checkpoint.are_there(settings.checkpoint_dir) else "checkpoint found"
        say(f"no {found}, starting at step 0")

    if is_finished(history, settings):
        say(f"nothing left to train: {len(history)} epochs are done, {settings.epochs} were asked for")
    fit(trainer, settings, train, validation, history, {"identity": identity, "environment": here})
    if not is_finished(history, settings):
        say(f"SIGTERM received: stopped after step {trainer.step}, all is saved; exiting with {EXIT_SIGTERM}")
        return EXIT_SIGTERM
    # From here on SIGTERM is let pass: to finish takes a second, to come back here a whole attempt.
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
            f"cannot write {error.filename2 or error.filename}: {error.strerror}; all is in the checkpoint, "
            "so mend that and run the same line again"
        ) from error
    say(f"final_weights_sha256={trainer.weights_sha256()}")
    return 0


def identity_of(settings: Settings, train: Channel, validation: Channel) -> dict[str, Any]:
    """Return what has to be the same for a checkpoint to be continued.

    Not --epochs, for more of them may be added, unless the schedule is stretched over all of them.
    """
    return {
        "seed": settings.seed,
        "batch size": settings.batch_size,
        "learning rate": settings.learning_rate,
        "schedule": f"cosine over {settings.epochs} epochs" if settings.schedule == "cosine" else "constant",
        "precision": settings.precision,
        "early stopping": "on" if settings.patience else "off",  # without it, no best weights are kept
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
    """Train up to the last epoch, or to the next step after SIGTERM, and append to the history.

    All that was done is in a checkpoint then. There is one checkpoint at most for a step: after the last
    step of an epoch it is written when the validation is done, together with the epoch's record. A run that
    is killed in between repeats the steps since the checkpoint before, and comes to the same numbers. The
    line is printed first, so that the log may show an epoch twice but never lacks one.
    """
    saved_step, saved_at = trainer.step, time.monotonic()
    validation_seconds = math.inf  # not known yet

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
            # The validation is a long time without a checkpoint: rather one too early than one too late.
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
                f"the training diverged in epoch {epoch} (loss {loss}, validation loss {val_loss}): "
                f"choose a --learning-rate below {settings.learning_rate} and an empty --checkpoint-dir"
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
    """Return whether all epochs are done, or --patience of them without a lower validation loss.

    It follows from the history alone, which is in every checkpoint.
    """
    since_best = len(history) - best_epoch(history)["epoch"] if history else 0
    return len(history) >= settings.epochs or 0 < settings.patience <= since_best


def steps_per_epoch(settings: Settings, train: Channel) -> int:
    """Return the number of batches of an epoch, the last and smaller one included."""
    return math.ceil(len(train.images) / settings.batch_size)


def write_history(path: Path, history: list[Epoch]) -> None:
    """Write all epochs, those of earlier attempts included; the file is whole or not there."""
    draft = path.with_name(path.name + checkpoint.TEMPORARY)
    draft.write_text(json.dumps(history, indent=2) + "\n")
    draft.replace(path)


def make_writable(directory: Path) -> None:
    """Make the directory if it is not there; raise InputError if nothing can be written to it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, suffix=checkpoint.TEMPORARY):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {directory} ({error.strerror}): choose another directory") from None


def say(line: str) -> None:
    """Print a line at once: the log of a job is followed while it runs."""
    print(line, flush=True)


def fail(message: str) -> int:
    """Report the one line that says what is wrong, to SageMaker as the job's FailureReason too."""
    print(f"train.py: error: {message}", file=sys.stderr, flush=True)
    failure = Path(os.environ.get("SM_OUTPUT_FAILURE") or "/opt/ml/output/failure")
    if failure.parent.is_dir():
        failure.write_text(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
