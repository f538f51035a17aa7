"""All training jobs together: a disk that refuses or is slow, the timer, and restarts."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import localmode.api.training_jobs  # noqa: F401 - registers the operations
from localmode.api.registry import OPERATIONS, SageMaker
from localmode.core.durable import Journal
from localmode.training.job import TrainingJob
from localmode.training.scheduler import TrainingJobs
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
    disk = Disk(rooms.journal)
    monkeypatch.setattr(rooms.journal, "save", disk.save)
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


def test_a_job_cannot_be_found_before_it_is_accepted(rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to stop it, say, would put it on the disk that has refused it."""
    seen: list[TrainingJob | None] = []

    def refuse(name: str, _: dict[str, Any]) -> None:
        seen.append(rooms.jobs.get(name))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr(rooms.journal, "save", refuse)
        rooms.create(job_request(name))
    assert seen == [None]
    assert rooms.run(job_request(name)).status == "Completed"


def test_a_job_goes_on_over_a_full_disk_and_is_written_down_once_there_is_room(
    rooms: Rooms, disk: Disk, name: str
) -> None:
    job = finished_on_a_full_disk(rooms, disk, name)
    assert job.is_final
    assert (job.record.status, disk.written[name]) == ("InProgress", "InProgress")  # what a kill would not undo
    disk.full = False
    assert disk.completed.wait(SOON)
    with job.changed:
        assert job.changed.wait_for(lambda: job.record.status == "Completed", SOON)


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
    ended(job)
    with job.changed:  # its end may have been refused as well, and is then saved by the next attempt
        assert job.changed.wait_for(lambda: job.is_saved, SOON)
    assert job.record.status == "Stopped"


@pytest.mark.parametrize("operation", ["DescribeTrainingJob", "ListTrainingJobs"])
def test_a_description_waits_for_no_disk(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Meanwhile it shows the state before, which a kill would not undo."""
    writing, go_on, save = threading.Event(), threading.Event(), rooms.journal.save

    def slow_save(name: str, document: dict[str, Any]) -> None:
        if document["secondary_status"] == "Training":
            writing.set()
            assert go_on.wait(SOON)
        save(name, document)

    monkeypatch.setattr(rooms.journal, "save", slow_save)
    job = rooms.create(job_request(name))
    assert writing.wait(SOON)
    sagemaker = cast(SageMaker, SimpleNamespace(jobs=rooms.jobs, settings=rooms.settings))
    request = {"TrainingJobName": name} if operation == "DescribeTrainingJob" else {"NameContains": name}
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(OPERATIONS[operation], sagemaker, request)
        try:
            answer = called.result(5)
        finally:
            go_on.set()
    (summary,) = answer.get("TrainingJobSummaries", [answer])
    assert summary["SecondaryStatus"] == "Downloading"
    assert ended(job).status == "Completed"


def test_a_register_starts_no_thread_before_it_is_told_to(rooms: Rooms, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    TrainingJobs(rooms.settings, Journal(tmp_path / "jobs", tmp_path), rooms.instances)
    assert {thread.name for thread in set(threading.enumerate()) - before if thread.name == "job timer"} == set()


def test_tags_that_the_disk_refuses_are_not_kept(rooms: Rooms, disk: Disk, name: str) -> None:
    tags = [{"Key": "a", "Value": "1"}]
    rooms.run(job_request(name, Tags=tags))
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        rooms.jobs.tags(name, lambda old: [])
    disk.full = False
    assert rooms.jobs.tags(name) == tags
    assert rooms.jobs.tags(name, lambda old: []) == rooms.jobs.tags(name) == []


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


@pytest.mark.parametrize("method", ["tick", "deadline"])
def test_an_error_in_one_job_stops_no_other_s_clock(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail() -> None:
        raise OverflowError("no such time")

    bad = rooms.create(job_request(f"{name[:50].strip('-')}-bad", "sleep", "600"))
    monkeypatch.setattr(bad, method, fail)
    late = rooms.create(job_request(name, "sleep", "600", StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert ended(late).secondary_status == "MaxRuntimeExceeded"
    monkeypatch.undo()
    bad.stop()
    ended(bad)
