"""S3 for training jobs and endpoints, which run in the same process as the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localmode.s3.errors import InvalidKey, NoSuchBucket, StorageError
from localmode.s3.store.digest import chunks_of
from localmode.s3.store.index import StoredObject
from localmode.s3.store.objects import ObjectStore

__all__ = ["BUCKET_NAME", "InvalidKey", "Storage", "StorageError", "parse_uri"]

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_S3_URI = re.compile(rf"s3://({BUCKET_NAME.pattern})(?:/(.*))?", re.DOTALL)


def parse_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key` into bucket and key; raise StorageError for anything else."""
    match = _S3_URI.fullmatch(uri)
    if match is None:
        raise StorageError(f"{uri!r} is not an S3 URI (s3://bucket/prefix)")
    return match[1], match[2] or ""


class Storage:
    """List, read, put and delete objects. Methods raise StorageError for an unknown bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def bucket_exists(self, bucket: str) -> bool:
        """Return whether a bucket exists."""
        return self.store.has_bucket(bucket)

    def objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return the objects under a prefix in S3's order."""
        with _known_bucket():
            return self.store.objects(bucket, prefix)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object, or None."""
        with _known_bucket():
            return self.store.get(bucket, key)

    def put_file(self, bucket: str, key: str, path: Path, check: Callable[[], None] = lambda: None) -> None:
        """Upload a file; it is on disk when this returns.

        `check` is called before every part of the file and at last before the object replaces the old one. It may
        raise to cut the upload off; then the old object stays.
        Raises InvalidKey for a key that is not UTF-8, as names of files may be.
        """
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"{key!r} cannot be the key of an S3 object: it is not UTF-8") from error
        with _known_bucket(), path.open("rb") as file:
            self.store.write(bucket, key, _checked(chunks_of(file), check), check=lambda digest, old: check())

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, if it exists."""
        with _known_bucket():
            self.store.delete(bucket, key)


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        check()
        yield chunk


@contextmanager
def _known_bucket() -> Iterator[None]:
    """Turn NoSuchBucket into a StorageError that a FailureReason can quote."""
    try:
        yield
    except NoSuchBucket as error:
        raise StorageError(f"The S3 bucket '{error}' does not exist") from error
