"""Files that survive a kill: atomic replacement, journals, and S3 objects as files a learner can open."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from localmode.settings import LocalModeError

Resource = TypeVar("Resource")
_PLAIN_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\:]{1,200}")


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
        documents = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                documents[path.stem] = read(json.loads(path.read_bytes()))
            except (ValueError, TypeError, LookupError) as error:
                raise LocalModeError(
                    f"{path} is damaged ({error}); move it away to start without this resource"
                ) from error
        return documents


@dataclass
class StoredObject:
    """One S3 object: its bytes are the file, its headers are what S3 gives back with it."""

    key: str
    path: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size


class ObjectFiles:
    """S3's buckets and objects on disk: `s3/BUCKET/KEY`.

    A key that no file can be called (`..`, `a//b`, `a` beside `a/b`, a name too long) goes to
    `.other/BUCKET/HASH`; a sidecar in `.about/BUCKET/HASH.json` names such a key and keeps headers other than
    the default ones. Bucket names cannot begin with a dot, so neither meets a bucket.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.scratch = root / ".new"
        self._lock = threading.RLock()
        shutil.rmtree(self.scratch, ignore_errors=True)  # what a killed daemon had not acknowledged
        self.scratch.mkdir(parents=True)
        self._buckets: dict[str, dict[str, StoredObject]] = {}
        for directory in sorted(root.iterdir()):
            if directory.is_dir() and not directory.name.startswith("."):
                self._buckets[directory.name] = self._scan(directory)

    def _scan(self, bucket: Path) -> dict[str, StoredObject]:
        objects = {}
        for path in bucket.rglob("*"):
            if path.is_file():
                key = path.relative_to(bucket).as_posix()
                objects[key] = StoredObject(key, path)
        for sidecar in (self._root / ".about" / bucket.name).glob("*.json"):
            about = json.loads(sidecar.read_bytes())
            path = self._root / about["file"]
            if path.is_file():
                objects[about["key"]] = StoredObject(about["key"], path, about["headers"])
        return objects

    def buckets(self) -> list[str]:
        """Return the names of the buckets."""
        with self._lock:
            return sorted(self._buckets)

    def objects(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Return the objects under a prefix in S3's order (UTF-8 bytes); none for an unknown bucket."""
        with self._lock:
            found = [entry for key, entry in self._buckets.get(bucket, {}).items() if key.startswith(prefix)]
        return sorted(found, key=lambda entry: entry.key.encode())

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return one object or None."""
        with self._lock:
            return self._buckets.get(bucket, {}).get(key)

    def create_bucket(self, bucket: str) -> None:
        """Make a bucket; it is on disk when this returns."""
        with self._lock:
            (self._root / bucket).mkdir(exist_ok=True)
            sync_directory(self._root)
            self._buckets.setdefault(bucket, {})

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket."""
        with self._lock:
            for hidden in (".about", ".other"):
                shutil.rmtree(self._root / hidden / bucket, ignore_errors=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(self._root / bucket)
            sync_directory(self._root)
            self._buckets.pop(bucket, None)

    def write(self, bucket: str, key: str, body: Iterable[bytes], headers: dict[str, str]) -> None:
        """Store an object; it is on disk when this returns. On an OSError the old one is still there."""
        with drafted(self.scratch) as (file, draft):
            for chunk in body:  # the slow part, for which nobody else waits
                file.write(chunk)
            finish(file)
            with self._lock:
                entry = StoredObject(key, self._path(bucket, key), headers)
                entry.path.parent.mkdir(parents=True, exist_ok=True)
                self._write_sidecar(bucket, entry)
                draft.replace(entry.path)
                sync_directory(entry.path.parent)
                self._buckets.setdefault(bucket, {})[key] = entry

    def _write_sidecar(self, bucket: str, entry: StoredObject) -> None:
        sidecar = self._sidecar(bucket, entry.key)
        if entry.headers or self._is_odd(bucket, entry.path):
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            place = entry.path.relative_to(self._root).as_posix()
            about = {"key": entry.key, "file": place, "headers": entry.headers}
            with replace_atomically(sidecar, self.scratch) as file:
                file.write(json.dumps(about).encode())
        else:
            sidecar.unlink(missing_ok=True)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, and the directories that it leaves empty."""
        with self._lock:
            entry = self._buckets.get(bucket, {}).pop(key, None)
            if entry is None:
                return
            entry.path.unlink(missing_ok=True)
            self._sidecar(bucket, key).unlink(missing_ok=True)
            directory = entry.path.parent
            while directory not in (self._root, self._root / bucket) and not any(directory.iterdir()):
                directory.rmdir()
                directory = directory.parent
            sync_directory(directory)

    def _path(self, bucket: str, key: str) -> Path:
        if (known := self.get(bucket, key)) is not None:
            return known.path
        segments = key.split("/")
        plain = all(_PLAIN_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments)
        if plain and len(key.encode()) <= 900 and all(len(part.encode()) <= 200 for part in segments):
            path = self._root / bucket / key
            # A file cannot be where a directory is, nor below a file; nor, on some disks, beside one in other case.
            parents = [self._root / bucket / "/".join(segments[:count]) for count in range(1, len(segments))]
            if not path.exists() and not any(parent.is_file() for parent in parents):
                return path
        return self._root / ".other" / bucket / hashlib.sha256(key.encode()).hexdigest()

    def _is_odd(self, bucket: str, path: Path) -> bool:
        return path.is_relative_to(self._root / ".other" / bucket)

    def _sidecar(self, bucket: str, key: str) -> Path:
        return self._root / ".about" / bucket / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
