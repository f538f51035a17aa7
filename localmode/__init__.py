"""localmode: Amazon SageMaker on this machine, for the unmodified SageMaker Python SDK and boto3.

    import localmode
    localmode.start()            # from here on, the AWS clients of this process use this machine
    ...
    localmode.interrupt("my-training-job", outage=5)

or, for AWS clients in a shell:

    eval "$(python -m localmode env)"

A process uses one daemon at a time. `start(home)` sets LOCALMODE_HOME together with the variables of the AWS clients;
all functions without `home`, and commands that this process runs, then mean that state directory, also after `stop`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localmode.client import commands, environment, lifecycle
from localmode.core import home as state_directory
from localmode.core.errors import LocalModeError
from localmode.core.settings import default_home

__all__ = ["LocalModeError", "interrupt", "is_running", "set_spot_capacity", "start", "status", "stop"]


def start(home: str | Path | None = None, runner: str | None = None) -> None:
    """Start a daemon, or join the one that runs, and direct the AWS clients of this process to it.

    `home` is the state directory (default: LOCALMODE_HOME, or `.localmode` in the project), `runner` one of
    `namespace`, `rewrite`, `docker` and `auto` (default: LOCALMODE_RUNNER, or `auto`). AWS clients that were made
    before are not changed. Raises LocalModeError if no daemon can be started, or if one runs with another runner than
    the one chosen.
    """
    directory, _ = lifecycle.start(home, runner)
    environment.use_daemon(directory)


def stop(home: str | Path | None = None) -> None:
    """Stop the daemon, its training jobs and its endpoints. All that it acknowledged stays on disk."""
    lifecycle.stop(_home(home))


def is_running(home: str | Path | None = None) -> bool:
    """Tell whether a daemon runs over the state directory."""
    return state_directory.is_running(_home(home))


def status(home: str | Path | None = None) -> dict[str, Any]:
    """Return the daemon's address, runner, unfinished training jobs, endpoints and Spot capacity.

    Raises LocalModeError if no daemon runs.
    """
    return commands.command(_home(home), "status")


def interrupt(training_job_name: str, outage: float = 0.0, home: str | Path | None = None) -> None:
    """Reclaim the instance of a running Spot training job, as EC2 does; return when the instance is gone.

    PID 1 of the job gets SIGTERM and, after LOCALMODE_GRACE_SECONDS (0.5 here, 120 on AWS), all its processes get
    SIGKILL. The job is then Interrupted for `outage` seconds before it gets an instance again. Raises LocalModeError
    for a job that does not exist, does not use Spot or has no instance at the moment.
    """
    commands.command(_home(home), "interrupt", training_job_name=training_job_name, outage=outage)


def set_spot_capacity(available: bool, home: str | Path | None = None) -> None:
    """Remove all Spot capacity, or restore it. Without capacity, new instances wait; running ones stay.

    The setting is kept on disk until it is changed again.
    """
    commands.command(_home(home), "spot-capacity", available=available)


def _home(home: str | Path | None) -> Path:
    return Path(home).absolute() if home else default_home()
