"""TensorFlow Serving's predict API over the SavedModels of one directory.

As in TensorFlow Serving, a model runs in a session over its graph, and errors have TensorFlow's own messages.
https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf

from localmode.core.archives import saved_models
from localmode.modelserver.decode import Arrays, RequestError, from_inputs, from_instances
from localmode.modelserver.encode import to_outputs, to_predictions

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_DEFAULT_SIGNATURE = "serving_default"
_STATUS = {  # HTTP status of TensorFlow's errors: tensorflow_serving/model_servers/http_server.cc
    tf.errors.CANCELLED: 499,
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.DEADLINE_EXCEEDED: 504,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.ABORTED: 409,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.UNAUTHENTICATED: 401,
}
_PARSE_ERRORS = {  # errors of Python's json module: messages of TensorFlow Serving's parser
    "Expecting value": "Invalid value.",
    "Extra data": "The document root must not be followed by other values.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] after an array element.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
}
tf.get_logger().setLevel("ERROR")  # without the warning against sessions


class SavedModel:
    """One version of a model, loaded when it is first used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loading = threading.Lock()
        self._callables: dict[str, Callable[..., Any]] = {}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            return session, tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(self._directory))

    def load(self) -> None:
        """Load the model; raise OSError or a TensorFlow error for one that cannot be loaded."""
        with self._loading:
            _ = self._loaded

    def signature(self, name: str) -> tuple[dict[str, str], Callable[[Arrays], Arrays]]:
        """Return the types of a signature's inputs (NumPy's names), and the signature as a function of arrays."""
        self.load()
        session, meta_graph = self._loaded
        if name not in meta_graph.signature_def:
            raise RequestError(f'Serving signature name: "{name}" not found in signature def')
        signature = meta_graph.signature_def[name]
        inputs, outputs = sorted(signature.inputs), sorted(signature.outputs)
        if name not in self._callables:
            self._callables[name] = session.make_callable(
                [signature.outputs[key].name for key in outputs],
                feed_list=[signature.inputs[key].name for key in inputs],
            )

        def run(arrays: Arrays) -> Arrays:
            values = self._callables[name](*(arrays[key] for key in inputs))
            return dict(zip(outputs, values, strict=True))

        types = {key: tf.as_dtype(signature.inputs[key].dtype).as_numpy_dtype for key in inputs}
        return {key: "object" if kind is object else kind.__name__ for key, kind in types.items()}, run


class Models:
    """All models of a directory. The constructor raises ArchiveError, or ValueError for an unknown default model."""

    def __init__(self, directory: Path, default: str = "") -> None:
        self._models = {
            name: {version: SavedModel(path) for version, path in versions.items()}
            for name, versions in saved_models(directory).items()
        }
        self.default = default or next(iter(self._models))
        if self.default not in self._models:
            raise ValueError(f"SAGEMAKER_TFS_DEFAULT_MODEL_NAME is {default!r}; there is {', '.join(self._models)}")
        self._find("", "").load()

    def __str__(self) -> str:
        """Return the models and versions, for the log."""
        return ", ".join(f"model {name} version {max(versions)}" for name, versions in self._models.items())

    def predict(self, name: str, version: str, body: bytes) -> str:
        """Answer a request; without name and version, with the highest version of the default model.

        Raises RequestError with TensorFlow Serving's HTTP status.
        """
        model = self._find(name, version)
        request = _parse(body)
        signature = request.get("signature_name", _DEFAULT_SIGNATURE)
        if not isinstance(signature, str):
            raise RequestError(
                f"JSON Value: {json.dumps(request)[:300]} not formatted correctly. 'signature_name' key must be a "
                "string value."
            )
        inputs, run = model.signature(signature or _DEFAULT_SIGNATURE)
        if {"instances", "inputs"} <= request.keys():
            raise RequestError("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
        exact = b"true" not in body and b"false" not in body
        if "instances" in request:
            return to_predictions(_run(run, from_instances(request["instances"], inputs, exact)))
        if "inputs" in request:
            return to_outputs(_run(run, from_inputs(request["inputs"], inputs, exact)))
        raise RequestError("Missing 'inputs' or 'instances' key")

    def _find(self, name: str, version: str) -> SavedModel:
        versions = self._models.get(name or self.default, {})
        number = int(version) if version.isdecimal() and version else max(versions, default=-1)
        if number not in versions:
            wanted = f"Specific({name or self.default}, {version})" if version else f"Latest({name})"
            raise RequestError(f"Servable not found for request: {wanted}", 404)
        return versions[number]


def _run(run: Callable[[Arrays], Arrays], arrays: Arrays) -> Arrays:
    try:
        return run(arrays)
    except tf.errors.OpError as error:
        raise RequestError(error.message, _STATUS.get(error.error_code, 500)) from error
    except ValueError as error:  # a shape that the signature does not accept
        raise RequestError(str(error)) from error


def _parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object; raise RequestError for anything else."""
    if not body:
        raise RequestError("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"JSON Parse error: {_PARSE_ERRORS.get(error.msg, error.msg)} at offset: {error.pos}"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8; nested too deeply
        raise RequestError(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(f"JSON Value: {json.dumps(document)[:300]} Is not object")
    return document
