"""One instance of an endpoint: a child process that serves a model directory, kept running."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from localmode.core.threads import start_thread
from localmode.hosting.errors import ModelServerError
from localmode.hosting.log_copier import copy_log

TIMEOUT_SECONDS = 60.0  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
STARTUP_SECONDS = 480.0
COMMAND = (sys.executable, "-P", "-m", "localmode.modelserver")  # -P: modules in the model directory stay unseen
JOIN_SECONDS = 5.0  # a process that has left the server's session may keep a pipe open
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds.

    A container has eight minutes to pass its first health check and two seconds to answer each:
    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html. AWS does not say how many
    checks it may miss. Here it may miss as many as fit into the time limit of an invocation, since an invocation may
    keep Python's interpreter lock for so long.
    """

    startup: float = STARTUP_SECONDS
    invocation: float = TIMEOUT_SECONDS
    ping: float = 2.0
    ping_interval: float = 5.0
    unhealthy: float = TIMEOUT_SECONDS + 5.0
    longest_pause: float = 30.0  # between two attempts to start the process again


@dataclass(frozen=True)
class Answer:
    """The answer of a model server."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class _Running:
    """A process that answers: its address and the connections to it that are not in use."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    idle: list[http.client.HTTPConnection] = field(default_factory=list)


class ModelServer:
    """A child process that serves one directory on a loopback port of its own; restarted when it ends or hangs.

    `log` gets the lines that it writes; `temporary` is its directory for temporary files, which exists while it runs.
    """

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        log: Callable[[list[str]], None],
        temporary: Path,
        limits: Limits = Limits(),
        command: Sequence[str] = COMMAND,
        popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._write_log = log
        self._temporary = temporary
        self._limits = limits
        self._command = command
        self._popen = popen
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._running: _Running | None = None
        self._threads: list[threading.Thread] = []

    @property
    def answers(self) -> bool:
        """Whether requests can be sent to it."""
        return self._running is not None

    @property
    def pid(self) -> int | None:
        """The ID of the latest process, which may have ended; None before the first one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and wait until it answers; raise ModelServerError with the reason if it does not."""
        process = self._launch()
        self._start_thread("supervise", lambda: self._supervise(process), "It is not started again when it ends.")
        self._start_thread("ping", self._keep_pinging, "It is not started again when it hangs.")

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        """POST to /invocations; raise TimeoutError after 60 seconds, ConnectionError if the process does not answer."""
        running = self._running
        if running is None:
            raise ConnectionRefusedError("it is being started")
        try:
            connection = running.idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=self._limits.invocation)
        try:
            connection.request("POST", f"{running.path}/invocations", body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.getheader("Content-Type", ""), response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise
            raise ConnectionError(str(error)) from error
        with self._lock:
            if self._running is running:
                running.idle.append(connection)
                return answer
        connection.close()  # the process has ended meanwhile
        return answer

    def stop(self) -> None:
        """End the process for good."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            self._kill(process)
        with self._lock:
            threads = self._threads
        for thread in threads:
            thread.join(JOIN_SECONDS)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopping.is_set():
                raise ModelServerError("the endpoint is being deleted")
            self._temporary.mkdir(parents=True, exist_ok=True)
            process = self._popen(
                [*self._command, str(self._directory)],
                stdin=subprocess.PIPE,  # the process ends when this pipe does
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._directory,
                env={"TMPDIR": str(self._temporary), **self._environment},
                start_new_session=True,
            )
            self._process = process
        stderr = process.stderr
        assert stderr is not None
        self._start_thread("log", lambda: copy_log(stderr, self._write_log), "Its log is not copied any more.")
        ready = self._wait_until_ready(process)
        if "error" in ready:
            self._kill(process)
            raise ModelServerError(ready["error"])
        url = urlsplit(ready["url"])
        self._running = _Running(process, int(url.port or 0), url.path)
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> dict[str, str]:
        """Return the line of JSON that the process writes when it has started: its `url`, or an `error`."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill_group(process)

        timer = threading.Timer(self._limits.startup, give_up)
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        try:
            answer = dict(json.loads(process.stdout.readline()))
        except ValueError:  # no JSON; or `stop` has closed the pipe
            answer = {"error": "the model server exited before it was ready; see its log"}
        timer.cancel()
        if late.is_set():
            return {"error": f"it passed no health check within {self._limits.startup:.0f} seconds of its start"}
        return answer

    def _keep_pinging(self) -> None:
        """Kill a process that has not answered for too long; then `_supervise` starts another one."""
        pinged, answered = self._running, time.monotonic()
        while not self._stopping.wait(self._limits.ping_interval):
            running = self._running
            if running is None:
                continue
            if running is not pinged or _ping(running, self._limits.ping):
                pinged, answered = running, time.monotonic()
            elif time.monotonic() - answered > self._limits.unhealthy:
                _log.warning("The model server of %s does not answer /ping and is killed.", self._directory)
                running.process.kill()

    def _supervise(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the process and start another one, until the server is stopped."""
        pause = 0.0
        while True:
            process.wait()
            with self._lock:
                running, self._running = self._running, None
            for connection in running.idle if running else []:
                connection.close()
            self._kill(process)  # and the processes that it has started
            if self._stopping.wait(pause):
                return
            _log.warning("The model server of %s ended (%s); starting it again.", self._directory, process.returncode)
            try:
                process, pause = self._launch(), 1.0
            except (ModelServerError, OSError) as error:
                _log.warning("The model server of %s could not be started again: %s", self._directory, error)
                pause = min(2 * pause or 1.0, self._limits.longest_pause)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process)
        process.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)  # TensorFlow, killed, leaves files there
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _start_thread(self, what: str, target: Callable[[], None], consequence: str) -> None:
        with self._lock:  # `stop` joins the threads that have been started
            thread = start_thread(f"{what} of the model server of {self._directory}", target, consequence)
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]


def _ping(running: _Running, timeout: float) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=timeout)
    try:
        connection.request("GET", f"{running.path}/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it is gone; macOS raises the latter for a zombie
        os.killpg(process.pid, signal.SIGKILL)
