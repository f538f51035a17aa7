"""Sidecars: which version of an object a sidecar describes, and which objects need one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localmode.core.errors import LocalModeError
from localmode.s3.store.digest import Digest
from localmode.s3.store.index import StoredObject
from localmode.s3.store.layout import Layout, hash_of
from localmode.s3.store.sidecar import Sidecar, Sidecars


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.scratch.mkdir()
    layout.bucket("abc").mkdir()
    return layout


def version(layout: Layout, content: bytes, modified: int, **headers: str) -> StoredObject:
    """Write the file of the object `key`, and return what describes it."""
    path = layout.bucket("abc") / "key"
    path.write_bytes(content)
    os.utime(path, ns=(modified, modified))
    return StoredObject("key", path, len(content), modified, headers, {"a": "1"}, Digest.of([content]))


def test_a_sidecar_describes_the_version_that_is_in_the_file(layout: Layout) -> None:
    old = version(layout, b"old", 1000, etag="old")
    new = replace(old, size=5, modified=2000, headers={"etag": "new"})
    assert Sidecar.about(new, old).describe(old.path) == old
    assert version(layout, b"newer", 2000, etag="new").size == new.size
    assert Sidecar.about(new, old).describe(old.path) == new


def test_a_sidecar_does_not_describe_a_file_that_was_changed_by_hand(layout: Layout) -> None:
    sidecar = Sidecar.about(version(layout, b"old", 1000, etag="old"), None)
    changed = version(layout, b"own", 3000)
    assert sidecar.describe(changed.path) == StoredObject("key", changed.path, 3, 3000)


def test_a_sidecar_is_read_as_it_was_written(layout: Layout) -> None:
    entry = version(layout, b"content", 1000, etag="one")
    Sidecars(layout).write("abc", entry, None)
    assert Sidecars(layout).read("abc") == {hash_of("key"): Sidecar.about(entry, None)}
    assert list(layout.scratch.iterdir()) == []


@pytest.mark.parametrize("remove", [Sidecars.delete, Sidecars.discard])
def test_a_removed_sidecar_is_not_read(layout: Layout, remove: Callable[..., None]) -> None:
    sidecars = Sidecars(layout)
    sidecars.write("abc", version(layout, b"content", 1000), None)
    remove(sidecars, "abc", "key")
    assert sidecars.read("abc") == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"key": "key"}', '{"key": "key", "records": [{"size": 1}]}'])
def test_a_damaged_sidecar_is_named(layout: Layout, content: str) -> None:
    path = layout.sidecar("abc", "key")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(LocalModeError, match=f"{path} is damaged"):
        Sidecars(layout).read("abc")


def test_a_small_object_with_default_headers_in_a_file_of_its_name_needs_no_sidecar(layout: Layout) -> None:
    plain = replace(version(layout, b"content", 1000), tags={})
    assert not Sidecars(layout).needed("abc", plain)


CHANGES: dict[str, Callable[[StoredObject], StoredObject]] = {
    "headers": lambda entry: replace(entry, headers={"content-type": "text/csv"}),
    "tags": lambda entry: replace(entry, tags={"a": "1"}),
    "more than 1 MiB": lambda entry: replace(entry, size=(1 << 20) + 1),
    "a digest of parts": lambda entry: replace(entry, known_digest=Digest("of-parts-2", "")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_its_file_does_not_suffice_to_describe_needs_a_sidecar(layout: Layout, change: str) -> None:
    plain = replace(version(layout, b"content", 1000), tags={})
    assert Sidecars(layout).needed("abc", CHANGES[change](plain))


def test_an_object_in_a_file_of_another_name_needs_a_sidecar(layout: Layout) -> None:
    plain = replace(version(layout, b"content", 1000), tags={})
    assert Sidecars(layout).needed("abc", replace(plain, path=layout.other("abc") / hash_of("..")))
