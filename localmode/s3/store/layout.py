"""Where buckets, objects, sidecars and uploads lie on disk.

    BUCKET/KEY                the bytes of an object, as a file that a learner can open
    .other/BUCKET/HASH        the bytes of an object that cannot have a file of its name: `..`, `a//b`, `a` beside `a/b`
    .about/BUCKET/HASH.json   its sidecar: key, headers, tags and digest
    .buckets/BUCKET.json      what a bucket is configured with
    .uploads/ID/              a multipart upload and its parts
    .new/                     files that are being written

The name of a bucket cannot begin with a dot, so none clashes with these directories.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_PLAIN_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\:]{1,200}")


class Layout:
    """The paths under the root directory of a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / ".new"
        self.configurations = root / ".buckets"
        self.uploads = root / ".uploads"

    def bucket(self, name: str) -> Path:
        """Return the directory of a bucket's objects."""
        return self.root / name

    def other(self, bucket: str) -> Path:
        """Return the directory of those of a bucket's objects that cannot have a file of their name."""
        return self.root / ".other" / bucket

    def sidecars(self, bucket: str) -> Path:
        """Return the directory of the sidecars of a bucket."""
        return self.root / ".about" / bucket

    def sidecar(self, bucket: str, key: str) -> Path:
        """Return the path of an object's sidecar."""
        return self.sidecars(bucket) / f"{hash_of(key)}.json"

    def configuration(self, bucket: str) -> Path:
        """Return the path of the document about a bucket."""
        return self.configurations / f"{bucket}.json"

    def path_for(self, bucket: str, key: str) -> Path:
        """Return where a new object is to be stored, given the files and directories that exist now."""
        segments = key.split("/")
        plain = all(_PLAIN_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments)
        if plain and len(key.encode()) <= 900 and all(len(part.encode()) <= 200 for part in segments):
            path = self.bucket(bucket) / key
            # A file cannot be where a directory is, nor below a file; nor, on some disks, beside one in other case.
            parents = [self.bucket(bucket) / "/".join(segments[:count]) for count in range(1, len(segments))]
            if not path.exists() and not any(parent.is_file() for parent in parents):
                return path
        return self.other(bucket) / hash_of(key)


def hash_of(key: str) -> str:
    """Return the name of a key's sidecar and, where no file can have the key's name, of its file."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_directories(directory: Path) -> list[Path]:
    """Make a directory and its missing parents; return the directories that have a new name in them."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for new in reversed(missing):
        new.mkdir()
    return [new.parent for new in missing]


def remove_empty(directory: Path, keep: Path) -> Path:
    """Remove a directory below `keep` if it is empty, then its parents; return the first directory that remains."""
    while directory != keep:
        try:
            directory.rmdir()
        except OSError:  # it is not empty, or has been removed by hand
            break
        directory = directory.parent
    return directory
