"""The settings of a daemon, read from the environment when it starts.

| variable                 | default                     | what it sets                                             |
|--------------------------|-----------------------------|----------------------------------------------------------|
| LOCALMODE_HOME           | `.localmode` in the project | the state directory                                      |
| LOCALMODE_RUNNER         | auto                        | how jobs run: `namespace`, `rewrite`, `docker` or `auto` |
| LOCALMODE_DOCKER_OPTIONS |                             | further options of `docker create`, such as `--gpus all` |
| LOCALMODE_GRACE_SECONDS  | 0.5                         | the time from SIGTERM to SIGKILL (120 s on AWS)          |
| LOCALMODE_SPOT_DISCOUNT  | 0.7                         | the simulated Spot discount, 0 to 1                      |
| AWS_DEFAULT_REGION       | us-east-1                   | the Region in ARNs                                       |

The project is the nearest directory, from the current one upwards, that has a `.localmode`, a `.git` or a
`pyproject.toml`; without any, it is the current directory.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localmode.core.aws import ACCOUNT_ID, ROLE_NAME
from localmode.core.errors import LocalModeError
from localmode.core.runners import RUNNERS


@dataclass(frozen=True)
class Settings:
    """The settings of a daemon; times in seconds."""

    home: Path
    runner: str = "auto"
    grace_seconds: float = 0.5
    spot_discount: float = 0.7
    region: str = "us-east-1"
    docker_options: tuple[str, ...] = ()

    @property
    def default_bucket(self) -> str:
        """The SDK's default bucket: `sagemaker-REGION-ACCOUNT`."""
        return f"sagemaker-{self.region}-{ACCOUNT_ID}"

    @property
    def role_arn(self) -> str:
        """The ARN of the execution role of jobs and endpoints."""
        return f"arn:aws:iam::{ACCOUNT_ID}:role/{ROLE_NAME}"

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a SageMaker resource of this Region and account."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT_ID}:{kind}/{name}"


def default_home(start: Path | None = None) -> Path:
    """Return LOCALMODE_HOME, or `.localmode` in the project around `start` (default: the current directory)."""
    if configured := os.environ.get("LOCALMODE_HOME"):
        return Path(configured).absolute()
    here = (start or Path.cwd()).absolute()
    for directory in (here, *here.parents):
        if any((directory / mark).exists() for mark in (".localmode", ".git", "pyproject.toml")):
            return directory / ".localmode"
    return here / ".localmode"


def from_environment(home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raise LocalModeError for a value that is not valid."""
    runner = environ.get("LOCALMODE_RUNNER", "auto")
    if runner not in RUNNERS:
        raise LocalModeError(f"LOCALMODE_RUNNER is {runner!r}; choose one of {', '.join(RUNNERS)}")
    return Settings(
        home=home,
        runner=runner,
        grace_seconds=_number(environ, "LOCALMODE_GRACE_SECONDS", 0.5, 0, 3600),
        spot_discount=_number(environ, "LOCALMODE_SPOT_DISCOUNT", 0.7, 0, 1),
        region=environ.get("AWS_DEFAULT_REGION") or environ.get("AWS_REGION") or "us-east-1",
        docker_options=_words(environ, "LOCALMODE_DOCKER_OPTIONS"),
    )


def _words(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(environ.get(name, "")))
    except ValueError as error:
        raise LocalModeError(
            f"{name} is {environ[name]!r}, which cannot be split into words as a shell does: {error}"
        ) from error


def _number(environ: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # false for NaN
        raise LocalModeError(f"{name} is {text!r}; it takes a number from {low:g} to {high:g}")
    return value
