"""The journal of requests that change IAM or CloudWatch Logs, and their replay when the daemon starts.

moto keeps these services in memory. Each request that has changed something is therefore written down with its time
and a random seed for moto: replayed, it has the same effect, including dates, identifiers and secrets.
"""

from __future__ import annotations

import secrets
import threading
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
    """Set moto's clock in this thread to `when` (seconds since the epoch)."""
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
    headers: dict[str, str]  # those that moto reads
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
        """Set moto's clock and random generator to the time and the seed of this change."""
        mock_random.seed(self.seed)
        try:
            with at(self.when):
                yield
        finally:
            mock_random.seed(secrets.randbits(64))


class Journal:
    """All changes, oldest first, one line of JSON each.

    `add` is called in the order in which the changes were made. `write` is called from any thread; threads that wait
    for the disk at the same time share one fsync.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten: list[Change] = []
        self._added = self._written = 0
        self._writing = threading.Lock()

    def read(self) -> list[Change] | None:
        """Return the changes on disk, None if there is no journal yet; raise LocalModeError if it is damaged."""
        if not self._path.exists():
            return None
        return read_lines(self._path, lambda document: Change(**document), "the roles and logs in it")

    def add(self, change: Change) -> None:
        """Take a change that has been made; `write` puts it on disk."""
        self._unwritten.append(change)
        self._added += 1

    def write(self) -> None:
        """Put all changes on disk that were added before this call; raise OSError if the disk refuses them.

        Refused changes stay in the queue: the next call tries them again.
        """
        added = self._added
        with self._writing:
            if self._written >= added:
                return
            batch = list(self._unwritten)
            append_lines(self._path, map(asdict, batch), durable=True)
            del self._unwritten[: len(batch)]
            self._written += len(batch)


for _models in (moto.iam.models, moto.logs.models):
    _models.utcnow = _utcnow
