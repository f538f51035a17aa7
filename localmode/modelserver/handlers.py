"""What SageMaker's TensorFlow inference container does with a request before and after TensorFlow Serving.

Without code in the archive: JSON, JSON lines and CSV become TensorFlow Serving's JSON. With `code/inference.py`,
its `handler`, or its `input_handler` and `output_handler`, do that.
https://github.com/aws/sagemaker-tensorflow-serving-container, README.md and docker/build_artifacts/sagemaker.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from localmode.modelserver.decode import RequestError
from localmode.modelserver.predict import Models

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_JSON = "application/json"
_JSON_TYPES = (_JSON, "application/jsonlines", "application/jsons")
_ATTRIBUTE = re.compile(r"(tfs-[a-z-]+)=([^,]+)")
_SERVING_JSON = re.compile(r'"(instances|inputs|examples)"\s*:')
_NEXT_LINE = re.compile(r"[}\]]\s*[\[{]")  # values with nothing but white space between them
_TWO_DIMENSIONS = re.compile(r"\s*\[\s*\[")
_QUOTED_OR_NUMBER = re.compile(r'\s*["\d.Ee+-]')

# The members are those of the context that the container passes to a handler.
Context = namedtuple(
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length",
)


@dataclass(frozen=True)
class Answer:
    """An answer: HTTP status, body and content type."""

    status: int
    body: bytes
    content_type: str = _JSON


Headers = Mapping[str, str] | Message
_AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)  # more predictions at once would only slow each other
Invoke = Callable[[Headers, bytes], Answer]


def error(status: int, message: str) -> Answer:
    """Return an error in the form of TensorFlow Serving and the container: a JSON object with the key `error`."""
    return Answer(status, json.dumps({"error": message}).encode())


def predict(models: Models, name: str, version: str, method: str, body: bytes) -> Answer:
    """Answer a request to TensorFlow Serving's REST API."""
    try:
        if method != "predict":
            raise RequestError(f"localmode does not support the method {method!r}: use predict", 501)
        with _AT_ONCE:
            return Answer(200, models.predict(name, version, body).encode())
    except RequestError as refusal:
        return error(refusal.status, str(refusal))


def attributes(headers: Headers) -> dict[str, str]:
    """Return the custom attributes of a request that are for TensorFlow Serving, such as `tfs-model-version=2`."""
    return dict(_ATTRIBUTE.findall(headers.get(CUSTOM_ATTRIBUTES) or ""))


def directly(models: Models) -> Invoke:
    """Return the function with which a container without `inference.py` answers an invocation."""

    def invoke(headers: Headers, body: bytes) -> Answer:
        content_type = headers.get("Content-Type")
        if content_type not in (*_JSON_TYPES, "text/csv"):
            return error(415, f"Unsupported Media Type: {content_type or 'Unknown'}")
        try:
            text = body.decode()
        except UnicodeDecodeError as failure:
            return error(400, f"JSON Parse error: {failure}")
        request = (from_csv if content_type == "text/csv" else from_json)(text).encode()
        tfs = attributes(headers)
        answer = predict(
            models,
            tfs.get("tfs-model-name", ""),
            tfs.get("tfs-model-version", ""),
            tfs.get("tfs-method", "predict"),
            request,
        )
        accepted = headers.get("Accept", "").strip().replace(" ", "").split(",")
        content_type = accepted[0] if {"application/jsonlines", _JSON} & set(accepted) else _JSON
        return Answer(answer.status, answer.body, content_type)

    return invoke


def from_json(text: str) -> str:
    """Convert JSON, JSON lines or bare instances to TensorFlow Serving's JSON."""
    if _SERVING_JSON.search(text):
        return text
    if _NEXT_LINE.search(text):
        lines = text.strip().splitlines()
        instances = ",".join(line.strip() for line in lines if line.strip())
        return f'{{"instances":{instances if len(lines) == 1 else f"[{instances}]"}}}'
    return f'{{"instances":{text if _TWO_DIMENSIONS.match(text) else f"[{text}]"}}}'


def from_csv(text: str) -> str:
    """Convert CSV to TensorFlow Serving's JSON: a line becomes a list or, if it has no comma, a value.

    In lines of words without quotes, only the first comma and the first quote count, as in the container.
    """
    bare_words = not _QUOTED_OR_NUMBER.match(text)
    instances = []
    for line in filter(None, map(str.strip, text.strip().splitlines())):
        values = line
        if bare_words:
            values = '"' + line.replace('"', '\\"', 1).replace(",", '","', 1) + '"'
        instances.append(f"[{values}]" if "," in line else values)
    return f'{{"instances":[{",".join(instances)}]}}'


def through_handlers(script: Path, default_model: str, rest_uri: str) -> Invoke:
    """Return the function with which a container with `inference.py` answers an invocation.

    `rest_uri` is the URL of TensorFlow Serving's REST API in this process, `http://HOST:PORT/v1/models`. Raises
    the exceptions that the script raises when it is imported.
    """
    import requests

    script_module = _imported(script)
    handler = getattr(script_module, "handler", None)
    if handler is None:
        input_handler, output_handler = script_module.input_handler, script_module.output_handler

        def handler(data: Any, context: Any) -> Any:
            response = requests.post(context.rest_uri, data=input_handler(data, context), timeout=60)
            return output_handler(response, context)

    def invoke(headers: Headers, body: bytes) -> Answer:
        context = _context(headers, len(body), default_model, rest_uri)
        answer, content_type = handler(io.BytesIO(body), context)
        return Answer(200, answer.encode() if isinstance(answer, str) else bytes(answer or b""), content_type or _JSON)

    return invoke


def _imported(script: Path) -> Any:
    for directory in (script.parent / "lib", script.parent):
        if directory.is_dir():
            sys.path.insert(0, str(directory))
    spec = importlib.util.spec_from_file_location("inference", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["inference"] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "handler") and not (hasattr(module, "input_handler") and hasattr(module, "output_handler")):
        raise NotImplementedError("it has neither a handler nor an input_handler and an output_handler")
    return module


def _context(headers: Headers, length: int, default_model: str, rest_uri: str) -> Any:
    tfs = attributes(headers)
    version = tfs.get("tfs-model-version")
    versioned = f"/versions/{version}" if version else ""
    name = tfs.get("tfs-model-name", default_model)
    return Context(
        model_name=tfs.get("tfs-model-name"),
        model_version=version,
        method=tfs.get("tfs-method"),
        rest_uri=f"{rest_uri}/{name}{versioned}:{tfs.get('tfs-method', 'predict')}",
        grpc_port=None,  # there is no gRPC here
        channel=None,
        custom_attributes=headers.get(CUSTOM_ATTRIBUTES),
        request_content_type=headers.get("Content-Type") or _JSON,
        accept_header=headers.get("Accept") or _JSON,
        content_length=length,
    )
