"""The training loop, with a trainer that only counts."""

import hashlib
import json
import os
import re
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint
import train
from metrics import Epoch
from tests.support.training import options, write_channels


class Killed(BaseException):
    """Stands for SIGKILL. Not an Exception, so that no code under test catches it."""


class FakeTrainer:
    """A Trainer whose weights are a hash of everything that it has been trained on."""

    loss = 0.5

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.variables = {"weights": np.zeros(32, np.uint8), "seen": np.array(0), "step": np.array(0)}

    @property
    def step(self) -> int:
        return int(self.variables["step"])

    def train(self, images: Any, labels: Any) -> None:
        content = self.variables["weights"].tobytes() + images.tobytes() + labels.tobytes()
        self.variables |= {
            "weights": np.frombuffer(hashlib.sha256(content).digest(), np.uint8),
            "seen": self.variables["seen"] + len(labels),
            "step": self.variables["step"] + 1,
        }

    def take_metrics(self) -> tuple[float, float]:
        seen = float(self.variables["seen"])
        self.variables["seen"] = np.array(0)
        return seen, self.loss

    def evaluate(self, channel: Any) -> tuple[float, float]:
        return float(self.variables["weights"][0]), 0.5

    def arrays(self) -> dict[str, Any]:
        return dict(self.variables)

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        self.variables = dict(saved.arrays)

    def keep_best(self) -> None:
        self.variables["best/weights"] = self.variables["weights"]

    def use_best(self) -> None:
        self.variables["weights"] = self.variables["best/weights"]

    def export(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)

    def weights_sha256(self) -> str:
        return self.variables["weights"].tobytes().hex()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[types.SimpleNamespace]:
    """Run train.main in this process without TensorFlow; yields the module that it imports as "model"."""
    write_channels(tmp_path)
    model = types.SimpleNamespace(
        Trainer=FakeTrainer,
        environment=lambda: {"cores": "2"},
        write_events=lambda directory, history: directory.mkdir(exist_ok=True),
    )
    monkeypatch.setitem(sys.modules, "model", model)
    monkeypatch.setattr(train, "signals_received", [])
    monkeypatch.setenv("SM_OUTPUT_FAILURE", str(tmp_path / "failure"))
    handler = signal.getsignal(signal.SIGTERM)
    yield model
    signal.signal(signal.SIGTERM, handler)


def attempt(monkeypatch: pytest.MonkeyPatch, root: Path, out: str = "out", **others: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *options(root, root / out, **others)])
    return train.main()


def results(out: Path) -> tuple[str, list[str]]:
    """Return the history and the names of the last checkpoints, which contain the hashes of their contents.

    Killed after a checkpoint was written and before the old ones were pruned, a run leaves one more.
    """
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert len(names) <= 4
    return (out / "data" / "history.json").read_text(), names[-3:]


def epochs_in(log: str) -> list[str]:
    return re.findall(r"epoch=\d+ .*(?= seconds=)", log)


def signal_at(monkeypatch: pytest.MonkeyPatch, moment: int, act: Any) -> list[str]:
    """Call act() at one of the moments worth an interruption; return the list of moments that have passed."""
    moments: list[str] = []

    def happened(name: str) -> None:
        moments.append(name)
        if len(moments) - 1 == moment:
            act()

    def between(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def instead(*arguments: Any, **named: Any) -> Any:
            happened(f"before {name}")
            result = function(*arguments, **named)
            happened(f"after {name}")
            return result

        monkeypatch.setattr(owner, name, instead)

    for name in ("__init__", "restore", "train", "take_metrics", "evaluate", "export"):
        between(FakeTrainer, name)
    between(checkpoint, "save")
    between(Path, "replace")
    between(train, "say")
    return moments


def kill() -> None:
    raise Killed


def test_a_kill_at_any_moment_changes_nothing(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        moments = signal_at(patch, -1, kill)
        assert attempt(monkeypatch, tmp_path) == 0
    expected, lines = results(tmp_path / "out"), epochs_in(capsys.readouterr().out)
    assert len(lines) == 4
    assert len(moments) > 100
    for moment in range(len(moments)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            signal_at(patch, moment, kill)
            attempt(monkeypatch, tmp_path, f"out{moment}")
        assert attempt(monkeypatch, tmp_path, f"out{moment}") == 0
        assert results(tmp_path / f"out{moment}") == expected, moments[moment]
        # No epoch is missing or has other numbers, and only the interrupted one may be there twice.
        log = epochs_in(capsys.readouterr().out)
        assert list(dict.fromkeys(log)) == lines
        assert len(log) <= len(lines) + 1


def test_sigterm_at_any_moment_saves_and_exits_with_143(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        moments = signal_at(patch, -1, kill)
        assert attempt(monkeypatch, tmp_path) == 0
    expected = results(tmp_path / "out")
    stopped = 0
    for moment in range(len(moments)):
        with monkeypatch.context() as patch:
            signal_at(patch, moment, lambda: os.kill(os.getpid(), signal.SIGTERM))
            status = attempt(monkeypatch, tmp_path, f"out{moment}")
        trained = moments[: moment + 1].count("before train")  # including the step during which it came
        assert status == (143 if trained < 24 else 0), moments[moment]  # after the last step it finishes
        line = f"SIGTERM received: stopped after step {trained}, everything is saved; exiting with 143\n"
        assert (line in capsys.readouterr().out) == (status == 143)
        stopped += status == 143
        train.signals_received.clear()
        assert attempt(monkeypatch, tmp_path, f"out{moment}") == 0
        resumed_at = re.search(r"resumed from .* step (\d+)|starting at step (0)", capsys.readouterr().out)
        assert resumed_at is not None
        assert str(trained) in resumed_at.groups()
        history, names = results(tmp_path / f"out{moment}")
        assert (history, names[-1]) == (expected[0], expected[1][-1])
    assert stopped > 80


def test_the_log_says_where_it_starts(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(monkeypatch, tmp_path, epochs=1)
    assert capsys.readouterr().out.startswith("no checkpoint found, starting at step 0\nepoch=1 step=6 ")
    attempt(monkeypatch, tmp_path, epochs=2)
    name = r"checkpoint-00000006-[0-9a-f]{16}\.npz"
    assert re.match(rf"resumed from {name} at epoch 1, step 6\nepoch=2 step=12 ", capsys.readouterr().out)


def test_a_start_without_a_usable_checkpoint_is_a_warning(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(monkeypatch, tmp_path)
    expected = results(tmp_path / "out")
    capsys.readouterr()
    for path in (tmp_path / "out" / "checkpoints").iterdir():
        path.write_bytes(b"")
    assert attempt(monkeypatch, tmp_path) == 0
    *skipped, warning, start = capsys.readouterr().out.splitlines()[:5]
    assert [line.split()[0] for line in skipped] == ["skipped"] * 3
    assert warning.startswith("WARNING: NONE OF THE 3 CHECKPOINTS")
    assert start == "no usable checkpoint, starting at step 0"
    assert results(tmp_path / "out") == expected


@pytest.mark.parametrize("epochs", [4, 2])
def test_without_more_epochs_the_model_is_exported_again(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int
) -> None:
    attempt(monkeypatch, tmp_path)
    expected, weights = results(tmp_path / "out"), capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "out" / "data" / "history.json").unlink()
    assert attempt(monkeypatch, tmp_path, epochs=epochs) == 0
    resumed, nothing_left, final = capsys.readouterr().out.splitlines()
    assert nothing_left == f"nothing left to train: 4 epochs are done, --epochs is {epochs}"
    assert (results(tmp_path / "out"), final) == (expected, weights)


def test_epochs_added_later_give_the_same_result(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt(monkeypatch, tmp_path, "at once", epochs=4)
    attempt(monkeypatch, tmp_path, "in two", epochs=2)
    attempt(monkeypatch, tmp_path, "in two", epochs=4)
    assert results(tmp_path / "in two") == results(tmp_path / "at once")


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, root: Path, out: str, **others: Any) -> None:
    """Run an attempt that receives SIGTERM after a number of steps."""
    with monkeypatch.context() as patch:
        moments: list[int] = []

        def count(self: FakeTrainer, *arguments: Any) -> None:
            moments.append(1)
            if len(moments) == steps:
                os.kill(os.getpid(), signal.SIGTERM)
            original(self, *arguments)

        original = FakeTrainer.train
        patch.setattr(FakeTrainer, "train", count)
        assert attempt(monkeypatch, root, out, **others) == 143
    train.signals_received.clear()


@pytest.mark.parametrize("epochs", [3, 2, 1])
def test_an_unfinished_epoch_is_finished_whatever_the_number_of_epochs(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int
) -> None:
    attempt(monkeypatch, tmp_path, "whole", epochs=3)
    stop_after(monkeypatch, 15, tmp_path, "out", epochs=4)
    capsys.readouterr()
    assert attempt(monkeypatch, tmp_path, epochs=epochs) == 0
    line = f"epoch 3 has begun, so it is finished, although --epochs is {epochs}"
    assert (line in capsys.readouterr().out) == (epochs < 3)
    assert results(tmp_path / "out")[0] == results(tmp_path / "whole")[0]
    assert results(tmp_path / "out")[1][-1] == results(tmp_path / "whole")[1][-1]


def saved_steps(
    monkeypatch: pytest.MonkeyPatch, root: Path, seconds_a_step: float, validation: float = 0, **others: Any
) -> list[int]:
    """Return the steps at which checkpoints are saved, given the seconds of a step and of a validation."""
    steps: list[int] = []
    save, clock = checkpoint.save, [0.0]

    def train_step(self: FakeTrainer, *arguments: Any) -> None:
        clock[0] += seconds_a_step
        original(self, *arguments)

    def noting_save(directory: Path, step: int, *arguments: Any) -> str:
        steps.append(step)
        return save(directory, step, *arguments)

    def evaluate(self: FakeTrainer, channel: Any) -> tuple[float, float]:
        clock[0] += validation
        return 0.5, 0.5

    original = FakeTrainer.train
    with monkeypatch.context() as patch:
        patch.setattr(FakeTrainer, "train", train_step)
        patch.setattr(FakeTrainer, "evaluate", evaluate)
        patch.setattr(checkpoint, "save", noting_save)
        patch.setattr(time, "monotonic", lambda: clock[0])
        assert attempt(monkeypatch, root, **others) == 0
    return steps


def test_checkpoints_are_saved_by_time_unless_steps_are_given(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_clock = {"checkpoint-every": 0}
    # 5: the duration of the validation after step 6 is still unknown
    assert saved_steps(monkeypatch, tmp_path, 0.1, out="a", **by_clock) == [5, 24]
    assert saved_steps(monkeypatch, tmp_path, 1.0, out="b", **by_clock) == [5, 13, 21, 24]
    assert saved_steps(monkeypatch, tmp_path, 9.0, out="c", epochs=1, **by_clock) == [1, 2, 3, 4, 5, 6]
    assert saved_steps(monkeypatch, tmp_path, 1.0, out="d", **by_clock, **{"checkpoint-seconds": 12}) == [5, 17, 24]
    assert saved_steps(monkeypatch, tmp_path, 9.0, out="e", **{"checkpoint-every": 4}) == [4, 6, 8, 12, 16, 18, 20, 24]


def test_a_checkpoint_precedes_a_validation_that_would_delay_it(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_clock = {"checkpoint-every": 0}
    # 8: 7 s after step 5, including 5 s of validation; 11 and 17: the next checkpoint would come 9 s later
    assert saved_steps(monkeypatch, tmp_path, 1.0, validation=5, **by_clock) == [5, 8, 11, 14, 17, 20, 23, 24]


def test_the_cadence_of_checkpoints_changes_nothing_else(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    attempt(monkeypatch, tmp_path, "often", **{"checkpoint-every": 1})
    attempt(monkeypatch, tmp_path, "seldom", **{"checkpoint-every": 0})
    assert results(tmp_path / "often")[1][-1] == results(tmp_path / "seldom")[1][-1]


def losses(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Set the validation loss of each epoch (of six steps)."""
    monkeypatch.setattr(FakeTrainer, "evaluate", lambda self, channel: (values[self.step // 6 - 1], 0.5))


@pytest.mark.parametrize(
    ("values", "best", "done"),
    [([3, 2, 4, 5, 1], 2, 4), ([3, 3, 3, 1], 1, 3), ([5, 4, 3, 2], 4, 4), ([3, 4, 2, 3], 3, 4)],
)
def test_early_stopping_exports_the_best_weights(
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: Any,
    best: int,
    done: int,
) -> None:
    losses(monkeypatch, values)
    attempt(monkeypatch, tmp_path, "best", epochs=best)
    expected = capsys.readouterr().out.splitlines()[-1]
    attempt(monkeypatch, tmp_path, epochs=len(values), patience=2)
    *_, line, final = capsys.readouterr().out.splitlines()
    assert line == f"best epoch of {done}: {best}; its weights are the final ones"
    assert final == expected


def test_a_kill_at_any_moment_changes_nothing_of_early_stopping(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses(monkeypatch, [3, 2, 4, 5, 1])
    stopping: dict[str, Any] = {"epochs": 5, "patience": 2, "checkpoint-every": 100, "tensorboard": "true"}
    with monkeypatch.context() as patch:
        moments = signal_at(patch, -1, kill)
        attempt(monkeypatch, tmp_path, **stopping)
    expected, final = results(tmp_path / "out"), capsys.readouterr().out.splitlines()[-1]
    for moment in range(len(moments)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            signal_at(patch, moment, kill)
            attempt(monkeypatch, tmp_path, f"out{moment}", **stopping)
        assert attempt(monkeypatch, tmp_path, f"out{moment}", **stopping) == 0
        assert results(tmp_path / f"out{moment}") == expected, moments[moment]
        assert capsys.readouterr().out.splitlines()[-1] == final, moments[moment]


def test_more_patience_continues_a_training_that_had_stopped(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    losses(monkeypatch, [3, 4, 5, 1])
    attempt(monkeypatch, tmp_path, "at once", patience=3)
    attempt(monkeypatch, tmp_path, "in two", patience=1)
    attempt(monkeypatch, tmp_path, "in two", patience=3)
    assert len(json.loads(results(tmp_path / "in two")[0])) == 4
    assert results(tmp_path / "in two")[1][-1] == results(tmp_path / "at once")[1][-1]


def test_a_cosine_schedule_keeps_its_number_of_epochs(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attempt(monkeypatch, tmp_path, epochs=2, schedule="cosine") == 0
    assert attempt(monkeypatch, tmp_path, epochs=3, schedule="cosine") == 1
    error = "its schedule is cosine over 2 epochs, here it is cosine over 3 epochs"
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("in_the_way", "reason"),
    [("model/1", "File exists"), ("data/history.json/x", "Is a directory")],
    ids=["a file for the model", "a directory for the history"],
)
def test_a_result_that_cannot_be_written_is_one_clear_line(
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    in_the_way: str,
    reason: str,
) -> None:
    path = tmp_path / "out" / in_the_way
    path.parent.mkdir(parents=True)
    path.touch()
    assert attempt(monkeypatch, tmp_path) == 1
    named = "/".join(in_the_way.split("/")[:2])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot write {tmp_path / 'out' / named}: {reason}; correct this and run the same command again, " in line
    path.unlink()
    if path.parent.name == "history.json":
        path.parent.rmdir()
    assert attempt(monkeypatch, tmp_path) == 0
    assert "nothing left to train" in capsys.readouterr().out


def test_bfloat16_without_instructions_for_it_is_one_warning(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "warning: this processor has no instructions for bfloat16: float32 is faster here\n"
    for has, precision, shown in [(True, "bfloat16", 0), (False, "float32", 0), (False, "bfloat16", 1)]:
        monkeypatch.setattr(train, "has_bfloat16", lambda has=has: has)
        attempt(monkeypatch, tmp_path, f"{has} {precision}", precision=precision)
        assert capsys.readouterr().out.count(warning) == shown


OTHERS: dict[str, Any] = {
    "seed": 1,
    "batch-size": 9,
    "learning-rate": 0.1,
    "schedule": "cosine",
    "precision": "bfloat16",
    "patience": 2,
    "train": "validation",
}


@pytest.mark.parametrize("setting", OTHERS)
def test_a_checkpoint_of_another_training_is_refused_and_left_alone(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    attempt(monkeypatch, tmp_path)
    before = results(tmp_path / "out")
    other = tmp_path / OTHERS["train"] if setting == "train" else OTHERS[setting]
    assert attempt(monkeypatch, tmp_path, **{setting: other}) == 1
    key = {"train": "data", "patience": "early stopping"}.get(setting, setting.replace("-", " "))
    error = capsys.readouterr().err
    assert re.match(rf"train.py: error: {before[1][-1]} belongs to another training: its {key} is ", error)
    assert (tmp_path / "failure").read_text() in error
    assert results(tmp_path / "out") == before


def test_another_environment_is_one_warning(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(monkeypatch, tmp_path)
    assert "warning" not in capsys.readouterr().out
    fake.environment = lambda: {"cores": "4"}
    assert attempt(monkeypatch, tmp_path) == 0
    warning = capsys.readouterr().out.splitlines()[1]
    assert re.match(r"warning: the weights may differ in the last bits, checkpoint-.* has cores 2 \(here 4\)", warning)


def test_the_history_is_written_atomically(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def half(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        kill()

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "write_text", half)
        attempt(monkeypatch, tmp_path)
    assert not (tmp_path / "out" / "data" / "history.json").exists()


def test_a_training_that_diverges_is_one_clear_error(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeTrainer, "take_metrics", lambda self: (float("nan"), 0.1))
    assert attempt(monkeypatch, tmp_path) == 1
    assert "diverged in epoch 1 (loss nan, " in capsys.readouterr().err


def test_the_history_contains_every_epoch_as_json(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt(monkeypatch, tmp_path)
    history = json.loads(results(tmp_path / "out")[0])
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 6), (2, 12), (3, 18), (4, 24)]
    assert all(row.keys() == Epoch.__annotations__.keys() for row in history)
