"""What clients change in IAM and CloudWatch Logs, kept on disk: the requests, made again when the daemon starts.

moto keeps these services in memory. So each request that has changed something is written down, with its time and a
seed for what moto draws at random: made again it has the same effect, to the dates, identifiers and secrets.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import moto.iam.models
import moto.logs.models
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from localmode.core.durable import append_lines, read_lines

_HEADERS = {"Authorization": "HTTP_AUTHORIZATION", "X-Amz-Target": "HTTP_X_AMZ_TARGET", "Content-Type": "CONTENT_TYPE"}
_then: ContextVar[float | None] = ContextVar("then", default=None)


def _utcnow() -> datetime:
    then = _then.get()
    return utcnow() if then is None else datetime.fromtimestamp(then, UTC).replace(tzinfo=None)


@contextmanager
def at(when: float) -> Iterator[None]:
    """Let moto take it for `when` (seconds since the epoch) in this thread: a request of then is answered as it was."""
    token = _then.set(when)
    try:
        yield
    finally:
        _then.reset(token)


@dataclass(frozen=True)
class Change:
    """A request that changes something; its time in seconds since the epoch."""

    service: str
    method: str
    query: str
    headers: dict[str, str]  # those that moto looks at
    body: str  # one character per byte
    when: float
    seed: int

    @classmethod
    def made_now(cls, service: str, environ: dict[str, Any], body: bytes) -> Change:
        """Describe a WSGI request that is being made."""
        headers = {name: environ[key] for name, key in _HEADERS.items() if key in environ}
        text, query = body.decode("latin-1"), environ.get("QUERY_STRING", "")
        return cls(service, environ["REQUEST_METHOD"], query, headers, text, time.time(), secrets.randbits(64))

    def environ(self) -> dict[str, Any]:
        """Return the WSGI request."""
        body = self.body.encode("latin-1")
        headers = Headers(list(self.headers.items()))
        builder = EnvironBuilder(method=self.method, query_string=self.query, headers=headers, data=body)
        return builder.get_environ()

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """Let moto find the clock and the chance of the moment when the request was made first."""
        mock_random.seed(self.seed)
        try:
            with at(self.when):
                yield
        finally:
            mock_random.seed(secrets.randbits(64))


class Changes:
    """All changes, oldest first, one line of JSON each. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten: list[Change] = []

    def all(self) -> list[Change] | None:
        """Return what has been written down, None before the first time; raise LocalModeError if it is damaged."""
        if not self._path.exists():
            return None
        return read_lines(self._path, lambda document: Change(**document), "the roles and logs in it")

    def add(self, change: Change) -> None:
        """Take a change that has been made; `write` puts it on disk."""
        self._unwritten.append(change)

    def write(self) -> None:
        """Write down what is not on disk yet, that included which a full disk has refused before; raise OSError."""
        if not self._unwritten:
            return
        append_lines(self._path, map(asdict, self._unwritten), durable=True)
        self._unwritten.clear()


for _models in (moto.iam.models, moto.logs.models):
    _models.utcnow = _utcnow
