"""Buckets and their configurations, as clients see them."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localmode.s3.operations.buckets import BucketOperations
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Upload, Uploads
from localmode.s3.wire.body import Body
from tests.support.s3 import Client, code_of, read


def test_bucket_configurations_are_kept_until_they_are_deleted(s3: Client, bucket: str) -> None:
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


def test_a_bucket_has_a_region(s3: Client, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    west = f"{bucket[:50]}-west"
    s3.create_bucket(Bucket=west, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert s3.get_bucket_location(Bucket=west)["LocationConstraint"] == "eu-west-1"
    assert s3.head_bucket(Bucket=west)["BucketRegion"] == "eu-west-1"
    names = [found["Name"] for found in s3.list_buckets(BucketRegion="eu-west-1", Prefix=west)["Buckets"]]
    assert names == [west]
    s3.delete_bucket(Bucket=west)


@pytest.mark.parametrize("region", ["us-east-1", ""])
def test_us_east_1_is_not_a_location_constraint(s3: Client, region: str) -> None:
    configuration = {"LocationConstraint": region}
    call = partial(s3.create_bucket, Bucket="not-by-name", CreateBucketConfiguration=configuration)
    assert code_of(call) == "InvalidLocationConstraint"


@pytest.mark.parametrize("name", ["a..b", "192.168.5.4", "xn--bucket", "amzn-s3-demo-bucket", "bucket-s3alias"])
def test_an_invalid_bucket_name_is_refused(s3: Client, name: str) -> None:
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
def test_operations_on_a_missing_bucket_are_refused(s3: Client, call: Callable[[Client], Any]) -> None:
    assert code_of(lambda: call(s3)) == "NoSuchBucket"


def test_unsupported_operations_and_members_are_named(s3: Client, bucket: str) -> None:
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


def test_deleting_a_bucket_keeps_the_uploads_of_its_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete_and_create(*arguments: Any) -> None:
        delete(*arguments)
        files.create_bucket("abc")
        uploads.create(new)

    files, uploads = ObjectStore(tmp_path / "s3"), Uploads(tmp_path / "uploads", tmp_path)
    old, new = Upload("abc", "key", {}, {}), Upload("abc", "key", {}, {})
    files.create_bucket("abc")
    uploads.create(old)
    delete = files.delete_bucket
    monkeypatch.setattr(files, "delete_bucket", delete_and_create)
    BucketOperations(files, uploads, "us-east-1").delete_bucket({"Bucket": "abc"}, Body({"wsgi.input": io.BytesIO()}))
    assert uploads.of_bucket("abc") == [new]
