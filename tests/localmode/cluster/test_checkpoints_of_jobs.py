"""The checkpoints of jobs that run, from the first upload to the kill."""

import os
import select
import threading
from pathlib import Path
from typing import Any

import pytest

from localmode.cluster.containers.launch import KILL
from localmode.cluster.host import Host
from tests.support.local import BUCKET, SOON, Pipe, Rooms, ended, spot_request

SHELL = ("/bin/bash", "-c")


def test_a_job_resumes_from_what_was_uploaded_while_it_ran(rooms: Rooms, name: str, pipe: Pipe) -> None:
    command = (
        "cd /opt/ml/checkpoints; if [ -e a ]; then echo found $(cat a); exit; fi; echo 1 > a; "
        f"until [ -e a.sagemaker-uploaded ]; do sleep 0.01; done; echo uploaded > {pipe}; sleep 600; true"
    )
    job = rooms.create(spot_request(name, *SHELL, command))
    pipe.line()
    rooms.jobs.interrupt(name, 0)
    record = ended(job)
    assert record.status == "Completed"
    assert rooms.log(record) == ["found 1"]


def test_nothing_is_uploaded_after_the_kill(
    rooms: Rooms, name: str, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload counts if all of it had been sent to S3 before, even if S3 stores it a moment later."""
    at_the_kill: list[dict[str, int]] = []
    in_flight = threading.Lock()
    uploading, send, put_file = threading.Event(), Host.send, rooms.storage.put_file

    def versions() -> dict[str, int]:
        return {entry.key: entry.modified for entry in rooms.storage.objects(BUCKET, f"checkpoints/{name}/")}

    def slow_kill(host: Host, signal: bytes) -> None:
        if signal == KILL:
            with in_flight:
                at_the_kill.append(versions())
                uploading.clear()
            uploading.wait(0.5)  # the container writes on, and there may be other rounds
        send(host, signal)

    def watched_put_file(*arguments: Any) -> None:
        with in_flight:
            put_file(*arguments)
            uploading.set()

    monkeypatch.setattr(rooms.storage, "put_file", watched_put_file)
    monkeypatch.setattr(Host, "send", slow_kill)
    command = f"cd /opt/ml/checkpoints; echo up > {pipe}; i=0; while :; do i=$((i+1)); echo $i > f$((i % 7)); done"
    job = rooms.create(spot_request(name, *SHELL, command))
    pipe.line()
    assert uploading.wait(SOON)
    rooms.jobs.interrupt(name, 9999)
    job.stop()
    ended(job)
    assert at_the_kill == [versions()]
    assert at_the_kill[0]


def test_the_kill_does_not_wait_for_an_upload(
    rooms: Rooms, name: str, pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grace period is a bound, however slow S3 is; an upload that ends later does not count."""
    uploading, go_on, write = threading.Event(), threading.Event(), rooms.storage.store.write

    def slow_write(bucket: str, key: str, *more: Any, **options: Any) -> object:
        if key.endswith("/slow") and not uploading.is_set():
            uploading.set()
            assert go_on.wait(SOON)
        return write(bucket, key, *more, **options)

    monkeypatch.setattr(rooms.storage.store, "write", slow_write)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)  # ends with the last process that writes to it
    command = (
        f"exec 9> {tmp_path}/alive; trap '' TERM; echo 1 > /opt/ml/checkpoints/slow; echo up > {pipe}; sleep 600; :"
    )
    job = rooms.create(spot_request(name, *SHELL, command))
    pipe.line()
    assert uploading.wait(SOON)
    assert job.interrupt(9999)
    try:
        assert select.select([alive], [], [], 10)[0], "the container outlives the grace period"
    finally:
        go_on.set()
        os.close(alive)
    job.stop()
    ended(job)
    assert rooms.storage.objects(BUCKET, f"checkpoints/{name}/") == []


def test_what_is_written_on_sigterm_is_still_uploaded(rooms: Rooms, name: str, pipe: Pipe) -> None:
    """The host lives until the end of the grace period; what the script saves in it counts."""
    command = f"trap 'echo last > /opt/ml/checkpoints/a; exit 143' TERM; echo up > {pipe}; sleep 600 & wait"
    job = rooms.create(spot_request(name, *SHELL, command))
    pipe.line()
    rooms.jobs.interrupt(name, 9999)
    job.stop()
    ended(job)
    assert [entry.path.read_text() for entry in rooms.storage.objects(BUCKET, f"checkpoints/{name}/")] == ["last\n"]


def test_the_last_checkpoint_of_a_job_that_ends_is_uploaded(rooms: Rooms, name: str) -> None:
    rooms.run(spot_request(name, *SHELL, "echo last > /opt/ml/checkpoints/a"))
    assert [entry.key for entry in rooms.storage.objects(BUCKET, f"checkpoints/{name}/")] == [f"checkpoints/{name}/a"]


def test_a_checkpoint_that_s3_cannot_name_ends_neither_uploads_nor_job(rooms: Rooms, name: str) -> None:
    command = (
        "cd /opt/ml/checkpoints; echo 1 > \"$(printf '\\377')\"; echo 2 > a; until [ -e a.*ed ]; do sleep 0.1; done"
    )
    record = rooms.run(spot_request(name, *SHELL, command))
    assert record.status == "Completed"
    assert [entry.key for entry in rooms.storage.objects(BUCKET, f"checkpoints/{name}/")] == [f"checkpoints/{name}/a"]
    [line] = rooms.log(record)
    assert line.startswith("localmode: a checkpoint is not uploaded: ")


def test_the_local_path_is_honoured(rooms: Rooms, name: str) -> None:
    config = {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}", "LocalPath": "/opt/ml/mine/here"}
    rooms.run(spot_request(name, *SHELL, "echo 1 > /opt/ml/mine/here/a", CheckpointConfig=config))
    assert [entry.key for entry in rooms.storage.objects(BUCKET, f"checkpoints/{name}/")] == [f"checkpoints/{name}/a"]


def test_without_a_checkpoint_configuration_nothing_is_uploaded(rooms: Rooms, name: str) -> None:
    request = spot_request(name, *SHELL, "echo 1 > /opt/ml/checkpoints/a")
    del request["CheckpointConfig"]
    rooms.run(request)
    assert rooms.storage.objects(BUCKET, f"checkpoints/{name}") == []
