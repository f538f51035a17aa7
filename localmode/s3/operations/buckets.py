"""The operations of S3 on buckets and their configuration."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from localmode.core.errors import ApiError
from localmode.s3.operations.table import OWNER, Operations, Result
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Uploads
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import Parameters

_REGION = "region"
_REGION_NAME = re.compile(r"(?!us-east-1$)[a-zA-Z0-9-]+")  # a bucket without LocationConstraint is in us-east-1
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_RESERVED_NAME = re.compile(
    r"(xn--|sthree-|amzn-s3-demo-).*|.*\.\..*|(\d+\.){3}\d+|.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)"
)
# Documents that are stored and returned unchanged, and have no other effect.
# Subject of the operations: member of the request, member of the answer, error if nothing is configured.
_DOCUMENTS = {
    "BucketTagging": ("Tagging", "TagSet", "NoSuchTagSet"),
    "BucketPolicy": ("Policy", "Policy", "NoSuchBucketPolicy"),
    "PublicAccessBlock": (
        "PublicAccessBlockConfiguration",
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    ),
    "BucketEncryption": (
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    "BucketOwnershipControls": ("OwnershipControls", "OwnershipControls", "OwnershipControlsNotFoundError"),
}


class BucketOperations:
    """Create, delete, list and describe."""

    PARAMETERS: dict[str, set[str]] = {
        "ListBuckets": {"Prefix", "BucketRegion", "MaxBuckets", "ContinuationToken"},
        "CreateBucket": {"CreateBucketConfiguration"},
        "HeadBucket": set(),
        "DeleteBucket": set(),
        "GetBucketLocation": set(),
        "GetBucketVersioning": set(),
        "GetBucketAcl": set(),
    }

    def __init__(self, files: ObjectStore, uploads: Uploads, region: str) -> None:
        self._files = files
        self._uploads = uploads
        self._region = region

    def list_buckets(self, given: Parameters, body: Body) -> Result:
        """List the buckets by name; a continuation token is the last name of the page before."""
        after, limit = given.get("ContinuationToken", ""), given.get("MaxBuckets", 10_000)
        wanted = given.get("BucketRegion")
        found = [
            {"Name": bucket.name, "CreationDate": bucket.created}
            for bucket in self._files.buckets()
            if bucket.name > after
            and bucket.name.startswith(given.get("Prefix", ""))
            and wanted in (None, bucket.documents.get(_REGION, self._region))
        ]
        token = found[limit - 1]["Name"] if 0 < limit < len(found) else None
        return Result({"Buckets": found[:limit], "Owner": OWNER, "ContinuationToken": token})

    def create_bucket(self, given: Parameters, body: Body) -> Result:
        """Create a bucket. In us-east-1 only, creating one's own bucket again succeeds."""
        configuration = given.get("CreateBucketConfiguration", {})
        if unknown := configuration.keys() - {"LocationConstraint", "Tags"}:
            raise ApiError("NotImplemented", f"localmode's S3 does not implement {min(unknown)} of CreateBucket", 501)
        constraint, name = configuration.get("LocationConstraint"), given["Bucket"]
        if constraint is not None and not _REGION_NAME.fullmatch(constraint):
            raise ApiError("InvalidLocationConstraint", "The specified location-constraint is not valid")
        if _RESERVED_NAME.fullmatch(name):
            raise ApiError("InvalidBucketName", f"The specified bucket is not valid: {name!r}")
        region = constraint or "us-east-1"
        if self._files.has_bucket(name) and region != "us-east-1":
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise ApiError("BucketAlreadyOwnedByYou", message, 409)
        tags = {"BucketTagging": configuration["Tags"]} if configuration.get("Tags") else {}
        self._files.create_bucket(name, {_REGION: region, **tags})
        return Result({"Location": f"/{name}"})

    def head_bucket(self, given: Parameters, body: Body) -> Result:
        """Return the Region of a bucket."""
        return Result({"BucketRegion": self._region_of(given)})

    def delete_bucket(self, given: Parameters, body: Body) -> Result:
        """Delete an empty bucket, and abort the multipart uploads into it."""

        def end_uploads() -> None:
            for upload in self._uploads.of_bucket(given["Bucket"]):
                self._uploads.end(upload)

        self._files.delete_bucket(given["Bucket"], end_uploads)
        return Result(status=204)

    def get_bucket_location(self, given: Parameters, body: Body) -> Result:
        """Return the Region of a bucket; us-east-1 is the empty string in this operation."""
        region = self._region_of(given)
        return Result({"LocationConstraint": "" if region == "us-east-1" else region})

    def _region_of(self, given: Parameters) -> str:
        return str(self._files.bucket(given["Bucket"]).documents.get(_REGION, self._region))

    def get_bucket_versioning(self, given: Parameters, body: Body) -> Result:
        """Return that versioning has never been enabled."""
        self._files.bucket(given["Bucket"])
        return Result()

    def get_bucket_acl(self, given: Parameters, body: Body) -> Result:
        """Return the owner and no grants to others."""
        self._files.bucket(given["Bucket"])
        return Result({"Owner": OWNER, "Grants": []})


def document_operations(files: ObjectStore) -> Operations:
    """Return the operations that put, get and delete a bucket's documents."""
    found: Operations = {}
    for subject, (request, _, _) in _DOCUMENTS.items():
        found[f"Get{subject}"] = (partial(_get_document, files, subject), set())
        found[f"Put{subject}"] = (partial(_put_document, files, subject), {request})
        found[f"Delete{subject}"] = (partial(_delete_document, files, subject), set())
    return found


def _get_document(files: ObjectStore, subject: str, given: Parameters, body: Body) -> Result:
    _, answer, error = _DOCUMENTS[subject]
    document = files.bucket(given["Bucket"]).documents.get(subject)
    if document is None:
        raise ApiError(error, f"The {subject} of this bucket was not found", 404)
    return Result({answer: document})


def _put_document(files: ObjectStore, subject: str, given: Parameters, body: Body) -> Result:
    request, answer, _ = _DOCUMENTS[subject]
    document: Any = given[request]
    files.configure(given["Bucket"], subject, document[answer] if subject == "BucketTagging" else document)
    return Result(status=204 if subject in ("BucketTagging", "BucketPolicy") else 200)


def _delete_document(files: ObjectStore, subject: str, given: Parameters, body: Body) -> Result:
    files.configure(given["Bucket"], subject, None)
    return Result(status=204)
