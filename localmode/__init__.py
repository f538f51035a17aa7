"""localmode: SageMaker on this machine, for the unmodified SageMaker Python SDK and boto3.

    import localmode
    localmode.start()            # from here on, AWS clients of this process talk to this machine
    ...
    localmode.interrupt("my-training-job", outage=5)

or, for any AWS client in a shell:

    eval "$(python -m localmode env)"
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
    """Start the daemon, or join the one that runs, and point this process's AWS clients at it.

    `home` is the state directory (default: LOCALMODE_HOME, else `.localmode` in the project), `runner` one of
    `namespace`, `rewrite`, `docker` and `auto` (default: LOCALMODE_RUNNER, else `auto`). Clients made before this
    call keep talking to where they did. Raises LocalModeError where no daemon can be started.
    """
    settings = lifecycle.settings_for(home, runner)
    lifecycle.ensure_daemon(settings)
    environment.point_here(settings.home)


def stop(home: str | Path | None = None) -> None:
    """Stop the daemon, its training jobs and its endpoints; what it acknowledged stays on disk."""
    lifecycle.stop(_home(home))


def is_running(home: str | Path | None = None) -> bool:
    """Tell whether a daemon runs over the state directory."""
    return state_directory.is_running(_home(home))


def status(home: str | Path | None = None) -> dict[str, Any]:
    """Return what the daemon is doing: its address, runner, unfinished jobs, endpoints, Spot capacity."""
    return commands.command(_home(home), "status")


def interrupt(training_job_name: str, outage: float = 0.0, home: str | Path | None = None) -> None:
    """Reclaim the instance of a running Spot training job, as EC2 does; return once it is gone.

    PID 1 of the job gets SIGTERM and, after LOCALMODE_GRACE_SECONDS (0.5 here, 120 on AWS), everything SIGKILL. The
    job is then Interrupted for `outage` seconds before it gets an instance again. Raises LocalModeError for a job
    that does not exist, does not use Spot or has no instance at the moment.
    """
    commands.command(_home(home), "interrupt", training_job_name=training_job_name, outage=outage)


def set_spot_capacity(available: bool, home: str | Path | None = None) -> None:
    """Take all Spot capacity away, or give it back. Jobs that need some wait; running instances stay.

    It stays so until this is called again, also for a daemon that starts anew.
    """
    commands.command(_home(home), "spot-capacity", available=available)


def _home(home: str | Path | None) -> Path:
    return Path(home).absolute() if home else default_home()
