"""S3 over HTTP: acknowledged changes are visible at once and after kill -9."""

import http.client
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, Daemon
from tests.support.s3 import MIB, ODD_KEYS, Client, keys, read, upload_parts

LARGE = bytes(range(256)) * 40_000  # ten megabytes: two parts


def write_all(s3: Client, directory: Path) -> None:
    """Make the changes that the tests below check."""
    s3.create_bucket(Bucket="odd-keys")
    for key in ODD_KEYS:
        s3.put_object(Bucket="odd-keys", Key=key, Body=key.encode())
    metadata = {"Metadata": {"color": "blue"}, "ContentType": "text/csv", "CacheControl": "no-store"}
    s3.put_object(Bucket=BUCKET, Key="metadata", Body=b"1,2", **metadata)
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "metadata"})
    (directory / "large").write_bytes(LARGE)
    s3.upload_file(str(directory / "large"), BUCKET, "large", Config=TransferConfig(use_threads=False))
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    for key in ("twice", "gone"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"first", ContentType="text/plain")
    s3.put_object(Bucket=BUCKET, Key="twice", Body=b"second")
    s3.delete_object(Bucket=BUCKET, Key="gone")
    for number in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number:02}", Body=b"")
    for quiet, key in ((True, "many/00"), (False, "many/01")):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}], "Quiet": quiet})
    aborted = s3.create_multipart_upload(Bucket=BUCKET, Key="aborted")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="aborted", UploadId=aborted, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=aborted)
    s3.create_bucket(Bucket="deleted-bucket")
    s3.delete_bucket(Bucket="deleted-bucket")
    s3.create_bucket(Bucket="empty-bucket")


@pytest.fixture(scope="module", params=["as written", "after kill -9 and a restart"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a daemon after `write_all`."""
    directory = tmp_path_factory.mktemp("s3")
    daemon = Daemon(directory / "home").start()
    try:
        write_all(daemon.s3, directory)
        if request.param != "as written":
            daemon.kill()
            daemon.start()
        yield daemon.s3
    finally:
        daemon.stop()


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: repr(key[:12]))
def test_an_object_with_any_key_keeps_its_bytes(s3: Client, key: str) -> None:
    assert read(s3, key, "odd-keys") == key.encode()


def test_keys_are_listed_in_the_order_of_their_bytes(s3: Client) -> None:
    assert keys(s3, bucket="odd-keys") == sorted(ODD_KEYS, key=str.encode)


def test_metadata_and_content_type_are_returned(s3: Client) -> None:
    head = s3.head_object(Bucket=BUCKET, Key="metadata")
    assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"color": "blue"}, "text/csv", "no-store")


def test_a_copy_has_the_bytes_and_the_metadata_of_its_source(s3: Client) -> None:
    assert read(s3, "copy") == b"1,2"
    assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"color": "blue"}


def test_a_multipart_upload_is_stored_completely(s3: Client) -> None:
    assert read(s3, "large") == LARGE


def test_an_empty_object_can_be_read(s3: Client) -> None:
    assert read(s3, "empty") == b""


def test_the_last_write_replaces_bytes_and_headers(s3: Client) -> None:
    assert read(s3, "twice") == b"second"
    assert s3.head_object(Bucket=BUCKET, Key="twice")["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize("key", ["gone", "many/00", "many/01", "aborted", "never"])
def test_deleted_objects_are_not_found(s3: Client, key: str) -> None:
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=BUCKET, Key=key)


def test_listings_are_paginated(s3: Client) -> None:
    expected = [f"many/{number:02}" for number in range(2, 25)]
    assert keys(s3, "many/", PaginationConfig={"PageSize": 5}) == expected


def test_part_of_an_object_can_be_read(s3: Client) -> None:
    with s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=100-199")["Body"] as body:
        assert body.read() == LARGE[100:200]


def test_buckets_are_listed_until_they_are_deleted(s3: Client) -> None:
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {BUCKET, "odd-keys", "empty-bucket"}


def test_objects_are_files_that_a_learner_can_open(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/data.csv", Body=b"1,2")
    assert (daemon.home / "s3" / BUCKET / name / "data.csv").read_bytes() == b"1,2"


def test_a_presigned_url_needs_no_further_signature(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1,2")
    url = daemon.s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": name})
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.read() == b"1,2"


def test_an_interrupted_upload_leaves_the_old_object(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"old")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    connection.putrequest("PUT", f"/{BUCKET}/{name}", skip_host=True)
    for header, value in {**daemon.signed("s3", "PUT", f"/{BUCKET}/{name}"), "Content-Length": "1000"}.items():
        connection.putheader(header, value)
    connection.endheaders(b"only this")
    connection.sock.shutdown(1)
    with connection.getresponse() as response:
        assert response.status == 400
    connection.close()
    assert read(daemon.s3, name) == b"old"


def test_concurrent_writes_of_one_key_leave_disk_and_memory_consistent(daemon: Daemon, name: str) -> None:
    def write(number: int) -> None:
        daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"%d" % number * 50_000, ContentType=f"x/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(10, 34)))
    content = read(daemon.s3, name)
    assert content == content[:2] * 50_000
    assert daemon.s3.head_object(Bucket=BUCKET, Key=name)["ContentType"] == f"x/{content[:2].decode()}"
    assert (daemon.home / "s3" / BUCKET / name).read_bytes() == content


def test_what_describes_objects_and_buckets_survives_a_kill(new_daemon: Callable[..., Daemon]) -> None:
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
