"""The start of a container: its specification, and the shim process that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localmode.cluster.containers import docker, shim

TERMINATE, KILL = b"T", b"K"  # written to the control pipe: SIGTERM, SIGKILL
_SHIM = [sys.executable, "-I", "-S", shim.__file__]
_HOSTS_FILE = Path("/etc/hosts")


def spawn(
    root: Path,
    opt_ml: Path,
    command: list[str],
    environment: dict[str, str],
    runner: str,
    hosts: dict[str, str],
    image: str = "",
    options: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a container; return its shim, whose standard input is the control pipe described in shim.py.

    `hosts` are names and addresses that the container can resolve besides those of this machine (not with `rewrite`).
    `image` and `options` are for the `docker` runner only. Raises OSError.
    """
    launcher, own_environment = _SHIM, None
    specification: dict[str, object]
    if runner == "docker":
        launcher, own_environment = docker.SHIM, docker.own_environment()
        name = "-".join(root.parts[-3:])  # job, attempt, host
        specification = docker.specification(name, opt_ml, image, command, environment, hosts, options)
    else:
        specification = _specification(root, opt_ml, command, environment, runner, hosts)
    document = root / "container.json"
    document.write_text(json.dumps(specification))
    return subprocess.Popen(
        [*launcher, str(document)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
        env=own_environment,
    )


def _specification(
    root: Path, opt_ml: Path, command: list[str], environment: dict[str, str], runner: str, hosts: dict[str, str]
) -> dict[str, object]:
    """Return the specification that shim.py reads."""
    etc_hosts = root / "hosts"
    names = "".join(f"{address}\t{name}\n" for name, address in hosts.items())
    etc_hosts.write_bytes(names.encode() + (_HOSTS_FILE.read_bytes() if _HOSTS_FILE.exists() else b""))
    return {
        "namespaces": runner == "namespace",
        "opt_ml": str(opt_ml),
        "scratch": str(root),
        "etc_hosts": str(etc_hosts),
        "directory": str(opt_ml),
        "command": command,
        "environment": environment,
    }
