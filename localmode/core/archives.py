"""Archives from S3, unpacked so that nothing of them leaves its directory."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path

_DAMAGED = (tarfile.TarError, EOFError, ValueError, RecursionError, zlib.error)


class ArchiveError(Exception):
    """An archive that is not unpacked; the message says why, and is to follow the archive's name."""


def unpack(archive: Path, directory: Path) -> None:
    """Unpack the files and directories of a gzipped tar archive; raise ArchiveError for links, devices and ways out.

    By hand, since Python has extraction filters only from 3.11.4 on.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _unpack_member(tar, member, directory)
    except (*_DAMAGED, OSError) as error:  # or the disk is full
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
    else:
        raise ArchiveError(f"has a member that is no file or directory: {member.name!r}")


def saved_models(directory: Path) -> dict[str, dict[int, Path]]:
    """Return the SavedModels of a directory, by name and version: `[NAME/]VERSION/saved_model.pb`.

    One without a name is called like the directory. Raises ArchiveError for a directory without any.
    """
    models: dict[str, dict[int, Path]] = {}
    for path in sorted(directory.rglob("saved_model.pb")):
        version = path.parent
        if version.name.isdecimal() and version != directory:
            models.setdefault(version.parent.name, {})[int(version.name)] = version
    if not models:
        raise ArchiveError("holds no numbered SavedModel (1/saved_model.pb)")
    return models
