"""Following jobs and reading their results, against a daemon of localmode and against prepared logs."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, Daemon, job_request
from workshop import logs, progress

SHELL = ("/bin/sh", "-c")


def test_a_failed_job_is_reported_with_its_reason_and_the_last_lines_of_its_script(
    at_daemon: Daemon, name: str
) -> None:
    driver = "Executing command: python3 train.py; no such option; Command failed with exit code 1; more of the driver"
    echoes = " && ".join(f"echo '{line}'" for line in ["set up", *driver.split("; ")])
    at_daemon.sagemaker.create_training_job(**job_request(name, *SHELL, f"{echoes}; exit 3"))
    with pytest.raises(progress.TrainingFailed) as failed:
        progress.follow(name)
    first, *rest = str(failed.value).splitlines()
    assert first.startswith(f"{name}: AlgorithmError: ") and first.endswith("exit code: 3")
    assert rest == ["The log of the script ends with", "    no such option"]


def test_waiting_for_a_line_ends_with_the_job(at_daemon: Daemon, name: str) -> None:
    at_daemon.sagemaker.create_training_job(**job_request(name, *SHELL, "echo ready"))
    progress.wait_for_line(name, "^ready")
    with pytest.raises(progress.TrainingFailed, match="no reason given, Completed"):
        progress.wait_for_line(name, "^never")


def test_the_newest_job_of_a_name_is_found(at_daemon: Daemon, name: str) -> None:
    for number in (1, 2):
        at_daemon.sagemaker.create_training_job(**job_request(f"{name}-{number}"))
        progress.follow(f"{name}-{number}", poll_seconds=0.1)
    assert progress.newest_job(name)["TrainingJobName"] == f"{name}-2"
    assert progress.newest_job("no-such-name") == {}


def test_the_newest_completed_job_is_found_behind_pages_of_others(
    at_daemon: Daemon, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = boto3.client

    def small_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "MaxResults": 1}

    def client_of_small_pages(service: str) -> Any:
        made = make(service)
        made.meta.events.register("provide-client-params.sagemaker.ListTrainingJobs", small_page)
        return made

    for number, command in enumerate(("true", "false", "false")):
        at_daemon.sagemaker.create_training_job(**job_request(f"{name}-{number}", command))
        at_daemon.finished(f"{name}-{number}")
    monkeypatch.setattr(boto3, "client", client_of_small_pages)
    assert progress.newest_job(name)["TrainingJobName"] == f"{name}-0"


def test_the_newest_step_is_the_highest_number() -> None:
    names = ["checkpoint-00000999-0f.npz", "x/checkpoint-100000000-3a.npz", "checkpoint-00000001-3a.npz.draft", "x"]
    assert progress.newest_step(names) == 100_000_000
    assert progress.newest_step([]) == 0


def test_a_process_is_read_to_its_end_or_to_a_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('epoch=1 a'); print('epoch=5 b')")
    lines, process = progress.run([sys.executable, str(script)])
    assert lines == ["epoch=1 a", "epoch=5 b"] and process.wait() == 0
    lines, process = progress.run([sys.executable, str(script)], until="a$")
    assert lines == ["epoch=1 a"] and process.wait() == 0
    assert process.stdout is not None
    process.stdout.close()


def transition(status: str, start: float, end: float) -> dict[str, Any]:
    begin, until = (datetime.fromtimestamp(moment, UTC) for moment in (start, end))
    return {"Status": status, "StartTime": begin, "EndTime": until, "StatusMessage": ""}


def test_a_job_may_end_before_its_checkpoint(at_daemon: Daemon, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    at_daemon.s3.create_bucket(Bucket=BUCKET)
    save = "touch /opt/ml/checkpoints/checkpoint-00000100-0f.npz"
    checkpoints = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/{name}/checkpoints/"}}
    at_daemon.sagemaker.create_training_job(**job_request(name, *SHELL, save) | checkpoints)
    assert progress.follow(name, poll_seconds=0.1)["TrainingJobStatus"] == "Completed"
    assert not progress.wait_for_checkpoint(name, 50)
    assert capsys.readouterr().out.endswith("the job has ended: Completed\n")


def test_stopping_a_job_that_has_ended_is_not_an_error(at_daemon: Daemon, name: str) -> None:
    at_daemon.sagemaker.create_training_job(**job_request(name, *SHELL, "exec sleep 600"))
    assert [progress.stop(name)["TrainingJobStatus"] for _ in range(2)] == ["Stopped", "Stopped"]
    with pytest.raises(ClientError, match="not found"):
        progress.stop(f"{name}-none")


def test_the_script_starts_also_where_no_checkpoint_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [(3000, "no usable checkpoint, starting at step 0"), (5000, "epoch=1 step=20 loss=1")]
    assert re.search(progress.WORTH_SHOWING, log[0][1])
    monkeypatch.setattr(logs.LogReader, "__init__", lambda self, name: None)
    monkeypatch.setattr(logs.LogReader, "new_lines", lambda self: iter(log))
    phases = progress.phases({"TrainingJobName": "x", "SecondaryStatusTransitions": LIVES[:2]})
    assert [phase["Status"] for phase in phases] == ["Starting", "Script starts", "Training"]


LIVES = [
    transition("Starting", 0, 1),
    transition("Training", 1, 10),
    transition("Interrupted", 10, 20),
    transition("Training", 20, 30),
    transition("Completed", 30, 30),
]
LOG = [
    (3000, "no checkpoint found, starting at step 0"),
    (5000, "epoch=1 step=20 loss=1"),
    (9000, "epoch=2 step=60 loss=1"),
    (24000, "resumed from checkpoint-00000040-0f.npz at epoch 2, step 40"),
    (28000, "epoch=2 step=60 loss=1"),
]


def test_training_is_divided_by_the_lines_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.LogReader, "__init__", lambda self, name: None)
    monkeypatch.setattr(logs.LogReader, "new_lines", lambda self: iter(LOG))
    phases = progress.phases({"TrainingJobName": "x", "SecondaryStatusTransitions": LIVES})
    assert [(p["Status"], p["StartTime"].timestamp(), p["EndTime"].timestamp()) for p in phases] == [
        ("Starting", 0, 1),
        ("Script starts", 1, 3),
        ("Training", 3, 7),  # halfway between steps 20 and 60
        ("Work lost", 7, 10),
        ("Interrupted", 10, 20),
        ("Script starts", 20, 24),
        ("Training", 24, 30),
        ("Completed", 30, 30),
    ]
