"""The register of training jobs over a disk that sometimes refuses."""

import errno
import threading
from typing import Any

import pytest

from localmode.core.durable import Journal
from localmode.training.job import TrainingJob
from tests.support.local import SOON, Pipe, Rooms, ended, job_request, spot_request


class Disk:
    """A journal's `save` that refuses while `full` is set, and tells when it has written a status."""

    def __init__(self, journal: Journal) -> None:
        self.full = False
        self.refused = 0
        self.written: dict[str, str] = {}
        self.completed = threading.Event()
        self._save = journal.save

    def save(self, name: str, document: dict[str, Any]) -> None:
        if self.full:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self._save(name, document)
        self.written[name] = document["status"]
        if document["status"] == "Completed":
            self.completed.set()


@pytest.fixture
def disk(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(rooms.jobs._journal)
    monkeypatch.setattr(rooms.jobs._journal, "save", disk.save)
    return disk


def finished_on_a_full_disk(rooms: Rooms, disk: Disk, name: str) -> TrainingJob:
    job = rooms.create(job_request(name, "cat"))
    with job.changed:
        assert job.changed.wait_for(lambda: job.record.secondary_status in ("Training", "Uploading", "Completed"), SOON)
        disk.full = True
    ended(job)
    return job


def test_a_job_that_the_disk_refuses_is_not_accepted(rooms: Rooms, disk: Disk, name: str) -> None:
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        rooms.create(job_request(name))
    assert rooms.jobs.get(name) is None


def test_nobody_sees_a_job_before_it_is_accepted(rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stopped it, say, would put it on the disk that has refused it."""
    seen: list[TrainingJob | None] = []

    def refuse(name: str, _: dict[str, Any]) -> None:
        seen.append(rooms.jobs.get(name))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr(rooms.jobs._journal, "save", refuse)
        rooms.create(job_request(name))
    assert seen == [None]
    assert rooms.run(job_request(name)).status == "Completed"


def test_a_job_goes_on_over_a_full_disk_and_is_written_down_once_there_is_room(
    rooms: Rooms, disk: Disk, name: str
) -> None:
    job = finished_on_a_full_disk(rooms, disk, name)
    assert job.record.status == "Completed"
    assert disk.written[name] == "InProgress"
    disk.full = False
    assert disk.completed.wait(SOON)


def test_a_full_disk_is_tried_now_and_then_not_all_the_time(rooms: Rooms, disk: Disk, name: str) -> None:
    finished_on_a_full_disk(rooms, disk, name)
    before = disk.refused
    assert not disk.completed.wait(1.5)
    assert disk.refused - before <= 3
    disk.full = False
    assert disk.completed.wait(SOON)


def test_a_stop_that_cannot_be_written_down_is_not_acknowledged(rooms: Rooms, disk: Disk, name: str) -> None:
    job = rooms.create(job_request(name, "sleep", "3600"))
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        rooms.jobs.stop(job)
    disk.full = False
    assert ended(job).status == "Stopped"


def test_a_hundred_interruptions_leave_a_job_correct(rooms: Rooms, name: str, pipe: Pipe) -> None:
    """Each attempt counts one up in its checkpoint, says so, and waits to be interrupted; the last one ends."""
    script = f"""
        trap 'exit 143' TERM
        cd /opt/ml/checkpoints
        count=$(($(cat count 2>/dev/null || echo 0) + 1))
        echo $count > count.sagemaker-ignore && mv count.sagemaker-ignore count
        echo $count > {pipe}
        [ $count -gt 100 ] && exit 0
        sleep 3600 & wait"""
    job = rooms.create(spot_request(name, "/bin/bash", "-c", script))
    for count in range(1, 101):
        assert pipe.line() == str(count)
        rooms.jobs.interrupt(name, outage=0)
    record = ended(job)
    assert record.status == "Completed"
    statuses = [transition["Status"] for transition in record.transitions]
    attempt = ["Starting", "Downloading", "Training"]
    assert statuses == [*([*attempt, "Interrupted"] * 100), *attempt, "Uploading", "Completed"]


def test_a_job_that_cannot_be_looked_after_stops_no_other_s_clock(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick() -> None:
        raise OverflowError("no such time")

    bad = rooms.create(job_request(f"{name[:50].strip('-')}-bad", "sleep", "600"))
    monkeypatch.setattr(bad, "tick", tick)
    late = rooms.create(job_request(name, "sleep", "600", StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert ended(late).secondary_status == "MaxRuntimeExceeded"
    monkeypatch.undo()
    bad.stop()
    ended(bad)
