"""Where an object lies on disk: its path, and the hash that names its sidecar."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_PLAIN_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\:]{1,200}")


def make_directories(directory: Path) -> list[Path]:
    """Make a directory and those above it; return the directories that have a new name in them."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for new in reversed(missing):
        new.mkdir()
    return [new.parent for new in missing]


def hash_of(key: str) -> str:
    """Return the name of a key's sidecar and, where no file can have the key's name, of its file."""
    return hashlib.sha256(key.encode()).hexdigest()


def path_for(root: Path, bucket: str, key: str) -> Path:
    """Return where a new object is to be stored: `BUCKET/KEY`, or `.other/BUCKET/HASH` for a key no file can have."""
    segments = key.split("/")
    plain = all(_PLAIN_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments)
    if plain and len(key.encode()) <= 900 and all(len(part.encode()) <= 200 for part in segments):
        path = root / bucket / key
        # A file cannot be where a directory is, nor below a file; nor, on some disks, beside one in other case.
        parents = [root / bucket / "/".join(segments[:count]) for count in range(1, len(segments))]
        if not path.exists() and not any(parent.is_file() for parent in parents):
            return path
    return root / ".other" / bucket / hash_of(key)
