"""Sidecars: what is kept of an object beside its bytes, namely key, headers, tags and digest.

A kill between the replacement of the sidecar and of the file must not give one version the headers of the other. A
sidecar therefore records the version that is being written and the one before, each with the size and the modification
time of its file; the file tells which record is true. A small object with the default headers needs no sidecar.
"""

from __future__ import annotations

import json
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from localmode.core.durable import read_document, replace_atomically, sync_directory
from localmode.s3.store.digest import Digest
from localmode.s3.store.index import StoredObject
from localmode.s3.store.layout import Layout

_RECORD = itemgetter("size", "modified", "headers", "tags", "etag", "crc32")
_SMALL_BYTES = 1 << 20  # up to this size, the digest can be computed again from the bytes


class Sidecar(NamedTuple):
    """The document about a key: records of the version that is being written and of the one before."""

    key: str
    records: list[dict[str, Any]]

    @classmethod
    def about(cls, entry: StoredObject, old: StoredObject | None) -> Sidecar:
        """Return a document that is true before and after `entry` replaces `old`."""
        return cls(entry.key, [_record(version) for version in (entry, old) if version is not None])

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Sidecar:
        """Read a document; raise LookupError or TypeError if it is not a sidecar."""
        for record in document["records"]:
            _RECORD(record)
        return cls(document["key"], document["records"])

    def to_json(self) -> bytes:
        """Return the document."""
        return json.dumps(self._asdict()).encode()

    def describe(self, path: Path) -> StoredObject:
        """Return the object whose bytes are in a file, with the headers of the record that fits the file, if any."""
        status = path.stat()
        for size, modified, headers, tags, etag, crc32 in map(_RECORD, self.records):
            if (size, modified) == (status.st_size, status.st_mtime_ns):
                return StoredObject(self.key, path, size, modified, headers, tags, Digest(etag, crc32))
        return StoredObject(self.key, path, status.st_size, status.st_mtime_ns)


class Sidecars:
    """The sidecars on disk. A caller holds the lock of the object."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def read(self, bucket: str) -> dict[str, Sidecar]:
        """Return the sidecars of a bucket by the hashes of their keys; raise LocalModeError for a damaged one."""
        paths = self._layout.sidecars(bucket).glob("*.json")
        return {path.stem: read_document(path, Sidecar.from_document) for path in paths}

    def needed(self, bucket: str, entry: StoredObject) -> bool:
        """Return whether the file of an object does not suffice to describe it after a restart."""
        elsewhere = entry.path.is_relative_to(self._layout.other(bucket))
        return bool(elsewhere or entry.headers or entry.tags or entry.size > _SMALL_BYTES or not entry.digest.crc32)

    def write(self, bucket: str, entry: StoredObject, old: StoredObject | None) -> None:
        """Write a sidecar that is true before and after `entry` replaces `old`; it is on disk when this returns."""
        path = self._layout.sidecar(bucket, entry.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path, self._layout.scratch) as file:
            file.write(Sidecar.about(entry, old).to_json())

    def discard(self, bucket: str, key: str) -> None:
        """Remove the sidecar of an object whose file it no longer describes; it may return after a power failure."""
        self._layout.sidecar(bucket, key).unlink(missing_ok=True)

    def delete(self, bucket: str, key: str) -> None:
        """Remove the sidecar of an object whose file it describes; it is gone from disk when this returns."""
        self.discard(bucket, key)
        sync_directory(self._layout.sidecars(bucket))


def _record(entry: StoredObject) -> dict[str, Any]:
    known = {"size": entry.size, "modified": entry.modified, "headers": entry.headers, "tags": entry.tags}
    return {**known, "etag": entry.digest.etag, "crc32": entry.digest.crc32}
