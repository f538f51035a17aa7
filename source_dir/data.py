"""Read, check and batch the channels of a training job. Needs NumPy only.

A channel is a directory with one or more .npz files, which are read in the order of their names. Each contains

    images       uint8 [N, height, width, channels], 0 to 255
    labels       int64 [N], an index into class_names
    class_names  unicode [classes], the same in every file
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

SHIFT = 4  # the most pixels by which augmentation moves a photograph, in each direction


class InputError(Exception):
    """The user's input cannot be used; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Channel:
    """All records of one channel, in the order of its files."""

    images: Images
    labels: Labels
    class_names: list[str]


def load_channel(directory: Path) -> Channel:
    """Read and check all .npz files of a channel's directory.

    Raises:
        InputError: the directory or its files are missing, unreadable, or do not have the arrays above.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".npz")
    except PermissionError:
        raise InputError(f"no permission to read channel {directory}: grant it to the user of this script") from None
    except OSError:
        raise InputError(f"channel {directory} is not a directory: give one that contains .npz files") from None
    if not paths:
        raise InputError(f"channel {directory} contains no .npz file: put at least one there")
    parts = [_load_file(path) for path in paths]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        require_same_kind(str(paths[0]), parts[0], str(path), part)
    if len(parts) == 1:
        return parts[0]  # without a copy: it may be large
    return Channel(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
    )


def _load_file(path: Path) -> Channel:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path} is empty or not an .npz file: write it again with numpy.savez")
            file.seek(0)
            arrays = np.load(file)
            if missing := {"images", "labels", "class_names"} - set(arrays):
                raise InputError(
                    f"{path} has no {' and no '.join(sorted(missing))}: write it again with all three arrays"
                )
            images, labels, names = arrays["images"], arrays["labels"], arrays["class_names"]
    except PermissionError:
        raise InputError(f"no permission to read {path}: grant it to the user of this script") from None
    # RuntimeError: a single flipped bit can mark a file as encrypted
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): write it again with numpy.savez") from None

    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise InputError(f"{path}: images must be uint8 [N, height, width, channels], not {_form(images)}")
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise InputError(f"{path}: labels must be int64 [{len(images)}], one per image, not {_form(labels)}")
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"{path}: class_names must be two or more different names, not {_form(names)}")
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(
            f"{path}: labels go from {labels.min()} to {labels.max()}, "
            f"but {len(names)} class names allow 0 to {len(names) - 1}"
        )
    return Channel(images, labels, names.tolist())


def _form(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def require_same_kind(first_name: str, first: Channel, second_name: str, second: Channel) -> None:
    """Raise InputError unless both have images of the same shape and the same classes in the same order."""
    shapes = first.images.shape[1:], second.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise InputError(f"images are {shapes[0]} in {first_name} but {shapes[1]} in {second_name}")
    if first.class_names != second.class_names:
        raise InputError(
            f"class_names are {first.class_names} in {first_name} but {second.class_names} in {second_name}"
        )


def fingerprint(*channels: Channel) -> str:
    """Return 16 digits of the SHA-256 of all records; checkpoints contain it, to be used with the same data only."""
    digest = hashlib.sha256()
    for channel in channels:
        digest.update(repr((channel.images.shape, channel.class_names)).encode())
        digest.update(np.ascontiguousarray(channel.images).data)
        digest.update(np.ascontiguousarray(channel.labels).data)
    return digest.hexdigest()[:16]


def training_batches(
    channel: Channel, batch_size: int, seed: int, epoch: int, skip: int
) -> Iterator[tuple[Images, Labels]]:
    """Yield the shuffled batches of one epoch, except the first `skip`; the last batch may be smaller.

    Each call creates random generators from the seed and the epoch. The images of a batch and their augmentation do
    not depend on earlier draws, so a resumed epoch continues exactly.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(channel.images))
    moves = np.random.default_rng([seed, epoch, 1]).integers(0, 2 * SHIFT + 1, (len(order), 2))
    flips = np.random.default_rng([seed, epoch, 2]).integers(0, 2, len(order)) == 1
    for start in range(skip * batch_size, len(order), batch_size):
        chosen = order[start : start + batch_size]
        images = channel.images[chosen]
        if images.shape[-1] == 3:  # photographs only: a mirrored or moved 8x8 digit is no longer the same digit
            images = augment(images, moves[chosen], flips[chosen])
        yield images, channel.labels[chosen]


def augment(images: Images, moves: NDArray[np.int64], flips: NDArray[np.bool_]) -> Images:
    """Move and mirror images [N, H, W, C].

    moves [N, 2] are the row and column where the crop begins in the image with a black margin of SHIFT pixels; SHIFT
    does not move the image. flips [N] selects the images to mirror from left to right.
    """
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    result = np.empty_like(images)
    # One image at a time: three times as fast as one gather over all pixels.
    for place, image, (row, column), flip in zip(result, padded, moves.tolist(), flips.tolist(), strict=True):
        crop = image[row : row + height, column : column + width]
        place[:] = crop[:, ::-1] if flip else crop
    return result
