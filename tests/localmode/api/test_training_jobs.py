"""The operations on training jobs."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from localmode.api.training_jobs import describe
from localmode.core.durable import Journal
from localmode.core.settings import Settings
from localmode.training.scheduler import TrainingJobs
from tests.support.api import refusal
from tests.support.gate import Gate, SlowJournal
from tests.support.local import BUCKET, SOON, Daemon, Pipe, job_request, spot_request
from tests.support.shapes import MODEL, faults

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


def test_one_of_simultaneous_creations_of_a_job_succeeds(daemon: Daemon, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(daemon.call, "CreateTrainingJob", job_request(name)) for _ in range(8)]
    answers = [call.result() for call in calls]
    assert sorted(status for status, _ in answers) == [200] + [400] * 7
    assert {answer["__type"] for status, answer in answers if status == 400} == {"ResourceInUse"}
    daemon.finished(name)


def test_a_job_can_be_found_only_after_it_is_on_disk(name: str, tmp_path: Path) -> None:
    journal = SlowJournal(tmp_path / "jobs", slow=name)
    jobs = TrainingJobs(Settings(tmp_path), journal, Mock(runner="rewrite"))
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(jobs.create, name, job_request(name))
        journal.gate.arrived()
        found, listed = jobs.get(name), jobs.all()
        journal.gate.opened.set()
        assert creating.result(SOON) is jobs.get(name) is not None
    assert (found, listed) == (None, [])


def test_a_job_whose_first_attempt_is_being_launched_is_described_without_waiting(name: str, tmp_path: Path) -> None:
    launch, instances, settings = Gate(), Mock(runner="rewrite"), Settings(tmp_path)
    instances.launch.side_effect = lambda job, attempt: launch.wait()
    jobs = TrainingJobs(settings, Journal(tmp_path / "jobs", tmp_path), instances)
    with ThreadPoolExecutor(2) as pool:
        creating = pool.submit(jobs.create, name, job_request(name))
        launch.arrived()
        try:
            job = jobs.get(name)
            assert job is not None
            answer = pool.submit(describe, job, settings).result(SOON)
        finally:
            launch.opened.set()
        creating.result(SOON)
    assert list(faults(MODEL.operation_model("DescribeTrainingJob").output_shape, answer)) == []
    assert answer["SecondaryStatus"] == "Starting"


class FullDisk(Journal):
    """A journal whose disk has no space left until `full` is False."""

    full = True

    def save(self, name: str, document: dict[str, Any]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(name, document)


def test_a_job_that_the_disk_refuses_is_not_accepted(name: str, tmp_path: Path) -> None:
    journal = FullDisk(tmp_path / "jobs", tmp_path)
    jobs = TrainingJobs(Settings(tmp_path), journal, Mock(runner="rewrite"))
    with pytest.raises(OSError, match="No space"):
        jobs.create(name, job_request(name))
    assert jobs.get(name) is None
    journal.full = False
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
