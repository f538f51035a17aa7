"""S3's buckets and objects as files that a learner can open: `s3/BUCKET/KEY`.

A key that no file can be called (`..`, `a//b`, `a` beside `a/b`, a name too long) goes to `.other/BUCKET/HASH`.
What S3 knows of an object besides its bytes is in a sidecar, `.about/BUCKET/HASH.json`; a small object with the
default headers needs none. Bucket names cannot begin with a dot, so none meets these directories.

A kill between sidecar and object must not give one object the headers of the other: a sidecar names the size and
the time of the file that it is about, and keeps its predecessor until that file is in place.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from localmode.core.durable import drafted, finish, read_document, replace_atomically, sync_directory
from localmode.s3.errors import BucketNotEmpty, NoSuchBucket
from localmode.s3.store.index import Bucket, Digest, Page, StoredObject
from localmode.s3.store.names import hash_of, make_directories, path_for
from localmode.s3.store.sidecar import Sidecar

_SMALL_BYTES = 1 << 20  # of these, ETag and checksum are found again by reading


class ObjectStore:
    """The store. Reading waits for nobody; a write is on disk when its method returns."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.scratch = root / ".new"
        self._lock = threading.RLock()  # index, names and sidecars change together
        shutil.rmtree(self.scratch, ignore_errors=True)  # what a killed daemon had not acknowledged
        for directory in (self.scratch, root / ".buckets"):
            directory.mkdir(parents=True, exist_ok=True)
        self._buckets: dict[str, Bucket] = {}
        for directory in sorted(root.iterdir()):
            if directory.is_dir() and not directory.name.startswith("."):
                self._buckets[directory.name] = self._scan(directory)

    def _scan(self, directory: Path) -> Bucket:
        bucket = Bucket(directory.name, directory.stat().st_mtime)
        about = self.root / ".buckets" / f"{directory.name}.json"
        if about.exists():
            bucket.created, bucket.documents = read_document(about, itemgetter("created", "documents"))
        sidecars = {
            path.stem: read_document(path, Sidecar.from_document)
            for path in (self.root / ".about" / bucket.name).glob("*.json")
        }
        for path in directory.rglob("*"):
            if path.is_file():
                key = path.relative_to(directory).as_posix()
                bucket.add(sidecars.get(hash_of(key), Sidecar(key, [])).describe(path))
        for path in (self.root / ".other" / bucket.name).glob("*"):
            if path.name in sidecars:
                bucket.add(sidecars[path.name].describe(path))
        return bucket

    # Buckets

    def buckets(self) -> list[Bucket]:
        """Return the buckets by name."""
        with self._lock:
            return [self._buckets[name] for name in sorted(self._buckets)]

    def has_bucket(self, name: str) -> bool:
        """Tell whether there is such a bucket."""
        with self._lock:
            return name in self._buckets

    def bucket(self, name: str) -> Bucket:
        """Return a bucket; raise NoSuchBucket."""
        with self._lock:
            if name not in self._buckets:
                raise NoSuchBucket(name)
            return self._buckets[name]

    def create_bucket(self, name: str, documents: dict[str, Any] | None = None) -> None:
        """Make a bucket; one that is there stays as it is."""
        with self._lock:
            if name not in self._buckets:
                bucket = Bucket(name, time.time())
                bucket.documents = documents or {}
                self._save(bucket)
                (self.root / name).mkdir(exist_ok=True)
                sync_directory(self.root)
                self._buckets[name] = bucket

    def configure(self, name: str, document: str, value: Any) -> None:
        """Keep one of a bucket's documents (None: forget it); raise NoSuchBucket."""
        with self._lock:
            bucket = self.bucket(name)
            documents = {key: kept for key, kept in {**bucket.documents, document: value}.items() if kept is not None}
            bucket.documents, before = documents, bucket.documents
            try:
                self._save(bucket)
            except OSError:
                bucket.documents = before
                raise

    def _save(self, bucket: Bucket) -> None:
        document = {"created": bucket.created, "documents": bucket.documents}
        with replace_atomically(self.root / ".buckets" / f"{bucket.name}.json", self.scratch) as file:
            file.write(json.dumps(document).encode())

    def delete_bucket(self, name: str, forget: Callable[[], None] = lambda: None) -> None:
        """Remove an empty bucket; raise NoSuchBucket or BucketNotEmpty.

        `forget` is called for what else there is of it, before there can be another one of the name.
        """
        with self._lock:
            if self.bucket(name).entries:
                raise BucketNotEmpty(name)
            for hidden in (".about", ".other"):
                shutil.rmtree(self.root / hidden / name, ignore_errors=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(self.root / name)
            (self.root / ".buckets" / f"{name}.json").unlink(missing_ok=True)
            sync_directory(self.root)
            del self._buckets[name]
            forget()

    # Objects

    def objects(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Return the objects under a prefix in S3's order; raise NoSuchBucket."""
        with self._lock:
            return list(self.bucket(bucket).under(prefix))

    def page(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Page:
        """Return part of a listing; raise NoSuchBucket."""
        with self._lock:
            page = self.bucket(bucket).page(prefix, delimiter, after, limit)
        known = (entry if entry.known_digest else self.get(bucket, entry.key) for entry in page.objects)
        return page._replace(objects=[entry for entry in known if entry is not None])

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return one object or None; raise NoSuchBucket."""
        with self._lock:
            entry = self._entry(bucket, key)
            return None if entry is None else entry.identified()

    def open(self, bucket: str, key: str) -> tuple[StoredObject, IO[bytes]] | None:
        """Return one object and its bytes, which stay its own whatever is written or deleted meanwhile."""
        with self._lock:
            entry = self.get(bucket, key)
            return None if entry is None else (entry, entry.path.open("rb"))

    def _entry(self, bucket: str, key: str) -> StoredObject | None:
        return self.bucket(bucket).entries.get(key)

    def write(
        self,
        bucket: str,
        key: str,
        body: Iterable[bytes],
        headers: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        check: Callable[[Digest, StoredObject | None], Digest | None] = lambda digest, old: None,
    ) -> StoredObject:
        """Store an object; raise NoSuchBucket. On any error the old one is still there.

        `check` is called with what was received and the object in its place, at a moment at which no other write
        comes between; it may raise, and it may return another digest for the object to have.
        """
        self.bucket(bucket)
        with drafted(self.scratch) as (file, draft):
            digest = Digest.of(copied(body, file))  # the slow part, for which nobody else waits
            finish(file)
            status = os.fstat(file.fileno())
            with self._lock:
                old = self._entry(bucket, key)
                digest = check(digest, old) or digest
                path = self._path(bucket, key)
                entry = StoredObject(key, path, status.st_size, status.st_mtime_ns, headers or {}, tags or {}, digest)
                made = make_directories(path.parent)
                self._write_sidecar(bucket, entry, old)
                draft.replace(path)
                self._buckets[bucket].add(entry)
                if not self._needs_sidecar(bucket, entry):
                    self._sidecar(bucket, key).unlink(missing_ok=True)
        for directory in (path.parent, *made):
            with suppress(FileNotFoundError, NotADirectoryError):  # it was deleted again, which is as durable
                sync_directory(directory)
        return entry

    def tag(self, bucket: str, key: str, tags: dict[str, str]) -> bool:
        """Give an object other tags; return whether there is such an object."""
        with self._lock:
            entry = self._entry(bucket, key)
            if entry is None:
                return False
            before, entry.tags = entry.tags, tags
            try:
                self._write_sidecar(bucket, entry, None)
            except OSError:
                entry.tags = before
                raise
            return True

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, and the directories that it leaves empty; raise NoSuchBucket."""
        with self._lock:
            entry = self._entry(bucket, key)
            if entry is None:
                return
            entry.path.unlink(missing_ok=True)
            self._buckets[bucket].remove(key)
            self._sidecar(bucket, key).unlink(missing_ok=True)
            directory = entry.path.parent
            while directory not in (self.root, self.root / bucket) and not any(directory.iterdir()):
                directory.rmdir()
                directory = directory.parent
        with suppress(FileNotFoundError, NotADirectoryError):
            sync_directory(directory)

    # Names

    def _needs_sidecar(self, bucket: str, entry: StoredObject) -> bool:
        odd = entry.path.is_relative_to(self.root / ".other" / bucket)
        return bool(odd or entry.headers or entry.tags or entry.size > _SMALL_BYTES or not entry.digest.crc32)

    def _write_sidecar(self, bucket: str, entry: StoredObject, old: StoredObject | None) -> None:
        sidecar = self._sidecar(bucket, entry.key)
        if self._needs_sidecar(bucket, entry):
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(sidecar, self.scratch) as file:
                file.write(Sidecar.about(entry, old).to_json())

    def _path(self, bucket: str, key: str) -> Path:
        known = self._entry(bucket, key)
        return path_for(self.root, bucket, key) if known is None else known.path

    def _sidecar(self, bucket: str, key: str) -> Path:
        return self.root / ".about" / bucket / f"{hash_of(key)}.json"


def copied(body: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body as they are written to a file."""
    for chunk in body:
        file.write(chunk)
        yield chunk
