"""Parameters of S3 requests that arrive in headers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from localmode.core.errors import ApiError
from localmode.s3.store.digest import Digest
from localmode.s3.wire.headers import (
    checked_key,
    copy_source,
    identity,
    kept_headers,
    refuse_versions,
    tags_in,
    tags_in_header,
)


def test_a_key_has_at_most_1024_bytes() -> None:
    assert checked_key("é" * 512) == "é" * 512
    with pytest.raises(ApiError) as caught:
        checked_key("é" * 512 + "x")
    assert caught.value.code == "KeyTooLongError"


def test_headers_and_metadata_are_kept_and_other_parameters_are_not() -> None:
    expires = datetime(2026, 1, 1, tzinfo=UTC)
    given = {"Bucket": "abc", "ContentType": "text/csv", "Expires": expires, "Metadata": {"color": "blue"}}
    assert kept_headers(given) == {
        "content-type": "text/csv",
        "expires": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-amz-meta-color": "blue",
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"ContentType": "binary/octet-stream"}, {}),  # the default
        ({"ContentEncoding": "aws-chunked"}, {}),  # of the request, not of the object
        ({"ContentEncoding": "gzip, aws-chunked"}, {"content-encoding": "gzip"}),
        ({"ContentEncoding": ""}, {}),
    ],
)
def test_what_does_not_belong_to_the_object_is_not_kept(given: dict[str, str], kept: dict[str, str]) -> None:
    assert kept_headers(given) == kept


@pytest.mark.parametrize(
    "given",
    [{"CacheControl": "a\nb"}, {"ContentDisposition": "\0"}, {"Metadata": {"a": "\x7f"}}],
    ids=lambda given: next(iter(given)),
)
def test_a_control_character_in_a_header_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="has control characters"):
        kept_headers(given)


@pytest.mark.parametrize(
    ("header", "source"),
    [
        ("bucket/key", ("bucket", "key")),
        ("/bucket/a/b", ("bucket", "a/b")),
        ("bucket/a%20b%3F", ("bucket", "a b?")),
        ("bucket/key?versionId=null", ("bucket", "key")),
    ],
)
def test_the_source_of_a_copy_is_a_bucket_and_a_key(header: str, source: tuple[str, str]) -> None:
    assert copy_source({"CopySource": header}) == source


@pytest.mark.parametrize(
    ("header", "code"),
    [("bucket", "InvalidArgument"), ("bucket/", "InvalidArgument"), ("bucket/key?versionId=3", "NoSuchVersion")],
)
def test_an_invalid_source_of_a_copy_is_refused(header: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        copy_source({"CopySource": header})
    assert caught.value.code == code


def test_only_the_version_null_exists() -> None:
    refuse_versions({}, {"VersionId": "null"}, {"VersionId": None})
    with pytest.raises(ApiError) as caught:
        refuse_versions({"VersionId": "null"}, {"VersionId": "1"})
    assert (caught.value.code, caught.value.status) == ("NoSuchVersion", 404)


def test_tags_in_a_header_are_a_query() -> None:
    assert tags_in_header({"Tagging": "a=1&b=x%26y&c="}) == {"a": "1", "b": "x&y", "c": ""}
    assert tags_in_header({}) == {}


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "1"), ("a", "2")],
        [(str(number), "") for number in range(11)],
        [("", "1")],
        [("a" * 129, "1")],
        [("a", "1" * 257)],
    ],
    ids=["the same key twice", "11 tags", "empty key", "long key", "long value"],
)
def test_tags_that_no_object_may_have_are_refused(pairs: list[tuple[str, str]]) -> None:
    assert tags_in([{"Key": "a" * 128, "Value": "1" * 256}]) == {"a" * 128: "1" * 256}
    with pytest.raises(ApiError) as caught:
        tags_in([{"Key": key, "Value": value} for key, value in pairs])
    assert caught.value.code == "InvalidTag"


@pytest.mark.parametrize(
    ("digest", "headers", "expected"),
    [
        (Digest("e", "c"), {}, {"ETag": '"e"', "ChecksumCRC32": "c", "ChecksumType": "FULL_OBJECT"}),
        (
            Digest("e", "c"),
            {"x-amz-checksum-sha256": "s", "content-type": "a/b"},
            {"ETag": '"e"', "ChecksumSHA256": "s", "ChecksumType": "FULL_OBJECT"},
        ),
        (Digest("e-2", ""), {}, {"ETag": '"e-2"', "ChecksumType": None}),
    ],
    ids=["crc32", "the checksum of the client", "parts"],
)
def test_an_answer_has_the_etag_and_one_checksum(
    digest: Digest, headers: dict[str, str], expected: dict[str, Any]
) -> None:
    assert identity(digest, headers) == expected
