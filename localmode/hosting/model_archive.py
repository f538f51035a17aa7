"""Unpack model archives: SavedModels in numbered directories, and code beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from localmode.core.archives import ArchiveError, saved_models, unpack

_OPT_ML_MODEL = b"/opt/ml/model"  # the model directory in a container; inference.py may name it


def prepare(archive: Path, directory: Path, environment: dict[str, str], log: Callable[[list[str]], None]) -> None:
    """Unpack a model archive into `directory`, all of it or nothing; raise ArchiveError if it cannot be served.

    pip installs the packages of `code/requirements.txt` into `code/lib`, unless the archive has that directory; pip
    gets `environment`, and its output goes to `log`. In the code, /opt/ml/model is replaced by `directory`.
    """
    draft = directory.with_name(directory.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    unpack(archive, draft)
    saved_models(draft)
    for script in (draft / "code").rglob("*.py"):
        content = script.read_bytes()
        if _OPT_ML_MODEL in content:
            script.write_bytes(content.replace(_OPT_ML_MODEL, bytes(directory)))
    if (draft / "code" / "requirements.txt").exists() and not (draft / "code" / "lib").exists():
        _install(draft / "code", environment, log)
    draft.replace(directory)


def _install(code: Path, environment: dict[str, str], log: Callable[[list[str]], None]) -> None:
    """Install the packages of `code/requirements.txt` for this model alone."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(code / "lib")]
    pip = subprocess.run(
        [*command, "--requirement", "requirements.txt"],
        cwd=code,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = pip.stdout.splitlines()
    log(lines)
    if pip.returncode:
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), "see the endpoint's log")
        raise ArchiveError(f"has a code/requirements.txt that cannot be installed: {reason}")
