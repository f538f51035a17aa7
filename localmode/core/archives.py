"""Unpack archives from S3 without writing outside the target directory, and find the SavedModels in them."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path

_DAMAGED = (tarfile.TarError, EOFError, ValueError, RecursionError, zlib.error)


class ArchiveError(Exception):
    """An archive is refused. The message says why and is written to follow the archive's name."""


def unpack(archive: Path, directory: Path) -> None:
    """Unpack the files and directories of a gzipped tar archive into `directory`.

    Files get the permissions that tarfile's data filter would give them (https://docs.python.org/3/library/tarfile.html
    #tarfile.data_filter), which Python has only from 3.11.4 on. Raises ArchiveError for links, devices, paths that lead
    out of `directory`, and archives that cannot be read.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _unpack_member(tar, member, directory)
    except (*_DAMAGED, OSError) as error:  # OSError: the disk may be full
        raise ArchiveError(f"cannot be unpacked: {' '.join(str(error).split())}") from error


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    if member.name.startswith("/") or ".." in Path(member.name).parts:
        raise ArchiveError(f"has a member outside of it: {member.name!r}")
    target = directory / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tar.extractfile(member) as source, target.open("wb") as copy:  # type: ignore[union-attr]
            shutil.copyfileobj(source, copy)
        target.chmod(_permissions(member.mode))
    else:
        raise ArchiveError(f"has a member that is no file or directory: {member.name!r}")


def _permissions(mode: int) -> int:
    """Drop setuid, setgid, sticky and write for group and others; let the owner read and write the file."""
    mode &= 0o755
    if not mode & 0o100:
        mode &= ~0o111
    return mode | 0o600


def saved_models(directory: Path) -> dict[str, dict[int, Path]]:
    """Return the SavedModels of a directory, by name and version: `[NAME/]VERSION/saved_model.pb`.

    A model without a name gets the name of the directory. Raises ArchiveError if there is no model.
    """
    models: dict[str, dict[int, Path]] = {}
    for path in sorted(directory.rglob("saved_model.pb")):
        version = path.parent
        if version.name.isdecimal() and version != directory:
            models.setdefault(version.parent.name, {})[int(version.name)] = version
    if not models:
        raise ArchiveError("holds no numbered SavedModel (1/saved_model.pb)")
    return models
