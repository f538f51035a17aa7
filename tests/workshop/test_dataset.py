import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.support.training import options, run
from workshop import dataset

SMALL = {"train": 80, "validation": 20, "test": 20}  # records of the archive below


Pickler: Any = pickle._Pickler  # in Python, so that its methods can be overridden


class Python2Pickler(Pickler):
    """Writes strings without an encoding, as Python 2 did, which wrote the files of CIFAR-10."""

    def save_string(self, value: str | bytes) -> None:
        data = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch = {**Pickler.dispatch, str: save_string, bytes: save_string}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the format of CIFAR-10; `dataset` uses its URL and checksum."""
    path = tmp_path / "origin" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(names):
            rows = np.random.default_rng(number).integers(0, 256, (20, 3072), dtype=np.uint8)
            rows[:, 0], rows[:, 1024], rows[:, 2048] = 11, 22, 33  # red, green and blue of the first pixel
            file = io.BytesIO()
            Python2Pickler(file, 2).dump({"data": rows, "labels": [*range(10), *range(10)]})
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = file.tell()
            file.seek(0)
            tar.addfile(member, file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(dataset, "CIFAR10_URL", path.as_uri())
    monkeypatch.setattr(dataset, "CIFAR10_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(dataset.RECORDS, "cifar10", SMALL)
    return path


def test_digits_are_split_without_loss_into_the_documented_numbers_of_records(tmp_path: Path) -> None:
    channels = dataset.prepare("digits", tmp_path)
    assert {name: channel.records for name, channel in channels.items()} == dataset.RECORDS["digits"]
    found = [
        (label, *image.ravel())
        for channel in channels.values()
        for image, label in zip(*dataset.load(channel.directory)[:2], strict=True)
    ]
    original = load_digits()
    values = np.rint(np.array(found)[:, 1:] * 16 / 255).astype(int).tolist()
    restored = [(label, *image) for (label, *_), image in zip(found, values, strict=True)]
    assert sorted(restored) == sorted(
        (label, *image) for label, image in zip(original.target, original.data, strict=True)
    )


def test_arrays_have_the_documented_types_and_shapes(tmp_path: Path) -> None:
    dataset.prepare("digits", tmp_path)
    with np.load(tmp_path / "validation" / "validation.npz") as arrays:
        assert set(arrays) == {"images", "labels", "class_names"}
        assert (arrays["images"].dtype, arrays["images"].shape) == (np.uint8, (180, 8, 8, 1))
        assert (arrays["labels"].dtype, arrays["labels"].shape) == (np.int64, (180,))
        assert arrays["class_names"].dtype.kind == "U"


def test_digits_use_the_whole_range_of_a_byte(tmp_path: Path) -> None:
    images, _, _ = dataset.load(dataset.prepare("digits", tmp_path)["train"].directory)
    assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)


@pytest.mark.parametrize("channel", ["train", "validation", "test"])
def test_every_class_has_the_same_share_of_each_channel(tmp_path: Path, channel: str) -> None:
    _, labels, _ = dataset.load(dataset.prepare("digits", tmp_path)[channel].directory)
    whole = np.bincount(load_digits().target) / 1_797
    assert np.abs(np.bincount(labels) - whole * len(labels)).max() < 1.5


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = dataset.prepare("digits", tmp_path / "a"), dataset.prepare("digits", tmp_path / "b")
    for name in first:
        file = f"{name}.npz"
        one, other = (channels[name].directory / file for channels in (first, second))
        assert one.read_bytes() == other.read_bytes()


def test_files_do_not_contain_the_time_of_writing(tmp_path: Path) -> None:
    dataset.prepare("digits", tmp_path)
    with zipfile.ZipFile(tmp_path / "train" / "train.npz") as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_seed_gives_another_split(tmp_path: Path) -> None:
    first = dataset.prepare("digits", tmp_path / "a", seed=0)["test"].directory
    second = dataset.prepare("digits", tmp_path / "b", seed=1)["test"].directory
    assert not np.array_equal(dataset.load(first)[0], dataset.load(second)[0])


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.prepare("digits", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def break_off(file: Path, **arrays: object) -> None:
        file.write_bytes(b"half an arch")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", break_off)
    with pytest.raises(KeyboardInterrupt):
        dataset.prepare("digits", tmp_path, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_channel_contains_only_its_file(tmp_path: Path) -> None:
    dataset.prepare("digits", tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "test", "test/test.npz", "train", "train/train.npz", "validation", "validation/validation.npz",
    ]  # fmt: skip


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown data set 'mnist': choose one of digits, cifar10"):
        dataset.prepare("mnist", tmp_path)


def test_a_wrong_number_of_records_is_refused(tmp_path: Path, archive: Path) -> None:
    dataset.RECORDS["cifar10"] = {"train": 45_000, "validation": 20, "test": 10_000}
    with pytest.raises(ValueError, match="cifar10 should have .*45000.* but has .*80"):
        dataset.prepare("cifar10", tmp_path)
    assert not (tmp_path / "train").exists()


def test_cifar10_keeps_its_own_test_set(tmp_path: Path, archive: Path) -> None:
    channels = dataset.prepare("cifar10", tmp_path)
    assert {name: channel.records for name, channel in channels.items()} == SMALL
    rows = np.random.default_rng(5).integers(0, 256, (20, 3072), dtype=np.uint8)
    images, labels, class_names = dataset.load(channels["test"].directory)
    assert images[3, 0, 5].tolist() == rows[3, [5, 1029, 2053]].tolist()
    assert (labels[3], class_names[3]) == (3, "cat")


def test_the_last_axis_of_cifar10_images_is_the_colour(tmp_path: Path, archive: Path) -> None:
    images, _, _ = dataset.load(dataset.prepare("cifar10", tmp_path)["train"].directory)
    assert images.shape == (80, 32, 32, 3)
    assert (images[:, 0, 0] == [11, 22, 33]).all()


def test_cifar10_is_downloaded_only_once(tmp_path: Path, archive: Path) -> None:
    dataset.prepare("cifar10", tmp_path)
    archive.unlink()
    assert dataset.prepare("cifar10", tmp_path)["train"].records == 80


def test_without_a_network_the_error_names_the_alternatives(tmp_path: Path, archive: Path) -> None:
    archive.unlink()
    with pytest.raises(dataset.DownloadError) as caught:
        dataset.prepare("cifar10", tmp_path)
    message = str(caught.value)
    assert '"digits"' in message and str(tmp_path / "keras/datasets/cifar-10-python.tar.gz") in message
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None
    assert len(message.splitlines()) == 2


def test_an_archive_copied_to_the_named_path_is_used(tmp_path: Path, archive: Path) -> None:
    place = tmp_path / "keras" / "datasets" / archive.name
    place.parent.mkdir(parents=True)
    archive.rename(place)
    assert dataset.prepare("cifar10", tmp_path)["test"].records == 20


def test_a_damaged_archive_is_refused(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(dataset.DownloadError, match="[Cc]orrupted"):
        dataset.prepare("cifar10", tmp_path)


@pytest.mark.usefixtures("archive")
def test_train_py_trains_on_the_channels_of_cifar10(tmp_path: Path) -> None:
    dataset.prepare("cifar10", tmp_path)
    ended = run(options(tmp_path, tmp_path / "out", epochs=1, **{"batch-size": 30}))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1].startswith("epoch=1 step=3 ")
