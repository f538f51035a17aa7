"""Train an image classifier that can be interrupted at any moment and still ends with the same weights.

    python source_dir/train.py --train data/train --validation data/validation --model-dir out/model \
        --output-data-dir out/data --checkpoint-dir out/checkpoints --epochs 20

Kill its process and run the same line again: it goes on from the newest checkpoint, and its last line,
final_weights_sha256=..., is that of a run which was never interrupted. In a SageMaker training job the
directories have their defaults, and hyperparameters arrive as options, in SM_HPS, or both.
"""

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import checkpoint
from checkpoint import CheckpointError
from data import Channel, InputError, fingerprint, load_channel, require_same_kind, training_batches
from metrics import Epoch, epoch_line

if TYPE_CHECKING:
    from model import Trainer  # at run time it waits until everything else has been checked

DIRECTORIES = {
    "train": "SM_CHANNEL_TRAIN",
    "validation": "SM_CHANNEL_VALIDATION",
    "model_dir": "SM_MODEL_DIR",
    "output_data_dir": "SM_OUTPUT_DATA_DIR",
}
WHOLE_NUMBERS = {  # default, lowest and highest possible value, help
    "epochs": (20, 1, 10**6, "how often to go through the training images"),
    "batch_size": (64, 1, 10**6, "images per step"),
    "seed": (0, 0, 2**32 - 1, "decides the first weights, the order of the images and the dropout"),
    "checkpoint_every": (50, 1, 10**6, "steps between two checkpoints; each epoch ends with one as well"),
}
EXIT_SIGTERM = 128 + signal.SIGTERM  # 143, a shell's status of a process that SIGTERM has ended

# A signal handler runs between any two lines, so this one only takes a note.
signals_received: list[int] = []


def main() -> int:
    """Run one attempt of a training job and return its exit status."""
    # Without a handler, the first process of a container never hears of SIGTERM.
    signal.signal(signal.SIGTERM, lambda number, frame: signals_received.append(number))
    try:
        return run(parse_settings(sys.argv[1:], os.environ))
    except (InputError, CheckpointError) as error:
        return fail(" ".join(str(error).split()))


def run(settings: "Settings") -> int:
    """Check everything, resume, fit, export."""
    train, validation = load_channel(settings.train), load_channel(settings.validation)
    require_same_kind(str(settings.train), train, str(settings.validation), validation)
    for directory in (settings.model_dir, settings.output_data_dir, settings.checkpoint_dir):
        make_writable(directory)
    # What has to be the same for a checkpoint to be continued. Not --epochs: more of them may be added.
    identity = {
        "format": 1,
        "seed": settings.seed,
        "batch size": settings.batch_size,
        "learning rate": settings.learning_rate,
        "data": fingerprint(train, validation),
    }
    saved = checkpoint.load_newest(settings.checkpoint_dir)
    if saved:
        saved.require_identity(identity)

    from model import Trainer, environment  # only now: TensorFlow takes seconds to start

    trainer = Trainer(train.images.shape[1:], len(train.class_names), settings.learning_rate, settings.seed)
    here = environment()
    history: list[Epoch] = []
    if saved:
        trainer.restore(saved)
        history = saved.meta["history"]
        epoch = math.ceil(saved.step / steps_per_epoch(settings, train))
        say(f"resumed from {saved.name} at epoch {epoch}, step {saved.step}")
        if changes := saved.changes(here):
            say(f"warning: the weights may differ in the last bits, {saved.name} has {changes}")
    else:
        say("no checkpoint found, starting at step 0")

    if len(history) >= settings.epochs:
        say(f"nothing left to train: {len(history)} epochs are done, {settings.epochs} were asked for")
    fit(trainer, settings, train, validation, history, {"identity": identity, "environment": here})
    if len(history) < settings.epochs:
        say(f"SIGTERM received: stopped after step {trainer.step}, all is saved; exiting with {EXIT_SIGTERM}")
        return EXIT_SIGTERM
    # From here on SIGTERM is let pass: to finish takes a second, to come back here a whole attempt.
    write_history(settings.output_data_dir / "history.json", history)
    trainer.export(settings.model_dir / "1")
    say(f"final_weights_sha256={trainer.weights_sha256()}")
    return 0


def fit(
    trainer: "Trainer",
    settings: "Settings",
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

    def save() -> None:
        arrays = trainer.arrays()
        checkpoint.save(settings.checkpoint_dir, trainer.step, arrays, {**meta, "history": history})

    while len(history) < settings.epochs and not signals_received:
        started = time.monotonic()
        epoch = len(history) + 1
        last = epoch * steps_per_epoch(settings, train)
        done = trainer.step - len(history) * steps_per_epoch(settings, train)
        for images, labels in training_batches(train, settings.batch_size, settings.seed, epoch, skip=done):
            trainer.train(images, labels)
            if trainer.step < last and (signals_received or trainer.step % settings.checkpoint_every == 0):
                save()
                if signals_received:
                    return

        loss, accuracy = trainer.take_metrics()
        val_loss, val_accuracy = trainer.evaluate(validation)
        if not math.isfinite(loss + val_loss):
            raise InputError(
                f"the training diverged in epoch {epoch} (loss {loss}, validation loss {val_loss}): "
                f"choose a --learning-rate below {settings.learning_rate} and an empty --checkpoint-dir"
            )
        row = Epoch(epoch=epoch, step=last, loss=loss, accuracy=accuracy, val_loss=val_loss, val_accuracy=val_accuracy)
        history.append(row)
        say(epoch_line(row, time.monotonic() - started))
        save()


def steps_per_epoch(settings: "Settings", train: Channel) -> int:
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


# --- settings ----------------------------------------------------------------------------------------------


class Settings(argparse.Namespace):
    """All settings, checked."""

    train: Path
    validation: Path
    model_dir: Path
    output_data_dir: Path
    checkpoint_dir: Path
    epochs: int
    batch_size: int
    seed: int
    checkpoint_every: int
    learning_rate: float


def parse_settings(arguments: list[str], environment: Mapping[str, str]) -> Settings:
    """Read the settings: options win over SM_HPS, and SM_HPS over the other variables.

    Raises:
        InputError: a setting is unknown, impossible or missing.
    """
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    for name, variable in DIRECTORIES.items():
        parser.add_argument(_option(name), type=_directory, metavar="DIR", help=f"default: ${variable}")
    # SageMaker has no variable for this one; the path is where it keeps checkpoints unless told otherwise.
    parser.add_argument(
        "--checkpoint-dir",
        type=_directory,
        metavar="DIR",
        default="/opt/ml/checkpoints",
        help="default: %(default)s",
    )
    for name, (default, low, high, text) in WHOLE_NUMBERS.items():
        kind, text = _whole_number(low, high), f"{text}; default: %(default)s"
        parser.add_argument(_option(name), type=kind, metavar="N", default=default, help=text)
    text = "of the Adam optimizer; default: %(default)s"
    parser.add_argument("--learning-rate", type=_positive_number, metavar="X", default=0.002, help=text)

    settings = Settings()
    try:
        parser.parse_args(_options(environment.get("SM_HPS") or "{}"), settings)
    except InputError as error:
        raise InputError(f"SM_HPS: {error}") from None
    # The driver of the SageMaker SDK makes an option of a hyperparameter's name as it is: --batch_size.
    parser.parse_args([_option(word) if word.startswith("--") else word for word in arguments], settings)
    for name, variable in DIRECTORIES.items():
        if getattr(settings, name) is None:
            if not environment.get(variable):
                raise InputError(f"no directory for {name}: give {_option(name)} DIR or set {variable}")
            setattr(settings, name, Path(environment[variable]))
    return settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists what is possible)")


def _option(text: str) -> str:
    name, equals, value = text.removeprefix("--").partition("=")
    return "--" + name.replace("_", "-") + equals + value


def _options(text: str) -> list[str]:
    """Turn a JSON object into options. A number may be in quotes: SageMaker sends strings only."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"it is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"it must be a JSON object, not {text}")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return [_option(f"{key}={value}") for key, value in texts.items()]


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = _number(text)
        if not number.is_integer() or not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {low} to {high}")
        return int(number)

    return parse


def _positive_number(text: str) -> float:
    number = _number(text)
    if not 1e-30 < number < 1e30:  # what the float32 of the optimizer can hold; not true of nan either
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


if __name__ == "__main__":
    sys.exit(main())
