"""The files in which objects are stored."""

from pathlib import Path

import pytest

from localmode.s3.store.objects import ObjectStore
from tests.support.s3 import ODD_KEYS, stored


def test_no_key_leaves_the_store_s_directory(files: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    odd = [*ODD_KEYS, "../../outside", "/etc/passwd", "nul\0", "x" * 5000]
    for key in odd:
        files.write("abc", key, [key.encode()], {})
    assert stored(tmp_path / "s3") == {key: key.encode() for key in odd}
    assert {path.name for path in tmp_path.iterdir()} == {"s3", "outside"}
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("order", [("a", "a/b", "a/b/c"), ("a/b/c", "a/b", "a")])
def test_a_key_and_keys_below_it_are_stored_and_deleted_independently(
    files: ObjectStore, tmp_path: Path, order: tuple[str, ...]
) -> None:
    for key in order:
        files.write("abc", key, [key.encode()], {})
    files.delete("abc", order[0])
    assert stored(tmp_path / "s3") == {key: key.encode() for key in order[1:]}


def test_deleting_leaves_no_empty_directories(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "deep/down/a", [b"1"], {})
    files.delete("abc", "deep/down/a")
    assert list((tmp_path / "s3" / "abc").iterdir()) == []
