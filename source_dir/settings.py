"""Read and check the settings of train.py: options, hyperparameters and environment variables."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from data import InputError

DIRECTORIES = {
    "train": "SM_CHANNEL_TRAIN",
    "validation": "SM_CHANNEL_VALIDATION",
    "model_dir": "SM_MODEL_DIR",
    "output_data_dir": "SM_OUTPUT_DATA_DIR",
}
WHOLE_NUMBERS = {  # default, lowest and highest possible value, help
    "epochs": (20, 1, 10**6, "passes over the training images"),
    "batch_size": (64, 1, 10**6, "images per step"),
    "seed": (0, 0, 2**32 - 1, "decides the initial weights, the order of the images and the dropout"),
    "patience": (
        0,
        0,
        10**6,
        "stop after N epochs without a lower validation loss, and export the best weights; 0: never",
    ),
    "checkpoint_every": (
        0,
        0,
        10**6,
        "save every N steps and after each epoch; 0: save by --checkpoint-seconds",
    ),
}
POSITIVE_NUMBERS = {  # default, help
    "learning_rate": (0.002, "of the Adam optimizer"),
    "checkpoint_seconds": (8.0, "seconds between two checkpoints, about the most that an interruption costs"),
}
CHOICES = {  # the default first, help
    "schedule": (
        ("constant", "cosine"),
        "of the learning rate; cosine: rise in the first 5 %% of the steps, then fall to 0",
    ),
    "precision": (
        ("float32", "bfloat16"),
        "in which the network computes; its variables are always float32",
    ),
}
# A switch also accepts a value, because SageMaker hyperparameters have one: --tensorboard=true
SWITCHES = {"tensorboard": "also write the metrics of all epochs to OUTPUT_DATA_DIR/tensorboard"}


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
    patience: int
    learning_rate: float
    schedule: str
    precision: str
    checkpoint_every: int
    checkpoint_seconds: float
    tensorboard: bool


def parse_settings(arguments: list[str], environment: Mapping[str, str], description: str | None = None) -> Settings:
    """Read the settings. Options take precedence over SM_HPS, and SM_HPS over the other variables.

    Raises:
        InputError: a setting is unknown, invalid or missing.
    """
    parser = _parser(description)
    settings = Settings()
    try:
        parser.parse_args(_options(environment.get("SM_HPS") or "{}"), settings)
    except InputError as error:
        raise InputError(f"SM_HPS: {error}") from None
    # The driver of the SageMaker SDK does not change the names of hyperparameters: --batch_size.
    parser.parse_args([_option(word) if word.startswith("--") else word for word in arguments], settings)
    for name, variable in DIRECTORIES.items():
        if getattr(settings, name) is None:
            if not environment.get(variable):
                raise InputError(f"no directory for {name}: give {_option(name)} DIR or set {variable}")
            setattr(settings, name, Path(environment[variable]))
    return settings


def _parser(description: str | None) -> "_Parser":
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def add(name: str, text: str, **others: Any) -> None:
        parser.add_argument(_option(name), help=f"{text}; default: %(default)s", **others)

    for name, variable in DIRECTORIES.items():
        parser.add_argument(_option(name), type=_directory, metavar="DIR", help=f"default: ${variable}")
    # SageMaker has no variable for this directory; the path is its default.
    add(
        "checkpoint_dir",
        "the directory of the checkpoints",
        type=_directory,
        metavar="DIR",
        default="/opt/ml/checkpoints",
    )
    for name, (default, low, high, text) in WHOLE_NUMBERS.items():
        add(name, text, type=_whole_number(low, high), metavar="N", default=default)
    for name, (number, text) in POSITIVE_NUMBERS.items():
        add(name, text, type=_positive_number, metavar="X", default=number)
    for name, (choices, text) in CHOICES.items():
        add(name, text, choices=choices, default=choices[0])
    for name, text in SWITCHES.items():
        add(name, text, type=_switch, nargs="?", metavar="true", const=True, default=False)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def _option(text: str) -> str:
    name, equals, value = text.removeprefix("--").partition("=")
    return "--" + name.replace("_", "-") + equals + value


def _options(text: str) -> list[str]:
    """Convert a JSON object to options. Numbers may be in quotes, since SageMaker sends strings only."""
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
    if not 1e-30 < number < 1e30:  # fits into the float32 of the optimizer, and is not nan
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return number


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
