"""The Python environment of a job that runs without an image."""

from __future__ import annotations

import os
import shlex
import shutil
import site
import sys
from collections.abc import Callable
from pathlib import Path

from localmode.core.runners import OPT_ML

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_ENTRYPOINT = ["train"]
_NO_TRAIN = (
    "A job without a ContainerEntrypoint, as SDK v2 and tuners create it, runs the command `train` of the "
    "sagemaker-training toolkit, which is not installed here. Install it with `pip install 'localmode[toolkit]'`."
)


def variables(root: Path, seen_inside: Callable[[str], str], rewrite: bool) -> dict[str, str]:
    """Make a Python environment below `root`; return the variables that a container image would set otherwise.

    `seen_inside` replaces /opt/ml in a text by the path at which the job finds it.
    """
    return {
        "PATH": f"{_make(root / 'env')}:{Path(sys.executable).parent}:{_SYSTEM_PATH}",
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "VIRTUAL_ENV": str(root / "env"),
        "SAGEMAKER_BASE_DIR": seen_inside(OPT_ML),  # the toolkit's code contains /opt/ml literally
        # Otherwise the toolkit waits 15 minutes for the name algo-1 to resolve.
        **({"SM_STUDIO_LOCAL_MODE": "true"} if rewrite else {}),
    }


def _make(environment: Path) -> Path:
    """Make an environment that extends the daemon's, for packages that the job installs; return its `bin` directory."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    bin_directory = environment / "bin"
    bin_directory.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python", "python3", version):
        (bin_directory / name).symlink_to(base)
    for name, line in _programs(f"{bin_directory}/python3").items():
        (bin_directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_directory / name).chmod(0o755)
    (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    (packages / "localmode.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return bin_directory


def _programs(python: str) -> dict[str, str]:
    """Return the commands of the daemon's Python environment, by name, as shell lines that use the job's Python."""
    own = Path(sys.executable).parent
    programs = {}
    for path in own.iterdir():
        if path.is_file() and not path.is_symlink() and _runs_python(path):
            programs[path.name] = f'exec {python} {shlex.quote(str(path))} "$@"'
    if not shutil.which(DEFAULT_ENTRYPOINT[0], path=f"{own}:{_SYSTEM_PATH}"):
        programs[DEFAULT_ENTRYPOINT[0]] = f"echo {shlex.quote(_NO_TRAIN)} | tee output/failure; exit 127"
    # The SDK's drivers look for pip3, which an environment made by uv does not have.
    return {**programs, **dict.fromkeys(("pip", "pip3"), f'exec {python} -m pip "$@"')}


def _runs_python(path: Path) -> bool:
    """Tell whether a file is a command that an installer made for the Python that runs this."""
    with path.open("rb") as file:
        start = file.read(1024)
    interpreter = Path(os.fsdecode(start[2:].split(maxsplit=1)[0])) if start.startswith(b"#!/") else Path()
    own = Path(sys.executable).parent
    return (
        interpreter.name.startswith("python") and interpreter.parent.resolve() == own.resolve()
    )  # also by another path
