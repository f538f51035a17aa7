"""The model server: a SavedModel behind `/ping` and `/invocations`, as in SageMaker's TensorFlow container.

Run as a process of its own, `python serving.py DIRECTORY`, since it alone needs TensorFlow. It prints one line
of JSON, `{"port": ..., "token": ...}` or `{"error": ...}`, and ends when its standard input does.
https://github.com/aws/deep-learning-containers describes the container, https://www.tensorflow.org/tfx/serving/api_rest
the JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class RequestError(Exception):
    """A request that the model cannot answer, with the HTTP status to say so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def find_saved_model(directory: Path) -> Path:
    """Return the SavedModel with the highest version number; raise FileNotFoundError if there is none."""
    versions = [path.parent for path in directory.rglob("saved_model.pb") if path.parent.name.isdigit()]
    if not versions:
        raise FileNotFoundError("model.tar.gz holds no numbered SavedModel (1/saved_model.pb)")
    return max(versions, key=lambda path: int(path.name))


def load_predictor(saved_model: Path) -> Callable[[Any], list[Any]]:
    """Load a SavedModel; return a function from a batch in JSON form to a batch of predictions in JSON form."""
    import tensorflow as tf

    model = tf.saved_model.load(str(saved_model))
    signature = model.signatures["serving_default"]
    (name, spec), *others = signature.structured_input_signature[1].items()
    if others:
        raise ValueError("the model has several inputs; one is supported")

    def predict(instances: Any) -> list[Any]:
        try:
            batch = tf.convert_to_tensor(instances, dtype=spec.dtype)
            spec.shape.assert_is_compatible_with(batch.shape)
        except (ValueError, TypeError) as error:
            expected = f"{spec.dtype.name}{spec.shape}"
            raise RequestError(400, f"instances cannot be read as {expected}: {str(error)[:300]}") from error
        outputs = signature(**{name: batch})
        if len(outputs) == 1:
            return list(next(iter(outputs.values())).numpy().tolist())
        columns = {key: value.numpy().tolist() for key, value in outputs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    predict.model = model  # type: ignore[attr-defined]  # the signature holds it only weakly
    return predict


def answer(predict: Callable[[Any], list[Any]], content_type: str, body: bytes) -> bytes:
    """Answer the body of an invocation; raise RequestError for one that cannot be answered."""
    if content_type.partition(";")[0].strip() != "application/json":
        raise RequestError(415, f"Unsupported content type {content_type!r}: use application/json")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"JSON Parse error: {error}") from error
    if not isinstance(request, dict) or "instances" not in request:
        raise RequestError(400, "Missing 'instances' key")
    return json.dumps({"predictions": predict(request["instances"])}).encode()


def make_handler(predict: Callable[[Any], list[Any]], token: str) -> type[BaseHTTPRequestHandler]:
    """Return the request handler for a loaded model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not secrets.compare_digest(self.headers.get("X-Localmode-Token", ""), token):
                self._send(403, b"")
            elif self.path != "/invocations":
                self._send(404, b"")
            else:
                try:
                    self._send(200, answer(predict, self.headers.get("Content-Type", ""), body))
                except RequestError as error:
                    self._send(error.status, json.dumps({"error": str(error)}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of what went well."""

    return Handler


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main(directory: Path) -> int:
    """Serve the model in `directory` until standard input ends."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        predict = load_predictor(find_saved_model(directory))
    except (OSError, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    token = secrets.token_hex(16)
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(predict, token))
    print(json.dumps({"port": server.server_port, "token": token}), flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
