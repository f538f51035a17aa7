"""train.py as a process with TensorFlow, interrupted and resumed."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from machine import has_bfloat16
from metrics import METRIC_DEFINITIONS
from tests.support.training import options, run, run_signalled, write_channels

pytestmark = pytest.mark.timeout(600)  # seconds; the first tests wait for ten processes with TensorFlow
SLOW = "warning: this processor has no instructions for bfloat16: float32 is faster here"
Ended = subprocess.CompletedProcess[str]


# The second variant uses every option that is off by default; early stopping ends it before the seventh epoch.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all options": {
        "epochs": 7,
        "patience": 2,
        "precision": "bfloat16",
        "schedule": "cosine",
        "tensorboard": "true",
        "learning-rate": 0.02,
    },
}

# One interruption for each part of an attempt. Saving a checkpoint calls os.fsync twice: before the file is renamed,
# and before old checkpoints are deleted. The first checkpoints are those of steps 4 and 6.
INTERRUPTIONS = {
    "plain": [
        ("SIGKILL", "import keras.src.layers:1"),
        ("SIGKILL", "fsync:3"),
        ("SIGTERM", "epoch=1 :1"),
        ("SIGKILL", "call restore:1"),
        ("SIGKILL", "fsync:2"),
        ("SIGKILL", "epoch=3 :1"),
        ("damage", "the newest checkpoint"),
    ],
    "all options": [
        ("SIGKILL", "call evaluate:2"),
        ("SIGKILL", "path rename:1"),  # the last action of the export
    ],
}


@dataclass(frozen=True)
class Run:
    """A training in epochs of six steps: its attempts, and their output directory."""

    attempts: list[Ended]
    out: Path

    @property
    def final_hash(self) -> str:
        return self.attempts[-1].stdout.splitlines()[-1]

    @property
    def history(self) -> bytes:
        return (self.out / "data" / "history.json").read_bytes()

    @property
    def last_checkpoint(self) -> str:
        """The name of the last checkpoint, with the hash of all variables, including the optimizer's."""
        return max(path.name for path in (self.out / "checkpoints").iterdir())


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("channels")
    write_channels(root)
    return root


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def uninterrupted(data: Path, variant: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("uninterrupted")
    return Run([run(options(data, out, **VARIANTS[variant]))], out)


@pytest.fixture(scope="session")
def interrupted(data: Path, variant: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is interrupted at each moment of its variant, then finishes."""
    out = tmp_path_factory.mktemp("interrupted")
    arguments, attempts = options(data, out, **VARIANTS[variant]), []
    for number, moment in INTERRUPTIONS[variant]:
        if number == "damage":
            newest = max((out / "checkpoints").glob("*.npz"))
            newest.write_bytes(newest.read_bytes()[:-100])
        else:
            attempts.append(run_signalled(number, moment, arguments))
    return Run([*attempts, run(arguments)], out)


def test_an_uninterrupted_run_succeeds_without_output_on_stderr(uninterrupted: Run, variant: str) -> None:
    (only,) = uninterrupted.attempts
    assert (only.returncode, only.stderr) == (0, "")
    lines = only.stdout.splitlines()
    if variant == "all options" and not has_bfloat16():
        assert lines.pop(0) == SLOW
    first, last = lines[0], lines[-1]
    epochs = [line.split()[:2] for line in lines if line.startswith("epoch=")]
    assert first == "no checkpoint found, starting at step 0"
    assert epochs == [[f"epoch={n}", f"step={6 * n}"] for n in range(1, len(epochs) + 1)]
    assert re.fullmatch("final_weights_sha256=[0-9a-f]{64}", last)


def test_every_interruption_came_at_its_moment(variant: str, interrupted: Run) -> None:
    signals = [number for number, _ in INTERRUPTIONS[variant] if number != "damage"]
    expected = [{"SIGKILL": -9, "SIGTERM": 143}[number] for number in signals]
    assert [attempt.returncode for attempt in interrupted.attempts] == [*expected, 0]


@pytest.mark.parametrize("variant", ["plain"], indirect=True)
def test_each_attempt_resumes_from_the_newest_checkpoint(interrupted: Run) -> None:
    lines = [attempt.stdout.splitlines() for attempt in interrupted.attempts]
    starts = [next((line for line in of if re.match("resumed|no check", line)), "") for of in lines]
    assert [re.sub("-[0-9a-f]{16}", "", start) for start in starts] == [
        "",
        "no checkpoint found, starting at step 0",
        "resumed from checkpoint-00000004.npz at epoch 1, step 4",
        "",
        "resumed from checkpoint-00000006.npz at epoch 1, step 6",
        "resumed from checkpoint-00000008.npz at epoch 2, step 8",
        "resumed from checkpoint-00000012.npz at epoch 2, step 12",
    ]
    assert re.match("skipped checkpoint-00000016-.*: its .* it is damaged", lines[6][0])


@pytest.mark.parametrize("variant", ["plain"], indirect=True)
def test_no_printed_line_of_a_killed_attempt_is_lost(interrupted: Run) -> None:
    killed = interrupted.attempts[5]
    assert killed.returncode == -9
    assert killed.stdout.splitlines()[-1].startswith("epoch=3 ")


@pytest.mark.parametrize("variant", ["plain"], indirect=True)
def test_sigterm_saves_and_exits_with_143(interrupted: Run) -> None:
    stopped = interrupted.attempts[2]
    assert (stopped.returncode, stopped.stderr) == (143, "")
    last = stopped.stdout.splitlines()[-1]
    assert last == "SIGTERM received: stopped after step 6, everything is saved; exiting with 143"


@pytest.mark.parametrize("variant", ["plain"], indirect=True)
def test_the_metric_definitions_match_the_printed_lines(uninterrupted: Run) -> None:
    log = uninterrupted.attempts[0].stdout
    history = json.loads(uninterrupted.history)
    for definition in METRIC_DEFINITIONS:
        channel, metric = definition["Name"].split(":")
        field = {"train": "", "validation": "val_"}[channel] + metric
        read = [float(value) for value in re.findall(definition["Regex"], log)]
        assert read == pytest.approx([row[field] for row in history], abs=1e-4)


@pytest.mark.parametrize("variant", ["all options"], indirect=True)
def test_all_options_have_an_effect(uninterrupted: Run, interrupted: Run) -> None:
    log = uninterrupted.attempts[0].stdout
    rows = json.loads(uninterrupted.history)
    assert 3 <= len(rows) < 7
    assert f"best epoch of {len(rows)}: {len(rows) - 2}; its weights are the final ones" in log
    assert list((interrupted.out / "data" / "tensorboard").glob("*/events.*"))


def test_interruptions_leave_the_same_weights(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.final_hash == uninterrupted.final_hash


def test_interruptions_leave_the_same_history(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.history == uninterrupted.history


def test_interruptions_leave_the_same_optimizer_and_random_state(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.last_checkpoint == uninterrupted.last_checkpoint


def test_every_epoch_is_in_the_log_with_the_same_numbers(uninterrupted: Run, interrupted: Run) -> None:
    def epochs(of: Run) -> list[str]:
        log = "".join(attempt.stdout for attempt in of.attempts)
        return list(dict.fromkeys(re.findall(r"epoch=\d+ .*(?= seconds=)", log)))

    assert epochs(interrupted) == epochs(uninterrupted)
