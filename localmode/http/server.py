"""The HTTP server: a listening socket on 127.0.0.1 and a thread for each connection."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from localmode.core.threads import start_thread
from localmode.core.wsgi import HEADERS, TARGET
from localmode.http.middleware import Application


class _Handler(WSGIRequestHandler):
    """Logs failed requests only."""

    def make_environ(self) -> dict[str, Any]:
        """Add the request as the client signed it: WSGI decodes the path, and drops headers with an underscore."""
        signed = {HEADERS: list(self.headers.items()), TARGET: self.requestline.split()[1]}
        return super().make_environ() | signed

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code) >= "500":
            super().log_request(code, size)


class _Server(ThreadedWSGIServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread of its own."""
        answer = partial(self.process_request_thread, request, client_address)
        start_thread("request", answer, "The client gets no response.")


def bind(port: int) -> socket.socket:
    """Listen on 127.0.0.1, on `port`, or on a free port if `port` is 0 or taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def make_server(listener: socket.socket, application: Application) -> BaseWSGIServer:
    """Return the server for a listening socket."""
    host, port = listener.getsockname()
    return _Server(host, port, application, _Handler, fd=listener.fileno())
