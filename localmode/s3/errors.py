"""Errors of the store and of the in-process interface. `app` turns those of the store into S3's error answers."""

from __future__ import annotations


class NoSuchBucket(Exception):
    """The bucket does not exist; the argument is its name."""


class BucketNotEmpty(Exception):
    """The bucket cannot be deleted because it still holds objects; the argument is its name."""


class NoSuchKey(Exception):
    """The object does not exist; the argument is its key."""


class NoSuchUpload(Exception):
    """The multipart upload does not exist: it was completed, aborted or never created. The argument is its ID."""


class StorageError(Exception):
    """A job or an endpoint uses S3 in a way that fails; the message becomes part of its FailureReason."""


class InvalidKey(StorageError):
    """A file has a name that no S3 object can have."""
