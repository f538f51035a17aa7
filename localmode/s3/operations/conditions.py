"""Conditional requests and ranges (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re

from localmode.core.errors import ApiError
from localmode.s3.errors import NoSuchKey
from localmode.s3.store.index import StoredObject
from localmode.s3.wire.headers import Parameters

_RANGE = re.compile(r"bytes *= *(\d{0,99}) *- *(\d{0,99}) *", re.ASCII | re.IGNORECASE)
READING_IF = {"IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince"}
COPYING_IF = {f"CopySource{name}" for name in READING_IF}
WRITING_IF = {"IfMatch", "IfNoneMatch"}


def precondition_failed(name: str) -> ApiError:
    """Return the error for a condition that does not hold."""
    return ApiError("PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {name}", 412)


def is_unchanged(given: Parameters, etag: str, modified: float) -> bool:
    """Return whether If-Match or If-Unmodified-Since holds; times are compared in whole seconds."""
    if wanted := given.get("IfMatch"):
        return _matches(wanted, etag)
    return "IfUnmodifiedSince" not in given or int(modified) <= int(given["IfUnmodifiedSince"])


def has_changed(given: Parameters, etag: str, modified: float) -> bool:
    """Return whether If-None-Match or If-Modified-Since holds."""
    if known := given.get("IfNoneMatch"):
        return not _matches(known, etag)
    return "IfModifiedSince" not in given or int(modified) > int(given["IfModifiedSince"])


def check_source(given: Parameters, source: StoredObject) -> None:
    """Raise ApiError if the conditions on the source of a copy do not hold."""
    conditions = {name.removeprefix("CopySource"): given[name] for name in COPYING_IF if name in given}
    state = (conditions, source.digest.etag, source.modified / 1e9)
    if not (is_unchanged(*state) and has_changed(*state)):
        raise precondition_failed("x-amz-copy-source-if-...")


def check_target(given: Parameters, old: StoredObject | None) -> None:
    """Raise ApiError, or NoSuchKey, if the conditions on replacing `old` do not hold."""
    if given.get("IfNoneMatch", "*") != "*":
        raise ApiError("NotImplemented", "localmode's S3 implements If-None-Match of writes only with *", 501)
    if given.get("IfNoneMatch") and old is not None:
        raise precondition_failed("If-None-Match")
    if wanted := given.get("IfMatch"):
        if old is None:
            raise NoSuchKey(given["Key"])
        if wanted.strip('"') != old.digest.etag:
            raise precondition_failed("If-Match")


def _matches(etags: str, etag: str) -> bool:
    return etags.strip() == "*" or etag.strip('"') in [item.strip().strip('"') for item in etags.split(",")]


def span_in(text: str, size: int) -> tuple[int, int] | None:
    """Return where the bytes of a Range header begin and end; raise ApiError if the object has no byte in the range.

    Return None for a header to be ignored: another unit, several ranges, no range (RFC 9110, section 14.2).
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
