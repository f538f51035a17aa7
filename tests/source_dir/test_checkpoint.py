import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint
from checkpoint import Checkpoint, CheckpointError, load_newest

ARRAYS: dict[str, Any] = {
    "model/conv/kernel": np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32),
    "model/dropout/state": np.array([7, 2**32 - 1], np.uint32),
    "optimizer/iteration": np.array(66, np.int64),
}
META: dict[str, Any] = {
    "identity": {"seed": 0, "batch size": 64},
    "environment": {"cores": "2"},
    "history": [{"loss": 0.1}],
}


def save(directory: Path, step: int, **changes: Any) -> Path:
    return directory / checkpoint.save(directory, step, ARRAYS, META | changes)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def loaded(directory: Path) -> Checkpoint:
    newest = load_newest(directory)
    assert newest is not None
    return newest


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 66)
    read = loaded(tmp_path)
    assert (read.name, read.step, read.meta) == (path.name, 66, META | {"format": 2, "step": 66})
    assert read.arrays.keys() == ARRAYS.keys()
    assert all(read.arrays[key].dtype == ARRAYS[key].dtype for key in ARRAYS)
    assert all(read.arrays[key].tobytes() == ARRAYS[key].tobytes() for key in ARRAYS)


def test_the_name_is_the_step_and_the_hash_of_the_content(tmp_path: Path) -> None:
    first, again, other = save(tmp_path, 66), save(tmp_path, 66), save(tmp_path, 66, history=[])
    assert first.name.startswith("checkpoint-00000066-")
    assert first == again != other
    assert names(tmp_path) == sorted([first.name, other.name])


def test_the_newest_is_the_one_of_the_highest_number(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):  # its name has one digit more and sorts first
        save(tmp_path, step)
    assert loaded(tmp_path).step == 100_000_000


def test_an_empty_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_the_tail(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-300] + bytes(300))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def rename_to_another_step(path: Path) -> None:
    path.rename(path.with_name(path.name.replace("00000020", "00000021")))


DAMAGE = [
    (truncate, "it is damaged"),
    (empty, "its 0 bytes do not have the SHA-256"),
    (zero_the_tail, "it is damaged"),
    (flip_a_bit, "it is damaged"),
    (replace_by_a_directory, "it is not a file"),
    (replace_by_a_dangling_link, "it is not a file"),
    (rename_to_another_step, "it holds step 20; it was renamed"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE, ids=[function.__name__ for function, _ in DAMAGE])
def test_a_damaged_checkpoint_is_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, reason: str
) -> None:
    save(tmp_path, 10)
    damage(save(tmp_path, 20))
    assert loaded(tmp_path).step == 10
    line = capsys.readouterr().out
    assert line.startswith("skipped checkpoint-0000002")
    assert reason in line
    assert line.count("\n") == 1


def test_a_file_cut_at_any_length_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert loaded(tmp_path).step == 10
        assert f"its {length} bytes do not have the SHA-256 in its name" in capsys.readouterr().out


def test_any_flipped_bit_is_detected(tmp_path: Path) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        assert loaded(tmp_path).step == 10


def test_a_checkpoint_without_permission_to_read_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10)
    newest, read_bytes = save(tmp_path, 20), Path.read_bytes

    def refuse(path: Path) -> bytes:  # chmod does not restrict root
        if path == newest:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert loaded(tmp_path).step == 10
    assert capsys.readouterr().out == f"skipped {newest.name}: [Errno 13] Permission denied\n"


def test_a_checkpoint_without_permission_to_read_is_never_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path, 10)
    monkeypatch.setattr(os, "access", lambda path, mode: path != first)
    for step in range(20, 70, 10):
        save(tmp_path, step)
    assert [int(path.name[11:19]) for path in sorted(tmp_path.iterdir())] == [10, 40, 50, 60]


@pytest.mark.parametrize("function", ["iterdir", "unlink"])
def test_a_directory_without_permission_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = save(tmp_path, 10)
    path.with_name(path.name + ".sagemaker-ignore").touch()

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, function, refuse)
    with pytest.raises(CheckpointError, match="cannot use checkpoint directory .*: Permission denied"):
        load_newest(tmp_path)


def test_an_old_checkpoint_that_cannot_be_deleted_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [save(tmp_path, step) for step in (1, 2, 3)][0]

    def refuse(path: Path, missing_ok: bool) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CheckpointError, match=f"cannot remove old checkpoint .*{first.name}: Permission denied"):
        save(tmp_path, 4)


def test_a_warning_says_that_no_checkpoint_is_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_newest(tmp_path) is None
    assert capsys.readouterr().out == ""
    for step in (10, 20):
        truncate(save(tmp_path, step))
    assert load_newest(tmp_path) is None
    *skipped, warning = capsys.readouterr().out.splitlines()
    assert len(skipped) == 2
    assert warning.startswith("WARNING: NONE OF THE 2 CHECKPOINTS IN ")
    assert "All work up to step 20 is lost" in warning


def test_a_newer_format_is_refused_even_if_older_checkpoints_are_undamaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 3)
        path = save(tmp_path, 20)
    with pytest.raises(CheckpointError, match=f"{path.name} has format 3, this train.py reads format 2: "):
        load_newest(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("content", [b"another container", b"PK\x03\x04 cut off"])
def test_an_undamaged_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"checkpoint-00000020-{hashlib.sha256(content).hexdigest()[:16]}.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match="has format unknown, this train.py reads format 2"):
        load_newest(tmp_path)


@pytest.mark.parametrize("damage", [truncate, replace_by_a_directory, replace_by_a_dangling_link])
def test_a_damaged_checkpoint_is_replaced_when_its_step_is_saved_again(tmp_path: Path, damage: Any) -> None:
    path = save(tmp_path, 20)
    damage(path)
    assert save(tmp_path, 20) == path
    assert loaded(tmp_path).step == 20


def test_damaged_checkpoints_with_higher_steps_do_not_displace_new_ones(tmp_path: Path) -> None:
    for step in (50, 60, 70):
        truncate(save(tmp_path, step, history=["another run"]))
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
        assert loaded(tmp_path).step == step
    assert len(names(tmp_path)) == 3 + 3


def test_other_files_are_neither_read_nor_deleted(tmp_path: Path) -> None:
    name = "checkpoint-00000099-0123456789abcdef.npz"
    suffixes = [".bak", ".sagemaker-uploading", ".sagemaker-uploaded"]
    foreign = ["checkpoint", "model.npz", "x.sagemaker-ignore", *(name + suffix for suffix in suffixes)]
    for name in foreign:
        (tmp_path / name).write_text("foreign")
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    assert loaded(tmp_path).step == 4
    assert set(foreign) < set(names(tmp_path))


def test_the_last_three_are_kept(tmp_path: Path) -> None:
    paths = [save(tmp_path, step) for step in (8, 9, 10, 11, 100)]
    assert names(tmp_path) == [path.name for path in paths[2:]]


def test_a_checkpoint_is_not_deleted_while_it_is_uploaded(tmp_path: Path) -> None:
    first = save(tmp_path, 1)
    uploading = first.with_name(first.name + ".sagemaker-uploading")
    uploading.touch()
    for step in (2, 3, 4, 5):
        save(tmp_path, step)
    assert first.exists()
    first.with_name(first.name + ".sagemaker-uploaded").touch()
    save(tmp_path, 6)
    assert not first.exists()
    assert names(tmp_path)[0] == uploading.name  # SageMaker's own file, which stays


class Killed(BaseException):
    """Stands for SIGKILL. Not an Exception, so that no code under test catches it."""


def kill(*arguments: Any) -> None:
    raise Killed


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_during_a_save_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = save(tmp_path, 10)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(moment, kill)
        save(tmp_path, 20)
    draft = next(name for name in names(tmp_path) if name != before.name)
    assert draft.endswith(".sagemaker-ignore")  # SageMaker does not upload it
    assert loaded(tmp_path).step == 10
    assert names(tmp_path) == [before.name]  # the draft is deleted


def test_the_file_and_then_its_name_are_synced_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    replace = Path.replace

    def noting_replace(path: Path, target: Path) -> None:
        calls.append("rename")
        replace(path, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(Path, "replace", noting_replace)
    path = save(tmp_path, 1)
    assert calls == [path.stat().st_ino, "rename", tmp_path.stat().st_ino]


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot write checkpoint .*: No space left on device"):
        save(tmp_path, 1)


def test_another_training_is_refused_with_name_and_reason(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    read = loaded(tmp_path)
    read.require_identity(META["identity"])
    with pytest.raises(CheckpointError, match=f"{path.name} .* its batch size is 64, here it is 32"):
        read.require_identity({"seed": 0, "batch size": 32})
    with pytest.raises(CheckpointError, match="its precision is None, here it is float32"):
        read.require_identity({"precision": "float32"})


def test_another_environment_is_described(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert loaded(tmp_path).changes({"cores": "2"}) == ""
    assert loaded(tmp_path).changes({"cores": "4"}) == "cores 2 (here 4)"
