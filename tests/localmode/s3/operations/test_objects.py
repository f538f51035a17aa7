"""Copies, tags and metadata, as clients see them."""

from datetime import UTC, datetime, timedelta
from email.header import decode_header
from functools import partial
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.support.local import BUCKET, Daemon
from tests.support.s3 import MIB, Client, code_of, raw_put


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
def test_conditions_of_copies(s3: Client, name: str, condition: dict[str, Any], copied: bool) -> None:
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


def test_a_managed_copy_of_a_large_object_uses_parts(s3: Client, name: str) -> None:
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


def test_a_request_may_override_headers_of_the_response(s3: Client, name: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ContentType="text/plain")
    answer = s3.get_object(
        Bucket=BUCKET, Key=name, ResponseContentType="text/csv", ResponseContentDisposition="attachment"
    )
    with answer["Body"]:
        assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/csv", "attachment")


NAMED = 'attachment; filename="日本Å.txt"'
ON_THE_WIRE = NAMED.encode().decode("latin-1")  # as http.client, and so boto3, shows the UTF-8 bytes of a header


def test_headers_outside_ascii_are_returned(daemon: Daemon, name: str) -> None:
    headers = {"content_disposition": ON_THE_WIRE, "x_amz_meta_title": "日本Å".encode().decode("latin-1")}
    assert raw_put(daemon, name, b"1", **headers)[0] == 200
    with daemon.s3.get_object(Bucket=BUCKET, Key=name)["Body"] as body:
        assert body.read() == b"1"
    head = daemon.s3.head_object(Bucket=BUCKET, Key=name)
    assert head["ContentDisposition"] == ON_THE_WIRE
    [(title, charset)] = decode_header(head["Metadata"]["title"])
    assert (title.decode(charset), charset) == ("日本Å", "utf-8")


def test_headers_that_boto3_sends_outside_ascii_are_returned(s3: Client, name: str) -> None:
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
