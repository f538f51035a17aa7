"""TODO: localmode/s3/errors.py"""

from __future__ import annotations

from localmode.core.errors import ApiError


def no_such_key() -> ApiError:
    """Return the error for an object that is not there."""
    return ApiError("NoSuchKey", "The specified key does not exist.", 404)


def no_such_upload() -> ApiError:
    """Return the error for an upload that is not under way."""
    message = "The specified upload does not exist. It may have been aborted or completed."
    return ApiError("NoSuchUpload", message, 404)


class NoSuchBucket(Exception):
    """There is no bucket of this name."""


class BucketNotEmpty(Exception):
    """A bucket that still holds objects is to be deleted."""


class NoSuchUpload(Exception):
    """There is no such multipart upload: it was completed, aborted or never begun."""
