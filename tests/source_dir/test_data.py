import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import Channel, InputError, augment, fingerprint, load_channel, require_same_kind, training_batches
from tests.support.training import CLASSES, records, write_channel

PHOTOGRAPH = (8, 6, 3)


def channel(**options: Any) -> Channel:
    arrays = records(**options)
    return Channel(arrays["images"], arrays["labels"], arrays["class_names"].tolist())


def batches(of: Channel, batch_size: int = 8, seed: int = 0, epoch: int = 1, skip: int = 0) -> list[Any]:
    return list(training_batches(of, batch_size, seed, epoch, skip))


def pairs(images: Any, labels: Any) -> list[Any]:
    return [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]


def test_a_channel_is_all_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    first, second = records(5, seed=1), records(3, seed=2)
    write_channel(tmp_path, "2.npz", **second)
    write_channel(tmp_path, "1.npz", **first)
    (tmp_path / "notes.txt").write_text("not a data file")
    read = load_channel(tmp_path)
    assert np.array_equal(read.images, np.concatenate([first["images"], second["images"]]))
    assert np.array_equal(read.labels, np.concatenate([first["labels"], second["labels"]]))
    assert read.class_names == CLASSES


MALFORMED = {
    "images are missing": ({"images": None}, "has no images"),
    "labels are missing": ({"labels": None}, "has no labels"),
    "class names are missing": ({"class_names": None}, "has no class_names"),
    "no records": ({"images": np.zeros((0, 8, 8, 1), np.uint8), "labels": np.zeros(0, int)}, "images must be"),
    "images of floats": ({"images": np.zeros((43, 8, 8, 1))}, r"images must be uint8.*float64 \[43, 8, 8, 1\]"),
    "images without channels": ({"images": np.zeros((43, 8, 8), np.uint8)}, "images must be"),
    "labels of bytes": ({"labels": np.zeros(43, np.uint8)}, "labels must be int64"),
    "one label too few": ({"labels": np.zeros(42, int)}, r"labels must be int64 \[43\].*\[42\]"),
    "a label too high": ({"labels": np.full(43, 10)}, "10 class names allow 0 to 9"),
    "a label below zero": ({"labels": np.full(43, -1)}, "labels go from -1"),
    "class names of bytes": ({"class_names": np.array(CLASSES, "S")}, "class_names must be"),
    "a class twice": ({"class_names": np.array([*CLASSES, "class 0"])}, "class_names must be"),
    "pickled objects": ({"labels": np.array([{}], dtype=object)}, "cannot be read"),
}


@pytest.mark.parametrize(("change", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_named_with_its_defect(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {key: value for key, value in (records() | change).items() if value is not None}
    write_channel(tmp_path, "bad.npz", **arrays)
    with pytest.raises(InputError, match=f"bad.npz.*{message}"):
        load_channel(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(100)], ids=["empty", "npy", "zip"])
def test_a_file_that_is_not_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match="bad.npz is empty or not an .npz file"):
        load_channel(tmp_path)


def test_a_damaged_file_never_causes_a_traceback(tmp_path: Path) -> None:
    content = (write_channel(tmp_path, **records(3)) / "a.npz").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            load_channel(tmp_path)
        except InputError:
            refused += 1
    assert refused > 200  # in the others the bit has no meaning, for example in a date


def test_a_missing_or_empty_channel_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a directory"):
        load_channel(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{tmp_path.name} contains no .npz file"):
        load_channel(tmp_path)


@pytest.mark.parametrize("function", ["iterdir", "open"])
def test_a_channel_without_permission_to_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    write_channel(tmp_path, **records(3))

    def refuse(path: Path, *_: Any) -> None:  # chmod does not restrict root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, function, refuse)
    with pytest.raises(InputError, match=r"no permission to read .*: grant it to the user of this script$"):
        load_channel(tmp_path)


def test_files_that_disagree_are_both_named(tmp_path: Path) -> None:
    write_channel(tmp_path, "1.npz", **records())
    write_channel(tmp_path, "2.npz", **records(shape=(8, 8, 3)))
    with pytest.raises(InputError, match=r"\(8, 8, 1\) in .*1.npz but \(8, 8, 3\) in .*2.npz"):
        load_channel(tmp_path)


def test_classes_in_another_order_are_refused() -> None:
    one = channel()
    other = Channel(one.images, one.labels, one.class_names[::-1])
    with pytest.raises(InputError, match="class_names are .* in train but .* in validation"):
        require_same_kind("train", one, "validation", other)


def test_the_fingerprint_depends_on_every_pixel_label_and_name() -> None:
    one = channel()
    images, labels = one.images.copy(), one.labels.copy()
    images[7, 3, 2, 0] ^= 1
    labels[7] = (labels[7] + 1) % 10
    others = [
        Channel(images, one.labels, one.class_names),
        Channel(one.images, labels, one.class_names),
        Channel(one.images, one.labels, one.class_names[::-1]),
    ]
    assert len({fingerprint(each) for each in [one, *others]}) == 4
    assert fingerprint(one) == fingerprint(channel())


def test_an_epoch_has_every_image_once_with_its_label() -> None:
    data = channel()
    drawn = batches(data)
    assert [len(labels) for _, labels in drawn] == [8, 8, 8, 8, 8, 3]
    images, labels = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True))
    assert sorted(pairs(images, labels)) == sorted(pairs(data.images, data.labels))


@pytest.mark.parametrize("shape", [(8, 8, 1), PHOTOGRAPH])
def test_a_resumed_epoch_continues_with_the_same_batches(shape: tuple[int, int, int]) -> None:
    data = channel(shape=shape)
    whole, rest = batches(data)[2:], batches(data, skip=2)
    assert [pairs(*batch) for batch in rest] == [pairs(*batch) for batch in whole]
    assert len(rest) == 4


def test_the_order_depends_on_seed_and_epoch() -> None:
    data = channel()
    orders = {str(batches(data, seed=seed, epoch=epoch)[0][1]) for seed in (0, 1) for epoch in (1, 2)}
    assert len(orders) == 4


def test_augmentation_of_an_image_does_not_depend_on_its_batch() -> None:
    numbered = Channel(records(shape=PHOTOGRAPH)["images"], np.arange(43), CLASSES)

    def augmented(**options: int) -> Any:
        images, numbers = (np.concatenate(arrays) for arrays in zip(*batches(numbered, **options), strict=True))
        return images[np.argsort(numbers)]

    assert np.array_equal(augmented(batch_size=5), augmented(batch_size=16))
    for other in (augmented(epoch=2), augmented(seed=1)):
        changed = (augmented() != other).any(axis=(1, 2, 3))
        assert changed.sum() > 30


def test_augmentation_moves_and_mirrors() -> None:
    image = records(1, PHOTOGRAPH)["images"]
    moves = np.array([[4, 4], [6, 4], [4, 1], [4, 4]])
    still, up, right, mirrored = augment(image.repeat(4, axis=0), moves, np.array([False, False, False, True]))
    assert np.array_equal(still, image[0])
    assert np.array_equal(up[:-2], image[0, 2:])
    assert not up[-2:].any()
    assert np.array_equal(right[:, 3:], image[0, :, :-3])
    assert np.array_equal(mirrored, image[0, :, ::-1])
