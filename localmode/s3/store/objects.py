"""Buckets and objects: create, read, write and delete. The docstring of the package describes locks and their order."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import IO, Any

from localmode.core.durable import drafted, finish, replace_atomically, sync_directory
from localmode.core.locks import KeyedLocks
from localmode.s3.errors import NoSuchBucket
from localmode.s3.store.digest import Digest, chunks_of, copied
from localmode.s3.store.index import Bucket, Page, StoredObject
from localmode.s3.store.layout import Layout, make_directories, remove_empty
from localmode.s3.store.recovery import recover
from localmode.s3.store.sidecar import Sidecars

Check = Callable[[Digest, StoredObject | None], Digest | None]


class ObjectStore:
    """The buckets and objects under a directory. A change is on disk when its method returns.

    Methods that name a bucket raise NoSuchBucket where it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._index = recover(self._layout)
        self._sidecars = Sidecars(self._layout)
        self._bucket_locks = KeyedLocks()
        self._object_locks = KeyedLocks()
        self._names = threading.Lock()
        self._swap_locks = KeyedLocks()
        self._digest_locks = KeyedLocks()

    @property
    def layout(self) -> Layout:
        """The paths of the store on disk."""
        return self._layout

    # Buckets

    def buckets(self) -> list[Bucket]:
        """Return the buckets by name."""
        return self._index.buckets()

    def has_bucket(self, name: str) -> bool:
        """Return whether a bucket exists."""
        return self._index.has_bucket(name)

    def bucket(self, name: str) -> Bucket:
        """Return a bucket."""
        return self._index.bucket(name)

    def create_bucket(self, name: str, documents: dict[str, Any] | None = None) -> None:
        """Create a bucket; one that exists stays as it is."""
        with self._bucket_locks.hold(name):
            if not self._index.has_bucket(name):
                bucket = Bucket(name, time.time(), documents or {})
                self._save(bucket)
                self._layout.bucket(name).mkdir(exist_ok=True)
                sync_directory(self._layout.root)
                self._index.put_bucket(bucket)

    def configure(self, name: str, document: str, value: Any) -> None:
        """Keep one of a bucket's documents, or remove it if `value` is None."""
        with self._bucket_locks.hold(name):
            bucket = self._index.bucket(name)
            documents = {key: kept for key, kept in {**bucket.documents, document: value}.items() if kept is not None}
            changed = replace(bucket, documents=documents)
            self._save(changed)
            self._index.put_bucket(changed)

    def _save(self, bucket: Bucket) -> None:
        document = {"created": bucket.created, "documents": bucket.documents}
        with replace_atomically(self._layout.configuration(bucket.name), self._layout.scratch) as file:
            file.write(json.dumps(document).encode())

    def delete_bucket(self, name: str, end_uploads: Callable[[], None] = lambda: None) -> None:
        """Delete an empty bucket; raise BucketNotEmpty.

        `end_uploads` is called before another bucket of this name can be created.
        """
        with self._bucket_locks.hold(name):
            with self._names:  # a write that has not put its file in place by now raises NoSuchBucket
                bucket = self._index.remove_bucket(name)
            try:
                for directory in (self._layout.sidecars(name), self._layout.other(name)):
                    rmtree(directory, ignore_errors=True)
                if self._layout.bucket(name).exists():
                    rmtree(self._layout.bucket(name))
                self._layout.configuration(name).unlink(missing_ok=True)
                sync_directory(self._layout.root)
            except OSError:
                self._index.put_bucket(bucket)
                raise
            end_uploads()

    # Reading objects

    def objects(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Return the objects under a prefix in S3's order. Digests that are not known are not computed."""
        return self._index.under(bucket, prefix)

    def page(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Page:
        """Return part of a listing: at most `limit` objects and common prefixes that come after `after`."""
        page = self._index.page(bucket, prefix, delimiter, after, limit)
        known = (entry if entry.known_digest else self.get(bucket, entry.key) for entry in page.objects)
        return page._replace(objects=[entry for entry in known if entry is not None])

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object, or None."""
        entry = self._index.get(bucket, key)
        if entry is None or entry.known_digest:
            return entry
        if (found := self.open(bucket, key)) is None:
            return None
        entry, file = found
        file.close()
        return entry

    def open(self, bucket: str, key: str) -> tuple[StoredObject, IO[bytes]] | None:
        """Return an object and its bytes, which later writes and deletions do not change; None if it does not exist."""
        with self._swap_locks.hold(bucket, key):
            entry = self._index.get(bucket, key)
            if entry is None:
                return None
            try:
                file = entry.path.open("rb")
            except (FileNotFoundError, NotADirectoryError):  # it has been removed by hand
                return None
        try:
            return self._identified(bucket, entry, file), file
        except BaseException:
            file.close()
            raise

    def _identified(self, bucket: str, entry: StoredObject, file: IO[bytes]) -> StoredObject:
        """Return an object with its digest, computed once from its open file if it was not known."""
        if entry.known_digest:
            return entry
        with self._digest_locks.hold(bucket, entry.key):
            current = self._index.get(bucket, entry.key)
            if current is not None and current.known_digest and _version(current) == _version(entry):
                return current
            digest = Digest.of(chunks_of(file))
            file.seek(0)
            return self._index.identify(bucket, entry, digest)

    # Changing objects

    def write(
        self,
        bucket: str,
        key: str,
        body: Iterable[bytes],
        headers: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        check: Check = lambda digest, old: None,
    ) -> StoredObject:
        """Store an object and return it. On any error the old one is still there.

        `check` is called with the digest of what was received and with the old object, and no other write of this key
        comes between this call and the replacement. It may raise, or return another digest for the object to have.
        """
        self._index.bucket(bucket)
        with drafted(self._layout.scratch) as (file, draft):
            digest = Digest.of(copied(body, file))
            finish(file)
            with self._object_locks.hold(bucket, key):
                old = self.get(bucket, key)
                digest = check(digest, old) or digest
                size, modified = _distinguished(file, old)
                entry = StoredObject(key, draft, size, modified, headers or {}, tags or {}, digest)
                try:
                    return self._replace(bucket, entry, old)
                except OSError:
                    self._index.bucket(bucket)  # if it has been deleted meanwhile, this is the error to raise
                    raise

    def _replace(self, bucket: str, entry: StoredObject, old: StoredObject | None) -> StoredObject:
        """Put a finished file in the place of the old object, durably: first sidecar, then file, then their names."""
        draft = entry.path
        while True:
            entry = replace(entry, path=old.path if old else self._layout.path_for(bucket, entry.key))
            if needed := self._sidecars.needed(bucket, entry):
                self._sidecars.write(bucket, entry, old)
            with self._names:
                self._check_bucket(bucket, entry.key)
                if old is None and self._layout.path_for(bucket, entry.key) != entry.path:
                    continue  # another key has taken the name meanwhile, such as `a` that of the directory of `a/b`
                made = make_directories(entry.path.parent)
                with self._swap_locks.hold(bucket, entry.key):
                    draft.replace(entry.path)
                    self._index.add(bucket, entry)
                break
        for directory in (entry.path.parent, *made):
            sync_directory(directory)
        if not needed:
            self._sidecars.discard(bucket, entry.key)
        return entry

    def _check_bucket(self, bucket: str, key: str) -> None:
        try:
            self._index.bucket(bucket)
        except NoSuchBucket:
            self._sidecars.discard(bucket, key)
            raise

    def tag(self, bucket: str, key: str, tags: dict[str, str]) -> bool:
        """Replace the tags of an object; return whether it exists."""
        with self._object_locks.hold(bucket, key):
            entry = self.get(bucket, key)
            if entry is None:
                return False
            tagged = replace(entry, tags=tags)
            if self._sidecars.needed(bucket, tagged):
                self._sidecars.write(bucket, tagged, None)
            elif self._sidecars.needed(bucket, entry):
                self._sidecars.delete(bucket, key)
            self._index.add(bucket, tagged)
            return True

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, if it exists, and the directories that it leaves empty."""
        with self._object_locks.hold(bucket, key):
            entry = self._index.get(bucket, key)
            if entry is None:
                return
            with self._names:
                with self._swap_locks.hold(bucket, key):
                    entry.path.unlink(missing_ok=True)
                    self._index.remove(bucket, key)
                keep = self._layout.bucket(bucket)
                directory = remove_empty(entry.path.parent, keep if entry.path.is_relative_to(keep) else keep.parent)
            _sync_existing(directory)
            self._sidecars.discard(bucket, key)


def _version(entry: StoredObject) -> tuple[int, int, Path]:
    return entry.size, entry.modified, entry.path


def _distinguished(file: IO[bytes], old: StoredObject | None) -> tuple[int, int]:
    """Return size and modification time of a file; change the time if both are equal to those of the old object.

    Sidecars tell versions apart by them, and the clock of a file system may not tick between two writes.
    """
    status = os.fstat(file.fileno())
    if old is not None and (old.size, old.modified) == (status.st_size, status.st_mtime_ns):
        os.utime(file.fileno(), ns=(status.st_atime_ns, old.modified + 1))
        finish(file)
        status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _sync_existing(directory: Path) -> None:
    """Make the removal of a name in a directory durable, also if the directory has been removed meanwhile."""
    try:
        sync_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        _sync_existing(directory.parent)
