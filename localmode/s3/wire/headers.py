"""Check the parameters of S3 requests that arrive in headers, and convert them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from werkzeug.http import http_date

from localmode.core.errors import ApiError
from localmode.s3.store.digest import Digest

Parameters = dict[str, Any]
MAX_KEYS = 1000  # in one request or answer
_MAX_KEY_BYTES = 1024
_MAX_METADATA_BYTES = 2048
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
CHECKSUM = "x-amz-checksum-"
DEFAULT_TYPE = "binary/octet-stream"
KEPT = {  # parameters that are kept with an object, and the headers that return them
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


def checked_key(key: str) -> str:
    """Return a key; raise ApiError if no object may have it."""
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ApiError("KeyTooLongError", "Your key is too long")
    return key


def kept_headers(given: Parameters) -> dict[str, str]:
    """Return the headers to keep with an object; raise ApiError if they are invalid."""
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
    """Return tags by their keys; raise ApiError for tags that no object may have."""
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
    """Return bucket and key of the source of a copy; raise ApiError if the header is invalid."""
    source, _, version = given["CopySource"].partition("?versionId=")
    bucket, found, key = unquote(source).removeprefix("/").partition("/")
    if not found or not key:
        raise ApiError("InvalidArgument", "x-amz-copy-source must have the form bucket/key")
    refuse_versions({"VersionId": version or None})
    return bucket, key


def refuse_versions(*items: dict[str, Any]) -> None:
    """Raise ApiError for a version other than `null`, the only one without versioning."""
    for item in items:
        if item.get("VersionId") not in (None, "null"):
            raise ApiError("NoSuchVersion", "The specified version does not exist.", 404)


def identity(digest: Digest, headers: dict[str, str] | None = None) -> Parameters:
    """Return ETag and checksum for an answer: the checksum among the headers of the object, if any, or its CRC-32."""
    given = {name.removeprefix(CHECKSUM): value for name, value in (headers or {}).items() if name.startswith(CHECKSUM)}
    known = given or ({"crc32": digest.crc32} if digest.crc32 else {})
    checksums = {f"Checksum{name.upper()}": value for name, value in known.items()}
    return {"ETag": f'"{digest.etag}"', **checksums, "ChecksumType": "FULL_OBJECT" if known else None}


def as_header(given: Parameters, name: str) -> str:
    """Return a parameter as the text of a header; raise ApiError if it has control characters."""
    value = given[name]
    text = value if isinstance(value, str) else http_date(value)  # only `Expires` is not text
    if _CONTROL.search(text):
        raise ApiError("InvalidArgument", f"{name}: {text[:100]!r} has control characters")
    return text
