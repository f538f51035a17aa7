"""The model server without a model: what it accepts, what it answers, who may ask."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localmode.serving import RequestError, answer, find_saved_model, make_handler

JSON = "application/json"


def double(instances: Any) -> list[Any]:
    """Stand in for a model."""
    if not isinstance(instances, list):
        raise RequestError(400, "instances cannot be read")
    return [2 * instance for instance in instances]


def test_instances_become_predictions() -> None:
    assert json.loads(answer(double, JSON, b'{"instances": [1, 2]}')) == {"predictions": [2, 4]}


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8"])
def test_json_may_name_its_encoding(content_type: str) -> None:
    assert answer(double, content_type, b'{"instances": []}') == b'{"predictions": []}'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        ("text/csv", b"1,2", 415, "Unsupported content type 'text/csv'"),
        ("", b"{}", 415, "Unsupported content type ''"),
        (JSON, b"{", 400, "JSON Parse error"),
        (JSON, b"\xff", 400, "JSON Parse error"),
        (JSON, b"[" * 100_000, 400, "JSON Parse error"),
        (JSON, b"[1]", 400, "Missing 'instances' key"),
        (JSON, b'{"inputs": [1]}', 400, "Missing 'instances' key"),
        (JSON, b'{"instances": 1}', 400, "instances cannot be read"),
    ],
)
def test_a_body_that_cannot_be_answered_is_the_client_s_error(
    content_type: str, body: bytes, status: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        answer(double, content_type, body)
    assert caught.value.status == status


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(double, "secret"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


def ask(server: ThreadingHTTPServer, method: str, path: str, token: str = "secret") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    headers = {"Content-Type": JSON, "X-Localmode-Token": token}
    connection.request(method, path, b'{"instances": [1]}' if method == "POST" else None, headers)
    response = connection.getresponse()
    status, body = response.status, response.read()
    connection.close()
    return status, body


def test_it_answers_pings_and_invocations(server: ThreadingHTTPServer) -> None:
    assert ask(server, "GET", "/ping") == (200, b"")
    assert ask(server, "POST", "/invocations") == (200, b'{"predictions": [2]}')
    assert ask(server, "POST", "/elsewhere") == (404, b"")


def test_nobody_without_its_token_gets_an_answer(server: ThreadingHTTPServer) -> None:
    assert ask(server, "POST", "/invocations", "wrong") == (403, b"")


def test_the_highest_version_is_served(tmp_path: Path) -> None:
    for version in ("1", "2", "10", "draft"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    assert find_saved_model(tmp_path) == tmp_path / "10"


def test_an_archive_without_a_numbered_saved_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(FileNotFoundError, match="no numbered SavedModel"):
        find_saved_model(tmp_path)
