"""The promise as a whole: train.py as a process, with TensorFlow, interrupted and resumed."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "source_dir"))

from training import options, run, run_signalled, write_channels

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Run:
    """A training of four epochs of six steps: its attempts, and where they wrote to."""

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
        """The name of the last checkpoint: its hash is that of all variables, the optimizer's included."""
        return max(path.name for path in (self.out / "checkpoints").iterdir())


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("channels")
    write_channels(root)
    return root


@pytest.fixture(scope="session")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("uninterrupted")
    return Run([run(options(data, out))], out)


@pytest.fixture(scope="session")
def interrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Killed while it wrote its second checkpoint (step 6), stopped in epoch 2, killed after its line was
    printed and once more with its newest checkpoint damaged; then left to end."""
    out = tmp_path_factory.mktemp("interrupted")
    arguments = options(data, out)
    attempts = [run_signalled("SIGKILL", "fsync:3", arguments)]  # two for the first checkpoint, at step 4
    attempts.append(run_signalled("SIGTERM", "epoch=1 :1", arguments))
    attempts.append(run_signalled("SIGKILL", "epoch=3 :1", arguments))
    newest = max((out / "checkpoints").glob("*.npz"))
    newest.write_bytes(newest.read_bytes()[:-100])
    attempts.append(run(arguments))
    return Run(attempts, out)


def test_an_uninterrupted_run_ends_well_and_quietly(uninterrupted: Run) -> None:
    (only,) = uninterrupted.attempts
    assert (only.returncode, only.stderr) == (0, "")
    first, *epochs, last = only.stdout.splitlines()
    assert first == "no checkpoint found, starting at step 0"
    assert [line.split()[:2] for line in epochs] == [[f"epoch={n}", f"step={6 * n}"] for n in (1, 2, 3, 4)]
    assert re.fullmatch("final_weights_sha256=[0-9a-f]{64}", last)


def test_each_attempt_goes_on_where_the_one_before_was(interrupted: Run) -> None:
    lines = [attempt.stdout.splitlines() for attempt in interrupted.attempts]
    starts = [re.sub("-[0-9a-f]{16}", "", next(line for line in of if "skipped" not in line)) for of in lines]
    assert starts == [
        "no checkpoint found, starting at step 0",
        "resumed from checkpoint-00000004.npz at epoch 1, step 4",
        "resumed from checkpoint-00000006.npz at epoch 1, step 6",
        "resumed from checkpoint-00000012.npz at epoch 2, step 12",
    ]
    assert re.match("skipped checkpoint-00000016-.*: its .* it is damaged", lines[3][0])


def test_a_killed_attempt_has_shown_every_line_it_printed(interrupted: Run) -> None:
    killed = interrupted.attempts[2]
    assert killed.returncode == -9
    assert killed.stdout.splitlines()[-1].startswith("epoch=3 ")


def test_sigterm_saves_and_exits_with_143(interrupted: Run) -> None:
    stopped = interrupted.attempts[1]
    assert (stopped.returncode, stopped.stderr) == (143, "")
    last = stopped.stdout.splitlines()[-1]
    assert last == "SIGTERM received: stopped after step 6, all is saved; exiting with 143"


def test_interruptions_leave_the_same_weights(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.final_hash == uninterrupted.final_hash


def test_interruptions_leave_the_same_history(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.history == uninterrupted.history


def test_interruptions_leave_the_same_optimizer_and_random_state(uninterrupted: Run, interrupted: Run) -> None:
    assert interrupted.last_checkpoint == uninterrupted.last_checkpoint


def test_every_epoch_is_in_the_log_with_one_set_of_numbers(uninterrupted: Run, interrupted: Run) -> None:
    def epochs(of: Run) -> list[str]:
        log = "".join(attempt.stdout for attempt in of.attempts)
        return list(dict.fromkeys(re.findall(r"epoch=\d+ .*(?= seconds=)", log)))

    assert epochs(interrupted) == epochs(uninterrupted)
