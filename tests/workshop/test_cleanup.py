"""Deleting what costs money, against a daemon of localmode."""

import pytest
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, Daemon, configure_endpoint, job_request
from workshop import cleanup, progress

SHELL = ("/bin/sh", "-c")


def test_costly_resources_are_deleted_and_the_rest_is_listed(
    at_daemon: Daemon, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sagemaker, mine, other = at_daemon.sagemaker, f"{name}-job", f"{name}x-job"
    at_daemon.s3.create_bucket(Bucket=BUCKET)
    at_daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/data", Body=bytes(2_000_000))
    for job in (mine, other):
        sagemaker.create_training_job(**job_request(job, *SHELL, "sleep 600"))
    configure_endpoint(sagemaker, mine, f"s3://{BUCKET}/{name}/none.tar.gz")
    sagemaker.create_endpoint(EndpointName=mine, EndpointConfigName=mine)

    cleanup.delete_what_costs(name)
    cleanup.list_what_remains(name, BUCKET)
    said = capsys.readouterr().out
    stopped, *waiting, deleted, _, _, _ = said.splitlines()
    assert (stopped, deleted) == (f"stopped: training job {mine}", f"deleted: endpoint {mine}")
    assert set(waiting) <= {f"waiting: endpoint {mine} is Creating"}
    assert "remaining: 1 endpoint configurations, 1 models," in said and "1 objects of 2.0 MB" in said
    assert f"logs under /aws/sagemaker/TrainingJobs and /aws/sagemaker/Endpoints/{name}-*" in said
    assert cleanup.endpoints(name) == [] == cleanup.unfinished_jobs(name)
    assert cleanup.unfinished_jobs(f"{name}x") == [other]
    sagemaker.stop_training_job(TrainingJobName=other)
    progress.follow(other, poll_seconds=0.1)


def test_a_job_that_ends_by_itself_does_not_prevent_others_from_being_stopped(
    at_daemon: Daemon, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over, running = f"{name}-a", f"{name}-b"
    at_daemon.sagemaker.create_training_job(**job_request(over))
    at_daemon.sagemaker.create_training_job(**job_request(running, *SHELL, "sleep 600"))
    at_daemon.finished(over)
    listings = iter([[over, running], []])  # before it ended, and afterwards
    monkeypatch.setattr(cleanup, "unfinished_jobs", lambda _: next(listings))
    monkeypatch.setattr(cleanup, "endpoints", lambda _: [])
    cleanup.delete_what_costs(name)
    assert capsys.readouterr().out == f"stopped: training job {running}\n"
    assert at_daemon.finished(running)["TrainingJobStatus"] == "Stopped"


def test_a_refused_deletion_is_raised_after_the_others_are_done(
    at_daemon: Daemon, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example if the permission for one of two operations is missing."""
    running = f"{name}-job"
    at_daemon.sagemaker.create_training_job(**job_request(running, *SHELL, "sleep 600"))
    monkeypatch.setattr(cleanup, "endpoints", lambda prefix: [f"{prefix}-stays"])
    with pytest.raises(ClientError, match="Could not find endpoint"):
        cleanup.delete_what_costs(name)
    assert at_daemon.finished(running)["TrainingJobStatus"] == "Stopped"
