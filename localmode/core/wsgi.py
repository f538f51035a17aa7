"""Helpers for WSGI requests."""

from __future__ import annotations

import io
from typing import Any

TARGET = "localmode.target"  # the key in a WSGI environment for path and query as the client sent them
HEADERS = "localmode.headers"  # the key for the headers as the client sent them, (name, value) pairs


def as_text(value: str) -> str:
    """Decode a header as UTF-8 or, if that fails, as Latin-1, which Python's http.client sends."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def readable(body: bytes) -> dict[str, Any]:
    """Return the entries of a WSGI environment that let a body be read which has been read before."""
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def headers_in(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a request's headers with their names in lower case.

    WSGI does not distinguish `_` from `-` in a name; the server therefore passes them on as the client sent them.
    """
    raw = environ.get(HEADERS)
    if raw is None:
        raw = [(key[5:].replace("_", "-"), value) for key, value in environ.items() if key.startswith("HTTP_")]
    return [(name.lower(), value) for name, value in raw]
