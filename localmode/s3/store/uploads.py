"""Multipart uploads on disk: `.uploads/ID/` holds the properties of the future object and the parts received so far."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from localmode.core.durable import drafted, finish, read_document, replace_atomically, sync_directory
from localmode.core.locks import KeyedLocks
from localmode.s3.errors import NoSuchUpload
from localmode.s3.store.digest import Digest, chunks_of, copied


class Part(NamedTuple):
    """One part of an upload."""

    number: int
    path: Path
    digest: Digest
    size: int
    modified: float  # seconds since the epoch


@dataclass(frozen=True)
class Upload:
    """A multipart upload in progress."""

    bucket: str
    key: str
    headers: dict[str, str]
    tags: dict[str, str]
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    initiated: float = field(default_factory=time.time)  # seconds since the epoch


class Uploads:
    """The uploads in progress; acknowledged uploads and parts survive a kill."""

    def __init__(self, root: Path, scratch: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._scratch = scratch
        self._lock = threading.Lock()  # guards the two dictionaries
        self._upload_locks = KeyedLocks()
        self._uploads: dict[str, Upload] = {}
        self._parts: dict[str, dict[int, Part]] = {}
        for directory in root.iterdir():
            about = directory / "upload.json"
            if not about.exists():  # the daemon was killed before the answer, or after the end of the upload
                shutil.rmtree(directory, ignore_errors=True)
                continue
            self._uploads[directory.name] = read_document(about, lambda document: Upload(**document))
            self._parts[directory.name] = _parts_in(directory)

    def create(self, upload: Upload) -> None:
        """Begin an upload."""
        directory = self._root / upload.identity
        directory.mkdir()
        sync_directory(self._root)
        with replace_atomically(directory / "upload.json", self._scratch) as file:
            file.write(json.dumps(asdict(upload)).encode())
        with self._lock:
            self._parts[upload.identity] = {}
            self._uploads[upload.identity] = upload

    def get(self, identity: str, bucket: str, key: str) -> Upload:
        """Return the upload of an object; raise NoSuchUpload."""
        with self._lock:
            upload = self._uploads.get(identity)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise NoSuchUpload(identity)
        return upload

    def of_bucket(self, bucket: str) -> list[Upload]:
        """Return the uploads of a bucket by key and time."""
        with self._lock:
            found = [upload for upload in self._uploads.values() if upload.bucket == bucket]
        return sorted(found, key=lambda upload: (upload.key, upload.initiated))

    def write(
        self, upload: Upload, number: int, body: Iterable[bytes], check: Callable[[Digest], None] = lambda digest: None
    ) -> Part:
        """Store a part, replacing an earlier one of its number; raise NoSuchUpload if the upload has ended.

        `check` is called with the digest of what was received, and may raise.
        """
        directory = self._root / upload.identity
        with drafted(self._scratch) as (file, draft):
            digest = Digest.of(copied(body, file))
            check(digest)
            finish(file)
            path = directory / f"{number:05}-{digest.etag}-{uuid.uuid4().hex}"
            part = Part(number, path, digest, file.tell(), time.time())
            with self._upload_locks.hold(upload.identity):
                self.get(upload.identity, upload.bucket, upload.key)  # it may have ended meanwhile
                draft.replace(path)
                old = self._put(upload, part)
        with suppress(FileNotFoundError):  # the upload has ended meanwhile
            sync_directory(directory)
        if old is not None:
            old.path.unlink(missing_ok=True)
        return part

    def _put(self, upload: Upload, part: Part) -> Part | None:
        """Add a part to those in memory; return the one that it replaces."""
        with self._lock:
            parts = self._parts[upload.identity]
            old, parts[part.number] = parts.get(part.number), part
            return old

    def parts(self, upload: Upload) -> dict[int, Part]:
        """Return the parts by number; raise NoSuchUpload."""
        with self._lock:
            if upload.identity not in self._parts:
                raise NoSuchUpload(upload.identity)
            return dict(sorted(self._parts[upload.identity].items()))

    def end(self, upload: Upload) -> bool:
        """Remove an upload and its parts; return whether it was in progress."""
        directory = self._root / upload.identity
        with self._upload_locks.hold(upload.identity):
            with self._lock:
                if self._uploads.pop(upload.identity, None) is None:
                    return False
                del self._parts[upload.identity]
            (directory / "upload.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        sync_directory(self._root)
        return True


def whole(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield the bytes of parts, one after the other."""
    for part in parts:
        with part.path.open("rb") as file:
            yield from chunks_of(file)


def digest_of_parts(parts: list[Part]) -> Digest:
    """Return the digest that S3 gives an object of several parts: the MD5 of their MD5s and the number of parts."""
    joined = b"".join(bytes.fromhex(part.digest.etag) for part in parts)
    return Digest(f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}", "")


def _parts_in(directory: Path) -> dict[int, Part]:
    """Read an upload's parts from their names; of two with one number, the later one was acknowledged last."""
    parts: dict[int, Part] = {}
    for path in sorted(directory.glob("*-*-*"), key=lambda path: path.stat().st_mtime_ns):
        number, etag, _ = path.name.split("-")
        status = path.stat()
        parts[int(number)] = Part(int(number), path, Digest(etag, ""), status.st_size, status.st_mtime)
    return parts
