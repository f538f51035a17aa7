"""S3 for jobs and endpoints, and full disks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder

from localmode.s3.app import S3Application
from localmode.s3.storage import StorageError, parse_uri
from tests.support.local import BUCKET, Rooms


def full_disk(descriptor: int) -> None:
    """Replaces os.fsync: a full disk reports an error there at the latest."""
    raise OSError(28, "No space left on device")


def put_as_an_instance(rooms: Rooms, key: str, path: Path) -> None:
    rooms.storage.put_file(BUCKET, key, path)


def put_as_a_client(rooms: Rooms, key: str, path: Path) -> None:
    signature = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, Signature=0"}
    builder = EnvironBuilder(f"/{BUCKET}/{key}", method="PUT", data=path.read_bytes(), headers=list(signature.items()))
    assert S3Application(rooms.storage.store).handle(builder.get_environ()).status_code == 200


by_either_put = pytest.mark.parametrize("put", [put_as_an_instance, put_as_a_client])


@pytest.fixture
def rooms(rooms_by_runner: Callable[[str], Rooms]) -> Rooms:
    return rooms_by_runner("rewrite")


@by_either_put
def test_a_write_to_a_full_disk_leaves_the_old_object(
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


@by_either_put
def test_a_first_write_to_a_full_disk_leaves_no_object(
    rooms: Rooms, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Rooms, str, Path], None]
) -> None:
    (tmp_path / "new").write_text("new")
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr("os.fsync", full_disk)
        put(rooms, name, tmp_path / "new")
    assert rooms.storage.store.get(BUCKET, name) is None
    assert list(rooms.storage.store.layout.scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "parts"),
    [("s3://bucket", ("bucket", "")), ("s3://bucket/", ("bucket", "")), ("s3://b.c-d/k/é\n", ("b.c-d", "k/é\n"))],
)
def test_a_uri_has_a_bucket_and_a_key(uri: str, parts: tuple[str, str]) -> None:
    assert parse_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "bucket/key", "s3://", "s3:///key", "s3://UPPER/k", "s3://../k", "https://b/k"])
def test_an_invalid_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="is not an S3 URI"):
        parse_uri(uri)
