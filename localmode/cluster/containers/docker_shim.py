"""The process between the daemon and a job's Docker container: creates it, forwards signals, removes it.

Run as `python -I -S docker_shim.py SPEC`, where SPEC is a JSON file. Standard input is the control pipe, as shim.py
describes it: `T` asks for SIGTERM, `K` for SIGKILL, and its end means that the daemon has ended. A container outlives
the `docker` command that started it. So there are two processes: if one of them is killed, the other removes the
container. Exits with the container's status.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_CANNOT_START = 127
_KILLED = 128 + signal.SIGKILL


class Container:
    """One container, controlled through the engine's command line."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._docker, self._name, self._create = spec["docker"], spec["name"], spec["create"]
        self._environment = spec["environment"]

    def _call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, whole = [self._docker, *arguments], {**environment, **os.environ}
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=whole)

    def create(self) -> None:
        """Create it; raise OSError if the engine refuses."""
        created = self._call(*self._create, **self._environment)
        if created.returncode:
            raise OSError(created.stderr.strip().partition("\n")[0])

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; return the process that copies its output to this process's."""
        return subprocess.Popen([self._docker, "start", "--attach", self._name], stdin=subprocess.DEVNULL)

    def ask_to_end(self) -> None:
        """Send SIGTERM to its entrypoint; nothing happens before that runs."""
        self._call("kill", "--signal", "TERM", self._name)

    def remove(self) -> None:
        """Kill it and remove it with its volumes, even before it has started."""
        self._call("rm", "--force", "--volumes", self._name)

    def exit_code(self, seen: int) -> int:
        """Return its exit code, `seen` if it has been removed; raise OSError if it could not be started."""
        state = self._call("inspect", "--format", "{{.State.ExitCode}} {{.State.Error}}", self._name).stdout
        code, _, error = state.strip().partition(" ")
        if error:
            raise OSError(error)
        return int(code) if code else seen


def _fork_supervisor(container: Container) -> int:
    """Continue in a child process, with the parent as supervisor that removes the container at the end.

    Return a descriptor that becomes readable when the supervisor has ended.
    """
    alive, keep = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(keep)
        return alive
    os.close(0)  # the control pipe is the child's
    os.close(alive)
    _, status = os.waitpid(pid, 0)
    container.remove()
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _watch(container: Container, attached: subprocess.Popen[bytes], wakeup: int, supervisor: int) -> int:
    """Obey the control pipe until the container ends; return its exit code."""
    controls = [0, supervisor]
    while attached.poll() is None:
        ready, _, _ = select.select([wakeup, *controls], [], [])
        if wakeup in ready:
            os.read(wakeup, 512)
        order = os.read(0, 1) if 0 in ready else None
        if supervisor in ready or order in (b"K", b""):
            controls = []
            container.remove()
        elif order == b"T":
            container.ask_to_end()
    if not controls:
        return _KILLED
    return container.exit_code(attached.returncode) if attached.returncode else 0


def main() -> int:
    """Run the container that the specification describes."""
    container = Container(json.loads(Path(sys.argv[1]).read_text()))
    supervisor = _fork_supervisor(container)
    wakeup, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        container.create()
        return _watch(container, container.start(), wakeup, supervisor)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the command or the environment
        print(f"localmode: the container cannot start: {error}", flush=True)
        return _CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
