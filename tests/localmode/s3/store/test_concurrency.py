"""Readers and other writers do not wait for the fsync of a change."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from localmode.s3.errors import BucketNotEmpty, NoSuchBucket
from localmode.s3.store.digest import Digest
from localmode.s3.store.objects import ObjectStore
from tests.support.local import SOON
from tests.support.s3 import stored

PROMPT = 5  # seconds; what takes longer has waited for the fsync that the test delays
CHANGES: dict[str, Callable[[ObjectStore], Any]] = {
    "write": lambda files: files.write("abc", "new", [b"1"], {"content-type": "a/b"}),
    "overwrite": lambda files: files.write("abc", "key", [b"1"], {"content-type": "a/b"}),
    "tag": lambda files: files.tag("abc", "key", {"a": "1"}),
    "untag": lambda files: files.tag("abc", "tagged", {}),
    "delete": lambda files: files.delete("abc", "key"),
    "create bucket": lambda files: files.create_bucket("new-bucket"),
    "configure bucket": lambda files: files.configure("abc", "BucketTagging", []),
    "delete bucket": lambda files: files.delete_bucket("empty-bucket"),
}


class DelayedSync:
    """Replaces os.fsync: each call in the thread of `run` waits until the test has looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sync, self._changing = os.fsync, threading.local()
        self._reached: Queue[bool] = Queue()
        self._go_on: Queue[bool] = Queue()
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        if getattr(self._changing, "here", False):
            self._reached.put(True)
            self._changing.here = self._go_on.get(timeout=4 * SOON)
        self._sync(descriptor)

    def run(self, change: Callable[[], Any], look: Callable[[], Any]) -> int:
        """Run `change`, and `look` in another thread at each fsync of it; return how many there were."""

        def changed() -> None:
            self._changing.here = True
            try:
                change()
            finally:
                self._reached.put(False)

        with ThreadPoolExecutor(2) as pool:
            future, count = pool.submit(changed), 0
            try:
                while self._reached.get(timeout=SOON):
                    count += 1
                    pool.submit(look).result(PROMPT)
                    self._go_on.put(True)
            finally:
                self._go_on.put(False)  # no further fsync is to wait
            future.result(SOON)
        return count


@pytest.fixture
def filled(files: ObjectStore) -> ObjectStore:
    files.create_bucket("empty-bucket")
    files.write("abc", "key", [b"old"], {"content-type": "old/1"})
    files.write("abc", "tagged", [b"1"], {}, {"a": "1"})
    files.write("abc", "other", [b"other"])
    return files


@pytest.mark.parametrize("change", CHANGES)
def test_other_requests_do_not_wait_for_the_fsync_of_a_change(
    filled: ObjectStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def look() -> None:
        for key in ("key", "new", "other"):
            filled.get("abc", key)
            if (found := filled.open("abc", key)) is not None:
                found[1].close()
        assert filled.page("abc", "", "", "", 10).objects
        assert filled.objects("abc", "o")
        assert filled.buckets()
        filled.write("abc", "beside", [b"1"], {"content-type": "a/b"})
        filled.delete("abc", "beside")

    assert DelayedSync(monkeypatch).run(lambda: CHANGES[change](filled), look) >= 1


def test_readers_get_the_old_object_until_the_new_one_is_in_place(
    filled: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look() -> None:
        found = filled.open("abc", "key")
        assert found is not None
        entry, file = found
        with file:
            seen.append((file.read(), entry.headers["content-type"]))

    DelayedSync(monkeypatch).run(lambda: filled.write("abc", "key", [b"new"], {"content-type": "new/1"}), look)
    assert set(seen) == {(b"old", "old/1"), (b"new", "new/1")}
    assert seen == sorted(seen, reverse=True)


def test_other_requests_do_not_wait_while_a_digest_is_computed(filled: ObjectStore, tmp_path: Path) -> None:
    reading, look = threading.Event(), threading.Event()
    files = ObjectStore(tmp_path / "s3")
    compute = Digest.of

    def compute_late(chunks: Iterable[bytes]) -> Digest:
        reading.set()
        assert look.wait(SOON)
        return compute(chunks)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(Digest, "of", compute_late)
        first = pool.submit(files.get, "abc", "other")  # its digest is not known after a restart
        assert reading.wait(SOON)
        patch.undo()
        try:
            other = pool.submit(lambda: (files.get("abc", "key"), files.write("abc", "third", [b"3"])))
            assert other.result(PROMPT)[0] is not None
        finally:
            look.set()
        assert first.result(SOON) == files.get("abc", "other")


def test_an_unknown_digest_is_computed_once(filled: ObjectStore, tmp_path: Path) -> None:
    files, calls, compute = ObjectStore(tmp_path / "s3"), [], Digest.of
    began = threading.Barrier(8, timeout=SOON)

    def counted(chunks: Iterable[bytes]) -> Digest:
        calls.append(1)
        return compute(chunks)

    def look(_: int) -> Any:
        began.wait()
        return files.get("abc", "other")

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(Digest, "of", counted)
        assert {found.digest for found in pool.map(look, range(8))} == {compute([b"other"])}
    assert len(calls) == 1


def test_a_write_into_a_bucket_that_is_deleted_meanwhile_leaves_no_trace(files: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchBucket):
        files.write("abc", "key", [b"1"], {"content-type": "a/b"}, {}, lambda digest, old: files.delete_bucket("abc"))
    assert not [path for path in (tmp_path / "s3").rglob("*") if path.is_file()]
    files.create_bucket("abc")
    assert stored(tmp_path / "s3") == {}


def test_either_a_write_or_the_deletion_of_its_bucket_fails(files: ObjectStore, tmp_path: Path) -> None:
    for number in range(30):
        bucket = f"bucket-{number}"
        files.create_bucket(bucket)
        with ThreadPoolExecutor(2) as pool:
            write = pool.submit(files.write, bucket, "a/key", [b"1"], {"content-type": "a/b"})
            delete = pool.submit(files.delete_bucket, bucket)
        errors = write.exception(), delete.exception()
        assert [type(error) for error in errors if error] in ([NoSuchBucket], [BucketNotEmpty]), errors
        kept = ObjectStore(tmp_path / "s3")
        assert kept.has_bucket(bucket) == files.has_bucket(bucket) == (errors[0] is None)
        files = kept


def test_two_keys_that_need_the_same_file_name_at_once_are_both_stored(
    files: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writes = [lambda: files.write("abc", "a", [b"beside"])]
    DelayedSync(monkeypatch).run(
        lambda: files.write("abc", "a/b", [b"below"], {"content-type": "a/b"}),
        lambda: writes.pop()() if writes and files.get("abc", "a/b") is None and sidecars(tmp_path) else None,
    )
    assert not writes
    assert stored(tmp_path / "s3") == {"a": b"beside", "a/b": b"below"}


def sidecars(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "s3/.about/abc").glob("*.json"))
