"""The Docker engine of this machine, by its own command line: whether it answers, its images, our containers."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localmode.cluster.containers import docker_shim as docker_container
from localmode.core.settings import Settings

LAUNCHER = [sys.executable, "-I", "-S", docker_container.__file__]
_LABEL = "localmode"  # on every container; its value is the state directory
_ITS_OWN = ("PATH", "HOME", "XDG_RUNTIME_DIR")  # what `docker` itself reads from the environment, DOCKER_* besides
_AMAZON = re.compile(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/.*")


class ImageError(Exception):
    """An image that no container can be made of; the message goes into the job's FailureReason."""


def problem() -> str:
    """Return why there is no engine that could be used; nothing if there is one."""
    if shutil.which("docker") is None:
        return "there is no docker on the PATH"
    asked = _call("version", "--format", "{{.Server.Version}}")
    return asked.stderr.strip().partition("\n")[0] or "docker version fails" if asked.returncode else ""


def check_image(image: str) -> None:
    """Raise ImageError, which says what to do, for an image that is not on this machine."""
    found = _call("image", "inspect", "--format", "{{.Id}}", "--", image)
    if found.returncode == 0:
        return
    if "No such image" not in found.stderr:
        raise ImageError(f"The image {image!r} cannot be used: {found.stderr.strip()}")
    amazon = _AMAZON.fullmatch(image)
    pull = f"`docker pull {image}` pulls it"
    if amazon:
        registry = image.partition("/")[0]
        login = f"aws ecr get-login-password --region {amazon[1]} | docker login --username AWS --password-stdin"
        pull += f" (after `{login} {registry}`)"
    build = f"`containers/image.sh {image}` builds one with TensorFlow under this name"
    raise ImageError(f"The image {image!r} is not on this machine: {pull}, and {build}.")


def sweep(home: Path) -> None:
    """Remove the containers that a daemon over a state directory left, which was killed with all that it started."""
    left = _call("ps", "--all", "--quiet", "--filter", f"label={_LABEL}={home}").stdout.split()
    if left:
        _call("rm", "--force", "--volumes", *left)


def options(settings: Settings) -> list[str]:
    """Return the options of `docker create` that are the same for all containers of a daemon."""
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
    """Return what docker_container.py needs to know. `command` begins with the entrypoint, empty for the image's own.

    The container shares this machine's network, where the daemon is: it listens on the loopback interface alone.
    Values of the environment do not go into a command line, which everybody on this machine could read.
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
    """Return what `docker` needs of this process's environment."""
    return {name: value for name, value in os.environ.items() if name in _ITS_OWN or name.startswith("DOCKER_")}


def _user() -> list[str]:
    """Return the options by which a container's files belong to who runs the daemon, and could not remove root's."""
    if sys.platform != "linux" or os.geteuid() == 0:  # elsewhere the engine's virtual machine sees to that
        return []
    if "rootless" in _call("info", "--format", "{{json .SecurityOptions}}").stdout:
        return []  # root in there is the user out here
    return ["--user", f"{os.geteuid()}:{os.getegid()}", "--env=HOME=/tmp"]


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
