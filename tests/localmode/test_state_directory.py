"""The state directory and its format: older ones are read, newer ones refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

import localmode
from localmode.core.home import FORMAT, claim
from tests.support import format_1
from tests.support.local import BUCKET, Daemon

Make = Callable[..., Daemon]


def check_format_1(daemon: Daemon) -> None:
    """Check that a daemon has read everything in a directory of format 1."""
    sagemaker, s3, logs = daemon.sagemaker, daemon.s3, daemon.client("logs")
    job = sagemaker.describe_training_job(TrainingJobName="done")
    assert (job["TrainingJobStatus"], len(job["SecondaryStatusTransitions"])) == ("Completed", 5)
    waiting = sagemaker.describe_training_job(TrainingJobName="waiting")
    assert (waiting["TrainingJobStatus"], waiting["SecondaryStatus"]) == ("InProgress", "Starting")
    assert localmode.status(daemon.home)["spot_capacity"] is False
    model = sagemaker.describe_model(ModelName="net")
    assert sagemaker.list_tags(ResourceArn=model["ModelArn"])["Tags"] == [{"Key": "a", "Value": "b"}]
    config = sagemaker.describe_endpoint_config(EndpointConfigName="conf")
    assert [variant["ModelName"] for variant in config["ProductionVariants"]] == ["net"]
    endpoint = sagemaker.describe_endpoint(EndpointName="failed")
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("Failed", "conf")
    found = s3.get_object(Bucket=BUCKET, Key="data/a b")
    assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"kept", {"who": "me"}, "text/x")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["another-bucket", BUCKET]
    roles = [role["RoleName"] for role in daemon.client("iam").list_roles()["Roles"]]
    assert sorted(roles) == ["LocalModeExecutionRole", "mine"]
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    assert {format_1.GROUP, "group"} <= set(groups)
    events = logs.filter_log_events(logGroupName=format_1.GROUP, logStreamNamePrefix="done/")["events"]
    assert [event["message"] for event in events] == ["said"]
    localmode.set_spot_capacity(True, home=daemon.home)
    assert daemon.finished("waiting")["TrainingJobStatus"] == "Completed"


def test_a_directory_of_format_1_is_read_completely(new_daemon: Make) -> None:
    daemon = new_daemon()
    format_1.write_home(daemon.home)
    check_format_1(daemon.start())
    assert (daemon.home / "format").read_text() == f"{FORMAT}\n"


@pytest.mark.parametrize("command", ["start", "serve", "env"])
def test_a_directory_of_a_newer_format_is_refused_and_unchanged(new_daemon: Make, command: str) -> None:
    daemon = new_daemon().start()
    daemon.stop()
    (daemon.home / "format").write_text(f"{FORMAT + 1}\n")
    before = {path: path.stat().st_mtime_ns for path in daemon.home.rglob("*")}
    result = daemon.cli(command)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert f"{daemon.home} was written by a newer localmode (its format is version {FORMAT + 1}" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in daemon.home.rglob("*")} == before


def test_a_damaged_format_version_is_a_one_line_error(new_daemon: Make, tmp_path: Path) -> None:
    daemon = new_daemon().start()
    daemon.stop()
    (daemon.home / "format").write_text("one\n")
    result = daemon.cli("start")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert f"{daemon.home}/format is damaged" in result.stderr


def test_only_its_owner_can_read_the_state_directory(daemon: Daemon) -> None:
    assert daemon.home.stat().st_mode & 0o777 == 0o700


def test_an_invalid_port_or_key_is_a_one_line_error(new_daemon: Make) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    for content in ("{", "[]", '{"port": "x"}', '{"port": 99999999}', '{"port": 1, "access_key": 3}'):
        (daemon.home / "daemon.json").write_text(content)
        result = daemon.cli("start")
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "daemon.json is damaged" in result.stderr


@pytest.mark.parametrize("content", ["{", "{}", '{"request": 1}'])
def test_a_damaged_job_is_a_one_line_error(new_daemon: Make, content: str) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    (daemon.home / "jobs").mkdir()
    (daemon.home / "jobs" / "mine.json").write_text(content)
    result = daemon.cli("start")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"{daemon.home}/jobs/mine.json is damaged" in result.stderr


def test_a_directory_with_other_files_is_neither_used_nor_deleted(new_daemon: Make, tmp_path: Path) -> None:
    daemon = new_daemon(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    mode = tmp_path.stat().st_mode
    for command in ("start", "status", "reset", "serve"):
        result = daemon.cli(command)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode == mode


def test_a_home_that_cannot_be_created_is_a_one_line_error(new_daemon: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = new_daemon(tmp_path / "file" / "home").cli("start")
    assert result.returncode == 1
    assert result.stderr.startswith("localmode: localmode cannot use its state directory")
