"""A model server's process: with a stand-in that speaks as serving.py does, and needs no TensorFlow."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from localmode.hosting import server_process as model_server
from localmode.hosting.server_process import ModelServer, ModelServerError
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
        self.send_response(200)
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


@pytest.fixture
def server(directory: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setattr(ModelServer, "COMMAND", (sys.executable, str(directory.parent / "server.py")))
    server = ModelServer(directory, {"PATH": os.defpath}, lines.extend, directory.parent / "tmp")
    yield server
    server.stop()
    assert not (directory.parent / "tmp").exists()
    assert processes_naming(str(directory)) == []


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
        until(lambda: server.answers and server._process is not None and server._process.pid != first)
        ask(server, "hello")
        restarted.set()
    assert set().union(*(each.result() for each in clients)) - {"refused", str(first)} <= {ask(server, "hello")[0]}


def test_an_answer_that_takes_too_long_is_a_timeout(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "TIMEOUT_SECONDS", 0.1)
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


def test_a_server_that_hangs_is_started_again(
    server: ModelServer, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_server, "_PING_EVERY", 0.01)
    monkeypatch.setattr(model_server, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(model_server, "_UNHEALTHY_AFTER", 0.5)
    server.start()
    before = ask(server, "hello")[0]
    with pytest.raises(ConnectionError):
        server.invoke(b"freeze", {"Content-Type": "text/x"})
    until(lambda: len(lines) == 2 and server.answers)
    assert ask(server, "hello")[0] != before


def test_a_server_that_is_merely_busy_is_left_alone(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pinged = threading.Semaphore(0)
    monkeypatch.setattr(model_server, "_PING_EVERY", 0.01)
    monkeypatch.setattr(model_server, "_ping", lambda _: pinged.release())  # and falsy
    server.start()
    before = ask(server, "hello")[0]
    for _ in range(20):
        assert pinged.acquire(timeout=SOON)
    assert ask(server, "hello")[0] == before


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


def test_a_server_that_ends_without_a_word_points_to_its_log(server: ModelServer, directory: Path) -> None:
    (directory / "silent").touch()
    with pytest.raises(ModelServerError, match="without a word; its log says more"):
        server.start()


def test_a_server_that_takes_too_long_to_start_is_ended_with_all_that_it_started(
    server: ModelServer, directory: Path
) -> None:
    server._startup_seconds = 1.0
    (directory / "slow").touch()
    with pytest.raises(ModelServerError, match="no health check within 1 seconds of its start"):
        server.start()
    assert processes_naming(str(directory)) == []


def test_a_server_that_was_stopped_is_not_started(server: ModelServer) -> None:
    server.stop()
    with pytest.raises(ModelServerError, match="is being deleted"):
        server.start()


def test_stopping_while_it_starts_leaves_nothing(server: ModelServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        start = pool.submit(server.start)
        until(lambda: server._process is not None or start.done())
        server.stop()
    assert isinstance(start.exception(), ModelServerError | None)
    assert not server.answers or server._stopping.is_set()


def test_a_server_that_is_stopped_before_it_is_listened_to_says_so(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen_late(process: Any) -> dict[str, str]:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(server.stop).result()
        return listen(process)

    listen = server._wait_until_ready
    monkeypatch.setattr(server, "_wait_until_ready", listen_late)
    with pytest.raises(ModelServerError, match="without a word"):
        server.start()


def test_a_server_that_is_stopped_while_its_threads_begin_ends_with_them(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = []

    def begin_late(thread: threading.Thread) -> None:
        if thread._target == server._keep_running:
            stopping.append(pool.submit(server.stop))
            wait(stopping, 0.3)
        begin(thread)

    begin = threading.Thread.start
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(threading.Thread, "start", begin_late)
        server.start()
        assert [each.result() for each in stopping] == [None]
