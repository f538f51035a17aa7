"""Files that survive a kill: atomic replacement, journals, and append-only files of JSON lines."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from localmode.core.errors import LocalModeError

Resource = TypeVar("Resource")


def sync_directory(directory: Path) -> None:
    """Write a directory's entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def drafted(scratch: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Open a new file in `scratch`, and delete it at the end unless it has been moved away."""
    path = scratch / uuid.uuid4().hex
    try:
        with path.open("xb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def finish(file: IO[bytes]) -> None:
    """Write a file's content to disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def replace_atomically(path: Path, scratch: Path) -> Iterator[IO[bytes]]:
    """Replace the content of `path`; after a kill, `path` has either the old content or all of the new content.

    The new content is first written to a file in `scratch`, a directory on the same file system.
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


def read_lines(path: Path, read: Callable[[Any], Resource], lost: str) -> list[Resource]:
    """Return what `read` makes of each line of JSON; raise LocalModeError if one cannot be read.

    The error names what is `lost` without the file. A last line without an end was not acknowledged before the daemon
    was killed, and is cut off.
    """
    complete, end, rest = path.read_bytes().rpartition(b"\n")
    if rest:
        os.truncate(path, len(complete + end))
    try:
        return [read(json.loads(line)) for line in complete.splitlines()]
    except (ValueError, TypeError, LookupError) as error:
        raise LocalModeError(f"{path} is damaged ({error}); move it away to start without {lost}") from error


def append_lines(path: Path, documents: Iterable[dict[str, Any]], durable: bool = False) -> None:
    """Append lines of JSON, all or none; raise OSError. If `durable`, they are on disk when this returns."""
    content = "".join(json.dumps(document) + "\n" for document in documents).encode()
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if durable:
                os.fsync(file.fileno())
        except OSError:  # half a line would damage the next one
            file.truncate(before)
            raise
    if durable and before == 0:
        sync_directory(path.parent)


class Journal:
    """A directory with a JSON document for each resource, replaced atomically: the state that survives a restart."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._directory = directory
        self._scratch = scratch
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, document: dict[str, Any]) -> None:
        """Write the document under `name`; it is on disk when this returns."""
        with replace_atomically(self._directory / f"{name}.json", self._scratch) as file:
            file.write(json.dumps(document, indent=1).encode())

    def delete(self, name: str) -> None:
        """Delete the document; it is gone from the disk when this returns."""
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        sync_directory(self._directory)

    def load(self, read: Callable[[dict[str, Any]], Resource]) -> dict[str, Resource]:
        """Return what `read` makes of every document; raise LocalModeError for one that cannot be read."""
        return {path.stem: read_document(path, read) for path in sorted(self._directory.glob("*.json"))}
