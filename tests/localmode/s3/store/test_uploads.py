"""Multipart uploads on disk and in memory."""

import hashlib
import os
from pathlib import Path

import pytest

from localmode.core.errors import LocalModeError
from localmode.s3.errors import NoSuchUpload
from localmode.s3.store.digest import Digest
from localmode.s3.store.uploads import Upload, Uploads, digest_of_parts, whole

UPLOAD = Upload("abc", "key", {"content-type": "text/csv"}, {"a": "1"}, "upload-1", 1.0)


def restarted(tmp_path: Path) -> Uploads:
    """Return the uploads that are on disk."""
    (tmp_path / "new").mkdir(exist_ok=True)
    return Uploads(tmp_path / "uploads", tmp_path / "new")


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    uploads = restarted(tmp_path)
    uploads.create(UPLOAD)
    return uploads


def test_an_upload_and_its_parts_are_found_after_a_restart(uploads: Uploads, tmp_path: Path) -> None:
    for number, content in ((2, b"second"), (1, b"first")):
        uploads.write(UPLOAD, number, [content])
    again = restarted(tmp_path)
    assert again.get("upload-1", "abc", "key") == UPLOAD
    parts = again.parts(UPLOAD)
    assert [(part.number, part.size) for part in parts.values()] == [(1, 5), (2, 6)]
    assert [part.digest.etag for part in parts.values()] == [
        part.digest.etag for part in uploads.parts(UPLOAD).values()
    ]
    assert b"".join(whole(parts.values())) == b"firstsecond"


def test_a_part_replaces_the_earlier_one_with_its_number(uploads: Uploads, tmp_path: Path) -> None:
    first = uploads.write(UPLOAD, 1, [b"first"])
    second = uploads.write(UPLOAD, 1, [b"second"])
    assert uploads.parts(UPLOAD) == {1: second}
    assert (first.path.exists(), second.path.read_bytes()) == (False, b"second")


def test_of_two_parts_with_one_number_on_disk_the_later_counts(uploads: Uploads, tmp_path: Path) -> None:
    part = uploads.write(UPLOAD, 1, [b"new"])
    for seconds, etag in ((1, "later"), (-1, "earlier")):
        other = part.path.with_name(f"00001-{etag}-0")
        other.touch()
        moment = part.path.stat().st_mtime + seconds
        os.utime(other, (moment, moment))
    assert restarted(tmp_path).parts(UPLOAD)[1].digest.etag == "later"


def test_a_part_whose_check_fails_is_not_kept(uploads: Uploads, tmp_path: Path) -> None:
    def refuse(digest: Digest) -> None:
        raise ValueError(digest.etag)

    with pytest.raises(ValueError, match=hashlib.md5(b"content").hexdigest()):
        uploads.write(UPLOAD, 1, [b"con", b"tent"], refuse)
    assert uploads.parts(UPLOAD) == restarted(tmp_path).parts(UPLOAD) == {}
    assert list((tmp_path / "new").iterdir()) == []


def test_an_upload_ends_once_and_leaves_nothing(uploads: Uploads, tmp_path: Path) -> None:
    uploads.write(UPLOAD, 1, [b"content"])
    assert (uploads.end(UPLOAD), uploads.end(UPLOAD)) == (True, False)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_that_has_ended_takes_no_part(uploads: Uploads, tmp_path: Path) -> None:
    uploads.end(UPLOAD)
    for call in (lambda: uploads.write(UPLOAD, 1, [b"1"]), lambda: uploads.parts(UPLOAD)):
        with pytest.raises(NoSuchUpload):
            call()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(("bucket", "key"), [("other", "key"), ("abc", "other")])
def test_an_upload_belongs_to_one_object(uploads: Uploads, bucket: str, key: str) -> None:
    with pytest.raises(NoSuchUpload):
        uploads.get("upload-1", bucket, key)


def test_uploads_are_returned_by_key_and_time(uploads: Uploads) -> None:
    others = [Upload("abc", key, {}, {}, f"{key}-{time}", time) for key, time in (("z", 0.0), ("a", 3.0), ("a", 2.0))]
    for upload in (*others, Upload("other", "a", {}, {})):
        uploads.create(upload)
    assert [upload.identity for upload in uploads.of_bucket("abc")] == ["a-2.0", "a-3.0", "upload-1", "z-0.0"]


def test_a_directory_without_a_document_is_removed(uploads: Uploads, tmp_path: Path) -> None:
    """The daemon was killed before it had answered, or after it had ended the upload."""
    (tmp_path / "uploads/half").mkdir()
    (tmp_path / "uploads/half/00001-etag-0").touch()
    restarted(tmp_path)
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["upload-1"]


def test_a_damaged_document_is_named(uploads: Uploads, tmp_path: Path) -> None:
    path = tmp_path / "uploads/upload-1/upload.json"
    path.write_text('{"bucket": "abc"}')
    with pytest.raises(LocalModeError, match=f"{path} is damaged"):
        restarted(tmp_path)


def test_the_etag_of_parts_is_the_md5_of_their_md5s_and_their_number(uploads: Uploads) -> None:
    parts = [uploads.write(UPLOAD, number, [content]) for number, content in ((1, b"first"), (2, b"second"))]
    joined = hashlib.md5(b"first").digest() + hashlib.md5(b"second").digest()
    assert digest_of_parts(parts) == Digest(f"{hashlib.md5(joined).hexdigest()}-2", "")
