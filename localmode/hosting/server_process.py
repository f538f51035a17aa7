"""One instance of an endpoint as the daemon sees it: a process that serves a model's directory, kept running."""

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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 60.0  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
# https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html: a container has eight minutes to
# pass its first health check, and two seconds to answer each. How many it may miss AWS does not say: here as many as
# fit into the time that an invocation may take, which may well keep the interpreter to itself.
STARTUP_SECONDS = 480.0
_PING_SECONDS = 2.0
_PING_EVERY = 5.0
_UNHEALTHY_AFTER = TIMEOUT_SECONDS + _PING_EVERY
_LONGEST_LINE = 1 << 16
_LONGEST_PAUSE = 30.0  # seconds between attempts to start a server again
_log = logging.getLogger(__name__)


class ModelServerError(Exception):
    """A model that cannot be served; the message goes into the endpoint's FailureReason."""


@dataclass(frozen=True)
class Answer:
    """What a model server answers."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class _Running:
    """A process that answers: where, and the connections to it that nobody uses at the moment."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    idle: list[http.client.HTTPConnection] = field(default_factory=list)


class ModelServer:
    """A child process that serves one directory, on a loopback port of its own; started again when it ends or hangs.

    `log` takes the lines that it writes, `temporary` is a directory of its own while it runs. `outstanding` counts its
    requests, for those who choose among servers.
    """

    COMMAND = (sys.executable, "-P", str(Path(__file__).parents[1] / "modelserver" / "server.py"))

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        log: Callable[[list[str]], None],
        temporary: Path,
        startup_seconds: float = STARTUP_SECONDS,
    ) -> None:
        self.outstanding = 0
        self._startup_seconds = startup_seconds
        self._directory = directory
        self._temporary = temporary
        self._environment = environment
        self._write_log = log
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._running: _Running | None = None
        self._threads: list[threading.Thread] = []

    @property
    def answers(self) -> bool:
        """Whether requests can be sent to it."""
        return self._running is not None

    def start(self) -> None:
        """Start the process and wait until it answers; raise ModelServerError with its reason if it will not."""
        process = self._launch()
        self._in_thread(self._keep_running, process)
        self._in_thread(self._keep_pinging)

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        """POST to /invocations; raise TimeoutError after a minute, and ConnectionError where nobody answers."""
        running = self._running
        if running is None:
            raise ConnectionRefusedError("it is being started")
        try:
            connection = running.idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=TIMEOUT_SECONDS)
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
            thread.join()

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopping.is_set():
                raise ModelServerError("the endpoint is being deleted")
            self._temporary.mkdir(parents=True, exist_ok=True)
            process = subprocess.Popen(
                [*self.COMMAND, str(self._directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._directory,
                env={"TMPDIR": str(self._temporary), **self._environment},
                start_new_session=True,
            )
            self._process = process
        assert process.stderr is not None
        self._in_thread(self._copy_log, process.stderr)
        ready = self._wait_until_ready(process)
        if "error" in ready:
            self._kill(process)
            raise ModelServerError(ready["error"])
        url = urlsplit(ready["url"])
        self._running = _Running(process, int(url.port or 0), url.path)
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> dict[str, str]:
        """Return what the process says when it has started: its `url`, or an `error`."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill_group(process)

        timer = threading.Timer(self._startup_seconds, give_up)
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        try:
            answer = dict(json.loads(process.stdout.readline()))
        except ValueError:  # no JSON; or the server has been stopped, and the pipe is closed
            answer = {"error": "the model server ended without a word; its log says more"}
        timer.cancel()
        if late.is_set():
            return {"error": f"it passed no health check within {self._startup_seconds:.0f} seconds of its start"}
        return answer

    def _keep_pinging(self) -> None:
        """End a process that has not answered for too long; then `_keep_running` starts another one."""
        pinged, heard = self._running, time.monotonic()
        while not self._stopping.wait(_PING_EVERY):
            running = self._running
            if running is None:
                continue
            if running is not pinged or _ping(running):
                pinged, heard = running, time.monotonic()
            elif time.monotonic() - heard > _UNHEALTHY_AFTER:
                _log.warning("the model server of %s does not answer /ping and is ended", self._directory)
                running.process.kill()

    def _keep_running(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the process, and start another one, until the server is stopped."""
        pause = 0.0
        while True:
            process.wait()
            with self._lock:
                running, self._running = self._running, None
            for connection in running.idle if running else []:
                connection.close()
            self._kill(process)  # what it has started
            if self._stopping.wait(pause):
                return
            _log.warning("the model server of %s ended (%s) and is started again", self._directory, process.returncode)
            try:
                process, pause = self._launch(), 1.0
            except (ModelServerError, OSError) as error:
                _log.warning("the model server of %s cannot be started again: %s", self._directory, error)
                pause = min(2 * pause or 1.0, _LONGEST_PAUSE)

    def _copy_log(self, stream: IO[bytes]) -> None:
        while line := stream.readline(_LONGEST_LINE):
            self._write_log([line.decode(errors="replace").rstrip()])
        stream.close()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process)
        process.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)  # TensorFlow, killed, leaves files there
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _in_thread(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True, name=f"serving {self._directory}")
        with self._lock:  # whoever stops the server joins threads that have begun
            thread.start()
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]


def _ping(running: _Running) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=_PING_SECONDS)
    try:
        connection.request("GET", f"{running.path}/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone; macOS says so of a zombie by the second
        os.killpg(process.pid, signal.SIGKILL)
