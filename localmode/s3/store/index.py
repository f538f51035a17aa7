"""What S3 knows of its objects, in memory: their digests, and the index of a bucket."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

CHUNK_BYTES = 1 << 18  # larger ones cost more in page faults than they save in calls


def chunks_of(file: IO[bytes], size: float = math.inf) -> Iterator[bytes]:
    """Yield what is left of a file, or the next `size` bytes of it, in pieces."""
    while size > 0 and (chunk := file.read(int(min(size, CHUNK_BYTES)))):
        size -= len(chunk)
        yield chunk


class Digest(NamedTuple):
    """What S3 computes of an object's bytes: its ETag without quotes and its CRC-32 (base64; "" if not known)."""

    etag: str
    crc32: str

    @classmethod
    def of(cls, chunks: Iterable[bytes]) -> Digest:
        """Compute both of bytes that come in pieces: the MD5, which is slow, of each piece while the next one comes."""
        md5, crc32 = hashlib.md5(usedforsecurity=False), 0
        with ThreadPoolExecutor(1) as beside:
            added: Future[None] | None = None
            for chunk in chunks:
                if added is not None:
                    added.result()
                added = beside.submit(md5.update, chunk)
                crc32 = zlib.crc32(chunk, crc32)
        return cls(md5.hexdigest(), base64.b64encode(crc32.to_bytes(4, "big")).decode())


@dataclass
class StoredObject:
    """One S3 object: its bytes are the file, the rest is what S3 gives back with it."""

    key: str
    path: Path
    size: int = 0
    modified: int = 0  # nanoseconds since the epoch: the file's own time
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    known_digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """ETag and checksum; read from the file if they are not known, while nothing else can take its place."""
        if self.known_digest is None:
            with self.path.open("rb") as file:
                self.known_digest = Digest.of(chunks_of(file))
        return self.known_digest

    def identified(self) -> StoredObject:
        """Return itself, with its digest known."""
        self.known_digest = self.digest
        return self


class Page(NamedTuple):
    """Part of a listing: objects and common prefixes in order, and where to go on (None: this was all)."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_after: str | None


class Bucket:
    """The index of one bucket: its objects in S3's order (UTF-8 bytes, which is Python's order of strings)."""

    def __init__(self, name: str, created: float) -> None:
        self.name = name
        self.created = created  # seconds since the epoch
        self.documents: dict[str, Any] = {}  # what a client has configured: tags, policy ...
        self.entries: dict[str, StoredObject] = {}
        self._order: list[str] = []

    def add(self, entry: StoredObject) -> None:
        """Put an object into the index, or in the place of the one with its key."""
        if entry.key not in self.entries:
            insort(self._order, entry.key)
        self.entries[entry.key] = entry

    def remove(self, key: str) -> StoredObject:
        """Take an object out of the index."""
        del self._order[bisect_left(self._order, key)]
        return self.entries.pop(key)

    def under(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects under a prefix, in order."""
        for position in range(bisect_left(self._order, prefix), len(self._order)):
            if not self._order[position].startswith(prefix):
                return
            yield self.entries[self._order[position]]

    def page(self, prefix: str, delimiter: str, after: str, limit: int) -> Page:
        """Return up to `limit` objects and common prefixes that come after `after`, as ListObjects counts them."""
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = after
        position = max(bisect_left(self._order, prefix), bisect_left(self._order, _past(after, prefix, delimiter)))
        while position < len(self._order) and self._order[position].startswith(prefix):
            key = self._order[position]
            if len(objects) + len(prefixes) == limit:
                return Page(objects, prefixes, last)
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                last = prefix + head + delimiter
                prefixes.append(last)
                position = bisect_left(self._order, _past(last, prefix, delimiter))
            else:
                last = key
                objects.append(self.entries[key])
                position += 1
        return Page(objects, prefixes, None)


def _past(after: str, prefix: str, delimiter: str) -> str:
    """Return a string just behind a key, or behind all keys under it if it is a common prefix."""
    if not after:
        return ""
    _, found, rest = after[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
    return after + ("\U0010ffff" if found and not rest else "\0")
