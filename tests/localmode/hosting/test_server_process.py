"""The process of a model server, with a stand-in that has the protocol of localmode.modelserver."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from localmode.core.threads import start_thread
from localmode.hosting import server_process
from localmode.hosting.errors import ModelServerError
from localmode.hosting.server_process import Limits, ModelServer
from tests.support.local import SOON, processes_naming

SERVER = """
import json, os, signal, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

connections = []

class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1

    def setup(self):
        connections.append(self)
        super().setup()

    def do_GET(self):
        busy = (directory / "busy").exists()
        if busy:
            print("pinged", file=sys.stderr, flush=True)
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if body == "die":
            os._exit(3)
        if body == "hang":
            threading.Event().wait()
        if body == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()  # this thread may be the last to stop
        if body == "tmp":
            body = os.environ["TMPDIR"]
            Path(body, "left").touch()
        if body == "chatter":
            for number in range(2000):
                print("x" * 100, file=sys.stderr)
        if body == "leave":
            body = str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        if body == "fork":
            subprocess.Popen(SLEEP)
        answer = f"{os.getpid()} {len(connections)} {self.path} {body}".encode()
        self.send_response(200 if body != "refuse" else 418)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass

directory = Path(sys.argv[1])
SLEEP = ["sh", "-c", "sleep 600; :", str(directory)]
print("started in", directory.name, file=sys.stderr, flush=True)
if (directory / "reason").exists():
    print(json.dumps({"error": (directory / "reason").read_text()}), flush=True)
    sys.exit(1)
if (directory / "silent").exists():
    sys.exit(1)
if (directory / "slow").exists():
    subprocess.run(SLEEP)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}/secret"}), flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.fixture
def lines() -> list[str]:
    """What the server writes to its log."""
    return []


Make = Callable[..., ModelServer]


@pytest.fixture
def make(directory: Path, lines: list[str]) -> Iterator[Make]:
    """Make servers; when the test ends, nothing of them is left."""
    made = []
    command = (sys.executable, str(directory.parent / "server.py"))

    def make(log: Callable[[list[str]], None] = lines.extend, **options: Any) -> ModelServer:
        temporary = directory.parent / "tmp"
        made.append(ModelServer(directory, {"PATH": os.defpath}, log, temporary, command=command, **options))
        return made[-1]

    yield make
    for server in made:
        server.stop()
    assert not (directory.parent / "tmp").exists()
    assert processes_naming(str(directory)) == []


@pytest.fixture
def server(make: Make) -> ModelServer:
    return make()


def ask(server: ModelServer, body: str) -> list[str]:
    """Return what the stand-in says of itself: process, number of connections so far, path, body."""
    answer = server.invoke(body.encode(), {"Content-Type": "text/x"})
    assert (answer.status, answer.content_type) == (200, "text/x")
    return answer.body.decode().split(" ")


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another process."""
    for _ in range(SOON * 100):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it has not happened")


def test_requests_one_after_the_other_share_a_connection(server: ModelServer) -> None:
    server.start()
    answers = [ask(server, "hello") for _ in range(5)]
    assert {tuple(answer[1:]) for answer in answers} == {("1", "/secret/invocations", "hello")}


def test_requests_at_once_have_connections_of_their_own(server: ModelServer) -> None:
    server.start()
    bodies = [f"body-{number}" for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(server, body), bodies))
    assert [answer[3] for answer in answers] == bodies
    assert max(int(answer[1]) for answer in answers) <= 8


def test_an_error_of_the_container_is_an_answer(server: ModelServer) -> None:
    server.start()
    assert server.invoke(b"refuse", {}).status == 418


def test_a_server_that_ends_is_started_again(server: ModelServer, lines: list[str]) -> None:
    server.start()
    before = ask(server, "hello")[0]
    with pytest.raises(ConnectionError):
        server.invoke(b"die", {"Content-Type": "text/x"})
    until(lambda: len(lines) == 2 and server.answers)
    assert ask(server, "hello")[0] != before
    assert lines == ["started in model"] * 2


def test_while_it_is_started_again_it_does_not_answer(server: ModelServer, directory: Path) -> None:
    server.start()
    (directory / "reason").write_text("no more")
    with pytest.raises(ConnectionError):
        server.invoke(b"die", {})
    until(lambda: not server.answers)
    with pytest.raises(ConnectionRefusedError, match="is being started"):
        server.invoke(b"hello", {})
    (directory / "reason").unlink()
    until(lambda: server.answers)


def test_clients_that_meet_its_end_get_an_answer_or_a_connection_error(server: ModelServer) -> None:
    server.start()
    first = int(ask(server, "hello")[0])
    restarted = threading.Event()

    def client(number: int) -> set[str]:
        seen = set()
        while not restarted.is_set():
            try:
                process, _, _, body = ask(server, f"client-{number}")
                assert body == f"client-{number}"
                seen.add(process)
            except ConnectionError:
                seen.add("refused")
        return seen

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        os.kill(first, signal.SIGKILL)
        until(lambda: server.answers and server.pid != first)
        ask(server, "hello")
        restarted.set()
    assert set().union(*(each.result() for each in clients)) - {"refused", str(first)} <= {ask(server, "hello")[0]}


def test_an_answer_that_takes_too_long_is_a_timeout(make: Make) -> None:
    server = make(limits=Limits(invocation=0.1))
    server.start()
    with pytest.raises(TimeoutError):
        server.invoke(b"hang", {})
    assert ask(server, "hello")[3] == "hello"


def test_its_temporary_files_go_with_it(server: ModelServer) -> None:
    server.start()
    left = Path(ask(server, "tmp")[3], "left")
    assert left.exists()
    server.stop()
    assert not left.exists()


def test_a_server_that_hangs_is_started_again(make: Make, lines: list[str]) -> None:
    server = make(limits=Limits(ping=0.1, ping_interval=0.01, unhealthy=0.5))
    server.start()
    before = ask(server, "hello")[0]
    with pytest.raises(ConnectionError):
        server.invoke(b"freeze", {"Content-Type": "text/x"})
    until(lambda: len(lines) == 2 and server.answers)
    assert ask(server, "hello")[0] != before


def test_a_server_that_is_merely_busy_is_left_alone(make: Make, directory: Path) -> None:
    def log(lines: list[str]) -> None:
        if lines == ["pinged"]:
            pings.release()

    pings = threading.Semaphore(0)
    server = make(log, limits=Limits(ping_interval=0.01))
    (directory / "busy").touch()
    server.start()
    before = ask(server, "hello")[0]
    for _ in range(20):
        assert pings.acquire(timeout=SOON)
    assert ask(server, "hello")[0] == before


def test_a_server_answers_whatever_becomes_of_its_log(make: Make) -> None:
    """It would block in the middle of an invocation once the pipe is full, which holds 64 KiB."""

    def full(lines: list[str]) -> None:
        raise OSError(28, "No space left on device")

    server = make(full, limits=Limits(invocation=10.0))
    server.start()
    assert ask(server, "chatter")[3] == "chatter"


def test_what_it_has_started_ends_with_it(server: ModelServer) -> None:
    server.start()
    ask(server, "fork")
    server.stop()
    with pytest.raises(ConnectionError):
        server.invoke(b"hello", {})


def test_a_server_that_says_why_it_cannot_start_is_quoted(server: ModelServer, directory: Path) -> None:
    (directory / "reason").write_text("no model here")
    with pytest.raises(ModelServerError, match="^no model here$"):
        server.start()


def test_a_server_that_exits_before_it_is_ready_points_to_its_log(server: ModelServer, directory: Path) -> None:
    (directory / "silent").touch()
    with pytest.raises(ModelServerError, match="exited before it was ready; see its log"):
        server.start()


def test_a_server_that_takes_too_long_to_start_is_ended_with_all_that_it_started(make: Make, directory: Path) -> None:
    server = make(limits=Limits(startup=1.0))
    (directory / "slow").touch()
    with pytest.raises(ModelServerError, match="no health check within 1 seconds of its start"):
        server.start()
    assert processes_naming(str(directory)) == []


def test_a_server_that_was_stopped_is_not_started(server: ModelServer) -> None:
    server.stop()
    with pytest.raises(ModelServerError, match="is being deleted"):
        server.start()


def test_stopping_while_it_starts_leaves_nothing(make: Make) -> None:
    launched = threading.Event()

    def popen(*arguments: Any, **options: Any) -> Any:
        process = subprocess.Popen(*arguments, **options)
        launched.set()
        return process

    server = make(popen=popen)
    with ThreadPoolExecutor(2) as pool:
        start = pool.submit(server.start)
        assert launched.wait(SOON)
        server.stop()
    assert isinstance(start.exception(), ModelServerError | None)
    until(lambda: not server.answers)


def test_a_server_that_is_stopped_before_its_first_line_is_read_says_so(make: Make) -> None:
    made: list[ModelServer] = []

    class Late:
        """A pipe that is read when the server has been stopped."""

        def __init__(self, pipe: Any) -> None:
            self._pipe = pipe
            self.close = pipe.close

        def readline(self) -> Any:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(made[0].stop).result(SOON)
            return self._pipe.readline()

    def popen(*arguments: Any, **options: Any) -> Any:
        process: Any = subprocess.Popen(*arguments, **options)
        process.stdout = Late(process.stdout)
        return process

    made.append(make(popen=popen))
    with pytest.raises(ModelServerError, match="exited before it was ready"):
        made[0].start()


def test_a_server_that_is_stopped_while_its_threads_begin_ends_with_them(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = []

    def start_late(name: str, *arguments: Any) -> threading.Thread:
        if name.startswith("supervise"):
            stopping.append(pool.submit(server.stop))
            wait(stopping, 0.3)
        return start_thread(name, *arguments)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr("localmode.hosting.server_process.start_thread", start_late)
        server.start()
        assert [each.result(SOON) for each in stopping] == [None]


def test_a_process_that_has_left_the_session_does_not_delay_the_end(
    make: Make, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps standard error open, and so the thread that copies the log does not end."""
    monkeypatch.setattr(server_process, "JOIN_SECONDS", 0.1)
    server = make()
    server.start()
    number = int(ask(server, "leave")[3])
    try:
        server.stop()
    finally:
        os.kill(number, signal.SIGKILL)
    until(lambda: processes_naming(str(directory)) == [])
