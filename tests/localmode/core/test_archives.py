"""Archives: what is unpacked, with which permissions, and what is refused."""

import io
import tarfile
from pathlib import Path

import pytest

from localmode.core.archives import ArchiveError, unpack


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write an archive of members; a file's content is its name."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            content = member.name.encode() if member.isfile() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    return info


@pytest.mark.parametrize(
    ("mode", "unpacked"),
    [
        (0o755, 0o755),
        (0o644, 0o644),
        (0o777, 0o755),  # no write for group and others
        (0o7755, 0o755),  # no setuid, setgid, sticky
        (0o611, 0o600),  # executable for others alone
        (0o500, 0o700),  # the owner reads and writes
        (0, 0o600),
    ],
)
def test_a_file_keeps_its_permissions_as_the_data_filter_does(tmp_path: Path, mode: int, unpacked: int) -> None:
    unpack(archive(tmp_path / "a.tar.gz", member("bin/tool", mode=mode)), tmp_path / "out")
    tool = tmp_path / "out" / "bin" / "tool"
    assert (tool.read_bytes(), oct(tool.stat().st_mode & 0o7777)) == (b"bin/tool", oct(unpacked))


def test_a_directory_without_permissions_can_be_written_to(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "a.tar.gz", member("d", tarfile.DIRTYPE, 0), member("d/file")), tmp_path / "out")
    assert (tmp_path / "out" / "d" / "file").read_bytes() == b"d/file"


@pytest.mark.parametrize(
    "refused",
    [
        member("link", tarfile.SYMTYPE, target="/etc/passwd"),
        member("link", tarfile.LNKTYPE, target="file"),
        member("null", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("/absolute"),
        member("../out"),
        member("a/../../out"),
    ],
    ids=lambda info: info.name,
)
def test_links_devices_and_paths_outside_the_directory_are_refused(tmp_path: Path, refused: tarfile.TarInfo) -> None:
    with pytest.raises(ArchiveError, match="has a member"):
        unpack(archive(tmp_path / "a.tar.gz", refused), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00"])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
