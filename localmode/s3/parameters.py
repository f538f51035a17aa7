"""What requests of S3 say, read and checked, and the errors that several of its operations answer."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from werkzeug.http import http_date

from localmode.s3.index import Digest, StoredObject
from localmode.shapes import ApiError

Parameters = dict[str, Any]
MAX_KEYS = 1000  # in one request or answer
_MAX_KEY_BYTES = 1024
_MAX_METADATA_BYTES = 2048
_RANGE = re.compile(r"bytes *= *(\d{0,99}) *- *(\d{0,99}) *", re.ASCII | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
CHECKSUM = "x-amz-checksum-"
DEFAULT_TYPE = "binary/octet-stream"
READING_IF = {"IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince"}
COPYING_IF = {f"CopySource{name}" for name in READING_IF}
WRITING_IF = {"IfMatch", "IfNoneMatch"}
KEPT = {  # parameters that an object keeps, by the headers that give them back
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


def no_such_key() -> ApiError:
    """Return the error for an object that is not there."""
    return ApiError("NoSuchKey", "The specified key does not exist.", 404)


def checked_key(key: str) -> str:
    """Return a key that an object may have; raise ApiError."""
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ApiError("KeyTooLongError", "Your key is too long")
    return key


def kept_headers(given: Parameters) -> dict[str, str]:
    """Return the headers that come back with an object; raise ApiError."""
    headers = {header: as_header(given, name) for name, header in KEPT.items() if name in given}
    if headers.get("content-type") == DEFAULT_TYPE:
        del headers["content-type"]
    encodings = [item.strip() for item in headers.pop("content-encoding", "").split(",")]
    if encoding := ",".join(item for item in encodings if item not in ("aws-chunked", "")):
        headers["content-encoding"] = encoding
    metadata = given.get("Metadata", {})
    if sum(len(f"{name}{value}".encode()) for name, value in metadata.items()) > _MAX_METADATA_BYTES:
        raise ApiError("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    return headers | {f"x-amz-meta-{name}": as_header(metadata, name) for name in metadata}


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


def identity(digest: Digest, headers: dict[str, str] | None = None) -> Parameters:
    """Return what an answer says of bytes that were stored, with the checksum among the headers kept with them."""
    given = {name.removeprefix(CHECKSUM): value for name, value in (headers or {}).items() if name.startswith(CHECKSUM)}
    known = given or ({"crc32": digest.crc32} if digest.crc32 else {})
    checksums = {f"Checksum{name.upper()}": value for name, value in known.items()}
    return {"ETag": f'"{digest.etag}"', **checksums, "ChecksumType": "FULL_OBJECT" if known else None}


def precondition_failed(name: str) -> ApiError:
    """Return the error for a condition of the request that does not hold."""
    return ApiError("PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {name}", 412)


def is_unchanged(given: Parameters, etag: str, modified: float) -> bool:
    """Whether the conditions hold that ask for what the client knows; times are in whole seconds."""
    if wanted := given.get("IfMatch"):
        return _matches(wanted, etag)
    return "IfUnmodifiedSince" not in given or int(modified) <= int(given["IfUnmodifiedSince"])


def has_changed(given: Parameters, etag: str, modified: float) -> bool:
    """Whether the conditions hold that ask for what the client does not know."""
    if known := given.get("IfNoneMatch"):
        return not _matches(known, etag)
    return "IfModifiedSince" not in given or int(modified) > int(given["IfModifiedSince"])


def check_source(given: Parameters, source: StoredObject) -> None:
    """Raise ApiError where the conditions do not hold under which an object may be copied."""
    conditions = {name.removeprefix("CopySource"): given[name] for name in COPYING_IF if name in given}
    state = (conditions, source.digest.etag, source.modified / 1e9)
    if not (is_unchanged(*state) and has_changed(*state)):
        raise precondition_failed("x-amz-copy-source-if-...")


def check_target(given: Parameters, old: StoredObject | None) -> None:
    """Raise ApiError where the conditions do not hold under which an object may be written in the place of another."""
    if given.get("IfNoneMatch", "*") != "*":
        raise ApiError("NotImplemented", "localmode's S3 knows If-None-Match for writing only with *", 501)
    if given.get("IfNoneMatch") and old is not None:
        raise precondition_failed("If-None-Match")
    if wanted := given.get("IfMatch"):
        if old is None:
            raise no_such_key()
        if wanted.strip('"') != old.digest.etag:
            raise precondition_failed("If-Match")


def _matches(etags: str, etag: str) -> bool:
    return etags.strip() == "*" or etag.strip('"') in [item.strip().strip('"') for item in etags.split(",")]


def as_header(given: Parameters, name: str) -> str:
    """Return a parameter as the header that it came in; raise ApiError if no header can say it."""
    value = given[name]
    text = value if isinstance(value, str) else http_date(value)  # only `Expires` is no text
    if _CONTROL.search(text):
        raise ApiError("InvalidArgument", f"{name}: {text[:100]!r} has control characters")
    return text


def span_in(text: str, size: int) -> tuple[int, int] | None:
    """Return where the bytes that a Range header asks for begin and end; raise ApiError if there are none.

    None is for what is to be ignored: another unit, several ranges, no range (RFC 9110, 14.2).
    """
    match = _RANGE.fullmatch(text)
    if match is None or not any(match.groups()) or (all(match.groups()) and int(match[1]) > int(match[2])):
        return None
    if match[1]:
        start, stop = int(match[1]), min(int(match[2] or size) + 1, size)
    else:
        start, stop = max(size - int(match[2]), 0), size
    if start >= stop:
        raise ApiError("InvalidRange", "The requested range is not satisfiable", 416)
    return start, stop
