"""Checkpoints that are either whole or not there, and that know when they have been damaged. NumPy only.

One file per checkpoint, named after its step and its own SHA-256: checkpoint-00000066-0f3a....npz. SageMaker
copies the directory to Amazon S3 while the job runs and back before an interrupted one starts again.
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

FORMAT = 2  # of the file; to be raised with every change that an older train.py would misread
META = "meta.json"  # the name of the one array that is not a variable
KEEP = 3  # so that two may be damaged; more cost only space
NAME = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{16})\.npz")
# SageMaker uploads no file whose name ends like this, so that it never sees a half-written one.
TEMPORARY = ".sagemaker-ignore"
# It marks an upload of FILE by FILE.sagemaker-uploading and, once that is done, FILE.sagemaker-uploaded. Not
# documented, but what AWS's own XGBoost container relies on: a file must not be deleted in between.
UPLOADING, UPLOADED = ".sagemaker-uploading", ".sagemaker-uploaded"


class CheckpointError(Exception):
    """A checkpoint that cannot be written, or that belongs to another training; the message says which."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was saved: the values of all variables by name, and what describes them."""

    name: str
    step: int
    arrays: Arrays
    meta: dict[str, Any]  # "identity" and "environment" of the training, and whatever else JSON can hold

    def require_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise CheckpointError unless this checkpoint was written by a training of the same identity."""
        for key, here in identity.items():
            there = self.meta["identity"].get(key)
            if there != here:
                raise CheckpointError(
                    f"{self.name} belongs to another training: its {key} is {there}, here it is {here}; "
                    f"give this training the same {key}, or a --checkpoint-dir of its own"
                )

    def changes(self, environment: Mapping[str, str]) -> str:
        """Return what the environment in which this was written has differently, empty if nothing."""
        there = self.meta["environment"]
        return ", ".join(
            f"{key} {there.get(key)} (here {here})" for key, here in environment.items() if there.get(key) != here
        )


def save(directory: Path, step: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> str:
    """Write a checkpoint durably, prune the old ones and return the new one's file name.

    The same content has the same name, in whichever attempt it is written.

    Raises:
        CheckpointError: the file cannot be written.
    """
    buffer = io.BytesIO()
    # The zip format has NumPy date each member 1980-01-01, so that the bytes follow from the content alone.
    np.savez(buffer, **{META: np.array(json.dumps({"format": FORMAT, "step": step, **meta}))}, **arrays)
    content = buffer.getbuffer()
    path = directory / f"checkpoint-{step:08d}-{_hash(content)}.npz"
    draft = path.with_name(path.name + TEMPORARY)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():  # what is not a file was skipped at the start, and must not be in the way now
            path.rename(path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}"))
        draft.replace(path)
        _sync_directory(directory)  # the rename itself has to reach the disk
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error.strerror}") from error
    try:
        _prune(directory, step)
    except OSError as error:
        raise CheckpointError(f"cannot remove old checkpoint {error.filename}: {error.strerror}") from error
    return path.name


def load_newest(directory: Path) -> Checkpoint | None:
    """Return the sound checkpoint with the highest step, or None where there is none.

    What is not sound is left where it is and reported on stdout, loudly if nothing else is there. Drafts of an
    earlier attempt are removed.

    Raises:
        CheckpointError: the directory cannot be read, or the newest sound file is of another format.
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
    """Return whether a directory holds anything that is named like a checkpoint, sound or not."""
    return any(_named(directory))


class _UnsoundError(Exception):
    """The file is not what its name says; the message says in what way."""


def _read(path: Path, step: int) -> Checkpoint:
    if not path.is_file():
        raise _UnsoundError("it is not a file")
    content = path.read_bytes()
    if _hash(content) not in path.name:
        raise _UnsoundError(f"its {len(content)} bytes do not have the SHA-256 in its name; it is damaged")
    # These are the bytes that were hashed when they were written: what cannot be read now is not damaged.
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
    """Keep the KEEP newest checkpoints up to this step, the one that was just saved.

    What claims to be newer was not sound at the start: it does not count, and goes once it has been passed. What
    may not be read may be sound, and stays.
    """
    passed = sorted((pair for pair in _named(directory) if pair[0] <= step), reverse=True)
    for _, path in passed[KEEP:]:
        uploading = path.with_name(path.name + UPLOADING).exists()
        uploaded = path.with_name(path.name + UPLOADED)
        if path.is_file() and os.access(path, os.R_OK) and (uploaded.exists() or not uploading):
            path.unlink(missing_ok=True)
            uploaded.unlink(missing_ok=True)
