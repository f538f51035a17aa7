"""The operations of S3 on objects (https://docs.aws.amazon.com/AmazonS3/latest/API/)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from localmode.core.errors import ApiError
from localmode.s3.errors import NoSuchKey
from localmode.s3.operations.conditions import (
    COPYING_IF,
    READING_IF,
    WRITING_IF,
    check_source,
    check_target,
    has_changed,
    is_unchanged,
    precondition_failed,
    span_in,
)
from localmode.s3.operations.table import Result
from localmode.s3.store.digest import Digest, chunks_of
from localmode.s3.store.index import StoredObject
from localmode.s3.store.objects import ObjectStore
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import (
    CHECKSUM,
    DEFAULT_TYPE,
    KEPT,
    MAX_KEYS,
    Parameters,
    as_header,
    checked_key,
    copy_source,
    identity,
    kept_headers,
    refuse_versions,
    tags_in,
    tags_in_header,
)

_OVERRIDES = {  # parameters of GetObject that replace these headers in one answer
    "ResponseCacheControl": "cache-control",
    "ResponseContentDisposition": "content-disposition",
    "ResponseContentEncoding": "content-encoding",
    "ResponseContentLanguage": "content-language",
    "ResponseContentType": "content-type",
    "ResponseExpires": "expires",
}
_READING = {*READING_IF, "Range", *_OVERRIDES}
WRITING = {*KEPT, "Metadata", "Tagging", "Body"}
_NOT_COPIED = {name: KEPT[name] for name in ("ServerSideEncryption", "SSEKMSKeyId", "StorageClass")}
_COPYING = {*KEPT, "Metadata", "Tagging", "CopySource", "MetadataDirective", "TaggingDirective"}


@contextmanager
def source_of(files: ObjectStore, given: Parameters) -> Iterator[tuple[StoredObject, IO[bytes]]]:
    """Open the source of a copy; raise NoSuchKey, or ApiError if the conditions on the source do not hold."""
    bucket, key = copy_source(given)
    found = files.open(bucket, key)
    if found is None:
        raise NoSuchKey(key)
    source, file = found
    with file:
        check_source(given, source)
        yield source, file


class ObjectOperations:
    """Put, get, copy, tag and delete."""

    PARAMETERS = {
        "PutObject": {*WRITING, *WRITING_IF},
        "GetObject": _READING,
        "HeadObject": _READING,
        "CopyObject": {*_COPYING, *COPYING_IF, *WRITING_IF},
        "DeleteObject": set[str](),
        "DeleteObjects": {"Delete"},
        "GetObjectTagging": set[str](),
        "PutObjectTagging": {"Tagging"},
        "DeleteObjectTagging": set[str](),
    }

    def __init__(self, files: ObjectStore) -> None:
        self._files = files

    def put_object(self, given: Parameters, body: Body) -> Result:
        """Store the body if its checksums are right and the conditions hold."""

        def check(digest: Digest, old: StoredObject | None) -> None:
            body.verify(digest)
            check_target(given, old)
            headers.update(body.checksums)  # only now: a trailer may bring them after the bytes

        key, headers = checked_key(given["Key"]), kept_headers(given)
        entry = self._files.write(given["Bucket"], key, body, headers, tags_in_header(given), check)
        return Result(identity(entry.digest, entry.headers))

    def get_object(self, given: Parameters, body: Body) -> Result:
        """Return an object or a range of it."""
        found = self._files.open(given["Bucket"], given["Key"])
        if found is None:
            raise NoSuchKey(given["Key"])
        entry, file = found
        try:
            return self._shown(given, entry)._replace(file=file)
        except ApiError:
            file.close()
            raise

    def head_object(self, given: Parameters, body: Body) -> Result:
        """Return the headers that GetObject returns."""
        return self._shown(given, self._existing(given))

    def _shown(self, given: Parameters, entry: StoredObject) -> Result:
        modified = entry.modified / 1e9
        etag = f'"{entry.digest.etag}"'
        if not is_unchanged(given, etag, modified):
            raise precondition_failed("If-Match or If-Unmodified-Since")
        members = {"ETag": etag, "LastModified": modified, "AcceptRanges": "bytes", "TagCount": len(entry.tags) or None}
        if not has_changed(given, etag, modified):
            return Result(members, 304)
        start, stop, status = 0, entry.size, 200
        if (span := span_in(given.get("Range", ""), entry.size)) is not None:
            (start, stop), status = span, 206
            members["ContentRange"] = f"bytes {start}-{stop - 1}/{entry.size}"
        elif given.get("ChecksumMode") == "ENABLED":
            members |= identity(entry.digest, entry.headers)
        kept = {name: value for name, value in entry.headers.items() if not name.startswith(CHECKSUM)}
        overrides = {header: as_header(given, name) for name, header in _OVERRIDES.items() if name in given}
        headers = {"content-type": DEFAULT_TYPE, **kept, **overrides, "content-length": str(stop - start)}
        return Result(members, status, headers, None, (start, stop))

    def copy_object(self, given: Parameters, body: Body) -> Result:
        """Copy an object, with its own or with new metadata and tags."""
        replace = given.get("MetadataDirective") == "REPLACE"
        retag = given.get("TaggingDirective") == "REPLACE"
        anew = {name: given[name] for name in _NOT_COPIED.keys() & given.keys()}
        if copy_source(given) == (given["Bucket"], given["Key"]) and not (replace or retag or anew):
            message = (
                "This copy request is illegal because it is trying to copy an object to itself without changing it"
            )
            raise ApiError("InvalidRequest", message)
        with source_of(self._files, given) as (source, file):
            kept = {name: value for name, value in source.headers.items() if name not in _NOT_COPIED.values()}
            entry = self._files.write(
                given["Bucket"],
                checked_key(given["Key"]),
                chunks_of(file),
                kept_headers(given) if replace else kept | kept_headers(anew),
                tags_in_header(given) if retag else source.tags,
                lambda digest, old: check_target(given, old),
            )
        members = {**identity(entry.digest, entry.headers), "LastModified": entry.modified / 1e9}
        return Result({"CopyObjectResult": members})

    def delete_object(self, given: Parameters, body: Body) -> Result:
        """Remove an object, if it exists."""
        self._files.delete(given["Bucket"], given["Key"])
        return Result(status=204)

    def delete_objects(self, given: Parameters, body: Body) -> Result:
        """Remove up to 1,000 objects."""
        wanted = given["Delete"]["Objects"]
        if len(wanted) > MAX_KEYS:
            raise ApiError("MalformedXML", f"There are more than {MAX_KEYS} objects in the request")
        refuse_versions(*wanted)
        if conditions := set().union(*wanted) - {"Key", "VersionId"}:
            message = f"localmode's S3 does not implement {min(conditions)} of DeleteObjects"
            raise ApiError("NotImplemented", message, 501)
        for item in wanted:
            self._files.delete(given["Bucket"], item["Key"])
        return Result({} if given["Delete"].get("Quiet") else {"Deleted": [{"Key": item["Key"]} for item in wanted]})

    def get_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Return an object's tags."""
        return Result({"TagSet": [{"Key": key, "Value": value} for key, value in self._existing(given).tags.items()]})

    def put_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Replace an object's tags."""
        if not self._files.tag(given["Bucket"], given["Key"], tags_in(given["Tagging"]["TagSet"])):
            raise NoSuchKey(given["Key"])
        return Result()

    def delete_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Remove an object's tags."""
        if not self._files.tag(given["Bucket"], given["Key"], {}):
            raise NoSuchKey(given["Key"])
        return Result(status=204)

    def _existing(self, given: Parameters) -> StoredObject:
        entry = self._files.get(given["Bucket"], given["Key"])
        if entry is None:
            raise NoSuchKey(given["Key"])
        return entry
