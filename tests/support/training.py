"""Small channels, and train.py as a process that can be interrupted at an exact moment."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workshop import SOURCE_DIR

TRAIN = SOURCE_DIR / "train.py"
CLASSES = [f"class {number}" for number in range(10)]

# Runs train.py as a script that sends itself a signal at one exact moment, EVENT:N, the Nth time that EVENT happens:
#   fsync          os.fsync is called; for each checkpoint once before the draft is renamed, and once before old
#                  checkpoints are deleted
#   import NAME    the import of a module begins
#   call NAME      a method of the Trainer is called
#   path NAME      a method of pathlib.Path is called; "rename" is the last action of the export
#   anything else  a line that begins with it has been printed
SIGNALLED = """
import builtins, os, pathlib, runpy, signal, sys
number, moment, path, *sys.argv[1:] = sys.argv[1:]
sys.path[0], sys.argv[0] = os.path.dirname(path), path
event, _, count = moment.rpartition(":")
kind, _, name = event.partition(" ")
left = int(count)
def happened():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), getattr(signal, number))
def signal_before(owner, name):
    function = getattr(owner, name)
    def instead(*arguments, **named):
        happened()
        return function(*arguments, **named)
    setattr(owner, name, instead)
class Finder:
    def find_spec(self, wanted, *others):
        if wanted == name:
            happened()
show = builtins.print
def signalling_print(line, **options):
    show(line, **options)
    if line.startswith(event):
        happened()
if event == "fsync":
    signal_before(os, "fsync")
elif kind == "import":
    sys.meta_path.insert(0, Finder())
elif kind == "call":
    import model
    signal_before(model.Trainer, name)
elif kind == "path":
    signal_before(pathlib.Path, name)
else:
    builtins.print = signalling_print
runpy.run_path(path, run_name="__main__")
"""


def records(count: int = 43, shape: Sequence[int] = (8, 8, 1), seed: int = 0) -> dict[str, Any]:
    """Return the arrays of a channel file, with random contents."""
    random = np.random.default_rng(seed)
    return {
        "images": random.integers(0, 256, (count, *shape), dtype=np.uint8),
        "labels": random.integers(0, len(CLASSES), count),
        "class_names": np.array(CLASSES),
    }


def write_channel(directory: Path, name: str = "a.npz", **arrays: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / name, **arrays)
    return directory


def write_channels(root: Path) -> None:
    write_channel(root / "train", **records(43, seed=1))
    write_channel(root / "validation", **records(20, seed=2))


def options(data: Path, out: Path, **others: Any) -> list[str]:
    """Return options of train.py for the channels in data: 6 steps per epoch, a checkpoint every 4 steps."""
    values = {
        "train": data / "train",
        "validation": data / "validation",
        "model-dir": out / "model",
        "output-data-dir": out / "data",
        "checkpoint-dir": out / "checkpoints",
        "epochs": 4,
        "batch-size": 8,
        "checkpoint-every": 4,
    } | others
    return [f"--{name}={value}" for name, value in values.items()]


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run train.py to its end, without SM_* variables except those given."""
    return _run([sys.executable, str(TRAIN), *arguments], environment)


def run_signalled(number: str, moment: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run train.py with a signal (SIGTERM, SIGKILL) at a moment such as "fsync:3", see SIGNALLED."""
    return _run([sys.executable, "-c", SIGNALLED, number, moment, str(TRAIN), *arguments], {})


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without the variables that affect train.py."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    return {key: value for key, value in os.environ.items() if not key.startswith("SM_") and key not in unwanted}


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = clean_environment()
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment, timeout=120)
