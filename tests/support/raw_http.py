"""Requests as bytes, for a daemon's HTTP server."""

import socket

from tests.support.local import SOON, Daemon


def raw(daemon: Daemon, content: bytes, more: bytes = b"") -> bytes:
    """Send bytes as they are, end the sending side, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as connection:
        connection.sendall(content)
        if more:
            connection.sendall(more)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def head(daemon: Daemon, service: str, *lines: str, method: str = "POST", path: str = "/") -> bytes:
    """Return the head of a request, with a signature (as of no body) and further lines."""
    more = dict(line.split(": ", 1) for line in lines)
    amz = {name: value for name, value in more.items() if name.startswith("X-Amz")}
    headers = daemon.signed(service, method, path, b"", **amz)
    start = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers | more).items())]
    return ("\r\n".join(start) + "\r\n\r\n").encode("latin-1")
