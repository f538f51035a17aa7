"""The precedence of options, hyperparameters and environment variables, and invalid ones."""

import re

import pytest

from data import InputError
from settings import Settings, parse_settings

DIRECTORIES = ["--train=t", "--validation=v", "--model-dir=m", "--output-data-dir=o"]


def parse(arguments: list[str], **environment: str) -> Settings:
    return parse_settings(DIRECTORIES + arguments, environment)


def test_options_take_precedence_over_hyperparameters_and_these_over_defaults() -> None:
    settings = parse(["--epochs", "3"], SM_HPS='{"epochs": 4, "batch-size": 32}')
    assert (settings.epochs, settings.batch_size, settings.seed) == (3, 32, 0)
    assert str(settings.checkpoint_dir) == "/opt/ml/checkpoints"


def test_directories_come_from_options_then_hyperparameters_then_the_environment() -> None:
    environment = {f"SM_{name}": "env" for name in ["CHANNEL_TRAIN", "CHANNEL_VALIDATION", "MODEL_DIR"]}
    hyperparameters = '{"validation": "hps", "model_dir": "hps", "output_data_dir": "hps"}'
    settings = parse_settings(["--model-dir", "option"], environment | {"SM_HPS": hyperparameters})
    directories = [settings.train, settings.validation, settings.model_dir, settings.output_data_dir]
    assert [str(directory) for directory in directories] == ["env", "hps", "option", "hps"]


@pytest.mark.parametrize("text", ['{"batch_size": "32"}', '{"batch-size": 32.0}', '{"batch-size": "3.2e1"}'])
def test_hyperparameters_may_be_strings_and_have_hyphens_or_underscores(text: str) -> None:
    assert parse([], SM_HPS=text).batch_size == 32


def test_options_may_have_underscores_as_the_driver_of_the_sdk_writes_them() -> None:
    assert parse(["--learning_rate", "1e-3", "--batch_size=8"]).learning_rate == 0.001


def test_a_switch_may_have_a_value_as_hyperparameters_do() -> None:
    hyperparameters = ['{"tensorboard": true}', '{"tensorboard": "True"}', '{"tensorboard": "false"}', "{}"]
    assert [parse([], SM_HPS=text).tensorboard for text in hyperparameters] == [True, True, False, False]
    assert parse(["--tensorboard"]).tensorboard


IMPOSSIBLE = {
    "--epochs=0": "--epochs: 0 is not a whole number from 1",
    "--epochs=1.5": "--epochs: 1.5 is not a whole number",
    "--epochs=many": "--epochs: 'many' is not a number",
    "--epochs=inf": "--epochs: inf is not a whole number",
    "--batch-size=-1": "--batch-size: -1 is not a whole number",
    "--learning-rate=nan": "--learning-rate: nan is not a finite number above 0",
    "--learning-rate=inf": "--learning-rate: inf is not a finite number above 0",
    "--learning-rate=0": "--learning-rate: 0 is not a finite number above 0",
    "--seed=-1": "--seed: -1 is not a whole number from 0",
    "--seed=4294967296": "--seed: 4294967296 is not",
    "--checkpoint-every=-1": "--checkpoint-every: -1 is not",
    "--checkpoint-seconds=0": "--checkpoint-seconds: 0 is not a finite number above 0",
    "--patience=-1": "--patience: -1 is not a whole number from 0",
    "--schedule=linear": "--schedule: invalid choice: 'linear'",
    "--precision=float16": "--precision: invalid choice: 'float16' (choose from 'float32', 'bfloat16')",
    "--tensorboard=1": "--tensorboard: 1 is neither true nor false",
    "--model-dir=": "--model-dir: it is empty",
    "--epoch=3": "unrecognized arguments: --epoch=3",
    "--momentum=0.9": "unrecognized arguments: --momentum=0.9",
    "extra": "unrecognized arguments: extra",
    "--seed": "--seed: expected one argument",
}


@pytest.mark.parametrize(("argument", "message"), IMPOSSIBLE.items())
def test_an_invalid_option_is_named(argument: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse([argument])


IMPOSSIBLE_HYPERPARAMETERS = {
    '{"epochs": null}': "SM_HPS: argument --epochs: 'null' is not a number",
    '{"epochs": true}': "SM_HPS: argument --epochs: 'true' is not a number",
    '{"epochs": [1]}': "SM_HPS: argument --epochs: '[1]' is not a number",
    '{"learning_rate": NaN}': "SM_HPS: argument --learning-rate: NaN is not a finite number",
    '{"momentum": 0.9}': "SM_HPS: unrecognized arguments: --momentum=0.9",
    "[1, 2]": "SM_HPS: it must be a JSON object, not [1, 2]",
    "{epochs}": "SM_HPS: it is not JSON",
}


@pytest.mark.parametrize(("text", "message"), IMPOSSIBLE_HYPERPARAMETERS.items())
def test_an_invalid_hyperparameter_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse([], SM_HPS=text)


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(InputError, match="no directory for validation: give --validation DIR or set SM_CHANNEL"):
        parse_settings(["--train=t"], {})
