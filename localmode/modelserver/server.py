"""The model server: one instance of an endpoint, with the interface of SageMaker's TensorFlow inference container.

It is a process of its own, `python -m localmode.modelserver DIRECTORY`, because only it needs TensorFlow. It
writes one line of JSON to standard output, `{"url": ...}` or `{"error": ...}`. When its standard input ends, it ends
with all processes that it has started. The URL contains a secret, because every user of the machine can reach the port.
Below the URL it answers

    GET  /ping
    POST /invocations
    POST /v1/models/NAME[/versions/VERSION]:predict    TensorFlow Serving's REST API, for inference.py
"""

from __future__ import annotations

import gc
import json
import os
import re
import secrets
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from localmode.modelserver.handlers import Answer, Invoke, directly, error, predict, through_handlers
from localmode.modelserver.predict import Models

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)", re.IGNORECASE)


def make_handler(models: Models, invoke: Invoke, secret: str) -> type[BaseHTTPRequestHandler]:
    """Return the request handler for loaded models."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body are sent together

        def do_GET(self) -> None:
            self._send(Answer(200, b"") if self._path() == "/ping" else error(404, "Not Found"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                self._send(self._answer(self._path(), body))
            except Exception as failure:  # noqa: BLE001 - the user's code may raise anything
                traceback.print_exc()
                self._send(error(500, str(failure)))

        def _answer(self, path: str, body: bytes) -> Answer:
            if path == "/invocations":
                return invoke(self.headers, body)
            if match := _PREDICT.fullmatch(path):
                return predict(models, match[1], match[2] or "", match[3].lower(), body)
            return error(404, "Not Found")

        def _path(self) -> str:
            """Return the path below the secret; empty if the request does not have the secret."""
            given, _, path = self.path[1:].partition("/")
            return f"/{path}" if secrets.compare_digest(given.encode(), secret.encode()) else ""

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Do not log requests."""

    return Handler


class Server(ThreadingHTTPServer):
    """A server with a thread for each connection; the daemon uses a connection for many requests."""

    request_queue_size = 128


def prepare(server: ThreadingHTTPServer, directory: Path) -> str:
    """Load the models of `directory` into a listening server and return its URL; raise ValueError if that fails."""
    secret = secrets.token_hex(16)
    url = f"http://127.0.0.1:{server.server_port}/{secret}"
    try:
        models = Models(directory, os.environ.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", ""))
    except Exception as failure:
        raise ValueError(str(failure)) from failure
    script = directory / "code" / "inference.py"
    try:
        invoke = through_handlers(script, models.default, f"{url}/v1/models") if script.exists() else directly(models)
    except Exception as failure:
        traceback.print_exc()
        raise ValueError(f"code/inference.py cannot be used: {type(failure).__name__}: {failure}") from failure
    print(f"serving {models}", file=sys.stderr, flush=True)
    server.RequestHandlerClass = make_handler(models, invoke, secret)
    return url


def main(directory: Path) -> int:
    """Serve the models of `directory` until the process is ended: see __main__.py."""
    daemon = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of inference.py goes to the log
    server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    try:
        url = prepare(server, directory)
        gc.freeze()  # a collection over TensorFlow's objects would delay requests by 0.2 s
        print(json.dumps({"url": url}), file=daemon, flush=True)
    except ValueError as failure:
        print(json.dumps({"error": str(failure)}), file=daemon, flush=True)
        return 1
    server.serve_forever()
    return 0
