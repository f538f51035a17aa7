"""S3: what was acknowledged is there, now and after kill -9; and the disk underneath."""

import http.client
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from werkzeug.test import EnvironBuilder

from localmode.core.durable import Journal, replace_atomically
from localmode.core.errors import LocalModeError
from localmode.s3.app import S3Application
from localmode.s3.storage import StorageError, parse_uri
from localmode.s3.store.objects import ObjectStore
from tests.support.local import BUCKET, Daemon, Rooms

ODD_KEYS = [
    "../x",
    "a",
    "a/b",
    "a//b",
    "a/",
    "b/c/d",
    "b/c",
    "/",
    "//",
    ".",
    "..",
    "./x",
    "x/../y",
    "sp ace+plus",
    "100%",
    "%2e%2e/z",
    "ünï/😀",
    "q?x=1&y=2#f",
    "c:\\d",
    "tab\there",
    "new\nline",
    "nul\0",
    "~",
    ".hidden",
    "UPPER",
    "upper",
    "k" * 1024,
    "d/" * 511 + "e",
    "ü" * 512,
]
LARGE = bytes(range(256)) * 40_000  # ten megabytes: two parts

Client = Any


def read(client: Client, key: str, bucket: str = BUCKET) -> bytes:
    with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
        return bytes(body.read())


def keys(client: Client, prefix: str = "", bucket: str = BUCKET, **options: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def write_all(s3: Client, directory: Path) -> None:
    """Do once everything that the tests below look for."""
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
    """A client to a daemon that holds what `write_all` wrote."""
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
def test_an_object_of_any_name_keeps_its_bytes(s3: Client, key: str) -> None:
    assert read(s3, key, "odd-keys") == key.encode()


def test_keys_are_listed_in_the_order_of_their_bytes(s3: Client) -> None:
    assert keys(s3, bucket="odd-keys") == sorted(ODD_KEYS, key=str.encode)


def test_metadata_and_content_type_come_back(s3: Client) -> None:
    head = s3.head_object(Bucket=BUCKET, Key="metadata")
    assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"color": "blue"}, "text/csv", "no-store")


def test_a_copy_has_the_bytes_and_the_metadata_of_its_source(s3: Client) -> None:
    assert read(s3, "copy") == b"1,2"
    assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"color": "blue"}


def test_a_multipart_upload_arrives_whole(s3: Client) -> None:
    assert read(s3, "large") == LARGE


def test_an_empty_object_is_an_object(s3: Client) -> None:
    assert read(s3, "empty") == b""


def test_the_second_of_two_writes_counts_with_its_headers(s3: Client) -> None:
    assert read(s3, "twice") == b"second"
    assert s3.head_object(Bucket=BUCKET, Key="twice")["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize("key", ["gone", "many/00", "many/01", "aborted", "never"])
def test_what_was_deleted_is_not_there(s3: Client, key: str) -> None:
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=BUCKET, Key=key)


def test_a_list_comes_in_pages(s3: Client) -> None:
    expected = [f"many/{number:02}" for number in range(2, 25)]
    assert keys(s3, "many/", PaginationConfig={"PageSize": 5}) == expected


def test_part_of_an_object_can_be_read(s3: Client) -> None:
    with s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=100-199")["Body"] as body:
        assert body.read() == LARGE[100:200]


def test_buckets_are_those_that_were_made_and_not_deleted(s3: Client) -> None:
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {BUCKET, "odd-keys", "empty-bucket"}


def test_objects_are_files_that_a_learner_can_open(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/data.csv", Body=b"1,2")
    assert (daemon.home / "s3" / BUCKET / name / "data.csv").read_bytes() == b"1,2"


def test_a_presigned_url_works_without_a_signature_of_one_s_own(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1,2")
    url = daemon.s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": name})
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.read() == b"1,2"


def test_an_upload_that_breaks_off_leaves_the_old_object(daemon: Daemon, name: str) -> None:
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


def test_writers_of_one_key_leave_disk_and_memory_agreeing(daemon: Daemon, name: str) -> None:
    def write(number: int) -> None:
        daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"%d" % number * 50_000, ContentType=f"x/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(10, 34)))
    content = read(daemon.s3, name)
    assert content == content[:2] * 50_000
    assert daemon.s3.head_object(Bucket=BUCKET, Key=name)["ContentType"] == f"x/{content[:2].decode()}"
    assert (daemon.home / "s3" / BUCKET / name).read_bytes() == content


# A disk that refuses


def full_disk(descriptor: int) -> None:
    """Stands in for fsync: this is where a disk says at the latest that it is full."""
    raise OSError(28, "No space left on device")


def put_as_an_instance(rooms: Rooms, key: str, path: Path) -> None:
    rooms.storage.put_file(BUCKET, key, path)


def put_as_a_client(rooms: Rooms, key: str, path: Path) -> None:
    signature = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, Signature=0"}
    builder = EnvironBuilder(f"/{BUCKET}/{key}", method="PUT", data=path.read_bytes(), headers=signature)
    assert S3Application(rooms.storage.store).handle(builder.get_environ()).status_code == 200


by_either_way = pytest.mark.parametrize("put", [put_as_an_instance, put_as_a_client])


@pytest.fixture
def rooms(rooms_by_runner: Callable[[str], Rooms]) -> Rooms:
    return rooms_by_runner("rewrite")


@by_either_way
def test_a_disk_that_refuses_leaves_the_old_object(
    rooms: Rooms, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Rooms, str, Path], None]
) -> None:
    for content in ("old", "new"):
        (tmp_path / content).write_text(content)
    put(rooms, name, tmp_path / "old")
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr("os.fsync", full_disk)
        put(rooms, name, tmp_path / "new")
    entry = rooms.storage.store.get(BUCKET, name)
    assert entry is not None
    assert entry.path.read_text() == "old"


@by_either_way
def test_a_disk_that_refuses_a_first_object_leaves_none(
    rooms: Rooms, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Rooms, str, Path], None]
) -> None:
    (tmp_path / "new").write_text("new")
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr("os.fsync", full_disk)
        put(rooms, name, tmp_path / "new")
    assert rooms.storage.store.get(BUCKET, name) is None
    assert list(rooms.storage.store.layout.scratch.iterdir()) == []


# The disk itself


def stored(root: Path, bucket: str = "b") -> dict[str, bytes]:
    """Read a store from disk, as after a restart."""
    return {entry.key: entry.path.read_bytes() for entry in ObjectStore(root).objects(bucket)}


@pytest.fixture
def files(tmp_path: Path) -> ObjectStore:
    files = ObjectStore(tmp_path / "s3")
    files.create_bucket("b")
    return files


def test_no_key_leaves_the_store_s_directory(files: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    odd = [*ODD_KEYS, "../../outside", "/etc/passwd", "nul\0", "x" * 5000]
    for key in odd:
        files.write("b", key, [key.encode()], {})
    assert stored(tmp_path / "s3") == {key: key.encode() for key in odd}
    assert {path.name for path in tmp_path.iterdir()} == {"s3", "outside"}
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("order", [("a", "a/b", "a/b/c"), ("a/b/c", "a/b", "a")])
def test_a_key_and_keys_below_it_live_side_by_side_and_die_alone(
    files: ObjectStore, tmp_path: Path, order: tuple[str, ...]
) -> None:
    for key in order:
        files.write("b", key, [key.encode()], {})
    files.delete("b", order[0])
    assert stored(tmp_path / "s3") == {key: key.encode() for key in order[1:]}


def test_headers_are_kept_and_dropped_with_their_object(files: ObjectStore, tmp_path: Path) -> None:
    files.write("b", "a", [b"1"], {"content-type": "text/csv"})
    entry = ObjectStore(tmp_path / "s3").get("b", "a")
    assert entry is not None
    assert entry.headers == {"content-type": "text/csv"}
    files.write("b", "a", [b"2"], {})
    entry = ObjectStore(tmp_path / "s3").get("b", "a")
    assert entry is not None
    assert entry.headers == {}


def test_deleting_leaves_no_empty_directories(files: ObjectStore, tmp_path: Path) -> None:
    files.write("b", "deep/down/a", [b"1"], {})
    files.delete("b", "deep/down/a")
    assert list((tmp_path / "s3" / "b").iterdir()) == []


def test_what_was_not_acknowledged_leaves_no_trace(files: ObjectStore, tmp_path: Path) -> None:
    (files.layout.scratch / "half").write_text("half")
    assert stored(tmp_path / "s3") == {}
    assert list(files.layout.scratch.iterdir()) == []


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replace_atomically(path, tmp_path) as file:
        file.write(b"new")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_readers_of_a_file_that_is_replaced_see_the_old_or_the_new_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    journal.save("job", {"text": "0" * 50_000})
    done = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(json.loads((tmp_path / "j" / "job.json").read_bytes())["text"])

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(look)
        for number in range(1, 30):
            journal.save("job", {"text": str(number % 10) * 50_000})
        done.set()
        reader.result()
    assert all(text == text[0] * 50_000 for text in seen)


def test_a_journal_gives_back_what_was_saved_and_not_deleted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    for name in ("a", "b"):
        journal.save(name, {"name": name})
    journal.delete("a")
    assert Journal(tmp_path / "j", tmp_path).load(dict) == {"b": {"name": "b"}}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff", "null"])
def test_a_damaged_journal_is_named(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    (tmp_path / "j" / "job.json").write_text(content, encoding="latin-1")
    with pytest.raises(LocalModeError, match=r"job\.json is damaged"):
        journal.load(dict)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [("s3://bucket", ("bucket", "")), ("s3://bucket/", ("bucket", "")), ("s3://b.c-d/k/é\n", ("b.c-d", "k/é\n"))],
)
def test_a_uri_has_a_bucket_and_a_key(uri: str, parts: tuple[str, str]) -> None:
    assert parse_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "bucket/key", "s3://", "s3:///key", "s3://UPPER/k", "s3://../k", "https://b/k"])
def test_what_is_no_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="is not an S3 URI"):
        parse_uri(uri)
