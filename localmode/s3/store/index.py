"""The index in memory: which buckets and objects exist. Every method is short and does no I/O."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from localmode.s3.errors import BucketNotEmpty, NoSuchBucket
from localmode.s3.store.digest import Digest


@dataclass(frozen=True)
class StoredObject:
    """One version of an S3 object: the file that holds its bytes, and what S3 returns with them."""

    key: str
    path: Path
    size: int = 0
    modified: int = 0  # nanoseconds since the epoch: the modification time of the file
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    known_digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """ETag and checksum. Objects from `ObjectStore.objects` may lack it; those from `get` and `open` never do."""
        if self.known_digest is None:
            raise LookupError(f"the digest of {self.key!r} has not been computed yet")
        return self.known_digest


@dataclass(frozen=True)
class Bucket:
    """A bucket and the documents that clients have configured for it: tags, policy and others."""

    name: str
    created: float  # seconds since the epoch
    documents: dict[str, Any] = field(default_factory=dict)


class Page(NamedTuple):
    """Part of a listing: objects and common prefixes in order, and where the next part begins (None: at the end)."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_after: str | None


class Objects:
    """The objects of one bucket in S3's order (UTF-8 bytes, which is Python's order of strings)."""

    def __init__(self) -> None:
        self.entries: dict[str, StoredObject] = {}
        self._order: list[str] = []

    def add(self, entry: StoredObject) -> None:
        """Add an object, or replace the one with its key."""
        if entry.key not in self.entries:
            insort(self._order, entry.key)
        self.entries[entry.key] = entry

    def remove(self, key: str) -> None:
        """Remove an object."""
        del self._order[bisect_left(self._order, key)]
        del self.entries[key]

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


class Index:
    """All buckets and their objects, for any number of threads. Methods raise NoSuchBucket for an unknown bucket."""

    def __init__(self, buckets: dict[str, tuple[Bucket, Objects]]) -> None:
        self._lock = threading.Lock()
        self._buckets = buckets

    def buckets(self) -> list[Bucket]:
        """Return the buckets by name."""
        with self._lock:
            return [bucket for _, (bucket, _) in sorted(self._buckets.items())]

    def has_bucket(self, name: str) -> bool:
        """Return whether a bucket exists."""
        with self._lock:
            return name in self._buckets

    def bucket(self, name: str) -> Bucket:
        """Return a bucket."""
        with self._lock:
            return self._found(name)[0]

    def put_bucket(self, bucket: Bucket) -> None:
        """Add a bucket, or change the documents of the one with its name."""
        with self._lock:
            _, objects = self._buckets.get(bucket.name, (bucket, Objects()))
            self._buckets[bucket.name] = (bucket, objects)

    def remove_bucket(self, name: str) -> Bucket:
        """Remove an empty bucket and return it; raise BucketNotEmpty."""
        with self._lock:
            bucket, objects = self._found(name)
            if objects.entries:
                raise BucketNotEmpty(name)
            del self._buckets[name]
            return bucket

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object, or None."""
        with self._lock:
            return self._found(bucket)[1].entries.get(key)

    def under(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return the objects under a prefix in S3's order."""
        with self._lock:
            return list(self._found(bucket)[1].under(prefix))

    def page(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Page:
        """Return part of a listing."""
        with self._lock:
            return self._found(bucket)[1].page(prefix, delimiter, after, limit)

    def add(self, bucket: str, entry: StoredObject) -> None:
        """Add an object, or replace the one with its key."""
        with self._lock:
            self._found(bucket)[1].add(entry)

    def identify(self, bucket: str, entry: StoredObject, digest: Digest) -> StoredObject:
        """Return an object with its digest, and keep the digest unless another version has replaced the object."""
        identified = replace(entry, known_digest=digest)
        with self._lock:
            objects = self._found(bucket)[1]
            if objects.entries.get(entry.key) is entry:
                objects.add(identified)
        return identified

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        with self._lock:
            self._found(bucket)[1].remove(key)

    def _found(self, name: str) -> tuple[Bucket, Objects]:
        if name not in self._buckets:
            raise NoSuchBucket(name)
        return self._buckets[name]


def _past(after: str, prefix: str, delimiter: str) -> str:
    """Return a string just behind a key, or behind all keys under it if it is a common prefix."""
    if not after:
        return ""
    _, found, rest = after[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
    return after + ("\U0010ffff" if found and not rest else "\0")
