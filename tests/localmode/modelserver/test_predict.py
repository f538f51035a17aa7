"""TensorFlow Serving's REST API: predictions, numbers, and errors with its messages."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import Target

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


def test_a_saved_model_that_tensorflow_cannot_read_says_so(serve: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ValueError, match="saved_model.pb"):
        serve(tmp_path)
