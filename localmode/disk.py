"""Files that survive a kill: atomic replacement and journals."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from localmode.settings import LocalModeError

Resource = TypeVar("Resource")


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def drafted(scratch: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Open a new file in `scratch`; whatever happens, nothing of that name stays there."""
    path = scratch / uuid.uuid4().hex
    try:
        with path.open("xb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def finish(file: IO[bytes]) -> None:
    """Make what has been written to a file durable."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def replace_atomically(path: Path, scratch: Path) -> Iterator[IO[bytes]]:
    """Write `path` so that after a kill it holds the old bytes or all of the new ones.

    `scratch` is a directory on the same file system for the file in the making.
    """
    with drafted(scratch) as (file, draft):
        yield file
        finish(file)
        draft.replace(path)
    sync_directory(path.parent)


def read_document(path: Path, read: Callable[[dict[str, Any]], Resource]) -> Resource:
    """Return what `read` makes of a JSON document; raise LocalModeError if it cannot be read."""
    try:
        return read(json.loads(path.read_bytes()))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise LocalModeError(f"{path} is damaged ({error}); move it away to start without this resource") from error


class Journal:
    """One JSON document per resource, replaced atomically: what the daemon knows after a restart."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._directory = directory
        self._scratch = scratch
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, document: dict[str, Any]) -> None:
        """Write the document under `name`; it is on disk when this returns."""
        with replace_atomically(self._directory / f"{name}.json", self._scratch) as file:
            file.write(json.dumps(document, indent=1).encode())

    def delete(self, name: str) -> None:
        """Forget the document."""
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        sync_directory(self._directory)

    def load(self, read: Callable[[dict[str, Any]], Resource]) -> dict[str, Resource]:
        """Return what `read` makes of every document; raise LocalModeError for one that cannot be read."""
        return {path.stem: read_document(path, read) for path in sorted(self._directory.glob("*.json"))}
