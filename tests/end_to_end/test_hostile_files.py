"""Hostile archives and keys, some of them generated: nothing is written outside the directory."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmode.cluster.filesystem import contained
from localmode.core.archives import ArchiveError, unpack
from localmode.s3.storage import StorageError
from tests.support.examples import EXAMPLES
from tests.support.local import BUCKET, Rooms, channel, ended, job_request


def archive_of(members: list[tuple[str, bytes, bytes, str]], path: Path) -> None:
    """Write an archive of members (name, type, content, link target)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))


KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
MEMBER = st.sampled_from(["a", "a/b", "b", "../x", "/tmp/x", "a/../../x", ".", "..", "", "a/../b", "x" * 300, "a\\b"])


@settings(EXAMPLES, max_examples=150)
@given(st.lists(st.tuples(MEMBER, st.sampled_from(KINDS), st.binary(max_size=9), MEMBER), max_size=5))
def test_an_archive_is_unpacked_only_into_its_directory(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, bytes, str]]
) -> None:
    root = tmp_path_factory.mktemp("archive")
    archive_of(members, root / "archive")
    (root / "inside").mkdir()
    try:
        unpack(root / "archive", root / "inside")
        refused = False
    except ArchiveError:
        refused = True
    assert {path.name for path in root.iterdir()} == {"archive", "inside"}
    found = list((root / "inside").rglob("*"))
    assert all(not path.is_symlink() and (path.is_file() or path.is_dir()) for path in found)
    outside = [name for name, *_ in members if name.startswith("/") or ".." in name.split("/")]
    assert refused or not (outside or {kind for _, kind, *_ in members} - {tarfile.REGTYPE, tarfile.DIRTYPE})


MODES: list[Literal["w:gz", "w:bz2", "w:xz", "w:"]] = ["w:gz", "w:bz2", "w:xz", "w:"]


@settings(EXAMPLES, max_examples=150)
@given(st.data())
def test_a_damaged_archive_is_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("damaged")
    archive_of([("a", tarfile.REGTYPE, b"x" * 2000, ""), ("b" * 200, tarfile.REGTYPE, b"", "")], root / "archive")
    mode = data.draw(st.sampled_from(MODES))
    with tarfile.open(root / "archive") as tar, tarfile.open(root / "other", mode) as other:
        for member in tar:
            other.addfile(member, tar.extractfile(member))
    content = bytearray((root / "other").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (root / "other").write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    (root / "inside").mkdir()
    try:
        unpack(root / "other", root / "inside")
    except ArchiveError as error:
        assert "\n" not in str(error)


def test_an_archive_of_nested_long_names_is_one_error(tmp_path: Path) -> None:
    """Each header announces a long name and is followed by another such header; tarfile reads them recursively."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    (tmp_path / "archive").write_bytes((header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 3000)
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(tmp_path / "archive", tmp_path / "inside")


@given(st.text(max_size=30))
@settings(EXAMPLES, max_examples=200)
def test_no_key_leads_to_a_path_outside_the_directory(name: str) -> None:
    directory = Path("/some/directory")
    try:
        target = contained(directory, name)
    except StorageError:
        return
    if target is not None:
        assert ".." not in target.parts
        assert target.is_relative_to(directory)
        assert target != directory


@pytest.mark.parametrize(
    "keys", [["a", "a/b"], ["x" * 300], ["x/" * 512 + "x"]], ids=["file and directory", "long", "deep"]
)
def test_keys_that_cannot_be_file_names_fail_the_job_with_a_reason(
    rooms: Rooms, name: str, tmp_path: Path, keys: list[str]
) -> None:
    (tmp_path / "object").write_bytes(b"1")
    for key in keys:
        rooms.storage.put_file(BUCKET, f"{name}/{key}"[:1024], tmp_path / "object")
    record = rooms.run(job_request(name, InputDataConfig=[channel("train", f"{name}/")]))
    assert record.failure_reason.startswith("ClientError: The S3 object name") or record.status == "Completed"


@pytest.mark.parametrize("member", ["../out", "/tmp/out", "link", "device"])
def test_an_archive_of_code_with_paths_outside_fails_the_job(
    rooms_by_runner: Callable[[str], Rooms], name: str, tmp_path: Path, member: str
) -> None:
    """The rewrite runner unpacks the code of SDK v2 itself; else the toolkit does, in the job's container."""
    rooms = rooms_by_runner("rewrite")
    kind = {"link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}.get(member, tarfile.REGTYPE)
    archive_of([(member, kind, b"1", "/etc/passwd")], tmp_path / "archive")
    rooms.storage.put_file(BUCKET, f"{name}/sourcedir.tar.gz", tmp_path / "archive")
    uri = json.dumps(f"s3://{BUCKET}/{name}/sourcedir.tar.gz")
    record = ended(rooms.create(job_request(name, HyperParameters={"sagemaker_submit_directory": uri})))
    assert record.failure_reason.startswith(f"ClientError: {uri.replace(chr(34), chr(39))} has a member")
