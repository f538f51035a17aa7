"""Objects on disk and in memory: restarts, kills and threads."""

import os
import string
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os.path import samestat
from pathlib import Path
from typing import Any

import pytest

from localmode.s3.store.objects import ObjectStore
from tests.support.local import SOON
from tests.support.s3 import stored


class Killed(BaseException):
    """Simulates a SIGKILL."""


@pytest.mark.parametrize("method", ["replace", "unlink"])
@pytest.mark.parametrize("new_headers", [{"content-type": "new/1"}, {}])
def test_a_kill_between_sidecar_and_object_mixes_no_versions(
    files: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    new_headers: dict[str, str],
) -> None:
    files.write("abc", "key", [b"old"], {"content-type": "old/1"}, {"tag": "old"})
    original = getattr(Path, method)

    def kill(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.endswith(".json") or (arguments and str(arguments[0]).endswith(".json")):
            return original(path, *arguments, **options)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, method, kill)
        files.write("abc", "key", [b"newer"], new_headers, {"tag": "new"})
    entry = ObjectStore(tmp_path / "s3").get("abc", "key")
    assert entry is not None
    seen = (entry.path.read_bytes(), entry.headers, entry.tags)
    assert seen in ((b"old", {"content-type": "old/1"}, {"tag": "old"}), (b"newer", new_headers, {"tag": "new"}))


def test_a_file_that_is_changed_by_hand_loses_its_old_headers(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "key", [b"old"], {"content-type": "old/1"})
    (tmp_path / "s3" / "abc" / "key").write_bytes(b"changed")
    entry = ObjectStore(tmp_path / "s3").get("abc", "key")
    assert entry is not None
    assert (entry.size, entry.headers) == (7, {})


def test_a_write_succeeds_though_its_object_is_deleted_before_the_answer(
    files: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another object may meanwhile have a file where the first one had a directory."""

    def delete() -> None:
        files.delete("abc", "a/b/c")
        files.write("abc", "a", [b"2"])

    def meanwhile(descriptor: int) -> None:
        if (directory := tmp_path / "s3/abc/a/b").exists() and samestat(os.fstat(descriptor), directory.stat()):
            monkeypatch.undo()
            others.append(pool.submit(delete))
        sync(descriptor)

    sync, others = os.fsync, list[Future[None]]()
    monkeypatch.setattr(os, "fsync", meanwhile)
    with ThreadPoolExecutor(1) as pool:
        files.write("abc", "a/b/c", [b"1"])
        others[0].result(SOON)
    assert [entry.key for entry in files.objects("abc")] == ["a"]


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
@pytest.mark.parametrize("look", ["get", "open", "page"])
def test_an_object_found_after_a_restart_keeps_its_digest(
    files: ObjectStore, tmp_path: Path, look: str, change: str
) -> None:
    """The digest of a small object is computed from its file, which another version may replace meanwhile."""
    digest = files.write("abc", "key", [b"old"]).digest
    files = ObjectStore(tmp_path / "s3")
    found: Any = files.page("abc", "", "", "", 1) if look == "page" else getattr(files, look)("abc", "key")
    entry = {"get": lambda: found, "open": lambda: found[0], "page": lambda: found.objects[0]}[look]()
    if change == "deleted":
        files.delete("abc", "key")
    else:
        files.write("abc", "key", [b"newer"])
    assert (entry.size, entry.digest) == (3, digest)
    if look == "open":
        found[1].close()


def test_readers_beside_writers_and_deleters_see_whole_objects(files: ObjectStore) -> None:
    def write(number: int) -> None:
        letter = string.ascii_letters[number % 50]
        files.write("abc", "deep/er/key", [letter.encode() * 1000] * 20, {"content-type": letter})

    def look(number: int) -> None:
        found = files.open("abc", "deep/er/key")
        if found is not None:
            entry, file = found
            with file:
                content = file.read()
            assert content == entry.headers["content-type"].encode() * 20_000

    def delete(number: int) -> None:
        files.delete("abc", "deep/er/key")
        files.delete("abc", "deep/er/other")
        files.write("abc", "deep/er/other", [b"1"])

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(call, number) for number in range(60) for call in (write, look, delete)]
        for future in work:
            future.result()


def test_headers_are_kept_and_dropped_with_their_object(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "a", [b"1"], {"content-type": "text/csv"})
    entry = ObjectStore(tmp_path / "s3").get("abc", "a")
    assert entry is not None
    assert entry.headers == {"content-type": "text/csv"}
    files.write("abc", "a", [b"2"], {})
    entry = ObjectStore(tmp_path / "s3").get("abc", "a")
    assert entry is not None
    assert entry.headers == {}


def test_unfinished_writes_are_removed(files: ObjectStore, tmp_path: Path) -> None:
    (files.layout.scratch / "half").write_text("half")
    assert stored(tmp_path / "s3") == {}
    assert list(files.layout.scratch.iterdir()) == []


def test_tags_that_were_deleted_do_not_come_back(files: ObjectStore, tmp_path: Path) -> None:
    files.write("abc", "key", [b"1"], {}, {"a": "1"})
    assert files.tag("abc", "key", {})
    entry = ObjectStore(tmp_path / "s3").get("abc", "key")
    assert entry is not None
    assert entry.tags == {}


def test_two_versions_never_have_the_same_size_and_time(files: ObjectStore, tmp_path: Path) -> None:
    """Sidecars distinguish versions by size and time, also if the clock does not advance between two writes."""

    def at_the_same_time() -> Iterator[bytes]:
        yield b"2" * 10_000
        [draft] = files.layout.scratch.iterdir()
        os.utime(draft, ns=(old.modified, old.modified))

    old = files.write("abc", "key", [b"1" * 10_000], {"content-type": "old/1"})
    new = files.write("abc", "key", at_the_same_time())
    assert (new.size, new.modified > old.modified) == (old.size, True)
    assert ObjectStore(tmp_path / "s3").get("abc", "key") == new


def test_an_object_whose_file_has_been_removed_by_hand_does_not_exist_and_can_be_written(
    files: ObjectStore, tmp_path: Path
) -> None:
    files.write("abc", "key", [b"1"])
    (tmp_path / "s3/abc/key").unlink()
    assert files.open("abc", "key") is None
    files.write("abc", "key", [b"2"])
    assert stored(tmp_path / "s3") == {"key": b"2"}
