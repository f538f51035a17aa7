"""Multipart uploads, as clients see them."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localmode.s3.errors import NoSuchBucket, NoSuchUpload
from localmode.s3.operations.multipart import PartOperations
from localmode.s3.storage import Storage
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.uploads import Upload, Uploads
from localmode.s3.wire.body import Body
from tests.support.local import BUCKET
from tests.support.s3 import MIB, Client, code_of, read, upload_parts


def test_completed_parts_become_an_object(s3: Client, name: str) -> None:
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


def test_invalid_parts_are_refused_and_kept(s3: Client, name: str) -> None:
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


def test_completing_an_upload_that_is_aborted_meanwhile_is_refused(tmp_path: Path) -> None:
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


def test_completing_and_aborting_at_once_leaves_the_object_or_nothing(s3: Client, name: str) -> None:
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
            assert code_of(partial(s3.get_object, Bucket=BUCKET, Key=key)) == "NoSuchKey"
        assert code_of(partial(s3.list_parts, **where)) == "NoSuchUpload"


def test_an_upload_that_begins_while_its_bucket_is_deleted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, uploads = ObjectStore(tmp_path / "s3"), Uploads(tmp_path / "uploads", tmp_path)
    files.create_bucket("abc")
    create = uploads.create

    def create_late(upload: Upload) -> None:
        files.delete_bucket("abc")
        create(upload)

    monkeypatch.setattr(uploads, "create", create_late)
    with pytest.raises(NoSuchBucket):
        PartOperations(files, uploads).create_multipart_upload(
            {"Bucket": "abc", "Key": "key"}, Body({"wsgi.input": io.BytesIO()})
        )
    assert uploads.of_bucket("abc") == []
