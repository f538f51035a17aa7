"""The operations of S3 on objects, as https://docs.aws.amazon.com/AmazonS3/latest/API/ has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from werkzeug.http import http_date, parse_range_header

from localmode.s3.body import Body
from localmode.s3.files import ObjectFiles
from localmode.s3.index import Digest, StoredObject, chunks_of
from localmode.settings import ACCOUNT_ID
from localmode.shapes import ApiError

Parameters = dict[str, Any]
_DEFAULT_TYPE = "binary/octet-stream"
MAX_KEYS = 1000  # in one request or answer
_MAX_KEY_BYTES = 1024
_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z0-9])")
OWNER = {"ID": f"{ACCOUNT_ID:0>64}", "DisplayName": "localmode"}
_KEPT = {  # parameters that an object keeps, by the headers that give them back
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "Expires": "expires",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "StorageClass": "x-amz-storage-class",
}
_OVERRIDES = {  # parameters of GetObject that replace these headers in one answer
    "ResponseCacheControl": "cache-control",
    "ResponseContentDisposition": "content-disposition",
    "ResponseContentEncoding": "content-encoding",
    "ResponseContentLanguage": "content-language",
    "ResponseContentType": "content-type",
    "ResponseExpires": "expires",
}
_READING = {"IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince", "Range", *_OVERRIDES}
WRITING = {*_KEPT, "Metadata", "Tagging", "Body"}


class Result(NamedTuple):
    """What an operation answers: members of its output by the model's names, other headers, an object's bytes."""

    members: Parameters = {}
    status: int = 200
    headers: dict[str, str] = {}
    file: IO[bytes] | None = None
    span: tuple[int, int] = (0, 0)  # the bytes of the file that are meant


Perform = Callable[[Parameters, Body], Result]
Operations = dict[str, tuple[Perform, set[str]]]  # what performs an operation, and the parameters that it knows


def operations_of(room: Any) -> Operations:
    """Return the operations of a class that names them in PARAMETERS, and has a method for each."""
    return {name: (getattr(room, _CAPITAL.sub("_", name).lower()), known) for name, known in room.PARAMETERS.items()}


class ObjectOperations:
    """Put, get, copy, tag and delete."""

    PARAMETERS = {
        "PutObject": {*WRITING, "IfMatch", "IfNoneMatch"},
        "GetObject": _READING,
        "HeadObject": _READING,
        "CopyObject": {*_KEPT, "Metadata", "Tagging", "CopySource", "MetadataDirective", "TaggingDirective"},
        "DeleteObject": set[str](),
        "DeleteObjects": {"Delete"},
        "GetObjectTagging": set[str](),
        "PutObjectTagging": {"Tagging"},
        "DeleteObjectTagging": set[str](),
    }

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files

    def put_object(self, given: Parameters, body: Body) -> Result:
        """Store the body, if it is what its checksums say and the conditions hold."""

        def check(digest: Digest, old: StoredObject | None) -> None:
            body.verify(digest)
            if given.get("IfNoneMatch") and old is not None:
                raise _precondition("If-None-Match")
            if wanted := given.get("IfMatch"):
                if old is None:
                    raise no_such_key()
                if wanted.strip('"') != old.digest.etag:
                    raise _precondition("If-Match")

        if given.get("IfNoneMatch", "*") != "*":
            raise ApiError("NotImplemented", "localmode's S3 knows If-None-Match for writing only with *", 501)
        key = checked_key(given["Key"])
        entry = self._files.write(given["Bucket"], key, body, kept_headers(given), tags_in_header(given), check)
        return Result(identity(entry.digest))

    def get_object(self, given: Parameters, body: Body) -> Result:
        """Return an object or a range of it."""
        found = self._files.open(given["Bucket"], given["Key"])
        if found is None:
            raise no_such_key()
        entry, file = found
        try:
            return self._shown(given, entry)._replace(file=file)
        except ApiError:
            file.close()
            raise

    def head_object(self, given: Parameters, body: Body) -> Result:
        """Return what GetObject returns, without the bytes."""
        return self._shown(given, self._existing(given))

    def _shown(self, given: Parameters, entry: StoredObject) -> Result:
        modified = entry.modified / 1e9
        etag = f'"{entry.digest.etag}"'
        if not _unchanged(given, etag, modified):
            raise _precondition("If-Match or If-Unmodified-Since")
        members = {"ETag": etag, "LastModified": modified, "AcceptRanges": "bytes", "TagCount": len(entry.tags) or None}
        if not _changed(given, etag, modified):
            return Result(members, 304)
        start, stop, status = 0, entry.size, 200
        if (wanted := parse_range_header(given.get("Range"))) is not None and len(wanted.ranges) == 1:
            span = wanted.range_for_length(entry.size) if wanted.units == "bytes" else (0, entry.size)
            if span is None:
                raise ApiError("InvalidRange", "The requested range is not satisfiable", 416)
            (start, stop), status = span, 206
            members["ContentRange"] = f"bytes {start}-{stop - 1}/{entry.size}"
        elif entry.digest.crc32:
            members |= {"ChecksumCRC32": entry.digest.crc32, "ChecksumType": "FULL_OBJECT"}
        if given.get("ChecksumMode") != "ENABLED":
            members.pop("ChecksumCRC32", None)
            members.pop("ChecksumType", None)
        overrides = {header: _wire(given[name]) for name, header in _OVERRIDES.items() if name in given}
        headers = {"content-type": _DEFAULT_TYPE, **entry.headers, **overrides, "content-length": str(stop - start)}
        return Result(members, status, headers, None, (start, stop))

    def copy_object(self, given: Parameters, body: Body) -> Result:
        """Copy an object with its metadata and tags, or with others."""
        source_bucket, source_key = copy_source(given)
        replace = given.get("MetadataDirective") == "REPLACE"
        retag = given.get("TaggingDirective") == "REPLACE"
        if (source_bucket, source_key) == (given["Bucket"], given["Key"]) and not (replace or retag):
            message = (
                "This copy request is illegal because it is trying to copy an object to itself without changing it"
            )
            raise ApiError("InvalidRequest", message)
        found = self._files.open(source_bucket, source_key)
        if found is None:
            raise no_such_key()
        source, file = found
        with file:
            entry = self._files.write(
                given["Bucket"],
                checked_key(given["Key"]),
                chunks_of(file),
                kept_headers(given) if replace else source.headers,
                tags_in_header(given) if retag else source.tags,
            )
        return Result({"CopyObjectResult": {**identity(entry.digest), "LastModified": entry.modified / 1e9}})

    def delete_object(self, given: Parameters, body: Body) -> Result:
        """Remove an object; one that is not there is no error."""
        self._files.delete(given["Bucket"], given["Key"])
        return Result(status=204)

    def delete_objects(self, given: Parameters, body: Body) -> Result:
        """Remove up to 1,000 objects."""
        wanted = given["Delete"]["Objects"]
        if len(wanted) > MAX_KEYS:
            raise ApiError("MalformedXML", f"There are more than {MAX_KEYS} objects in the request")
        refuse_versions(*wanted)
        for item in wanted:
            self._files.delete(given["Bucket"], item["Key"])
        return Result({} if given["Delete"].get("Quiet") else {"Deleted": [{"Key": item["Key"]} for item in wanted]})

    def get_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Return an object's tags."""
        return Result({"TagSet": [{"Key": key, "Value": value} for key, value in self._existing(given).tags.items()]})

    def put_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Replace an object's tags."""
        if not self._files.tag(given["Bucket"], given["Key"], tags_in(given["Tagging"]["TagSet"])):
            raise no_such_key()
        return Result()

    def delete_object_tagging(self, given: Parameters, body: Body) -> Result:
        """Remove an object's tags."""
        if not self._files.tag(given["Bucket"], given["Key"], {}):
            raise no_such_key()
        return Result(status=204)

    def _existing(self, given: Parameters) -> StoredObject:
        entry = self._files.get(given["Bucket"], given["Key"])
        if entry is None:
            raise no_such_key()
        return entry


def no_such_key() -> ApiError:
    """Return the error for an object that is not there."""
    return ApiError("NoSuchKey", "The specified key does not exist.", 404)


def checked_key(key: str) -> str:
    """Return a key that an object may have; raise ApiError."""
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ApiError("KeyTooLongError", "Your key is too long")
    return key


def kept_headers(given: Parameters) -> dict[str, str]:
    """Return the headers that come back with an object."""
    headers = {header: _wire(given[name]) for name, header in _KEPT.items() if name in given}
    if headers.get("content-type") == _DEFAULT_TYPE:
        del headers["content-type"]
    encodings = [item.strip() for item in headers.pop("content-encoding", "").split(",")]
    if encoding := ",".join(item for item in encodings if item not in ("aws-chunked", "")):
        headers["content-encoding"] = encoding
    return headers | {f"x-amz-meta-{name}": value for name, value in given.get("Metadata", {}).items()}


def tags_in(tag_set: list[dict[str, str]]) -> dict[str, str]:
    """Return tags by their keys; raise ApiError for what no object may have."""
    tags = {tag["Key"]: tag["Value"] for tag in tag_set}
    if len(tags) < len(tag_set) or len(tags) > 10:
        raise ApiError("InvalidTag", "An object has at most 10 tags, each with a key of its own")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise ApiError("InvalidTag", "A tag's key has 1 to 128 characters, its value up to 256")
    return tags


def tags_in_header(given: Parameters) -> dict[str, str]:
    """Return the tags of an x-amz-tagging header."""
    pairs = parse_qsl(given.get("Tagging", ""), keep_blank_values=True)
    return tags_in([{"Key": key, "Value": value} for key, value in pairs])


def copy_source(given: Parameters) -> tuple[str, str]:
    """Return bucket and key of what is to be copied; raise ApiError."""
    source, _, version = given["CopySource"].partition("?versionId=")
    bucket, found, key = unquote(source).removeprefix("/").partition("/")
    if not found or not key:
        raise ApiError("InvalidArgument", "x-amz-copy-source: not of the form bucket/key")
    refuse_versions({"VersionId": version or None})
    return bucket, key


def refuse_versions(*items: dict[str, Any]) -> None:
    """Raise ApiError for a version other than the one that everything has where versioning is off."""
    for item in items:
        if item.get("VersionId") not in (None, "null"):
            raise ApiError("NoSuchVersion", "The specified version does not exist.", 404)


def identity(digest: Digest) -> Parameters:
    """Return what an answer says of bytes that were stored."""
    return {"ETag": f'"{digest.etag}"', "ChecksumCRC32": digest.crc32 or None}


def _precondition(name: str) -> ApiError:
    return ApiError("PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {name}", 412)


def _unchanged(given: Parameters, etag: str, modified: float) -> bool:
    """Whether the conditions hold that ask for what the client knows; times are in whole seconds."""
    if wanted := given.get("IfMatch"):
        return _matches(wanted, etag)
    return "IfUnmodifiedSince" not in given or int(modified) <= int(given["IfUnmodifiedSince"])


def _changed(given: Parameters, etag: str, modified: float) -> bool:
    """Whether the conditions hold that ask for what the client does not know."""
    if known := given.get("IfNoneMatch"):
        return not _matches(known, etag)
    return "IfModifiedSince" not in given or int(modified) > int(given["IfModifiedSince"])


def _matches(etags: str, etag: str) -> bool:
    return etags.strip() == "*" or etag.strip('"') in [item.strip().strip('"') for item in etags.split(",")]


def _wire(value: Any) -> str:
    """Return a parameter as the header that it came in; only `Expires` is no text."""
    return value if isinstance(value, str) else http_date(value)
