"""The synchronization of an attempt's checkpoint directory with S3.

Conventions of SageMaker's own agent, as AWS's XGBoost container relies on them: names ending in
`.sagemaker-ignore` are not uploaded, `X.sagemaker-uploading` and `X.sagemaker-uploaded` mark an upload of X.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html

The hosts of a job share one prefix, and each synchronizes its own directory: all get the same files at the start; of
files with the same name the last upload counts, and a file that one host deletes is deleted in S3.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localmode.cluster.errors import CutOff
from localmode.cluster.filesystem import copy_into
from localmode.core.threads import start_thread
from localmode.s3.storage import InvalidKey, Storage, StorageError

IGNORE = ".sagemaker-ignore"
UPLOADING = ".sagemaker-uploading"
UPLOADED = ".sagemaker-uploaded"
_INTERVAL_SECONDS = 0.2  # AWS documents none
_CLOCK_TICK_NANOSECONDS = 10_000_000  # Linux before 6.13 takes times of modification from a clock this coarse

Version = tuple[int, int, int]


class CheckpointSync:
    """Uploads files that appear in a directory, deletes in S3 those that disappear; downloads only before the start."""

    def __init__(
        self,
        directory: Path,
        storage: Storage,
        bucket: str,
        prefix: str,
        report: Callable[[str], None],
        interval: float = _INTERVAL_SECONDS,
        clock_tick: int = _CLOCK_TICK_NANOSECONDS,
    ) -> None:
        """`report` takes lines for the job's log. `clock_tick` is the resolution of times of modification."""
        self._directory = directory
        self._storage = storage
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""  # without the slash, job-1 would match job-10
        self._report = report
        self._interval = interval
        self._clock_tick = clock_tick
        self._uploaded: dict[str, Version] = {}
        self._refused: set[str] = set()  # names that no object, or no marker, can have
        self._stop = threading.Event()
        self._cut = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self, check: Callable[[], None]) -> int:
        """Copy the objects under the prefix into the directory; return the number of files.

        `check` is called before each file and may raise to end this.
        """
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
        """Synchronize in the background, in a thread of its own."""
        consequence = "No checkpoints are uploaded before the container has exited."
        self._thread = start_thread(f"checkpoints {self._prefix}", self._run, consequence)

    def stop(self) -> None:
        """End the synchronization in the background; wait for an upload under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def cut_off(self) -> None:
        """Upload and delete nothing from now on; an upload under way leaves nothing in S3. Does not wait for it."""
        self._cut.set()

    def sync(self) -> None:
        """Bring S3 in line with the directory once; raise OSError or StorageError for the first file that fails.

        Once the host has been cut off, this does nothing.
        """
        begun = time.time_ns()
        try:
            self._sync()
        except CutOff:
            return
        finally:
            self._distrust_recent_times(begun)

    def _sync(self) -> None:
        present, failures = self._upload_new()
        if gone := self._uploaded.keys() - present:
            # A file may have been renamed while the directory was listed: upload its new name before deleting the old.
            present, failures = self._upload_new()
        if failures:  # and delete nothing: the next instance would miss a checkpoint whose successor is not in S3
            raise failures[0]
        for name in gone - present:
            self._check()
            self._storage.delete(self._bucket, self._prefix + name)
            del self._uploaded[name]
            (self._directory / (name + UPLOADED)).unlink(missing_ok=True)

    def _check(self) -> None:
        if self._cut.is_set():
            raise CutOff

    def _distrust_recent_times(self, begun: int) -> None:
        """Upload again what was modified during this round: a later change may have the same time of modification."""
        for name, (size, modified, inode) in self._uploaded.items():
            if begun - self._clock_tick < modified < time.time_ns():
                self._uploaded[name] = (size, 0, inode)

    def _upload_new(self) -> tuple[set[str], list[OSError | StorageError]]:
        """Upload new and changed files; return the names of all files, and the errors."""
        present = self._scan()
        failures: list[OSError | StorageError] = []
        for name, version in present.items():
            if self._uploaded.get(name) != version and name not in self._refused:
                try:
                    self._upload(name, version)
                except (OSError, StorageError) as error:  # the other files are uploaded nevertheless
                    failures.append(error)
        return set(present), failures

    def _scan(self) -> dict[str, Version]:
        """Return the version of every file to upload, oldest first."""
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
            self._check()
            with _marked(self._directory / (name + UPLOADING)) as uploading:
                self._storage.put_file(self._bucket, self._prefix + name, self._directory / name, self._check)
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
        while not self._stop.wait(self._interval):
            try:
                self.sync()
                reported = ""
            except (OSError, StorageError) as error:
                if str(error) != reported:  # once, not at every try
                    reported = str(error)
                    self._report(f"localmode: checkpoints could not be uploaded, trying again: {error}")


def _unless_gone(error: OSError) -> None:
    """Raise an error of listing a directory, unless it is gone: its files must not be taken for deleted ones."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


@contextmanager
def _marked(marker: Path) -> Iterator[Path]:
    """Create an empty file and remove it at the end, unless it has been renamed."""
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _version(path: Path) -> Version:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
