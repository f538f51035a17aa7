"""Two image data sets as channels of a training job.

    channels = dataset.prepare("digits", "data")    # writes data/train/train.npz and so on
    images, labels, class_names = dataset.load(channels["test"].directory)

A channel is a directory with one file, CHANNEL.npz, which contains the arrays

    images       uint8 [N, H, W, C], 0 to 255
    labels       int64 [N], an index into class_names
    class_names  unicode [number of classes]

The same name and seed give the same bytes in every run, so that uploads can be compared by their hashes.
"""

import os
import pickle
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Records = tuple[Images, Labels]

CLASS_NAMES = {
    "digits": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}
RECORDS = {
    "digits": {"train": 1_257, "validation": 180, "test": 360},
    "cifar10": {"train": 45_000, "validation": 5_000, "test": 10_000},
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


class DownloadError(RuntimeError):
    """A data set is not in the cache and cannot be downloaded."""


@dataclass(frozen=True)
class Channel:
    """A channel on disk: the directory to upload, and the number of records in its file."""

    directory: Path
    records: int


def prepare(name: str = "digits", directory: str | Path = "data", seed: int = 0) -> dict[str, Channel]:
    """Write the channels "train", "validation" and "test" of a data set to subdirectories of a directory.

    The splits are stratified: each class has the same share of every channel. Files are replaced atomically.

    Args:
        name: "digits" (1,797 images of 8x8x1, part of scikit-learn) or "cifar10" (60,000 images of 32x32x3,
            170 MB, downloaded once).
        directory: where the channels go; created if it does not exist.
        seed: decides the channel of each record; CIFAR-10's own test set always becomes "test".

    Raises:
        ValueError: the name is unknown, or the data set has an unexpected number of records.
        DownloadError: CIFAR-10 is not in the cache and cannot be downloaded.
    """
    if name not in RECORDS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(RECORDS)}")
    records = RECORDS[name]
    if name == "digits":
        rest, test = _split(_digits(), records["test"], seed)
    else:
        rest, test = _cifar10(_download_cifar10())
    train, validation = _split(rest, records["validation"], seed)
    splits = {"train": train, "validation": validation, "test": test}

    found = {channel: len(labels) for channel, (_, labels) in splits.items()}
    if found != records:
        raise ValueError(f"{name} should have {records} records, but has {found}")
    return {
        channel: _write(Path(directory, channel), images, labels, CLASS_NAMES[name])
        for channel, (images, labels) in splits.items()
    }


def load(directory: str | Path) -> tuple[Images, Labels, list[str]]:
    """Return the images uint8 [N, H, W, C], the labels int64 [N] and the class names of one channel."""
    with np.load(_file(Path(directory))) as arrays:
        return arrays["images"], arrays["labels"], arrays["class_names"].tolist()


def _file(directory: Path) -> Path:
    return directory / f"{directory.name}.npz"


def _write(directory: Path, images: Images, labels: Labels, class_names: list[str]) -> Channel:
    directory.mkdir(parents=True, exist_ok=True)
    # The draft is not in the channel's directory, so that the rest of an interrupted run is never uploaded.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".draft-") as scratch:
        draft = Path(scratch, "draft.npz")
        np.savez(draft, images=images, labels=labels, class_names=np.array(class_names))
        draft.replace(_file(directory))
    return Channel(directory, len(labels))


def _split(records: Records, second: int, seed: int) -> tuple[Records, Records]:
    """Split records in two parts, the second of a given size, with the same share of each class in both."""
    images, labels = records
    first_images, second_images, first_labels, second_labels = train_test_split(
        images, labels, test_size=second, random_state=seed, stratify=labels
    )
    return (first_images, first_labels), (second_images, second_labels)


def _digits() -> Records:
    """Return scikit-learn's digits, with the values scaled from 0..16 to 0..255 and halves rounded up.

    The scaling loses nothing: round(16 u / 255) gives the original value back.
    """
    digits = load_digits()
    values = digits.images.astype(np.int64)[..., np.newaxis]
    return ((values * 255 + 8) // 16).astype(np.uint8), digits.target.astype(np.int64)


def _download_cifar10() -> Path:
    """Return the path of CIFAR-10's archive in Keras's cache; verify its checksum, and download it if necessary."""
    import keras  # not above: the import takes seconds, and the digits do not need it

    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    archive = home / "datasets" / "cifar-10-python.tar.gz"
    try:
        keras.utils.get_file(
            archive.name, origin=CIFAR10_URL, file_hash=CIFAR10_SHA256, cache_subdir=str(archive.parent)
        )
    except Exception as error:  # noqa: BLE001  (get_file raises a bare Exception where there is no network)
        raise DownloadError(
            f"CIFAR-10 could not be downloaded: {error}\n"
            f'Use the data set "digits", which needs no network, or download {CIFAR10_URL} '
            f"on another machine and copy it to {archive}"
        ) from None
    return archive


def _cifar10(archive: Path) -> tuple[Records, Records]:
    """Read the training and the test records from CIFAR-10's archive. Unpickles it: verify its checksum first."""
    batches = []
    with tarfile.open(archive) as tar:
        for batch in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            member = tar.extractfile(f"cifar-10-batches-py/{batch}")
            assert member is not None, f"{batch} is not a file"
            batches.append(_cifar10_batch(pickle.load(member, encoding="bytes")))  # written by Python 2
    train, test = batches[:-1], batches[-1]
    return (
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
    ), test


def _cifar10_batch(batch: dict[bytes, Any]) -> Records:
    """Convert rows of 1,024 red, 1,024 green and 1,024 blue values to images [N, 32, 32, 3]."""
    images = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(batch[b"labels"], dtype=np.int64)
