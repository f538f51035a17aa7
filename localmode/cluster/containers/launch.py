"""TODO: localmode/cluster/containers/launch.py"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localmode.cluster.containers import docker as engine
from localmode.cluster.containers import shim as container

_LAUNCHER = [sys.executable, "-I", "-S", container.__file__]
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
    """Start a container; its standard input is the leash that container.py describes.

    `hosts` are names and addresses that it can resolve besides those of this machine (not with `rewrite`). An image,
    and options of the engine, there are with `docker` only.
    """
    launcher, own_environment = _LAUNCHER, None
    specification: dict[str, object]
    if runner == "docker":
        launcher, own_environment = engine.LAUNCHER, engine.own_environment()
        name = "-".join(root.parts[-3:])  # job, attempt, host
        specification = engine.specification(name, opt_ml, image, command, environment, hosts, options)
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
    """Return what container.py needs to know."""
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
