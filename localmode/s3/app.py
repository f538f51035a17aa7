"""S3 over HTTP: parse a request, check it, perform the operation, serialize the answer.

A write is on disk before it is answered.
"""

from __future__ import annotations

from typing import Any

from botocore.model import OperationModel
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from localmode.core.aws import ACCOUNT_ID
from localmode.core.errors import ApiError
from localmode.s3.errors import BucketNotEmpty, NoSuchBucket, NoSuchKey, NoSuchUpload
from localmode.s3.operations.buckets import BucketOperations, document_operations
from localmode.s3.operations.listing import ListOperations
from localmode.s3.operations.multipart import PartOperations
from localmode.s3.operations.objects import ObjectOperations
from localmode.s3.operations.table import operations_of
from localmode.s3.storage import BUCKET_NAME
from localmode.s3.store.digest import chunks_of
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Uploads
from localmode.s3.wire import parse as rest
from localmode.s3.wire import serialize as answers
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import Parameters, refuse_versions

_PRIVATE = ("private", "bucket-owner-full-control")
# Parameters that every operation accepts: checked here or by Body, or without effect in localmode.
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


_ERRORS: dict[type[Exception], ApiError] = {
    NoSuchBucket: ApiError("NoSuchBucket", "The specified bucket does not exist", 404),
    BucketNotEmpty: ApiError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409),
    NoSuchKey: ApiError("NoSuchKey", "The specified key does not exist.", 404),
    NoSuchUpload: ApiError(
        "NoSuchUpload", "The specified upload does not exist. It may have been aborted or completed.", 404
    ),
}


class S3Application:
    """Answer the S3 requests of clients over HTTP."""

    def __init__(self, store: ObjectStore, region: str = "us-east-1") -> None:
        uploads = Uploads(store.layout.uploads, store.layout.scratch)
        self._operations = {
            **operations_of(ObjectOperations(store)),
            **operations_of(ListOperations(store)),
            **operations_of(PartOperations(store, uploads)),
            **operations_of(BucketOperations(store, uploads, region)),
            **document_operations(store),
        }

    def handle(self, environ: dict[str, Any]) -> Response:
        """Answer one S3 request of a client."""
        target = rest.target_of(environ)
        try:
            return self._answer(environ, target)
        except ApiError as error:
            return answers.error_answer(error, target.bucket, target.key)
        except tuple(_ERRORS) as error:
            return answers.error_answer(_ERRORS[type(error)], target.bucket, target.key)

    def _answer(self, environ: dict[str, Any], target: rest.Target) -> Response:
        if (target.bucket or target.key) and not BUCKET_NAME.fullmatch(target.bucket):
            raise ApiError("InvalidBucketName", f"The specified bucket is not valid: {target.bucket[:100]!r}")
        operation = rest.operation_of(environ, target)
        if operation.name not in self._operations:
            raise ApiError("NotImplemented", f"localmode does not implement {operation.name} of S3", 501)
        perform, known = self._operations[operation.name]
        given = rest.parameters_of(operation, environ, target)
        _check(operation.name, given, known | _ALWAYS)
        # The checksum headers of CompleteMultipartUpload are about the object, not about the list of parts in its body.
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
            response.direct_passthrough = True  # werkzeug then closes the iterator, not the response
        return response


def _check(operation: str, given: Parameters, known: set[str]) -> None:
    """Raise ApiError for every parameter that localmode does not support, so that none is silently ignored."""
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
