"""The process between the daemon and a job's container: prepares its environment, forwards signals, cleans up.

Run as `python -I -S shim.py SPEC`, where SPEC is a JSON file. Standard input is the control pipe: the byte `T` asks
for SIGTERM, `K` for SIGKILL, and its end means that the daemon has ended and nothing may outlive it. Exits with the
container's status, 128 + N if signal N ended it.

With "namespaces" the container gets user, mount and PID namespaces, a /opt/ml and an /etc/hosts of its own. Its
entrypoint is PID 1, so that one SIGKILL ends all its processes, and so does a SIGKILL of this process. Without
namespaces, the same is approximated with a session and, on Linux, with two subreapers: if one of them is killed, the
other kills everything.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 4096, 16384, 1 << 18, 2, 4, 8
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CANNOT_START = 127


def _libc(function: str, *arguments: Any) -> None:
    """Call a function of the C library; raise OSError if it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")


def _bind(source: Path, target: Path) -> None:
    _libc("mount", bytes(source), bytes(target), None, _MS_BIND | _MS_REC, None)


def enter_namespaces() -> None:
    """Enter new user, mount and PID namespaces as root; the PID namespace is that of children only."""
    uid, gid = os.getuid(), os.getgid()
    _libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _libc("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)


def mount_opt_ml(directory: Path, scratch: Path) -> None:
    """Mount `directory` at /opt/ml, even if that does not exist; the rest of /opt stays as it is."""
    opt = Path("/opt")
    stage = scratch / "opt"
    stage.mkdir()
    for entry in opt.iterdir():
        target = stage / entry.name
        if entry.name == "ml":
            continue
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
        elif entry.is_dir():
            target.mkdir()
            _bind(entry, target)
        else:
            target.touch()
            _bind(entry, target)
    (stage / "ml").mkdir()
    _bind(directory, stage / "ml")
    _bind(stage, opt)


def _mount_proc() -> None:
    """Mount the /proc of the new PID namespace; if the kernel forbids it, that of the machine stays."""
    try:
        _libc("mount", b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)
    except OSError as error:
        print(f"localmode: /proc shows the host's processes ({error})", file=sys.stderr)


def _become_container(spec: dict[str, Any]) -> NoReturn:
    """Replace this (child) process with the container's entrypoint."""
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if spec["namespaces"]:
            _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            mount_opt_ml(Path(spec["opt_ml"]), Path(spec["scratch"]))
            _bind(Path(spec["etc_hosts"]), Path("/etc/hosts"))
            _mount_proc()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, nohup SIGHUP, a shell SIGINT after `&`
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.chdir(spec["directory"])
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])
    except (OSError, ValueError) as error:  # ValueError: a NUL in the command or the environment
        print(f"localmode: the container cannot start: {error}", file=sys.stderr, flush=True)
    os._exit(_CANNOT_START)


def _handles_sigterm(pid: int) -> bool:
    """Tell whether a process has a handler for SIGTERM: as PID 1 it would ignore a signal without one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:  # there is no /proc (macOS), or the process has ended
        return True
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _kill_descendants() -> None:
    """Kill the processes that the entrypoint left, as the kernel does when PID 1 of a namespace ends."""
    while children := _children(os.getpid()):  # orphans become children of this process, the subreaper
        for child in children:
            os.kill(child, signal.SIGKILL)
        for _ in children:
            os.wait()


def _exit_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _fork_supervisor() -> None:
    """Continue in a child process. If one of the two is killed, the other kills the container's processes."""
    supervisor = os.getpid()
    _libc("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.fork()
    if pid:
        os.close(0)  # the control pipe is the child's
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # its end sends SIGTERM to the child
        _, status = os.waitpid(pid, 0)
        _kill_descendants()
        os._exit(_exit_code(status))
    _libc("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:  # it was killed before PDEATHSIG was set
        os._exit(_CANNOT_START)


def _watch(pid: int, wakeup: int, namespaces: bool) -> int:
    """Obey the control pipe until the container ends; return its wait status. SIGTERM means the pipe's end, too."""
    controls: list[int] = [0]
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        ready, _, _ = select.select([wakeup, *controls], [], [])
        killed = wakeup in ready and signal.SIGTERM in os.read(wakeup, 512)
        command = os.read(0, 1) if 0 in ready else None
        if command in (b"K", b"") or killed:
            os.kill(pid, signal.SIGKILL)
            controls = []
        elif command == b"T" and (namespaces or _handles_sigterm(pid)):
            os.kill(pid, signal.SIGTERM)


def main() -> int:
    """Run the container that the specification describes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until there is a handler
    spec = json.loads(Path(sys.argv[1]).read_text())
    namespaces = bool(spec["namespaces"])
    if namespaces:
        enter_namespaces()
    elif sys.platform == "linux":
        _fork_supervisor()
    wakeup, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = os.fork()
    if pid == 0:
        _become_container(spec)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    status = _watch(pid, wakeup, namespaces)
    if not namespaces:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _kill_descendants()
    return _exit_code(status)


if __name__ == "__main__":
    sys.exit(main())
