"""S3 as its clients know it: conditions, ranges, listings, tags, parts, checksums; and what is kept over a kill."""

import base64
import hashlib
import io
import random
import string
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.header import decode_header
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from localmode.core.durable import sync_directory
from localmode.s3.errors import NoSuchBucket, NoSuchUpload
from localmode.s3.operations.buckets import BucketOperations
from localmode.s3.operations.multipart import PartOperations
from localmode.s3.storage import Storage
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Upload, Uploads
from localmode.s3.wire.body import Body
from tests.support.local import BUCKET, Daemon

MIB = 1 << 20
Client = Any


@pytest.fixture
def s3(daemon: Daemon) -> Client:
    return daemon.s3


@pytest.fixture
def bucket(s3: Client, name: str) -> Iterator[str]:
    """A bucket of the test's own."""
    own = name.lower()[:60].strip("-")
    s3.create_bucket(Bucket=own)
    yield own
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=own):
        for entry in page.get("Contents", []):
            s3.delete_object(Bucket=own, Key=entry["Key"])
    s3.delete_bucket(Bucket=own)


def read(client: Client, key: str, bucket: str = BUCKET, **options: Any) -> bytes:
    with client.get_object(Bucket=bucket, Key=key, **options)["Body"] as body:
        return bytes(body.read())


def code_of(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


# Conditions and ranges


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
def test_reading_under_conditions(s3: Client, name: str, condition: dict[str, Any], status: int) -> None:
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


def test_of_many_first_writers_one_wins(s3: Client, name: str) -> None:
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


def test_writing_over_what_one_has_read(s3: Client, name: str) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")["ETag"]
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"2", IfMatch=etag)
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=b"3", IfMatch=etag)) == "PreconditionFailed"
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=f"{name}-no", Body=b"", IfMatch=etag)) == "NoSuchKey"
    assert read(s3, name) == b"2"


@pytest.mark.parametrize("way", ["copy", "parts"])
def test_the_conditions_of_writing_hold_for_copies_and_parts(s3: Client, name: str, way: str) -> None:
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
def test_a_range_of_an_object(s3: Client, name: str, span: str, expected: bytes | None) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"0123456789")
    answer = s3.get_object(Bucket=BUCKET, Key=name, Range=span)
    with answer["Body"] as body:
        assert body.read() == (expected or b"0123456789")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == (200 if expected is None else 206)


@pytest.mark.parametrize("span", ["bytes=10-", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_that_holds_no_byte_is_refused(s3: Client, name: str, span: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"0123456789")
    assert code_of(lambda: s3.get_object(Bucket=BUCKET, Key=name, Range=span)) == "InvalidRange"


def test_an_empty_object_has_no_range(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"")
    assert code_of(lambda: s3.get_object(Bucket=BUCKET, Key=name, Range="bytes=-5")) == "InvalidRange"


# Listings


def listed(objects: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """Return what a listing has to hold, worked out the simple way."""
    keys, prefixes = [], set()
    for key in sorted(objects):
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                prefixes.add(prefix + head + delimiter)
            else:
                keys.append(key)
    return keys, sorted(prefixes)


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_listings_in_pages_are_what_they_are_as_a_whole(s3: Client, bucket: str, operation: str) -> None:
    chance = random.Random(1)
    keys = {"".join(chance.choice("ab/é&😀") for _ in range(chance.randrange(1, 6))) for _ in range(80)}
    keys = {key for key in keys if not key.startswith("/")}
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for prefix in ("", "a", "a/", "é"):
        for delimiter in ("", "/", "b/"):
            for size in (1, 3, 1000):
                pages = s3.get_paginator(operation).paginate(
                    Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
                )
                found: list[str] = []
                prefixes: list[str] = []
                for page in pages:
                    found += [entry["Key"] for entry in page.get("Contents", [])]
                    prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
                    assert len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
                assert (found, prefixes) == listed(sorted(keys), prefix, delimiter)


def test_a_listing_says_what_the_objects_are(s3: Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"12")["ETag"]
    [entry] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (etag, 2, "STANDARD")
    assert abs(entry["LastModified"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert "Owner" not in entry
    [entry] = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert entry["Owner"] == s3.list_buckets()["Owner"]
    assert s3.list_objects(Bucket=bucket)["Contents"][0]["Owner"] == entry["Owner"]
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="a")["KeyCount"] == 0
    assert not s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["IsTruncated"]


# Copies, tags, metadata


def test_metadata_may_have_an_underscore(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"", Metadata={"my_key": "1", "my-key": "2"})
    assert s3.head_object(Bucket=BUCKET, Key=name)["Metadata"] == {"my_key": "1", "my-key": "2"}


def test_a_copy_may_have_metadata_and_tags_of_its_own(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", Metadata={"a": "1"}, Tagging="t=1", ContentType="text/csv")
    source = {"Bucket": BUCKET, "Key": name}
    s3.copy_object(Bucket=BUCKET, Key=f"{name}-2", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    s3.copy_object(Bucket=BUCKET, Key=f"{name}-3", CopySource=source, TaggingDirective="REPLACE", Tagging="t=2")
    second, third = (s3.head_object(Bucket=BUCKET, Key=f"{name}-{number}") for number in (2, 3))
    assert (second["Metadata"], second["ContentType"]) == ({"b": "2"}, "binary/octet-stream")
    assert (third["Metadata"], third["ContentType"]) == ({"a": "1"}, "text/csv")
    tags = [s3.get_object_tagging(Bucket=BUCKET, Key=f"{name}-{number}")["TagSet"] for number in (2, 3)]
    assert tags == [[{"Key": "t", "Value": "1"}], [{"Key": "t", "Value": "2"}]]
    assert code_of(lambda: s3.copy_object(Bucket=BUCKET, Key=name, CopySource=source)) == "InvalidRequest"
    missing = {"Bucket": BUCKET, "Key": f"{name}-4"}
    assert code_of(lambda: s3.copy_object(Bucket=BUCKET, Key=name, CopySource=missing)) == "NoSuchKey"


def test_a_copy_has_the_storage_class_and_the_encryption_that_it_is_given(s3: Client, name: str) -> None:
    source = {"Bucket": BUCKET, "Key": name}
    s3.put_object(**source, Body=b"1", Metadata={"a": "1"}, ServerSideEncryption="aws:kms", StorageClass="GLACIER_IR")
    s3.copy_object(Bucket=BUCKET, Key=f"{name}-2", CopySource=source, StorageClass="STANDARD_IA")
    second = s3.head_object(Bucket=BUCKET, Key=f"{name}-2")
    assert (second["StorageClass"], second["Metadata"]) == ("STANDARD_IA", {"a": "1"})
    assert "ServerSideEncryption" not in second
    s3.copy_object(**source, CopySource=source, ServerSideEncryption="AES256")
    head = s3.head_object(**source)
    assert (head["ServerSideEncryption"], head["Metadata"], "StorageClass" in head) == ("AES256", {"a": "1"}, False)


@pytest.mark.parametrize(
    ("condition", "copied"),
    [
        ({"CopySourceIfMatch": "{etag}"}, True),
        ({"CopySourceIfMatch": '"other"'}, False),
        ({"CopySourceIfNoneMatch": "{etag}"}, False),
        ({"CopySourceIfNoneMatch": '"other"'}, True),
        ({"CopySourceIfModifiedSince": timedelta(hours=-1)}, True),
        ({"CopySourceIfModifiedSince": timedelta(hours=1)}, False),
        ({"CopySourceIfUnmodifiedSince": timedelta(hours=-1)}, False),
        ({"CopySourceIfMatch": "{etag}", "CopySourceIfUnmodifiedSince": timedelta(hours=-1)}, True),
    ],
)
def test_copying_under_conditions(s3: Client, name: str, condition: dict[str, Any], copied: bool) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")["ETag"]
    given = {
        key: datetime.now(UTC) + value if isinstance(value, timedelta) else value.format(etag=etag)
        for key, value in condition.items()
    }
    target = {"Bucket": BUCKET, "Key": f"{name}-copy"}
    upload = s3.create_multipart_upload(**target)["UploadId"]
    for call in (s3.copy_object, partial(s3.upload_part_copy, UploadId=upload, PartNumber=1)):
        arguments = {**target, "CopySource": {"Bucket": BUCKET, "Key": name}, **given}
        if copied:
            call(**arguments)
        else:
            assert code_of(partial(call, **arguments)) == "PreconditionFailed"
    s3.abort_multipart_upload(**target, UploadId=upload)


def test_a_managed_copy_of_a_large_object_comes_in_parts(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"a" * 9 * MIB, Metadata={"a": "1"})
    in_parts = TransferConfig(multipart_threshold=8 * MIB)
    s3.copy({"Bucket": BUCKET, "Key": name}, BUCKET, f"{name}-copy", Config=in_parts)
    head = s3.head_object(Bucket=BUCKET, Key=f"{name}-copy")
    assert (head["ContentLength"], head["ETag"][-3:], head["Metadata"]) == (9 * MIB, '-2"', {"a": "1"})


def test_tags_are_put_read_and_deleted(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    tags = [{"Key": "a", "Value": "1 & 2"}, {"Key": "ü", "Value": ""}]
    s3.put_object_tagging(Bucket=BUCKET, Key=name, Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"] == tags
    assert s3.head_object(Bucket=BUCKET, Key=name)["TagCount"] == 2
    s3.delete_object_tagging(Bucket=BUCKET, Key=name)
    assert s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"] == []
    many = [{"Key": str(number), "Value": ""} for number in range(11)]
    put = s3.put_object_tagging
    assert code_of(lambda: put(Bucket=BUCKET, Key=name, Tagging={"TagSet": many})) == "InvalidTag"
    assert code_of(lambda: put(Bucket=BUCKET, Key=f"{name}-2", Tagging={"TagSet": tags})) == "NoSuchKey"


def test_a_presigned_url_may_give_the_answer_other_headers(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ContentType="text/plain")
    answer = s3.get_object(
        Bucket=BUCKET, Key=name, ResponseContentType="text/csv", ResponseContentDisposition="attachment"
    )
    with answer["Body"]:
        assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/csv", "attachment")


NAMED = 'attachment; filename="日本Å.txt"'
ON_THE_WIRE = NAMED.encode().decode("latin-1")  # as http.client, and so boto3, shows the UTF-8 bytes of a header


def test_headers_outside_ascii_come_back(daemon: Daemon, name: str) -> None:
    headers = {"content_disposition": ON_THE_WIRE, "x_amz_meta_title": "日本Å".encode().decode("latin-1")}
    assert raw_put(daemon, name, b"1", **headers)[0] == 200
    with daemon.s3.get_object(Bucket=BUCKET, Key=name)["Body"] as body:
        assert body.read() == b"1"
    head = daemon.s3.head_object(Bucket=BUCKET, Key=name)
    assert head["ContentDisposition"] == ON_THE_WIRE
    [(title, charset)] = decode_header(head["Metadata"]["title"])
    assert (title.decode(charset), charset) == ("日本Å", "utf-8")


def test_what_boto3_sends_in_a_header_outside_ascii_comes_back(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ContentDisposition=NAMED)
    assert s3.head_object(Bucket=BUCKET, Key=name)["ContentDisposition"] == ON_THE_WIRE
    answer = s3.get_object(Bucket=BUCKET, Key=name, ResponseContentDisposition="inline; filename=é")
    with answer["Body"] as body:
        assert (body.read(), answer["ContentDisposition"]) == (b"1", "inline; filename=é".encode().decode("latin-1"))


def test_metadata_above_2_kb_is_refused(s3: Client, name: str) -> None:
    most = {"first": "x" * 1000, "second": "y" * (2048 - 1000 - len("firstsecond"))}
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"", Metadata=most)
    assert s3.head_object(Bucket=BUCKET, Key=name)["Metadata"] == most
    more = {**most, "first": "x" * 1001}
    source = {"Bucket": BUCKET, "Key": name}
    for call in (
        lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=b"", Metadata=more),
        lambda: s3.create_multipart_upload(Bucket=BUCKET, Key=name, Metadata=more),
        lambda: s3.copy_object(**source, CopySource=source, Metadata=more, MetadataDirective="REPLACE"),
    ):
        assert code_of(call) == "MetadataTooLarge"


# Buckets


def test_a_bucket_s_documents_are_kept_until_they_are_deleted(s3: Client, bucket: str) -> None:
    tags = {"TagSet": [{"Key": "team", "Value": "a"}]}
    access = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert code_of(lambda: s3.get_bucket_tagging(Bucket=bucket)) == "NoSuchTagSet"
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tags)
    s3.put_bucket_policy(Bucket=bucket, Policy='{"Statement": []}')
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=access)
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags["TagSet"]
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == '{"Statement": []}'
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == access
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == {"Rules": [rule]}
    s3.delete_bucket_policy(Bucket=bucket)
    assert code_of(lambda: s3.get_bucket_policy(Bucket=bucket)) == "NoSuchBucketPolicy"
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_a_bucket_is_somewhere(s3: Client, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    west = f"{bucket[:50]}-west"
    s3.create_bucket(Bucket=west, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert s3.get_bucket_location(Bucket=west)["LocationConstraint"] == "eu-west-1"
    assert s3.head_bucket(Bucket=west)["BucketRegion"] == "eu-west-1"
    names = [found["Name"] for found in s3.list_buckets(BucketRegion="eu-west-1", Prefix=west)["Buckets"]]
    assert names == [west]
    s3.delete_bucket(Bucket=west)


@pytest.mark.parametrize("region", ["us-east-1", ""])
def test_no_bucket_is_put_into_us_east_1_by_name(s3: Client, region: str) -> None:
    configuration = {"LocationConstraint": region}
    call = partial(s3.create_bucket, Bucket="not-by-name", CreateBucketConfiguration=configuration)
    assert code_of(call) == "InvalidLocationConstraint"


@pytest.mark.parametrize("name", ["a..b", "192.168.5.4", "xn--bucket", "amzn-s3-demo-bucket", "bucket-s3alias"])
def test_a_name_that_no_bucket_may_have_is_refused(s3: Client, name: str) -> None:
    assert code_of(partial(s3.create_bucket, Bucket=name)) == "InvalidBucketName"
    assert name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_only_an_empty_bucket_can_be_deleted(s3: Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert code_of(lambda: s3.delete_bucket(Bucket=bucket)) == "BucketNotEmpty"
    assert read(s3, "a", bucket) == b"1"
    s3.delete_object(Bucket=bucket, Key="a")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert code_of(lambda: s3.list_parts(Bucket=bucket, Key="b", UploadId=upload)) == "NoSuchUpload"


@pytest.mark.parametrize(
    "call",
    [
        lambda s3: s3.put_object(Bucket="no-such-bucket", Key="a", Body=b""),
        lambda s3: s3.get_object(Bucket="no-such-bucket", Key="a"),
        lambda s3: s3.list_objects_v2(Bucket="no-such-bucket"),
        lambda s3: s3.create_multipart_upload(Bucket="no-such-bucket", Key="a"),
        lambda s3: s3.delete_objects(Bucket="no-such-bucket", Delete={"Objects": [{"Key": "a"}]}),
        lambda s3: s3.delete_bucket(Bucket="no-such-bucket"),
        lambda s3: s3.put_bucket_tagging(Bucket="no-such-bucket", Tagging={"TagSet": []}),
    ],
)
def test_what_needs_a_bucket_says_that_there_is_none(s3: Client, call: Callable[[Client], Any]) -> None:
    assert code_of(lambda: call(s3)) == "NoSuchBucket"


def test_what_local_mode_does_not_do_it_says(s3: Client, bucket: str) -> None:
    rules = {"Rules": [{"Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}]}
    calls = {
        "PutBucketLifecycleConfiguration": lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration=rules
        ),
        "PutBucketVersioning": lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        "PartNumber of GetObject": lambda: s3.get_object(Bucket=bucket, Key="a", PartNumber=1),
        "ObjectLockMode of PutObject": lambda: s3.put_object(
            Bucket=bucket, Key="a", Body=b"", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=0
        ),
        "IfMatch of DeleteObject": lambda: s3.delete_object(Bucket=bucket, Key="kept", IfMatch="x"),
        "ETag of DeleteObjects": lambda: s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": "kept", "ETag": "x"}]}
        ),
    }
    s3.put_object(Bucket=bucket, Key="kept", Body=b"1")
    for what, call in calls.items():
        with pytest.raises(ClientError, match=rf"NotImplemented.*{what}"):
            call()
    assert read(s3, "kept", bucket) == b"1"
    assert code_of(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")) == (
        "AccessControlListNotSupported"
    )
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a", ExpectedBucketOwner="210987654321")) == "AccessDenied"
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a", VersionId="3")) == "NoSuchVersion"
    assert code_of(lambda: s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"")) == "KeyTooLongError"


# Multipart uploads


def upload_parts(s3: Client, key: str, *bodies: bytes) -> tuple[str, list[dict[str, Any]]]:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, Metadata={"a": "1"})["UploadId"]
    where = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=number, Body=body)["ETag"] for number, body in enumerate(bodies, 1)]
    return upload, [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]


def test_parts_become_an_object(s3: Client, name: str) -> None:
    upload, parts = upload_parts(s3, name, b"a" * 5 * MIB, b"b")
    where = {"Bucket": BUCKET, "Key": name, "UploadId": upload}
    assert [part["Size"] for part in s3.list_parts(**where)["Parts"]] == [5 * MIB, 1]
    assert [part["PartNumber"] for part in s3.list_parts(**where, PartNumberMarker=1)["Parts"]] == [2]
    under_way = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=name)["Uploads"]
    assert [entry["UploadId"] for entry in under_way] == [upload]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    head = s3.head_object(Bucket=BUCKET, Key=name)
    assert (head["ContentLength"], head["Metadata"]) == (5 * MIB + 1, {"a": "1"})
    assert head["ETag"].endswith('-2"')
    assert read(s3, name) == b"a" * 5 * MIB + b"b"
    assert code_of(lambda: s3.list_parts(**where)) == "NoSuchUpload"


def test_parts_that_cannot_become_an_object_are_refused_and_stay(s3: Client, name: str) -> None:
    upload, parts = upload_parts(s3, name, b"a", b"b")
    where = {"Bucket": BUCKET, "Key": name, "UploadId": upload}

    def complete(*chosen: dict[str, Any]) -> Any:
        return s3.complete_multipart_upload(**where, MultipartUpload={"Parts": list(chosen)})

    assert code_of(lambda: complete(*parts)) == "EntityTooSmall"
    assert code_of(lambda: complete(parts[1], parts[0])) == "InvalidPartOrder"
    assert code_of(lambda: complete({**parts[0], "ETag": parts[1]["ETag"]})) == "InvalidPart"
    assert code_of(lambda: complete({**parts[0], "PartNumber": 3})) == "InvalidPart"
    assert code_of(lambda: complete()) == "MalformedXML"
    wrong = {"MultipartUpload": {"Parts": parts[1:]}, "MpuObjectSize": 2}
    assert code_of(lambda: s3.complete_multipart_upload(**where, **wrong)) == "InvalidRequest"
    assert code_of(lambda: s3.upload_part(**where, PartNumber=10_001, Body=b"")) == "InvalidArgument"
    complete(parts[1])
    assert read(s3, name) == b"b"


def test_a_part_may_be_a_range_of_an_object(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"{name}-source", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    where = {"Bucket": BUCKET, "Key": name, "UploadId": upload}
    source = {"Bucket": BUCKET, "Key": f"{name}-source"}
    copied = s3.upload_part_copy(**where, PartNumber=1, CopySource=source, CopySourceRange="bytes=2-4")
    with pytest.raises(ClientError, match="InvalidArgument"):
        s3.upload_part_copy(**where, PartNumber=1, CopySource=source, CopySourceRange="bytes=2-10")
    part = {"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
    assert read(s3, name) == b"234"


def test_an_upload_that_is_aborted_while_it_is_completed_is_no_upload(tmp_path: Path) -> None:
    class Files(ObjectStore):
        def write(self, *arguments: Any) -> Any:
            uploads.end(upload)
            return super().write(*arguments)

    storage = Storage(ObjectStore(tmp_path / "s3"))
    storage.store.create_bucket(BUCKET)
    uploads, upload = Uploads(tmp_path / "uploads", tmp_path), Upload(BUCKET, "key", {}, {})
    uploads.create(upload)
    part = uploads.write(upload, 1, [b"whole"])
    storage.store.__class__ = Files
    chosen = {"Parts": [{"PartNumber": 1, "ETag": part.digest.etag}]}
    given = {"Bucket": BUCKET, "Key": "key", "UploadId": upload.identity, "MultipartUpload": chosen}
    with pytest.raises(NoSuchUpload):
        PartOperations(storage.store, uploads).complete_multipart_upload(given, Body({"wsgi.input": io.BytesIO()}))


def test_completing_and_aborting_at_once_leave_the_object_or_nothing(s3: Client, name: str) -> None:
    for attempt in range(8):
        key = f"{name}-{attempt}"
        upload, parts = upload_parts(s3, key, b"whole")
        where = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
        with ThreadPoolExecutor(2) as pool:
            ends = [
                pool.submit(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts}),
                pool.submit(s3.abort_multipart_upload, **where),
            ]
            errors = [end.exception() for end in ends]
        if errors[0] is None:
            assert read(s3, key) == b"whole"
        else:
            assert "NoSuchUpload" in str(errors[0])
            assert code_of(lambda key=key: s3.get_object(Bucket=BUCKET, Key=key)) == "NoSuchKey"
        assert code_of(lambda where=where: s3.list_parts(**where)) == "NoSuchUpload"


class Meddled(ObjectStore):
    """Files to which something else happens as soon as a bucket has been deleted."""

    def delete_bucket(self, *arguments: Any) -> None:
        super().delete_bucket(*arguments)
        self.meddle()


def test_an_upload_into_the_next_bucket_of_that_name_outlives_the_last_one(tmp_path: Path) -> None:
    files, uploads = Meddled(tmp_path / "s3"), Uploads(tmp_path / "uploads", tmp_path)
    old, new = Upload("abc", "key", {}, {}), Upload("abc", "key", {}, {})
    files.create_bucket("abc")
    uploads.create(old)
    files.meddle = lambda: (files.create_bucket("abc"), uploads.create(new))
    BucketOperations(files, uploads, "us-east-1").delete_bucket({"Bucket": "abc"}, Body({"wsgi.input": io.BytesIO()}))
    assert uploads.of_bucket("abc") == [new]


def test_an_upload_that_begins_while_its_bucket_is_deleted_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, uploads = ObjectStore(tmp_path / "s3"), Uploads(tmp_path / "uploads", tmp_path)
    files.create_bucket("abc")
    create = uploads.create
    monkeypatch.setattr(uploads, "create", lambda upload: (files.delete_bucket("abc"), create(upload)))
    with pytest.raises(NoSuchBucket):
        PartOperations(files, uploads).create_multipart_upload(
            {"Bucket": "abc", "Key": "key"}, Body({"wsgi.input": io.BytesIO()})
        )
    assert uploads.of_bucket("abc") == []


# Checksums


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_body_that_is_not_what_its_checksum_says_is_refused(s3: Client, name: str, algorithm: str) -> None:
    wrong = {f"Checksum{algorithm}": base64.b64encode(bytes(4 if algorithm == "CRC32" else 20)).decode()}
    assert code_of(lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", **wrong)) == "BadDigest"
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ChecksumAlgorithm=algorithm)
    assert read(s3, name) == b"1"


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def checksums(answer: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in answer.items() if name.startswith("Checksum")}


def test_a_checksum_comes_back(s3: Client, name: str) -> None:
    expected = {"ChecksumCRC32": crc32(b"12"), "ChecksumType": "FULL_OBJECT"}
    assert checksums(s3.put_object(Bucket=BUCKET, Key=name, Body=b"12")) == expected
    assert checksums(s3.head_object(Bucket=BUCKET, Key=name, ChecksumMode="ENABLED")) == expected


def test_the_checksum_that_a_client_chose_comes_back(s3: Client, name: str) -> None:
    digest = base64.b64encode(hashlib.sha256(b"12").digest()).decode()
    expected = {"ChecksumSHA256": digest, "ChecksumType": "FULL_OBJECT"}
    where = {"Bucket": BUCKET, "Key": name}
    assert checksums(s3.put_object(**where, Body=b"12", ChecksumAlgorithm="SHA256")) == expected
    assert checksums(s3.head_object(**where, ChecksumMode="ENABLED")) == expected
    assert "x-amz-checksum-sha256" not in s3.head_object(**where)["ResponseMetadata"]["HTTPHeaders"]
    copied = s3.copy_object(Bucket=BUCKET, Key=f"{name}-2", CopySource=where)["CopyObjectResult"]
    assert checksums(copied) == expected
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, PartNumber=1, Body=b"12", ChecksumAlgorithm="SHA256")
    assert checksums(part) == {"ChecksumSHA256": digest}


def test_the_checksum_of_a_whole_object_is_compared_when_its_parts_are_put_together(s3: Client, name: str) -> None:
    upload, parts = upload_parts(s3, name, b"a" * 5 * MIB, b"b")
    given = {"Bucket": BUCKET, "Key": name, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    complete = partial(s3.complete_multipart_upload, **given, ChecksumType="FULL_OBJECT")
    assert code_of(lambda: complete(ChecksumCRC32=crc32(b"other"))) == "BadDigest"
    expected = {"ChecksumCRC32": crc32(b"a" * 5 * MIB + b"b"), "ChecksumType": "FULL_OBJECT"}
    assert checksums(complete(ChecksumCRC32=expected["ChecksumCRC32"])) == expected
    assert checksums(s3.head_object(Bucket=BUCKET, Key=name, ChecksumMode="ENABLED")) == expected


def raw_put(daemon: Daemon, key: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = daemon.send("s3", "PUT", f"/{BUCKET}/{key}", body, **named)
    return status, answer


def test_chunks_with_a_checksum_behind_them_are_unpacked(daemon: Daemon, name: str) -> None:
    crc = crc32(b"hello world")
    body = b"6;chunk-signature=00\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n"
    headers = {"x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "content_encoding": "aws-chunked"}
    trailer = {"x_amz_trailer": "x-amz-checksum-crc32"}
    assert raw_put(daemon, name, body % crc.encode(), **headers, **trailer)[0] == 200
    assert read(daemon.s3, name) == b"hello world"
    assert "ContentEncoding" not in daemon.s3.head_object(Bucket=BUCKET, Key=name)
    status, answer = raw_put(daemon, name, body % b"AAAAAA==", **headers, **trailer)
    assert (status, b"BadDigest" in answer) == (400, True)
    for broken in (b"zz\r\n", b"6\r\nhel", b""):
        assert raw_put(daemon, name, broken, **headers)[0] == 400
    assert read(daemon.s3, name) == b"hello world"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><Tagging><TagSet/></Tagging>',
        "<?xml version='1.0' encoding='utf-16'?><Tagging><TagSet/></Tagging>".encode("utf-16"),
        b"<Tagging>" + b"<a>" * 100_000,
        b" " * (5 << 20),
    ],
    ids=range(8),
)
def test_xml_that_says_nothing_is_refused(daemon: Daemon, name: str, body: bytes) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", Tagging="a=1")
    status, answer = raw_put(daemon, f"{name}?tagging", body)
    assert (status, b"<Code>" in answer) == (400, True)
    assert daemon.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"] == [{"Key": "a", "Value": "1"}]


# What is kept over a kill


def test_what_is_known_of_objects_survives_a_kill(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    daemon.s3.create_bucket(Bucket="kept-bucket")
    daemon.s3.put_bucket_tagging(Bucket="kept-bucket", Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    etags = {}
    for key, size in (("small", 3), ("large", 3 * MIB)):
        body = key.encode() * (size // len(key))
        etags[key] = daemon.s3.put_object(Bucket=BUCKET, Key=key, Body=body, Tagging="a=1", Metadata={"b": "2"})["ETag"]
    upload, parts = upload_parts(daemon.s3, "parts", b"first" * MIB, b"second")
    created = daemon.s3.list_buckets()["Buckets"]
    before = daemon.s3.head_object(Bucket=BUCKET, Key="small")["LastModified"]
    daemon.kill()
    daemon.start()
    s3 = daemon.s3
    for key, etag in etags.items():
        head = s3.head_object(Bucket=BUCKET, Key=key)
        assert (head["ETag"], head["Metadata"], head["TagCount"]) == (etag, {"b": "2"}, 1)
    assert s3.head_object(Bucket=BUCKET, Key="small")["LastModified"] == before
    assert s3.get_bucket_tagging(Bucket="kept-bucket")["TagSet"] == [{"Key": "a", "Value": "1"}]
    assert s3.list_buckets()["Buckets"] == created
    s3.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert read(s3, "parts") == b"first" * MIB + b"second"
    assert s3.head_object(Bucket=BUCKET, Key="parts")["Metadata"] == {"a": "1"}


class Killed(BaseException):
    """Stands in for a SIGKILL."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ObjectStore]:
    files = ObjectStore(tmp_path / "s3")
    files.create_bucket("abc")
    yield files


@pytest.mark.parametrize("method", ["replace", "unlink"])
@pytest.mark.parametrize("new_headers", [{"content-type": "new/1"}, {}])
def test_a_kill_between_sidecar_and_object_mixes_no_two(
    files: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    new_headers: dict[str, str],
) -> None:
    files.write("abc", "key", [b"old"], {"content-type": "old/1"}, {"tag": "old"})
    original = getattr(Path, method)

    def die(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.endswith(".json") or (arguments and str(arguments[0]).endswith(".json")):
            return original(path, *arguments, **options)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, method, die)
        files.write("abc", "key", [b"newer"], new_headers, {"tag": "new"})
    entry = ObjectStore(tmp_path / "s3").get("abc", "key")
    assert entry is not None
    seen = (entry.path.read_bytes(), entry.headers, entry.tags)
    assert seen in ((b"old", {"content-type": "old/1"}, {"tag": "old"}), (b"newer", new_headers, {"tag": "new"}))


def test_a_file_that_a_learner_changes_is_another_object(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "key", [b"old"], {"content-type": "old/1"})
    (tmp_path / "s3" / "abc" / "key").write_bytes(b"changed")
    entry = ObjectStore(tmp_path / "s3").get("abc", "key")
    assert entry is not None
    assert (entry.size, entry.headers) == (7, {})


def test_a_write_whose_directory_is_a_file_by_the_time_of_its_answer_has_succeeded(
    files: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(directory: Path) -> None:
        monkeypatch.undo()
        files.delete("abc", "a/b/c")
        files.write("abc", "a", [b"2"])
        sync_directory(directory)

    monkeypatch.setattr("localmode.s3.store.objects.sync_directory", meanwhile)
    files.write("abc", "a/b/c", [b"1"])
    assert [entry.key for entry in files.objects("abc")] == ["a"]


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
@pytest.mark.parametrize("look", ["get", "open", "page"])
def test_what_is_found_after_a_restart_keeps_its_own_digest(
    files: ObjectStore, tmp_path: Path, look: str, change: str
) -> None:
    """That of small objects is read from their files, in whose places others may be by then."""
    digest = files.write("abc", "key", [b"old"]).digest
    files = ObjectStore(tmp_path / "s3")
    found: Any = files.page("abc", "", "", "", 1) if look == "page" else getattr(files, look)("abc", "key")
    entry = {"get": lambda: found, "open": lambda: found[0], "page": lambda: found.objects[0]}[look]()
    if change == "deleted":
        files.delete("abc", "key")
    else:
        files.write("abc", "key", [b"newer"])
    assert (entry.size, entry.digest) == (3, digest)
    if look == "open":
        found[1].close()


def test_readers_beside_writers_and_deleters_see_whole_objects(files: ObjectStore) -> None:
    def write(number: int) -> None:
        letter = string.ascii_letters[number % 50]
        files.write("abc", "deep/er/key", [letter.encode() * 1000] * 20, {"content-type": letter})

    def look(number: int) -> None:
        found = files.open("abc", "deep/er/key")
        if found is not None:
            entry, file = found
            with file:
                content = file.read()
            assert content == entry.headers["content-type"].encode() * 20_000

    def delete(number: int) -> None:
        files.delete("abc", "deep/er/key")
        files.delete("abc", "deep/er/other")
        files.write("abc", "deep/er/other", [b"1"])

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(call, number) for number in range(60) for call in (write, look, delete)]
        for future in work:
            future.result()
