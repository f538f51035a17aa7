"""S3 for training jobs and endpoints, in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localmode.s3.errors import NoSuchBucket
from localmode.s3.store.digest import chunks_of
from localmode.s3.store.index import StoredObject
from localmode.s3.store.objects import ObjectStore

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_S3_URI = re.compile(rf"s3://({BUCKET_NAME.pattern})(?:/(.*))?", re.DOTALL)


class StorageError(Exception):
    """An S3 request of a job that cannot be met; the message goes into its FailureReason."""


class InvalidKey(StorageError):
    """A name that no S3 object can have."""


def parse_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key` into bucket and key; raise StorageError for anything else."""
    match = _S3_URI.fullmatch(uri)
    if match is None:
        raise StorageError(f"{uri!r} is not an S3 URI (s3://bucket/prefix)")
    return match[1], match[2] or ""


class Storage:
    """What a job or an endpoint does with S3: list, read, put and delete."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def bucket_exists(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        return self.store.has_bucket(bucket)

    def objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return the objects under a prefix; raise StorageError where there is no such bucket."""
        with _known_bucket():
            return self.store.objects(bucket, prefix)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return one object, None where there is none; raise StorageError where there is no such bucket."""
        with _known_bucket():
            return self.store.get(bucket, key)

    def put_file(self, bucket: str, key: str, path: Path, check: Callable[[], None] = lambda: None) -> None:
        """Upload a file; it is on disk when this returns.

        `check` is called before every part of the file and at last before the object replaces the old one. It may
        raise to cut the upload off; then the old object stays.
        Raises InvalidKey for a key of bytes that are no UTF-8, as a file's name can have; StorageError where there is
        no such bucket.
        """
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"{key!r} cannot be the name of an S3 object: it is not UTF-8") from error
        with _known_bucket(), path.open("rb") as file:
            self.store.write(bucket, key, _checked(chunks_of(file), check), check=lambda digest, old: check())

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, where there is one; raise StorageError where there is no such bucket."""
        with _known_bucket():
            self.store.delete(bucket, key)


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        check()
        yield chunk


@contextmanager
def _known_bucket() -> Iterator[None]:
    """Say of a missing bucket what a job's FailureReason is to say."""
    try:
        yield
    except NoSuchBucket as error:
        raise StorageError(f"The S3 bucket '{error}' does not exist") from error
