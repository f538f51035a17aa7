"""The mirror between an attempt's checkpoint directory and S3.

Conventions of SageMaker's own agent, as AWS's XGBoost container relies on them: names ending in
`.sagemaker-ignore` are not uploaded, `X.sagemaker-uploading` and `X.sagemaker-uploaded` mark an upload of X.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html

The hosts of a job share one prefix, and each has a mirror of its own: all get the same files at the start; of equal
names the last upload counts, and a file that one host deletes is deleted in S3.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localmode.cluster.filesystem import copy_into
from localmode.s3.storage import InvalidKey, Storage, StorageError

IGNORE = ".sagemaker-ignore"
UPLOADING = ".sagemaker-uploading"
UPLOADED = ".sagemaker-uploaded"
_INTERVAL_SECONDS = 0.2  # AWS documents none
_TICK_NANOSECONDS = 10_000_000  # of the clock that Linux before 6.13 dates changes by, at most

Version = tuple[int, int, int]


class Mirror:
    """Uploads what appears in a directory, deletes what disappears; never the other way after the start."""

    def __init__(
        self, directory: Path, storage: Storage, bucket: str, prefix: str, report: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""  # without the slash, job-1 would match job-10
        self._report = report
        self._uploaded: dict[str, Version] = {}
        self._refused: set[str] = set()  # names that no object, or no marker, can have
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror {prefix}", daemon=True)

    def restore(self, check: Callable[[], None]) -> int:
        """Copy what S3 holds into the directory; return the number of files. `check` may raise to end it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for entry in self._storage.objects(self._bucket, self._prefix):
            check()
            try:
                target = copy_into(self._directory, entry.key[len(self._prefix) :], entry.path)
            except FileNotFoundError:
                continue  # deleted since it was listed
            if target is None:
                continue  # the marker of an empty "directory"
            self._uploaded[target.relative_to(self._directory).as_posix()] = _version(target)
        return len(self._uploaded)

    def start(self) -> None:
        """Begin to mirror in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End mirroring; an upload under way is finished first."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def sync(self) -> None:
        """Bring S3 in line with the directory once; raise OSError or StorageError for the first file that fails."""
        present, failures = self._upload_new()
        if gone := self._uploaded.keys() - present:
            # What took their place may have come after it was looked for. It goes to S3 before they are deleted there.
            present, failures = self._upload_new()
        if failures:  # and delete nothing: the next instance would miss what has no successor in S3
            raise failures[0]
        for name in gone - present:
            self._storage.delete(self._bucket, self._prefix + name)
            del self._uploaded[name]
            (self._directory / (name + UPLOADED)).unlink(missing_ok=True)

    def _upload_new(self) -> tuple[set[str], list[OSError | StorageError]]:
        """Upload what is new; return the names of all files that are there, and what went wrong."""
        present = self._scan()
        failures: list[OSError | StorageError] = []
        for name, version in present.items():
            if self._uploaded.get(name) != version and name not in self._refused:
                try:
                    self._upload(name, version)
                except (OSError, StorageError) as error:  # the others are worth saving nevertheless
                    failures.append(error)
        return set(present), failures

    def _scan(self) -> dict[str, Version]:
        """Return the version of every file to mirror, oldest first."""
        found = {}
        for directory, _, names in os.walk(self._directory, onerror=_unless_gone):
            for path in (Path(directory, name) for name in names if not name.endswith((IGNORE, UPLOADING, UPLOADED))):
                try:
                    if path.is_file() and not path.is_symlink():
                        found[path.relative_to(self._directory).as_posix()] = _version(path)
                except FileNotFoundError:
                    continue  # renamed or deleted since it was listed
        return dict(sorted(found.items(), key=lambda item: item[1][1]))

    def _upload(self, name: str, version: Version) -> None:
        """Upload one file; one that changes meanwhile is uploaded again by the next scan."""
        try:
            with _marked(self._directory / (name + UPLOADING)) as uploading:
                self._storage.put_file(self._bucket, self._prefix + name, self._directory / name)
                self._uploaded[name] = version
                uploading.replace(self._directory / (name + UPLOADED))
        except FileNotFoundError:
            pass  # deleted since it was listed
        except (InvalidKey, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            self._refused.add(name)
            self._report(f"localmode: a checkpoint is not uploaded: {error}")

    def _run(self) -> None:
        reported = ""
        while not self._stop.wait(_INTERVAL_SECONDS):
            begun = time.time_ns()
            try:
                self.sync()
                reported = ""
            except (OSError, StorageError) as error:
                if str(error) != reported:  # once, not at every try
                    reported = str(error)
                    self._report(f"localmode: checkpoints could not be uploaded, trying again: {error}")
            for name, (size, modified, inode) in self._uploaded.items():
                if begun - _TICK_NANOSECONDS < modified < time.time_ns():  # it may have changed again at that time
                    self._uploaded[name] = (size, 0, inode)


def _unless_gone(error: OSError) -> None:
    """Raise what keeps a directory from being listed, or its files would be taken for deleted ones."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


@contextmanager
def _marked(marker: Path) -> Iterator[Path]:
    """Have a file there while something is done, unless it is renamed meanwhile."""
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _version(path: Path) -> Version:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
