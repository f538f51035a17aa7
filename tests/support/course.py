"""Runs of the course, each with its own state directory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from workshop import ROOT


def shell(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python without the AWS and localmode settings of this machine."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCALMODE_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**clean, "LOCALMODE_HOME": str(home), **environment},
        check=False,
    )


def kept(name: str) -> Path:
    """An empty directory for the output of a run, which stays for inspection after a failure."""
    directory = ROOT / "build" / "test" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def course(*arguments: str, home: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the course as `make run` does."""
    return shell("-m", "workshop.publish.run", "--output", str(output), *arguments, home=home, **environment)
