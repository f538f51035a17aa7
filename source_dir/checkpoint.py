"""Checkpoints that are written atomically and whose damage is detected. Needs NumPy only.

A checkpoint is one file, named after its step and the SHA-256 of its content: checkpoint-00000066-0f3a....npz.
SageMaker copies the directory to Amazon S3 while the job runs, and back before an interrupted job starts again.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

FORMAT = 2  # of the file; raise it with every change that an older train.py would misread
META = "meta.json"  # the one array that is not the value of a variable
KEEP = 3  # two of them may be damaged; more would only take space
NAME = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{16})\.npz")
# SageMaker does not upload files with this suffix, so it never uploads a half-written checkpoint.
TEMPORARY = ".sagemaker-ignore"
# SageMaker creates FILE.sagemaker-uploading when it begins to upload FILE, and FILE.sagemaker-uploaded afterwards.
# FILE must not be deleted in between. This is not documented, but AWS's own XGBoost container relies on it.
UPLOADING, UPLOADED = ".sagemaker-uploading", ".sagemaker-uploaded"


class CheckpointError(Exception):
    """A checkpoint cannot be read or written, or belongs to another training; the message says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was saved: the values of all variables by name, and metadata."""

    name: str
    step: int
    arrays: Arrays
    meta: dict[str, Any]  # "identity" and "environment" of the training, and anything else that fits into JSON

    def require_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise CheckpointError unless a training of the same identity wrote this checkpoint."""
        for key, here in identity.items():
            there = self.meta["identity"].get(key)
            if there != here:
                raise CheckpointError(
                    f"{self.name} belongs to another training: its {key} is {there}, here it is {here}; "
                    f"give this training the same {key}, or a --checkpoint-dir of its own"
                )

    def changes(self, environment: Mapping[str, str]) -> str:
        """Return how the environment that wrote this checkpoint differs from the given one, empty if it does not."""
        there = self.meta["environment"]
        return ", ".join(
            f"{key} {there.get(key)} (here {here})" for key, here in environment.items() if there.get(key) != here
        )


def save(directory: Path, step: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> str:
    """Write a checkpoint durably, delete old ones, and return the name of the new file.

    The same content gets the same name in every attempt.

    Raises:
        CheckpointError: the file cannot be written, or an old one cannot be deleted.
    """
    buffer = io.BytesIO()
    # NumPy dates each member of the zip file 1980-01-01, so the bytes depend on the content only.
    np.savez(buffer, **{META: np.array(json.dumps({"format": FORMAT, "step": step, **meta}))}, **arrays)
    content = buffer.getbuffer()
    path = directory / f"checkpoint-{step:08d}-{_hash(content)}.npz"
    draft = path.with_name(path.name + TEMPORARY)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():  # load_newest has skipped it; it must not block the new file
            path.rename(path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}"))
        draft.replace(path)
        _sync_directory(directory)  # the rename has to reach the disk, too
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error.strerror}") from error
    try:
        _prune(directory, step)
    except OSError as error:
        raise CheckpointError(f"cannot remove old checkpoint {error.filename}: {error.strerror}") from error
    return path.name


def load_newest(directory: Path) -> Checkpoint | None:
    """Return the undamaged checkpoint with the highest step, or None if there is none.

    Damaged files stay where they are and are reported on stdout, with a warning if no other is left. Drafts of
    earlier attempts are deleted.

    Raises:
        CheckpointError: the directory cannot be used, or the newest undamaged file has another format.
    """
    try:
        named = sorted(_named(directory), reverse=True)
        for draft in directory.glob(f"checkpoint-*.npz{TEMPORARY}"):
            if NAME.fullmatch(draft.name.removesuffix(TEMPORARY)) and draft.is_file():
                draft.unlink()
    except OSError as error:
        raise CheckpointError(f"cannot use checkpoint directory {directory}: {error.strerror}") from error
    for step, path in named:
        try:
            return _read(path, step)
        except (OSError, _UnsoundError) as error:
            print(f"skipped {path.name}: {error}", flush=True)
    if named:
        print(
            f"WARNING: NONE OF THE {len(named)} CHECKPOINTS IN {directory} CAN BE USED. All work up to step "
            f"{named[0][0]} is lost; the training starts again from nothing.",
            flush=True,
        )
    return None


def are_there(directory: Path) -> bool:
    """Return whether a directory contains anything with the name of a checkpoint, damaged or not."""
    return any(_named(directory))


class _UnsoundError(Exception):
    """A file does not match its name; the message says why."""


def _read(path: Path, step: int) -> Checkpoint:
    if not path.is_file():
        raise _UnsoundError("it is not a file")
    content = path.read_bytes()
    if _hash(content) not in path.name:
        raise _UnsoundError(f"its {len(content)} bytes do not have the SHA-256 in its name; it is damaged")
    # The hash is right, so the file is as it was written: if it cannot be read, it has another format.
    try:
        with np.load(io.BytesIO(content)) as file:
            arrays = dict(file)
        meta = json.loads(str(arrays.pop(META)))
        form = meta.get("format", 1)
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        form = "unknown"
    if form != FORMAT:
        raise CheckpointError(
            f"{path.name} has format {form}, this train.py reads format {FORMAT}: continue with the one that "
            "wrote it, or choose another --checkpoint-dir"
        )
    if meta["step"] != step:
        raise _UnsoundError(f"it holds step {meta['step']}; it was renamed")
    return Checkpoint(path.name, step, arrays, meta)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _named(directory: Path) -> Iterator[tuple[int, Path]]:
    for path in directory.iterdir():
        if match := NAME.fullmatch(path.name):
            yield int(match[1]), path


def _prune(directory: Path, step: int) -> None:
    """Delete the checkpoints up to a step, which was just saved, except the KEEP newest.

    Files with a higher step were found damaged at the start. They do not count, and are deleted once the training
    has passed their step. A file without permission to read may be undamaged, so it stays.
    """
    passed = sorted((pair for pair in _named(directory) if pair[0] <= step), reverse=True)
    for _, path in passed[KEEP:]:
        uploading = path.with_name(path.name + UPLOADING).exists()
        uploaded = path.with_name(path.name + UPLOADED)
        if path.is_file() and os.access(path, os.R_OK) and (uploaded.exists() or not uploading):
            path.unlink(missing_ok=True)
            uploaded.unlink(missing_ok=True)
