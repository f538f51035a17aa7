"""Commands to a daemon: what is sent, and which answers become errors."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from localmode.client.commands import command, running_state, send
from localmode.core.errors import LocalModeError
from tests.support.local import SOON


class StandInDaemon(HTTPServer):
    """Gives one request the answer that the test chooses, and keeps the request."""

    timeout = SOON
    status, answer = 200, b"{}"
    path, key, body = "", "", b""

    @property
    def state(self) -> dict[str, Any]:
        return {"port": self.server_port, "secret_key": "secret"}


class Handler(BaseHTTPRequestHandler):
    server: StandInDaemon

    def do_POST(self) -> None:
        daemon = self.server
        daemon.path, daemon.key = self.path, self.headers["X-Localmode-Key"]
        daemon.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(daemon.status)
        self.end_headers()
        self.wfile.write(daemon.answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def stand_in() -> Iterator[StandInDaemon]:
    with StandInDaemon(("127.0.0.1", 0), Handler) as daemon, ThreadPoolExecutor(1) as pool:
        served = pool.submit(daemon.handle_request)
        yield daemon
        served.result(SOON)


def test_a_command_carries_its_parameters_and_the_key(stand_in: StandInDaemon, tmp_path: Path) -> None:
    stand_in.answer = b'{"interrupted": true}'
    answer = send(tmp_path, stand_in.state, "interrupt", {"training_job_name": "mine"})
    assert answer == {"interrupted": True}
    assert (stand_in.path, stand_in.key) == ("/_localmode/interrupt", "secret")
    assert json.loads(stand_in.body) == {"training_job_name": "mine"}


def test_a_refusal_has_the_message_of_the_daemon(stand_in: StandInDaemon, tmp_path: Path) -> None:
    stand_in.status, stand_in.answer = 400, b'{"message": "There is no training job"}'
    with pytest.raises(LocalModeError, match="^There is no training job$"):
        send(tmp_path, stand_in.state, "interrupt", {})


def test_an_answer_that_is_not_json_is_an_error_that_names_the_log(stand_in: StandInDaemon, tmp_path: Path) -> None:
    stand_in.answer = b"<html>"
    with pytest.raises(LocalModeError, match=f"does not answer .*; see {tmp_path}/logs/daemon.log"):
        send(tmp_path, stand_in.state, "status", {})


def test_a_daemon_that_refuses_the_connection_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(LocalModeError, match=f"does not answer .*refused.*; see {tmp_path}/logs/daemon.log"):
        send(tmp_path, {"port": port, "secret_key": "secret"}, "status", {})


def test_without_a_daemon_a_command_is_an_error_that_says_how_to_start_one(tmp_path: Path) -> None:
    for call in (lambda: running_state(tmp_path), lambda: command(tmp_path, "status")):
        with pytest.raises(LocalModeError, match=f"No daemon runs over {tmp_path}; `python -m localmode start`"):
            call()
    assert list(tmp_path.iterdir()) == []
