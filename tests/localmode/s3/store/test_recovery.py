"""What is read from disk when the daemon starts."""

from pathlib import Path

import pytest

from localmode.core.errors import LocalModeError
from localmode.s3.store.index import Index
from localmode.s3.store.layout import Layout, hash_of
from localmode.s3.store.objects import ObjectStore
from localmode.s3.store.recovery import recover


def recovered(root: Path) -> Index:
    return recover(Layout(root))


def keys(index: Index, bucket: str = "abc") -> list[str]:
    return [entry.key for entry in index.under(bucket, "")]


def test_an_empty_directory_becomes_a_store_without_buckets(tmp_path: Path) -> None:
    assert recovered(tmp_path / "s3").buckets() == []


def test_unfinished_files_are_removed(files: ObjectStore, tmp_path: Path) -> None:
    (files.layout.scratch / "half").write_text("half")
    assert keys(recovered(tmp_path / "s3")) == []
    assert list(files.layout.scratch.iterdir()) == []


def test_a_file_that_was_put_into_a_bucket_by_hand_is_an_object(files: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "s3/abc/deep").mkdir()
    (tmp_path / "s3/abc/deep/own.csv").write_text("1,2")
    index = recovered(tmp_path / "s3")
    entry = index.get("abc", "deep/own.csv")
    assert entry is not None
    assert (entry.size, entry.headers, keys(index)) == (3, {}, ["deep/own.csv"])


def test_a_directory_that_was_made_by_hand_is_a_bucket_as_old_as_the_directory(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (bucket,) = recovered(tmp_path).buckets()
    assert (bucket.name, bucket.created, bucket.documents) == ("own", (tmp_path / "own").stat().st_mtime, {})


def test_a_bucket_keeps_its_documents_and_its_time(files: ObjectStore, tmp_path: Path) -> None:
    files.configure("abc", "BucketPolicy", "{}")
    assert recovered(tmp_path / "s3").buckets() == files.buckets()
    assert files.buckets()[0].documents == {"BucketPolicy": "{}"}


def test_directories_of_the_store_itself_are_no_buckets(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "..", [b"1"])
    assert {".other", ".about", ".buckets", ".new"} <= {path.name for path in (tmp_path / "s3").iterdir()}
    assert [bucket.name for bucket in recovered(tmp_path / "s3").buckets()] == ["abc"]


def test_an_object_in_a_file_of_another_name_has_its_key_from_the_sidecar(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "..", [b"1"])
    (files.layout.other("abc") / hash_of("unknown")).write_text("a kill came before its sidecar was written")
    assert keys(recovered(tmp_path / "s3")) == [".."]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"created": 1}'])
def test_a_damaged_configuration_of_a_bucket_is_named(files: ObjectStore, tmp_path: Path, content: str) -> None:
    files.layout.configuration("abc").write_text(content)
    with pytest.raises(LocalModeError, match=f"{files.layout.configuration('abc')} is damaged"):
        recovered(tmp_path / "s3")
