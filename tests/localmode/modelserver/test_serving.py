"""What the model server answers is what TensorFlow Serving and SageMaker's TensorFlow inference container answer.

The same tests run against real ones where these variables say that they serve the model of serving_model.py:

    INFERENCE_CONTAINER_URL   http://HOST:8080
    TENSORFLOW_SERVING_URL    http://HOST:8501/v1/models/model
"""

import base64
import http.client
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

JSON = "application/json"


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    content_type: str
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Target:
    """A server to ask: ours or a real one."""

    def __init__(self, url: str, path: str) -> None:
        self.path = path
        self._url = urlsplit(url)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        content = body.encode() if isinstance(body, str) else body
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(str(self._url.hostname), self._url.port, timeout=60)) as connection:
            connection.request(method, self._url.path + path, content, names)
            response = connection.getresponse()
            return Reply(response.status, response.getheader("Content-Type", ""), response.read().decode())

    def __call__(self, body: Any, content_type: str = JSON, **headers: str) -> Reply:
        """Ask for predictions; what is no text is sent as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        return self.ask("POST", self.path, text, Content_Type=content_type, **headers)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.serving_model import save_model

    return save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve directories in this process; each call returns a URL."""
    from localmode.modelserver.server import Server, prepare

    running = []

    def start(directory: Path) -> str:
        server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
        try:
            url = prepare(server, directory)
        except ValueError:
            server.server_close()
            raise
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return url

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(scope="module")
def own_url(serve: Callable[[Path], str], model: Path) -> str:
    return serve(model)


REAL_CONTAINER = os.environ.get("INFERENCE_CONTAINER_URL", "")
REAL_SERVING = os.environ.get("TENSORFLOW_SERVING_URL", "")


@pytest.fixture(scope="module", params=["ours", *["container"] * bool(REAL_CONTAINER)])
def container(request: pytest.FixtureRequest, own_url: str) -> Target:
    """A container: /ping and /invocations."""
    return Target(own_url if request.param == "ours" else REAL_CONTAINER, "/invocations")


@pytest.fixture(
    scope="module",
    params=["ours", "our REST API", *["container"] * bool(REAL_CONTAINER), *["serving"] * bool(REAL_SERVING)],
)
def predict(request: pytest.FixtureRequest, own_url: str) -> Target:
    """Whoever takes TensorFlow Serving's JSON: a container or TensorFlow Serving itself."""
    return {
        "ours": Target(own_url, "/invocations"),
        "our REST API": Target(own_url, "/v1/models/model:predict"),
        "container": Target(REAL_CONTAINER or own_url, "/invocations"),
        "serving": Target(REAL_SERVING.removesuffix("/v1/models/model") or own_url, "/v1/models/model:predict"),
    }[request.param]


# TensorFlow Serving's JSON


KINDS = {
    "text": ["Ab"],
    "integer": [-(2**31)],
    "long": [2**62],
    "byte": [255],
    "flag": [True],
    "double": [0.1],
}


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"instances": [1.0, 2, 5]}, {"predictions": [10.5, 11.0, 12.5]}),
        ({"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[10.5, 11.0], [11.5, 12.0]]}),
        ({"instances": [{"x": [2.0]}, {"x": [4.0]}]}, {"predictions": [[11.0], [12.0]]}),
        ({"instances": [[[]], [[]]]}, {"predictions": [[[]], [[]]]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [10.5, 11.0]}),
        ({"inputs": {"x": [[2.0]]}}, {"outputs": [[11.0]]}),
        ({"inputs": 2.0}, {"outputs": 11.0}),
        ({"inputs": []}, {"outputs": []}),
        ({"signature_name": "serving_default", "inputs": 2.0}, {"outputs": 11.0}),
        ({"signature_name": "", "inputs": 2.0}, {"outputs": 11.0}),
        (
            {"signature_name": "pair", "instances": [{"a": [1, 2], "b": [3, 4]}, {"a": [0, 0], "b": [5, 6]}]},
            {"predictions": [{"sum": [4.0, 6.0], "scalars": 11.0}, {"sum": [5.0, 6.0], "scalars": 0.0}]},
        ),
        (
            {"signature_name": "pair", "inputs": {"a": [[1, 2]], "b": [[3, 4]]}},
            {"outputs": {"sum": [[4.0, 6.0]], "scalars": [11.0]}},
        ),
        (
            {"signature_name": "kinds", "inputs": KINDS},
            {"outputs": {**KINDS, "text": ["ab"], "text_bytes": [{"b64": "QWI="}]}},
        ),
        (
            {"signature_name": "kinds", "inputs": {**KINDS, "text": [{"b64": base64.b64encode(b"\xffA").decode()}]}},
            {"outputs": {**KINDS, "text": ["\ufffda"], "text_bytes": [{"b64": "/0E="}]}},
        ),
    ],
)
def test_predictions_come_in_the_format_of_the_request(predict: Target, request_: Any, answer: Any) -> None:
    reply = predict(request_)
    assert (reply.status, reply.json) == (200, answer), reply.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "10.0"),
        ("2e12", "1e+12"),
        ("-0.000020002", "9.99999"),
        ("0.2", "10.1"),
        ("1.3333333", "10.666667"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("3.4e38", "1.7e+38"),
    ],
)
def test_numbers_are_written_as_tensorflow_serving_writes_them(predict: Target, value: str, text: str) -> None:
    assert "".join(predict(f'{{"inputs": {value}}}').text.split()) == f'{{"outputs":{text}}}'


INSTANCE = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"instances": [1', "JSON Parse error: "),
        ('{"inputs": ' + "[" * 100_000, "JSON Parse error: "),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": 1}, "Excepting 'instances' to be an list/array"),
        ({"instances": [1], "inputs": [1]}, "Not formatted correctly expecting only one of 'inputs' or 'instances'"),
        ({"signature_name": 1, "instances": [1]}, "'signature_name' key must be a string value."),
        ({"signature_name": "none", "instances": [1]}, 'Serving signature name: "none" not found in signature def'),
        ({"instances": ["a"]}, INSTANCE.format(0) + 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"instances": [1, True]}, INSTANCE.format(1) + "JSON Value: true Type: True is not of expected type: float"),
        ({"instances": [1, None]}, INSTANCE.format(1) + "JSON Value: null Type: Null is not of expected type: float"),
        ({"instances": [[1, 2], [3]]}, INSTANCE.format(1) + "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, INSTANCE.format(1) + "Expecting shape [1,2] but got: [2,1]"),
        ({"instances": [[1, [2]]]}, INSTANCE.format(0) + "Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[[1], 2]]}, INSTANCE.format(0) + "JSON Value: 2 found at incorrect level: 2 in the JSON DOM"),
        ({"instances": [[[1], [2, 3]]]}, INSTANCE.format(0) + "Encountered list at unexpected size: 2 at level: 1"),
        ({"instances": [16777217]}, INSTANCE.format(0) + "Cannot convert JSON value: 16777217 to float without loss"),
        ({"instances": [1e39]}, INSTANCE.format(0) + "Cannot convert JSON value: 1e+39 to float without loss"),
        ({"instances": [{"junk": 1}]}, "Failed to process element: 0 key: junk of 'instances' list. Error: "),
        ({"instances": [{"x": 1}, 2]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [1, {"x": 2}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"signature_name": "pair", "instances": [[1]]}, "instances is a plain list, but expecting list of objects"),
        ({"signature_name": "pair", "instances": [{"a": [1, 2]}]}, "keys must be equal to: a,b"),
        ({"signature_name": "pair", "inputs": [[1]]}, "inputs is a plain value/list, but expecting an object"),
        ({"signature_name": "pair", "inputs": {"a": [[1, 2]]}}, "Missing named input: b in 'inputs' object."),
        ({"signature_name": "kinds", "inputs": {**KINDS, "integer": [1.5]}}, "is not of expected type: int32"),
        ({"signature_name": "kinds", "inputs": {**KINDS, "long": [2**63]}}, "is not of expected type: int64"),
        ({"signature_name": "kinds", "inputs": {**KINDS, "flag": [1]}}, "is not of expected type: bool"),
        ({"signature_name": "kinds", "inputs": {**KINDS, "text": [{"b64": "?"}]}}, "Unable to base64 decode"),
        ({"signature_name": "kinds", "inputs": {**KINDS, "text": [{"a": "b"}]}}, "not formatted correctly for base64"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_what_tensorflow_serving_refuses_is_refused_in_its_words(predict: Target, body: Any, message: str) -> None:
    reply = predict(body)
    assert (reply.status, list(reply.json)) == (400, ["error"]), reply.text
    assert message in reply.json["error"]


def test_what_the_model_refuses_is_the_client_s_error(predict: Target) -> None:
    reply = predict({"signature_name": "pair", "inputs": {"a": [[1, 2]], "b": [[1, 2, 3]]}})
    assert (reply.status, list(reply.json)) == (400, ["error"])


# The container around it


def test_it_answers_pings_and_knows_no_other_path(container: Target) -> None:
    assert container.ask("GET", "/ping").status == 200
    assert container.ask("GET", "/elsewhere").status == container.ask("POST", "/elsewhere", "{}").status == 404


@pytest.mark.parametrize(
    ("body", "content_type", "predictions"),
    [
        ("[1.0, 2.0]", JSON, [[10.5, 11.0]]),
        ("[[1.0, 2.0], [3.0, 4.0]]", JSON, [[10.5, 11.0], [11.5, 12.0]]),
        ("2.0", JSON, [11.0]),
        ('{"x": [2.0]}', JSON, [[11.0]]),
        ("[1.0, 2.0]\n[3.0, 4.0]", JSON, [[10.5, 11.0], [11.5, 12.0]]),
        ('{"x": [2.0]}\r\n{"x": [4.0]}\n', "application/jsonlines", [[11.0], [12.0]]),
        ("[2.0]\n\n[4.0]", "application/jsons", [[11.0], [12.0]]),
        ("2.0", "text/csv", [11.0]),
        ("2.0\n4\n-1e1", "text/csv", [11.0, 12.0, 5.0]),
        ("1.0,2.0\n\n3.0,4.0\n", "text/csv", [[10.5, 11.0], [11.5, 12.0]]),
    ],
)
def test_json_lines_and_csv_become_instances(container: Target, body: str, content_type: str, predictions: Any) -> None:
    reply = container(body, content_type)
    assert (reply.status, reply.json) == (200, {"predictions": predictions}), reply.text


@pytest.mark.parametrize(
    ("text", "instances"),
    [
        ("red\nblue", ["red", "blue"]),
        ("red,blue", [["red", "blue"]]),
        ("red,green,blue", [["red", "green,blue"]]),  # as the container does
        ('"red","green","blue"', [["red", "green", "blue"]]),
    ],
)
def test_words_in_csv_are_quoted_unless_they_are(text: str, instances: Any) -> None:
    from localmode.modelserver.handlers import from_csv

    assert json.loads(from_csv(text)) == {"instances": instances}


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-8", "application/x-npy"])
def test_another_content_type_is_not_supported(container: Target, content_type: str) -> None:
    reply = container("[1]", content_type)
    assert (reply.status, reply.json) == (415, {"error": f"Unsupported Media Type: {content_type}"})


def test_a_request_without_a_content_type_is_not_supported(container: Target) -> None:
    reply = container.ask("POST", "/invocations", "[1]")
    assert (reply.status, reply.json) == (415, {"error": "Unsupported Media Type: Unknown"})


@pytest.mark.parametrize("body", ["whatever", "", "\x00", '{"instances"'])
def test_a_body_that_is_no_json_is_the_client_s_error(container: Target, body: str) -> None:
    reply = container(body)
    assert (reply.status, list(reply.json)) == (400, ["error"])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/jsonlines", "application/jsonlines"),
        ("application/json, application/jsonlines", JSON),
        ("application/jsonlines,text/plain", "application/jsonlines"),
        ("*/*", JSON),
        ("text/plain", JSON),
    ],
)
def test_the_answer_comes_in_the_accepted_type_on_one_line(container: Target, accept: str, content_type: str) -> None:
    reply = container({"instances": [2.0]}, Accept=accept)
    assert (reply.content_type, reply.json) == (content_type, {"predictions": [11.0]})
    if "json" in accept:
        assert "\n" not in reply.text


@pytest.mark.parametrize(
    ("attributes", "status", "answer"),
    [
        ("tfs-model-version=1", 200, {"predictions": [2.0]}),
        ("tfs-model-name=model,tfs-model-version=10,tfs-method=predict", 200, {"predictions": [11.0]}),
        ("c000b4f9, anything", 200, {"predictions": [11.0]}),
        ("tfs-model-version=3", 404, {"error": "Servable not found for request: Specific(model, 3)"}),
        ("tfs-model-name=other", 404, {"error": "Servable not found for request: Latest(other)"}),
    ],
)
def test_custom_attributes_choose_name_and_version(
    container: Target, attributes: str, status: int, answer: Any
) -> None:
    reply = container({"instances": [2.0]}, X_Amzn_SageMaker_Custom_Attributes=attributes)
    assert (reply.status, reply.json) == (status, answer)


def test_clients_at_once_get_each_its_own_answer(own_url: str) -> None:
    def ask(number: int) -> Any:
        return Target(own_url, "/invocations")({"instances": [2.0 * number]}).json["predictions"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == [[10.0 + number] for number in range(64)]


def test_a_version_that_several_ask_for_first_is_loaded_once(
    model: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    loads, load = [], tf.compat.v1.saved_model.load
    url = serve(model)
    monkeypatch.setattr(tf.compat.v1.saved_model, "load", lambda *args: loads.append(args) or load(*args))

    def ask(_: int) -> Any:
        headers = {"X_Amzn_SageMaker_Custom_Attributes": "tfs-model-version=1"}
        return Target(url, "/invocations")({"instances": [2.0]}, **headers).json

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [{"predictions": [2.0]}] * 8
    assert len(loads) == 1


def test_nobody_without_its_secret_gets_an_answer(own_url: str) -> None:
    url = own_url.rpartition("/")[0]
    assert Target(url, "/invocations")({"instances": [2.0]}).status == 404
    assert Target(f"{url}/wrong", "/invocations")({"instances": [2.0]}).status == 404
    assert Target(url, "").ask("GET", "/ping").status == 404


# Directories that cannot be served


def test_an_archive_without_a_numbered_saved_model_says_so(serve: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="no numbered SavedModel"):
        serve(tmp_path)


def test_a_saved_model_that_tensorflow_cannot_read_says_so(serve: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ValueError, match="saved_model.pb"):
        serve(tmp_path)


# Code in the archive


HANDLERS = """
import json, helper
def input_handler(data, context):
    if context.request_content_type != "text/plain":
        raise ValueError(f"unsupported content type {context.request_content_type}")
    return json.dumps({"instances": [helper.number(word) for word in data.read().decode().split()]})
def output_handler(response, context):
    if response.status_code != 200:
        raise ValueError(response.content.decode())
    answer = " ".join(map(str, response.json()["predictions"]))
    return f"{answer} {context.custom_attributes} {context.content_length}", "text/plain"
"""


def with_code(model: Path, directory: Path, **files: str) -> Path:
    """Return a directory with the model and code beside it."""
    shutil.copytree(model, directory)
    (directory / "code").mkdir()
    for name, content in files.items():
        (directory / "code" / f"{name}.py").write_text(content)
    return directory


@pytest.fixture(scope="module")
def handlers(serve: Callable[[Path], str], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    before, modules = list(sys.path), set(sys.modules)
    files = {"inference": HANDLERS, "helper": "number = float"}
    yield Target(serve(with_code(model, tmp_path_factory.mktemp("code") / "model", **files)), "/invocations")
    sys.path[:] = before
    for name in {"inference", "helper"} - modules:
        del sys.modules[name]


def test_input_and_output_handler_are_honoured(handlers: Target) -> None:
    reply = handlers("2 4", "text/plain", X_Amzn_SageMaker_Custom_Attributes="tfs-model-version=1,trace")
    assert reply == Reply(200, "text/plain", "2.0 3.0 tfs-model-version=1,trace 3")


def test_what_a_handler_raises_is_the_server_s_error(handlers: Target) -> None:
    reply = handlers("2", "application/x-unknown")
    assert (reply.status, reply.json) == (500, {"error": "unsupported content type application/x-unknown"})
    assert (
        "Servable not found"
        in handlers("2", "text/plain", X_Amzn_SageMaker_Custom_Attributes="tfs-model-version=7").text
    )
    assert handlers.ask("GET", "/ping").status == 200


def test_a_handler_does_all_by_itself(
    serve: Callable[[Path], str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "inference", raising=False)
    script = (
        "import requests\n"
        "def handler(data, context):\n"
        "    assert context._fields[:4] == ('model_name', 'model_version', 'method', 'rest_uri')\n"
        "    answer = requests.post(context.rest_uri, data=data.read())\n"
        "    return answer.content, context.accept_header\n"
    )
    target = Target(serve(with_code(model, tmp_path / "model", inference=script)), "/invocations")
    reply = target({"inputs": 2.0}, Accept="application/x-mine")
    assert (reply.content_type, reply.json) == ("application/x-mine", {"outputs": 11.0})


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def input_handler(data, context): pass", "neither a handler nor an input_handler and an output_handler"),
        ("def handler(:", "SyntaxError: "),
    ],
)
def test_code_that_cannot_be_used_says_why(
    serve: Callable[[Path], str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "inference", raising=False)
    with pytest.raises(ValueError, match=f"code/inference.py cannot be used: .*{reason}"):
        serve(with_code(model, tmp_path / "model", inference=script))
