"""Conditions and ranges of requests, as clients see them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.local import BUCKET
from tests.support.s3 import Client, code_of, read, upload_parts


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"IfMatch": "{etag}"}, 200),
        ({"IfMatch": '"other"'}, 412),
        ({"IfNoneMatch": "{etag}"}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfNoneMatch": '"other"'}, 200),
        ({"IfModifiedSince": timedelta(hours=-1)}, 200),
        ({"IfModifiedSince": timedelta(hours=1)}, 304),
        ({"IfUnmodifiedSince": timedelta(hours=1)}, 200),
        ({"IfUnmodifiedSince": timedelta(hours=-1)}, 412),
        ({"IfMatch": "{etag}", "IfUnmodifiedSince": timedelta(hours=-1)}, 200),  # the ETag decides
        ({"IfNoneMatch": '"other"', "IfModifiedSince": timedelta(hours=1)}, 200),
    ],
)
def test_conditions_of_reads(s3: Client, name: str, condition: dict[str, Any], status: int) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")["ETag"]
    given = {
        key: datetime.now(UTC) + value if isinstance(value, timedelta) else value.format(etag=etag)
        for key, value in condition.items()
    }
    for operation in (s3.get_object, s3.head_object):
        try:
            answer = operation(Bucket=BUCKET, Key=name, **given)
        except ClientError as error:
            answer = error.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status


def test_one_of_many_conditional_first_writes_succeeds(s3: Client, name: str) -> None:
    def write(number: int) -> bool:
        try:
            s3.put_object(Bucket=BUCKET, Key=name, Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(16)))
    assert won.count(True) == 1
    assert read(s3, name) == b"%d" % won.index(True)


def test_a_conditional_overwrite_needs_the_current_etag(s3: Client, name: str) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")["ETag"]
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"2", IfMatch=etag)
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=b"3", IfMatch=etag)) == "PreconditionFailed"
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=f"{name}-no", Body=b"", IfMatch=etag)) == "NoSuchKey"
    assert read(s3, name) == b"2"


@pytest.mark.parametrize("way", ["copy", "parts"])
def test_write_conditions_apply_to_copies_and_multipart_uploads(s3: Client, name: str, way: str) -> None:
    def write(**condition: str) -> Any:
        if way == "copy":
            return s3.copy_object(**target, CopySource=f"{BUCKET}/{name}-source", **condition)
        upload, parts = upload_parts(s3, name, b"new")
        return s3.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)

    target = {"Bucket": BUCKET, "Key": name}
    s3.put_object(Bucket=BUCKET, Key=f"{name}-source", Body=b"new")
    assert code_of(lambda: write(IfMatch="x")) == "NoSuchKey"
    write(IfNoneMatch="*")
    etag = s3.put_object(**target, Body=b"other")["ETag"]
    assert code_of(lambda: write(IfNoneMatch="*")) == "PreconditionFailed"
    assert code_of(lambda: write(IfMatch="x")) == "PreconditionFailed"
    assert read(s3, name) == b"other"
    write(IfMatch=etag)
    assert read(s3, name) == b"new"


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-2", b"89"),
        ("bytes=-100", b"0123456789"),
        ("bytes=5-99", b"56789"),
        ("Bytes= 5 - 5 ", b"5"),
        ("lines=1", None),
        ("x=1-2", None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=1-2,4-5", None),
    ],
)
def test_a_range_of_an_object_is_returned(s3: Client, name: str, span: str, expected: bytes | None) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"0123456789")
    answer = s3.get_object(Bucket=BUCKET, Key=name, Range=span)
    with answer["Body"] as body:
        assert body.read() == (expected or b"0123456789")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == (200 if expected is None else 206)


@pytest.mark.parametrize("span", ["bytes=10-", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_without_bytes_is_refused(s3: Client, name: str, span: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"0123456789")
    assert code_of(lambda: s3.get_object(Bucket=BUCKET, Key=name, Range=span)) == "InvalidRange"


def test_an_empty_object_has_no_range(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"")
    assert code_of(lambda: s3.get_object(Bucket=BUCKET, Key=name, Range="bytes=-5")) == "InvalidRange"
