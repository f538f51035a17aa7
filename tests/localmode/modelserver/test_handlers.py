"""The work of the inference container before and after TensorFlow Serving, and the user's handlers."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import JSON, Reply, Target


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
