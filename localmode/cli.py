"""The command line: `python -m localmode start | status | env | interrupt | spot-capacity | reset | stop`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from localmode.client import commands, environment, lifecycle
from localmode.core.errors import LocalModeError
from localmode.core.home import claim, is_running
from localmode.core.runners import RUNNERS
from localmode.core.settings import default_home


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options, options.home.absolute() if options.home else default_home()))
    except LocalModeError as error:
        print(f"localmode: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localmode", description="Amazon SageMaker on this machine.")
    parser.set_defaults(home=None)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, help="the state directory (default: LOCALMODE_HOME or .localmode)")

    def add(name: str, run: object, explanation: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=explanation, description=explanation, parents=[common])
        command.set_defaults(run=run)
        return command

    start = add("start", _start, "start the daemon, or join the one that runs")
    start.add_argument("--runner", choices=RUNNERS, help="how training jobs run")
    add("status", _status, "show the daemon's address, training jobs, endpoints and Spot capacity")
    add("env", _env, 'print shell commands for eval: eval "$(python -m localmode env)"')
    interrupt = add("interrupt", _interrupt, "reclaim the instance of a Spot training job")
    interrupt.add_argument("name", help="the training job's name")
    interrupt.add_argument("--outage", type=float, default=0.0, help="seconds until the job gets another instance")
    capacity = add("spot-capacity", _spot_capacity, "remove all Spot capacity, or restore it")
    capacity.add_argument("available", choices=("on", "off"), help="whether Spot instances can be had")
    add("reset", _reset, "stop the daemon and delete its state directory")
    add("stop", _stop, "stop the daemon, its training jobs and its endpoints")
    add("serve", _serve, "run the daemon in the foreground (start does this in the background)")
    return parser


def _start(options: argparse.Namespace, home: Path) -> int:
    _, started = lifecycle.start(home, options.runner)
    status = commands.command(home, "status")
    what = "started" if started else "already running"
    print(f"localmode {what} at {status['url']} ({status['runner']} runner, state in {status['home']})")
    return 0


def _status(options: argparse.Namespace, home: Path) -> int:
    print(json.dumps(commands.command(home, "status"), indent=2))
    return 0


def _env(options: argparse.Namespace, home: Path) -> int:
    lifecycle.start(home, None)
    for name, value in environment.environment(home).items():
        print(f"export {name}={shlex.quote(value)}")
    print("unset", *environment.misleading())
    return 0


def _interrupt(options: argparse.Namespace, home: Path) -> int:
    commands.command(home, "interrupt", training_job_name=options.name, outage=options.outage)
    print(f"the instance of {options.name} is gone")
    return 0


def _spot_capacity(options: argparse.Namespace, home: Path) -> int:
    commands.command(home, "spot-capacity", available=options.available == "on")
    print(f"Spot capacity is {options.available}")
    return 0


def _reset(options: argparse.Namespace, home: Path) -> int:
    lifecycle.reset(home)
    print(f"stopped; {home} is deleted")
    return 0


def _stop(options: argparse.Namespace, home: Path) -> int:
    unfinished = commands.command(home, "status")["training_jobs"] if is_running(home) else {}
    print("stopped" if lifecycle.stop(home) else f"no daemon runs over {home}")
    for name in unfinished:
        print(f"{name} was not finished; the next start treats it as SageMaker treats the loss of its hosts")
    return 0


def _serve(options: argparse.Namespace, home: Path) -> int:
    from localmode import daemon  # imports moto, which only the daemon needs

    claim(home)
    return daemon.main(lifecycle.settings_for(home, None))
