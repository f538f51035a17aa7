"""Helpers for WSGI requests."""

from __future__ import annotations

import io
from typing import Any

TARGET = "localmode.target"  # where a WSGI request has its path and query as the client sent them


def as_text(value: str) -> str:
    """Return a header's text: of UTF-8 or, as from Python's http.client, of Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def readable(body: bytes) -> dict[str, Any]:
    """Return the part of a WSGI request by which its body, which has been read, can be read again."""
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def headers_in(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a request's headers with their names in lower case.

    WSGI itself cannot tell `_` from `-` in a name; the server therefore leaves them as they came.
    """
    raw = environ.get("localmode.headers")
    if raw is None:
        raw = [(key[5:].replace("_", "-"), value) for key, value in environ.items() if key.startswith("HTTP_")]
    return [(name.lower(), value) for name, value in raw]
