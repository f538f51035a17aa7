"""What is kept of an object beside its bytes: key, headers, tags and digest."""

from __future__ import annotations

import json
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from localmode.s3.store.index import Digest, StoredObject

_RECORD = itemgetter("size", "modified", "headers", "tags", "etag", "crc32")


class Sidecar(NamedTuple):
    """The document about a key: a record of the version that is being written, and of the one before."""

    key: str
    records: list[dict[str, Any]]

    @classmethod
    def about(cls, entry: StoredObject, old: StoredObject | None) -> Sidecar:
        """Return the document that is true before and after `entry` takes the place of `old`."""
        return cls(entry.key, [_record(version) for version in (entry, old) if version is not None])

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Sidecar:
        """Read the document; raise LookupError or TypeError where it is none."""
        for record in document["records"]:
            _RECORD(record)
        return cls(document["key"], document["records"])

    def to_json(self) -> bytes:
        """Return the document."""
        return json.dumps(self._asdict()).encode()

    def describe(self, path: Path) -> StoredObject:
        """Return the object that a file is; a record about other bytes says nothing of it."""
        status = path.stat()
        for size, modified, headers, tags, etag, crc32 in map(_RECORD, self.records):
            if (size, modified) == (status.st_size, status.st_mtime_ns):
                return StoredObject(self.key, path, size, modified, headers, tags, Digest(etag, crc32))
        return StoredObject(self.key, path, status.st_size, status.st_mtime_ns)


def _record(entry: StoredObject) -> dict[str, Any]:
    known = {"size": entry.size, "modified": entry.modified, "headers": entry.headers, "tags": entry.tags}
    return {**known, "etag": entry.digest.etag, "crc32": entry.digest.crc32}
