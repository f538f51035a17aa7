"""The process between the daemon and a container: its control pipe, PID 1, and that nothing outlives it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localmode.cluster.containers.launch import spawn
from tests.support.local import IMAGE, RUNNERS, SOON, Pipe, processes_naming

Launcher = subprocess.Popen[bytes]
Spawn = Callable[..., Launcher]


@pytest.fixture(params=RUNNERS)
def launch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spawn]:
    """Start a container with a command, in each of the two ways."""
    opt_ml = tmp_path / "ml"
    opt_ml.mkdir()
    started: list[Launcher] = []

    def launch(*command: str) -> Launcher:
        environment = {"PATH": os.environ["PATH"], "MARK": str(tmp_path)}
        options = ("--volume", f"{tmp_path}:{tmp_path}")
        started.append(spawn(tmp_path, opt_ml, list(command), environment, request.param, {}, IMAGE, options))
        return started[-1]

    yield launch
    for launcher in started:
        with launcher:
            launcher.kill()


def output(launcher: Launcher) -> str:
    """Read the container's output to its end, and wait for the launcher."""
    assert launcher.stdout is not None
    text = launcher.stdout.read().decode()
    launcher.wait(SOON)
    return text


def give(launcher: Launcher, letter: bytes) -> None:
    assert launcher.stdin is not None
    launcher.stdin.write(letter)


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_status_is_the_container_s(launch: Spawn, code: int) -> None:
    launcher = launch("bash", "-c", f"exit {code}")
    assert output(launcher) == ""
    assert launcher.returncode == code


def test_a_container_begins_below_its_directory_with_an_empty_input(launch: Spawn, tmp_path: Path) -> None:
    begins = ["/"] if "docker" in RUNNERS else ["/opt/ml", str(tmp_path / "ml")]  # of an image, what it says
    assert output(launch("bash", "-c", "cat; ls -d . && pwd -P")).splitlines()[1] in begins


def test_k_kills(launch: Spawn, pipe: Pipe) -> None:
    launcher = launch("bash", "-c", f"trap '' TERM; echo up > {pipe}; sleep 600; true")
    pipe.line()
    give(launcher, b"K")
    output(launcher)
    assert launcher.returncode == 128 + signal.SIGKILL


def test_t_is_sigterm(launch: Spawn, pipe: Pipe) -> None:
    launcher = launch("bash", "-c", f"trap 'echo asked; exit 7' TERM; echo up > {pipe}; sleep 600 & wait")
    pipe.line()
    give(launcher, b"T")
    assert output(launcher) == "asked\n"
    assert launcher.returncode == 7


def test_t_does_nothing_to_a_pid_1_without_a_handler(launch: Spawn, pipe: Pipe) -> None:
    launcher = launch("bash", "-c", f"echo up > {pipe}; sleep 600; true")
    pipe.line()
    give(launcher, b"T")
    give(launcher, b"K")
    output(launcher)
    assert launcher.returncode == 128 + signal.SIGKILL


def test_a_shell_without_a_trap_goes_on_after_t(launch: Spawn, pipe: Pipe, order: Pipe) -> None:
    """As PID 1 it ignores SIGTERM."""
    launcher = launch("bash", "-c", f"echo up > {pipe}; read line < {order}; echo alive; exit 0")
    pipe.line()
    give(launcher, b"T")
    order.send("go")
    assert (output(launcher), launcher.returncode) == ("alive\n", 0)


def test_the_end_of_the_control_pipe_ends_everything(launch: Spawn, pipe: Pipe, tmp_path: Path) -> None:
    launcher = launch("bash", "-c", f"(setsid sleep 600 &) ; echo up > {pipe}; sleep 600; true")
    pipe.line()
    assert launcher.stdin is not None
    launcher.stdin.close()
    output(launcher)
    assert processes_naming(f"MARK={tmp_path}") == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces or a subreaper")
@pytest.mark.parametrize(("depth", "signal_number"), [(0, signal.SIGKILL), (0, signal.SIGTERM), (1, signal.SIGKILL)])
def test_a_killed_launcher_takes_everything_along(
    launch: Spawn, pipe: Pipe, tmp_path: Path, depth: int, signal_number: int
) -> None:
    """Whichever of its processes is killed: `depth` 0 is the one that the daemon knows."""
    launcher = launch("bash", "-c", f"(setsid sleep 600 &) ; trap '' TERM; echo up > {pipe}; sleep 600; true")
    pipe.line()
    line = [launcher.pid, int(Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()[0])]
    os.kill(line[depth], signal_number)
    output(launcher)  # its end: no process holds it any more
    assert processes_naming(f"MARK={tmp_path}") == []


def test_a_container_that_closes_its_output_is_still_waited_for(launch: Spawn, pipe: Pipe, order: Pipe) -> None:
    launcher = launch("bash", "-c", f"exec > /dev/null 2>&1; echo up > {pipe}; read line < {order}; exit 5")
    pipe.line()
    order.send("go")
    launcher.wait(SOON)
    assert launcher.returncode == 5


@pytest.mark.skipif(sys.platform != "linux", reason="the namespace runner")
def test_the_entrypoint_is_pid_1_of_its_own_processes(tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir()
    command = ["bash", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l"]
    with spawn(tmp_path, tmp_path / "ml", command, {"PATH": os.environ["PATH"]}, "namespace", {}) as launcher:
        pid, visible = output(launcher).split()[:2]
    assert pid == "1"
    assert int(visible) <= 4


def test_nothing_of_this_process_s_files_is_open_in_a_container(launch: Spawn) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    listed = output(launch("bash", "-c", "ls /proc/self/fd | wc -l"))
    os.close(write_end)
    assert int(listed) == 4  # in, out, err and the directory itself
    assert select.select([read_end], [], [], SOON)[0]
    os.close(read_end)
