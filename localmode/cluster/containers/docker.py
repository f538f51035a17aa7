"""The Docker engine of this machine, through its command line: its state, its images, localmode's containers."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localmode.cluster.containers import docker_shim
from localmode.cluster.errors import ImageError
from localmode.core.settings import Settings

SHIM = [sys.executable, "-I", "-S", docker_shim.__file__]
_LABEL = "localmode"  # on every container; its value is the state directory
_ITS_OWN = ("PATH", "HOME", "XDG_RUNTIME_DIR")  # variables that `docker` itself reads, besides DOCKER_*
_AMAZON = re.compile(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/.*")


def problem() -> str:
    """Return why no engine can be used; nothing if one can."""
    if shutil.which("docker") is None:
        return "there is no docker on the PATH"
    asked = _call("version", "--format", "{{.Server.Version}}")
    return asked.stderr.strip().partition("\n")[0] or "docker version fails" if asked.returncode else ""


def check_image(image: str) -> None:
    """Raise ImageError for an image that is not on this machine."""
    found = _call("image", "inspect", "--format", "{{.Id}}", "--", image)
    if found.returncode == 0:
        return
    if "No such image" not in found.stderr:
        raise ImageError(f"The image {image!r} cannot be used: {found.stderr.strip()}")
    amazon = _AMAZON.fullmatch(image)
    pull = f"pull it with `docker pull {image}`"
    if amazon:
        registry = image.partition("/")[0]
        login = f"aws ecr get-login-password --region {amazon[1]} | docker login --username AWS --password-stdin"
        pull += f" (after `{login} {registry}`)"
    raise ImageError(f"The image {image!r} is not on this machine: {pull}, or build one with this name.")


def sweep(home: Path) -> None:
    """Remove the containers that were left when a daemon of this state directory and its shims were killed together."""
    left = _call("ps", "--all", "--quiet", "--filter", f"label={_LABEL}={home}").stdout.split()
    if left:
        _call("rm", "--force", "--volumes", *left)


def options(settings: Settings) -> list[str]:
    """Return the options of `docker create` that all containers of a daemon have in common."""
    return ["--label", f"{_LABEL}={settings.home}", *_user(), *settings.docker_options]


def specification(
    name: str,
    opt_ml: Path,
    image: str,
    command: list[str],
    environment: dict[str, str],
    hosts: dict[str, str],
    options: Sequence[str],
) -> dict[str, object]:
    """Return the specification that docker_shim.py reads.

    `command` begins with the entrypoint, which is empty for the image's own. The container shares this machine's
    network, because the daemon listens on the loopback interface only. Values of the environment are not part of a
    command line, which every user of this machine could read.
    """
    own = own_environment()
    entrypoint, *arguments = command
    create = [
        *("create", "--pull", "never", "--name", f"localmode-{name}-{secrets.token_hex(4)}"),
        *("--log-driver", "none", "--network", "host"),
        *("--volume", f"{opt_ml}:/opt/ml"),
        *(f"--add-host={host}:{address}" for host, address in hosts.items()),
        *(f"--env={key}={value}" if key in own else f"--env={key}" for key, value in environment.items()),
        *options,
        *(["--entrypoint", entrypoint] if entrypoint else []),
        *("--", image, *arguments),
    ]
    return {"docker": shutil.which("docker"), "name": create[4], "create": create, "environment": environment}


def own_environment() -> dict[str, str]:
    """Return the variables of this process's environment that `docker` needs."""
    return {name: value for name, value in os.environ.items() if name in _ITS_OWN or name.startswith("DOCKER_")}


def _user() -> list[str]:
    """Return the options that let files of a container belong to the daemon's user, who could not remove root's."""
    if sys.platform != "linux" or os.geteuid() == 0:  # elsewhere, the engine's virtual machine maps the users
        return []
    if "rootless" in _call("info", "--format", "{{json .SecurityOptions}}").stdout:
        return []  # root in the container is this user outside
    return ["--user", f"{os.geteuid()}:{os.getegid()}", "--env=HOME=/tmp"]


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
