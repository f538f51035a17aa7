"""TODO: localmode/http/server.py"""

from __future__ import annotations

import socket
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from localmode.core.wsgi import TARGET
from localmode.http.app import Application


class _Handler(WSGIRequestHandler):
    """Puts into the daemon's log only what went wrong."""

    def make_environ(self) -> dict[str, Any]:
        """Keep what is signed as it came: WSGI decodes the path, and drops headers with an underscore."""
        kept = {"localmode.headers": list(self.headers.items()), TARGET: self.requestline.split()[1]}
        return super().make_environ() | kept

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code) >= "500":
            super().log_request(code, size)


def bind(port: int) -> socket.socket:
    """Listen on 127.0.0.1, on `port` or, if that is 0 or taken, on a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def serve_on(listener: socket.socket, application: Application) -> BaseWSGIServer:
    """Return the server for a listening socket."""
    host, port = listener.getsockname()
    return make_server(host, port, application, True, request_handler=_Handler, fd=listener.fileno())
