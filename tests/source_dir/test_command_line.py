"""train.py as a process, without TensorFlow."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.training import options, records, run, write_channel, write_channels


@pytest.fixture
def without_tensorflow(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing TensorFlow or Keras raises an error."""
    for name in ("tensorflow", "keras"):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "none" / f"{name}.py").write_text("raise RuntimeError('TensorFlow was imported')")
    return {"PYTHONPATH": str(tmp_path / "none"), "SM_OUTPUT_FAILURE": str(tmp_path / "failure")}


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"epochs": 0}, "--epochs: 0 is not a whole number"),
        ({"train": "/nowhere"}, "channel /nowhere is not a directory"),
        ({"validation": "{root}/photographs"}, "images are (8, 8, 1) in "),
        ({"train": "{root}/damaged"}, "/damaged/a.npz is empty or not an .npz file"),
        ({"checkpoint-dir": "/proc/nowhere"}, "cannot write to /proc/nowhere ("),
        ({"model-dir": "{root}/train/a.npz/model"}, "cannot write to "),
    ],
)
def test_bad_input_is_reported_in_one_line_and_as_failure_reason_before_tensorflow_starts(
    tmp_path: Path, without_tensorflow: dict[str, str], others: dict[str, Any], message: str
) -> None:
    write_channels(tmp_path)
    write_channel(tmp_path / "photographs", **records(shape=(8, 8, 3)))
    (write_channel(tmp_path / "damaged", **records()) / "a.npz").write_bytes(b"")
    others = {name: str(value).format(root=tmp_path) for name, value in others.items()}
    ended = run(options(tmp_path, tmp_path / "out", **others), **without_tensorflow)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert message in ended.stderr
    assert ended.stderr == f"train.py: error: {(tmp_path / 'failure').read_text()}\n"


def test_an_unexpected_error_keeps_its_traceback(tmp_path: Path, without_tensorflow: dict[str, str]) -> None:
    write_channels(tmp_path)
    ended = run(options(tmp_path, tmp_path / "out"), **without_tensorflow)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert ended.stderr.endswith("RuntimeError: TensorFlow was imported\n")


def test_help_shows_the_commands_to_run() -> None:
    ended = run(["--help"])
    assert ended.returncode == 0
    assert "python source_dir/train.py --train data/train" in ended.stdout
