"""S3: for clients over HTTP, for instances in process. A write is acknowledged when it is on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.model import OperationModel
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from localmode.s3 import answers, rest
from localmode.s3.body import Body
from localmode.s3.buckets import BucketOperations, document_operations
from localmode.s3.files import BucketNotEmpty, NoSuchBucket, ObjectFiles
from localmode.s3.index import StoredObject, chunks_of
from localmode.s3.listing import ListOperations
from localmode.s3.objects import ObjectOperations, operations_of
from localmode.s3.parameters import Parameters, refuse_versions
from localmode.s3.parts import PartOperations, no_such_upload
from localmode.s3.uploads import NoSuchUpload, Uploads
from localmode.settings import ACCOUNT_ID
from localmode.shapes import ApiError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_S3_URI = re.compile(rf"s3://({_BUCKET.pattern})(?:/(.*))?", re.DOTALL)
_PRIVATE = ("private", "bucket-owner-full-control")
# What a client may say beside what an operation is about: checked here, by Body, or without meaning in local mode.
_ALWAYS = {
    "Bucket",
    "Key",
    "ExpectedBucketOwner",
    "ExpectedSourceBucketOwner",
    "RequestPayer",
    "VersionId",
    "ACL",
    "ContentLength",
    "ContentMD5",
    "BucketKeyEnabled",
    "EncodingType",
}


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
    """S3 for clients (over HTTP) and for instances (in process)."""

    def __init__(self, root: Path, region: str = "us-east-1") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.files = ObjectFiles(root)
        uploads = Uploads(root / ".uploads", self.files.scratch)
        self._operations = {
            **operations_of(ObjectOperations(self.files)),
            **operations_of(ListOperations(self.files)),
            **operations_of(PartOperations(self.files, uploads)),
            **operations_of(BucketOperations(self.files, uploads, region)),
            **document_operations(self.files),
        }

    def handle(self, environ: dict[str, Any]) -> Response:
        """Answer one S3 request of a client."""
        target = rest.target_of(environ)
        try:
            return self._answer(environ, target)
        except ApiError as error:
            failure = error
        except NoSuchBucket:
            failure = ApiError("NoSuchBucket", "The specified bucket does not exist", 404)
        except BucketNotEmpty:
            failure = ApiError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
        except NoSuchUpload:
            failure = no_such_upload()
        return answers.error_answer(failure, target.bucket, target.key)

    def _answer(self, environ: dict[str, Any], target: rest.Target) -> Response:
        if (target.bucket or target.key) and not _BUCKET.fullmatch(target.bucket):
            raise ApiError("InvalidBucketName", f"The specified bucket is not valid: {target.bucket[:100]!r}")
        operation = rest.operation_of(environ, target)
        if operation.name not in self._operations:
            raise ApiError("NotImplemented", f"localmode does not implement {operation.name} of S3", 501)
        perform, known = self._operations[operation.name]
        given = rest.parameters_of(operation, environ, target)
        _check(operation.name, given, known | _ALWAYS)
        # CompleteMultipartUpload tells the checksum of the object, not that of its own list of parts.
        body = Body(environ, described=operation.name != "CompleteMultipartUpload")
        if (shape := rest.payload_of(operation)) is not None:
            given |= _document(operation, shape, body)
        result = perform(given, body)
        response = answers.answer(operation, result.members, result.status)
        response.headers.update(answers.on_the_wire(result.headers))
        if (file := result.file) is not None:
            start, stop = result.span
            file.seek(start)
            response.response = ClosingIterator(chunks_of(file, stop - start), file.close)
            response.direct_passthrough = True  # which closes what it passes, and not the response
        return response

    # What an instance does: list, read, put, delete.

    def bucket_exists(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        return self.files.has_bucket(bucket)

    def objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return the objects under a prefix; raise StorageError where there is no such bucket."""
        with _known_bucket():
            return self.files.objects(bucket, prefix)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return one object, None where there is none; raise StorageError where there is no such bucket."""
        with _known_bucket():
            return self.files.get(bucket, key)

    def put_file(self, bucket: str, key: str, path: Path) -> None:
        """Upload a file; it is on disk when this returns.

        Raises InvalidKey for a key of bytes that are no UTF-8, as a file's name can have; StorageError where there is
        no such bucket.
        """
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"{key!r} cannot be the name of an S3 object: it is not UTF-8") from error
        with _known_bucket(), path.open("rb") as file:
            self.files.write(bucket, key, chunks_of(file))

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, where there is one; raise StorageError where there is no such bucket."""
        with _known_bucket():
            self.files.delete(bucket, key)


@contextmanager
def _known_bucket() -> Iterator[None]:
    """Say of a missing bucket what a job's FailureReason is to say."""
    try:
        yield
    except NoSuchBucket as error:
        raise StorageError(f"The S3 bucket '{error}' does not exist") from error


def _check(operation: str, given: Parameters, known: set[str]) -> None:
    """Raise ApiError for what a request asks that local mode does not do; nothing is ignored."""
    for name, value in given.items():
        if name not in known and not name.startswith("Checksum") and value != {}:
            raise ApiError("NotImplemented", f"localmode's S3 does not implement {name} of {operation}", 501)
    if any(given.get(name, ACCOUNT_ID) != ACCOUNT_ID for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")):
        raise ApiError("AccessDenied", "Access Denied: the bucket has another owner", 403)
    if given.get("ACL", "private") not in _PRIVATE:
        raise ApiError("AccessControlListNotSupported", "The bucket does not allow ACLs")
    refuse_versions(given)


def _document(operation: OperationModel, shape: Any, body: Body) -> Parameters:
    content = body.document()
    payload = operation.input_shape.serialization["payload"]
    if not content:
        if operation.name == "CreateBucket":
            return {}
        raise ApiError("MissingRequestBodyError", "Request Body is empty")
    if shape.type_name == "string":
        return {payload: content.decode(errors="replace")}
    return {payload: rest.document_in(content, shape)}
