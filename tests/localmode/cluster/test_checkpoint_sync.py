"""The synchronization of a checkpoint directory with S3, round by round, and in jobs that run."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from localmode.cluster.checkpoint_sync import CheckpointSync
from localmode.cluster.filesystem import contained
from localmode.s3.storage import Storage, StorageError
from tests.support.local import BUCKET, SOON, Rooms

SHELL = ("/bin/bash", "-c")


@dataclass
class Site:
    """A directory whose checkpoints are synchronized only when `sync` is called."""

    directory: Path
    storage: Storage
    prefix: str
    said: list[str] = field(default_factory=list)

    def checkpoints(self, prefix: str = "", clock_tick: int = 0) -> CheckpointSync:
        return CheckpointSync(
            self.directory,
            self.storage,
            BUCKET,
            prefix or self.prefix,
            self.said.append,
            interval=0.001,
            clock_tick=clock_tick,
        )

    def write(self, name: str, content: str = "x") -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def objects(self, prefix: str = "") -> dict[str, str]:
        start = prefix or f"{self.prefix}/"
        return {entry.key[len(start) :]: entry.path.read_text() for entry in self.storage.objects(BUCKET, start)}

    def put(self, key: str, content: str = "x") -> None:
        path = self.directory.parent / "object"
        path.write_text(content)
        self.storage.put_file(BUCKET, key, path)


@pytest.fixture
def site(rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, name: str) -> Site:
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    return Site(directory, rooms_by_runner("rewrite").storage, f"site/{name}")


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_new_files_are_uploaded(site: Site) -> None:
    site.write("a", "1")
    site.write("deep/b", "2")
    site.checkpoints().sync()
    assert site.objects() == {"a": "1", "deep/b": "2"}


def test_changed_files_are_uploaded_again_and_others_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = site.checkpoints()
    site.write("a", "1")
    site.write("b", "1")
    checkpoints.sync()
    uploads = []
    put_file = site.storage.put_file
    monkeypatch.setattr(site.storage, "put_file", lambda *args: (uploads.append(args[1]), put_file(*args)))
    site.write("a", "22")
    checkpoints.sync()
    checkpoints.sync()
    assert uploads == [f"{site.prefix}/a"]
    assert site.objects() == {"a": "22", "b": "1"}


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_uploaded_again(site: Site) -> None:
    checkpoints = site.checkpoints()
    old = site.write("a", "1")
    checkpoints.sync()
    moment = old.stat().st_mtime_ns
    new = site.write("new.sagemaker-ignore", "2")
    os.utime(new, ns=(moment, moment))
    new.replace(old)
    checkpoints.sync()
    assert site.objects() == {"a": "2"}


def test_deleted_files_are_deleted_in_s3(site: Site) -> None:
    checkpoints = site.checkpoints()
    path = site.write("a")
    site.write("b")
    checkpoints.sync()
    path.unlink()
    checkpoints.sync()
    assert set(site.objects()) == {"b"}


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[Path], object]) -> None:
    """Do something with the first file that is looked at, after its directory has been listed."""

    def look(path: Path) -> bool:
        found = is_file(path)
        while found and once:
            once.pop()(path)
        return found

    once, is_file = [do], Path.is_file
    monkeypatch.setattr(Path, "is_file", look)


def test_what_takes_the_place_of_a_file_is_in_s3_before_the_old_one_is_deleted_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a kill in between would leave no checkpoint."""
    checkpoints = site.checkpoints()
    site.write("old")
    checkpoints.sync()
    meanwhile(monkeypatch, lambda old: (site.write("new"), old.unlink()))
    delete, held = site.storage.delete, []
    monkeypatch.setattr(site.storage, "delete", lambda *key: (held.append(set(site.objects())), delete(*key)))
    checkpoints.sync()
    assert (held, set(site.objects())) == ([{"old", "new"}], {"new"})


def test_a_directory_that_disappears_while_it_is_listed_is_no_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        site.write(f"{name}/file")
    meanwhile(monkeypatch, lambda file: shutil.rmtree(site.directory / ({"one", "two"} - {file.parent.name}).pop()))
    site.checkpoints().sync()
    (left,) = site.directory.iterdir()
    assert set(site.objects()) == {f"{left.name}/file"}


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.EACCES])
def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    checkpoints = site.checkpoints()
    site.write("a")
    checkpoints.sync()
    with monkeypatch.context() as busy, pytest.raises(OSError, match=os.strerror(reason)):
        busy.setattr(os, "scandir", refuse)
        checkpoints.sync()
    assert set(site.objects()) == {"a"}


def test_a_file_changed_twice_within_a_tick_of_the_clock_is_uploaded_again(site: Site) -> None:
    """Its second change has the time of the first, which older kernels take from a clock that ticks rarely."""
    checkpoints = site.checkpoints(clock_tick=int(SOON * 1e9))
    path = site.write("a", "1")
    moment = path.stat().st_mtime_ns
    checkpoints.sync()
    path.write_text("2")
    os.utime(path, ns=(moment, moment))
    checkpoints.sync()
    assert site.objects() == {"a": "2"}
    path.unlink()
    checkpoints.sync()
    assert site.objects() == {}


def test_objects_put_into_s3_later_are_neither_pulled_nor_deleted(site: Site) -> None:
    checkpoints = site.checkpoints()
    site.write("a")
    checkpoints.sync()
    site.put(f"{site.prefix}/foreign")
    checkpoints.sync()
    assert set(site.objects()) == {"a", "foreign"}
    assert "foreign" not in files(site.directory)


def test_names_ending_in_sagemaker_ignore_stay_here(site: Site) -> None:
    site.write("a.sagemaker-ignore")
    site.checkpoints().sync()
    assert site.objects() == {}


def test_an_uploaded_file_has_its_marker_until_it_is_deleted(site: Site) -> None:
    checkpoints = site.checkpoints()
    path = site.write("a")
    checkpoints.sync()
    assert files(site.directory) == {"a", "a.sagemaker-uploaded"}
    path.unlink()
    checkpoints.sync()
    assert files(site.directory) == set()


def test_while_a_file_is_uploaded_its_marker_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(site.storage, "put_file", lambda *_: seen.append(files(site.directory)))
    site.write("a")
    site.checkpoints().sync()
    assert seen == [{"a", "a.sagemaker-uploading"}]


def test_a_file_that_changes_while_it_is_uploaded_is_uploaded_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = site.checkpoints()
    site.write("a", "1")
    put_file = site.storage.put_file

    def slow(*arguments: Any) -> None:
        put_file(*arguments)
        site.write("a", "22")

    monkeypatch.setattr(site.storage, "put_file", slow)
    checkpoints.sync()
    monkeypatch.undo()
    checkpoints.sync()
    assert site.objects() == {"a": "22"}


def test_a_file_that_disappears_while_it_is_uploaded_is_no_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.write("a")
    put_file = site.storage.put_file

    def late(*arguments: Any) -> None:
        path.unlink()
        put_file(*arguments)

    monkeypatch.setattr(site.storage, "put_file", late)
    site.checkpoints().sync()
    assert files(site.directory) == set()


def test_a_file_that_s3_cannot_name_is_reported_once_and_the_others_are_uploaded(site: Site) -> None:
    checkpoints = site.checkpoints()
    odd = site.write(os.fsdecode(b"\xff"))
    site.write("a", "1")
    checkpoints.sync()
    odd.write_text("another")
    site.write("b", "2")
    checkpoints.sync()
    assert site.objects() == {"a": "1", "b": "2"}
    what = f"'{site.prefix}/\\udcff' cannot be the key of an S3 object: it is not UTF-8"
    assert site.said == [f"localmode: a checkpoint is not uploaded: {what}"]
    odd.unlink()
    checkpoints.sync()
    assert files(site.directory) == {"a", "b", "a.sagemaker-uploaded", "b.sagemaker-uploaded"}


def test_links_are_not_followed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (site.directory / "link").symlink_to(tmp_path / "secret")
    site.checkpoints().sync()
    assert site.objects() == {}


def test_restoring_brings_every_object_and_uploads_none_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(f"{site.prefix}/a", "1")
    site.put(f"{site.prefix}/deep/b", "2")
    checkpoints = site.checkpoints()
    assert checkpoints.restore(lambda: None) == 2
    assert (site.directory / "deep" / "b").read_text() == "2"
    monkeypatch.setattr(site.storage, "put_file", lambda *_: pytest.fail("uploaded again"))
    checkpoints.sync()


def test_an_object_that_is_deleted_while_others_are_restored_is_left_out(site: Site) -> None:
    """By another job with the same checkpoints, which has newer ones."""
    for name in "ab":
        site.put(f"{site.prefix}/{name}")
    checkpoints = site.checkpoints()
    assert checkpoints.restore(lambda: site.storage.delete(BUCKET, f"{site.prefix}/a")) == 1
    assert files(site.directory) == {"b"}
    checkpoints.sync()
    assert site.objects() == {"b": "x"}


def test_a_restored_file_that_is_deleted_is_deleted_in_s3(site: Site) -> None:
    site.put(f"{site.prefix}/a")
    checkpoints = site.checkpoints()
    checkpoints.restore(lambda: None)
    (site.directory / "a").unlink()
    checkpoints.sync()
    assert site.objects() == {}


@pytest.mark.parametrize("slash", ["", "/"])
def test_neighbours_whose_names_begin_alike_are_left_alone(site: Site, slash: str) -> None:
    site.put(f"{site.prefix}0/theirs")
    checkpoints = site.checkpoints(site.prefix + slash)
    assert checkpoints.restore(lambda: None) == 0
    site.write("mine")
    checkpoints.sync()
    assert site.objects() == {"mine": "x"}
    assert site.objects(f"{site.prefix}0/") == {"theirs": "x"}


def test_objects_that_would_lie_outside_are_not_restored(site: Site) -> None:
    site.put(f"{site.prefix}/../out")
    with pytest.raises(StorageError, match="leads out"):
        site.checkpoints().restore(lambda: None)


@pytest.mark.parametrize(("name", "path"), [("a", "a"), ("a//b", "a/b"), ("/a", "a"), ("a/", None), ("", None)])
def test_object_names_become_paths_inside_their_directory(tmp_path: Path, name: str, path: str | None) -> None:
    assert contained(tmp_path, name) == (tmp_path / path if path else None)


@pytest.mark.parametrize("name", ["..", "../a", "a/../b", ".", "a/.", "a\0b", "../"])
def test_object_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError):
        contained(tmp_path, name)


def test_a_bucket_that_is_gone_is_reported_once_and_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tries, enough, put_file = [], threading.Event(), site.storage.put_file

    def counted(*arguments: Any) -> None:
        tries.append(arguments)
        if len(tries) == 3:
            enough.set()
        put_file(*arguments)

    monkeypatch.setattr(site.storage, "put_file", counted)
    checkpoints = CheckpointSync(site.directory, site.storage, "no-such-bucket", "p", site.said.append, interval=0.001)
    site.write("a")
    checkpoints.start()
    assert enough.wait(SOON)
    checkpoints.stop()
    assert site.said == [
        "localmode: checkpoints could not be uploaded, trying again: The S3 bucket 'no-such-bucket' does not exist"
    ]


# A host that is killed


def test_an_upload_that_the_kill_cuts_off_leaves_the_old_object(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = site.checkpoints()
    path = site.write("a", "old")
    checkpoints.sync()
    path.write_text("x" * 1_000_000)
    write = site.storage.store.write
    read = []

    def cut_after_the_first_part(bucket: str, key: str, body: Iterator[bytes], **more: Any) -> object:
        def parts() -> Iterator[bytes]:
            for part in body:
                read.append(part)
                yield part
                checkpoints.cut_off()

        return write(bucket, key, parts(), **more)

    monkeypatch.setattr(site.storage.store, "write", cut_after_the_first_part)
    checkpoints.sync()
    assert (len(read), site.objects()) == (1, {"a": "old"})


def test_an_upload_that_was_not_complete_when_the_host_was_killed_never_appears(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its bytes have been read, but it is not in its place yet."""
    checkpoints = site.checkpoints()
    site.write("a")
    write = site.storage.store.write

    def cut_at_the_end(bucket: str, key: str, body: Iterator[bytes], **more: Any) -> object:
        def parts() -> Iterator[bytes]:
            yield from body
            checkpoints.cut_off()

        return write(bucket, key, parts(), **more)

    monkeypatch.setattr(site.storage.store, "write", cut_at_the_end)
    checkpoints.sync()
    assert site.objects() == {}


def test_nothing_is_deleted_after_the_kill(site: Site) -> None:
    checkpoints = site.checkpoints()
    path = site.write("a")
    checkpoints.sync()
    path.unlink()
    checkpoints.cut_off()
    checkpoints.sync()
    assert set(site.objects()) == {"a"}


# Failures


def test_a_failure_is_reported_once_until_it_is_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file = site.storage.put_file
    tries: list[str] = []
    enough = threading.Event()

    def refuse(bucket: str, key: str, path: Path, *check: Any) -> None:
        tries.append(key)
        if len(tries) > 3:
            enough.set()
        if len(tries) != 3:
            raise OSError("No space left on device")
        put_file(bucket, key, path, *check)
        site.write("a", "another")

    monkeypatch.setattr(site.storage, "put_file", refuse)
    site.write("a")
    checkpoints = site.checkpoints()
    checkpoints.start()
    assert enough.wait(SOON)
    checkpoints.stop()
    assert site.said == ["localmode: checkpoints could not be uploaded, trying again: No space left on device"] * 2


def test_a_file_that_fails_does_not_hold_up_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file = site.storage.put_file

    def refuse(bucket: str, key: str, path: Path, *check: Any) -> None:
        if path.name != "good":
            raise PermissionError(f"{path.name} cannot be read")
        put_file(bucket, key, path, *check)

    monkeypatch.setattr(site.storage, "put_file", refuse)
    for moment, name in enumerate(["first", "good", "last"]):  # oldest first
        os.utime(site.write(name), (moment, moment))
    with pytest.raises(PermissionError, match="first"):
        site.checkpoints().sync()
    assert site.objects() == {"good": "x"}


def test_nothing_is_deleted_before_its_successor_is_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = site.checkpoints()
    old = site.write("old")
    checkpoints.sync()
    old.unlink()
    site.write("new")

    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(site.storage, "put_file", refuse)
        with pytest.raises(OSError, match="No space"):
            checkpoints.sync()
        assert site.objects() == {"old": "x"}
    checkpoints.sync()
    assert site.objects() == {"new": "x"}


def test_a_name_without_room_for_a_marker_is_reported_and_no_failure(site: Site) -> None:
    name = "n" * 250
    os.utime(site.write(name), (1, 1))
    site.write("newer")
    checkpoints = site.checkpoints()
    checkpoints.sync()
    checkpoints.sync()
    (site.directory / name).unlink()
    checkpoints.sync()
    assert site.objects() == {"newer": "x"}
    (line,) = site.said
    assert line.startswith("localmode: a checkpoint is not uploaded: ") and "File name too long" in line
