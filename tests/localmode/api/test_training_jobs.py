"""The operations on training jobs."""

import errno
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from localmode.core.durable import Journal
from localmode.core.settings import Settings
from localmode.training.job import TrainingJob
from localmode.training.scheduler import TrainingJobs
from tests.support.api import refusal
from tests.support.local import BUCKET, Daemon, Pipe, Rooms, ended, job_request, spot_request

SHELL = ("/bin/bash", "-c")


def test_a_job_name_in_use_is_refused(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**job_request(name))
    code, message = refusal(daemon.sagemaker.create_training_job, **job_request(name))
    assert code == "ResourceInUse"
    assert message.startswith("Job name must be unique within an AWS account and region, and a training job with this")
    daemon.finished(name)


def test_a_finished_job_cannot_be_stopped(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**job_request(name))
    daemon.finished(name)
    code, message = refusal(daemon.sagemaker.stop_training_job, TrainingJobName=name)
    assert code == "ValidationException"
    assert message == "The request was rejected because the training job is in status Completed."


def test_times_and_billable_seconds_of_a_spot_job(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**spot_request(name))
    job = daemon.finished(name)
    assert job["TrainingStartTime"] >= job["CreationTime"]
    assert job["TrainingEndTime"] == job["SecondaryStatusTransitions"][-1]["EndTime"]
    assert 0 < job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"] == 1
    assert job["EnableManagedSpotTraining"]
    assert [transition["Status"] for transition in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]


def test_members_accepted_without_effect_are_described(daemon: Daemon, name: str) -> None:
    members: dict[str, Any] = {
        "DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/debug"},
        "ExperimentConfig": {"ExperimentName": "mine"},
        "InfraCheckConfig": {"EnableInfraCheck": True},
        "ProfilerConfig": {"DisableProfiler": True},
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
    }
    daemon.sagemaker.create_training_job(**job_request(name), **members)
    job = daemon.finished(name)
    assert {member: job.get(member) for member in members} == members


def test_of_clients_that_create_the_same_job_at_once_one_succeeds(daemon: Daemon, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(daemon.call, "CreateTrainingJob", job_request(name)) for _ in range(8)]
    answers = [call.result() for call in calls]
    assert sorted(status for status, _ in answers) == [200] + [400] * 7
    assert {answer["__type"] for status, answer in answers if status == 400} == {"ResourceInUse"}
    daemon.finished(name)


def test_a_job_is_never_seen_half_created(
    rooms_by_runner: Callable[[str], Rooms], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that finds the job before it has begun waits for its first status."""
    rooms, start = rooms_by_runner("rewrite"), TrainingJob.start
    registered, looked = threading.Event(), threading.Event()

    def look() -> int:
        registered.wait(10)
        job = rooms.jobs.get(name)
        assert job is not None
        with job.changed:
            looked.set()
            return len(job.record.transitions)

    def begin_late(job: TrainingJob) -> None:
        registered.set()
        looked.wait(0.3)
        start(job)

    monkeypatch.setattr(TrainingJob, "start", begin_late)
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(look)
        ended(rooms.create(job_request(name)))
    assert seen.result() >= 1


class Disk(Journal):
    full = True

    def save(self, name: str, document: dict[str, Any]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(name, document)


def test_a_job_that_the_disk_refuses_is_not_accepted(name: str, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "jobs", tmp_path)
    jobs = TrainingJobs(Settings(tmp_path), disk, Mock(runner="rewrite"))
    with pytest.raises(OSError, match="No space"):
        jobs.create(name, job_request(name))
    assert jobs.get(name) is None
    disk.full = False
    assert jobs.create(name, job_request(name)) is jobs.get(name) is not None
    jobs.close()


def test_stopping_and_interrupting_at_once_ends_in_stopped(
    daemon: Daemon, name: str, pipe: Pipe, tmp_path: Path
) -> None:
    daemon.sagemaker.create_training_job(**spot_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
    body = json.dumps({"training_job_name": name}).encode()
    with ThreadPoolExecutor(2) as pool:
        interrupted = pool.submit(daemon.request, "POST", "/_localmode/interrupt", body, headers)
        stopped = pool.submit(daemon.call, "StopTrainingJob", {"TrainingJobName": name})
    assert stopped.result()[0] == 200
    assert interrupted.result()[0] in (200, 400)
    assert daemon.finished(name)["SecondaryStatus"] == "Stopped"
