"""Changes of IAM and CloudWatch Logs, and logs of jobs, survive the end of the daemon."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localmode.core.durable import append_lines
from localmode.services.changes import Change, Journal
from localmode.services.logs import Logs, LogStream
from tests.support.gate import Gate
from tests.support.local import SOON, Daemon, Pipe, Rooms, ended, job_request

Make = Callable[..., Daemon]
GROUP = "/aws/sagemaker/TrainingJobs"
SHELL = ("/bin/bash", "-c")
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def everything(daemon: Daemon) -> dict[str, Any]:
    """Return everything that IAM and CloudWatch Logs describe."""
    iam, logs = daemon.client("iam"), daemon.client("logs")
    groups = logs.describe_log_groups()["logGroups"]
    answers = {
        "account": iam.get_account_authorization_details(),
        "users": iam.list_users(),
        "keys": [iam.list_access_keys(UserName=user["UserName"]) for user in iam.list_users()["Users"]],
        "groups": groups,
    }
    for group in groups:
        name = group["logGroupName"]
        streams = logs.describe_log_streams(logGroupName=name)["logStreams"]
        answers[name] = [{key: stream[key] for key in stream if key != "lastIngestionTime"} for stream in streams]
        events = logs.filter_log_events(logGroupName=name)["events"]
        answers[f"{name} events"] = [(event["timestamp"], event["message"]) for event in events]
    return dict(json.loads(json.dumps(answers, default=str), object_hook=lambda found: found | {"ResponseMetadata": 0}))


def test_acknowledged_changes_survive_a_kill_with_their_identifiers(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    iam, logs = daemon.client("iam"), daemon.client("logs")
    for role in ("kept", "deleted"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "a", "Value": "b \u00e9"}])
    iam.put_role_policy(RoleName="kept", PolicyName="p", PolicyDocument=POLICY)
    iam.delete_role(RoleName="deleted")
    iam.create_user(UserName="someone")
    iam.create_access_key(UserName="someone")
    logs.create_log_group(logGroupName="mine")
    logs.put_retention_policy(logGroupName="mine", retentionInDays=7)
    logs.create_log_stream(logGroupName="mine", logStreamName="s")
    event = {"timestamp": int(time.time() * 1000), "message": "caf\u00e9"}
    logs.put_log_events(logGroupName="mine", logStreamName="s", logEvents=[event])
    daemon.sagemaker.create_training_job(**job_request("job", "echo", "said"))
    daemon.finished("job")
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="kept", AssumeRolePolicyDocument=TRUST)
    before = everything(daemon)
    assert "kept" in str(before["account"]) and "caf\u00e9" in str(before["mine events"])
    for _ in range(2):
        daemon.kill()
        daemon.start()
        assert everything(daemon) == before


def test_the_default_role_can_be_deleted_permanently(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.client("iam").delete_role(RoleName="LocalModeExecutionRole")
    daemon.kill()
    daemon.start()
    assert daemon.client("iam").list_roles()["Roles"] == []


def test_a_half_written_change_does_not_damage_others(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.client("iam").create_user(UserName="whole")
    daemon.kill()
    with (daemon.home / "changes.jsonl").open("a") as file:
        file.write('{"service": "iam", "meth')
    daemon.start()
    daemon.client("iam").create_user(UserName="after")
    daemon.kill()
    daemon.start()
    assert [user["UserName"] for user in daemon.client("iam").list_users()["Users"]] == ["whole", "after"]


def test_a_damaged_journal_of_changes_is_a_one_line_error(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.stop()
    path = daemon.home / "changes.jsonl"
    path.write_text('{"service": 1}\n' + path.read_text())
    result = daemon.cli("start")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"{path} is damaged" in result.stderr and "move it away" in result.stderr


def test_a_change_that_cannot_be_replayed_is_skipped_and_logged(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.client("iam").create_user(UserName="first")
    daemon.client("iam").create_user(UserName="second")
    daemon.stop()
    path = daemon.home / "changes.jsonl"
    path.write_text(path.read_text().replace("UserName=first", "UserName=second"))
    daemon.start()
    assert [user["UserName"] for user in daemon.client("iam").list_users()["Users"]] == ["second"]
    assert "could not be made again" in (daemon.home / "logs" / "daemon.log").read_text()


# The journal


def test_changes_that_wait_for_the_disk_are_written_together_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, writes = Gate(), []

    def fsync(file: int) -> None:
        writes.append(file)
        disk.wait()

    (tmp_path / "journal").touch()
    journal = Journal(tmp_path / "journal")
    changes = [Change("iam", "POST", "", {}, f"Action={number}", float(number), number) for number in range(7)]
    monkeypatch.setattr("localmode.core.durable.os.fsync", fsync)
    monkeypatch.setattr("localmode.core.durable.sync_directory", lambda directory: None)
    with ThreadPoolExecutor(len(changes)) as pool:
        journal.add(changes[0])
        waiting = [pool.submit(journal.write)]
        disk.arrived()
        for change in changes[1:]:
            journal.add(change)
            waiting.append(pool.submit(journal.write))
        assert not any(each.done() for each in waiting)
        disk.opened.set()
        assert [each.result(SOON) for each in waiting] == [None] * 7
    assert (journal.read(), len(writes)) == (changes, 2)


# Logs of jobs


def test_a_job_log_older_than_cloudwatch_accepts_survives_a_restart(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_training_job(**job_request("job", *SHELL, "echo one; echo two"))
    daemon.finished("job")
    daemon.stop()
    (path,) = (daemon.home / "logs" / "training").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    year = 365 * 86400 * 1000
    path.write_text("".join(json.dumps({**line, "timestamp": line["timestamp"] - year}) + "\n" for line in lines))
    daemon.start()
    events = daemon.client("logs").filter_log_events(logGroupName=GROUP)["events"]
    assert [(event["message"], event["timestamp"]) for event in events] == [
        (line["message"], line["timestamp"] - year) for line in lines
    ]


def test_a_log_over_weeks_with_a_clock_set_back_survives_a_restart(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.stop()
    now, week = int(time.time() * 1000), 7 * 86400 * 1000
    moments = [now - 9 * week, now - 5 * week, now - 5 * week - 2, now - 3 * week, now]
    path = daemon.home / "logs" / "training" / "old%2Falgo-1.jsonl"
    path.write_text("".join(json.dumps({"timestamp": moment, "message": str(moment)}) + "\n" for moment in moments))
    daemon.start()
    found = daemon.client("logs").filter_log_events(logGroupName=GROUP)["events"]
    assert sorted(event["timestamp"] for event in found) == sorted(moments)


@pytest.fixture
def written(name: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set as soon as the log of the test's job has lines."""
    event = threading.Event()
    write = LogStream.write

    def watched(self: LogStream, lines: list[str]) -> None:
        write(self, lines)
        if self.name.startswith(f"{name}/") and lines:
            event.set()

    monkeypatch.setattr(LogStream, "write", watched)
    return event


def test_a_job_whose_log_is_deleted_fails_with_its_own_reason(
    rooms: Rooms, name: str, pipe: Pipe, order: Pipe, written: threading.Event
) -> None:
    job = rooms.create(job_request(name, *SHELL, f"echo before; echo up > {pipe}; read line < {order}; exit 3"))
    pipe.line()
    stream = {"logGroupName": GROUP, "logStreamName": f"{name}/algo-1-{int(job.record.created)}"}
    assert written.wait(SOON)
    rooms.services.logs("DeleteLogStream", **stream)
    order.send("go")
    assert ended(job).failure_reason == "AlgorithmError: , exit code: 3"


def test_a_stream_with_the_longest_possible_name_can_be_deleted(rooms: Rooms) -> None:
    rooms.logs.stream("any")
    stream = {"logGroupName": GROUP, "logStreamName": "x/" * 250}
    rooms.services.logs("CreateLogStream", **stream)
    rooms.services.logs("DeleteLogStream", **stream)
    with pytest.raises(RuntimeError, match="ResourceNotFound"):
        rooms.services.logs("GetLogEvents", **stream)


def test_a_job_whose_log_is_deleted_goes_on_with_a_new_log(
    rooms: Rooms, name: str, pipe: Pipe, order: Pipe, written: threading.Event
) -> None:
    script = f"echo before; echo up > {pipe}; read line < {order}; echo after; echo up > {pipe}; read line < {order}"
    job = rooms.create(job_request(name, *SHELL, script))
    pipe.line()
    delete = {"logGroupName": GROUP, "logStreamName": f"{name}/algo-1-{int(job.record.created)}"}
    assert written.wait(SOON)
    rooms.services.logs("DeleteLogStream", **delete)
    order.send("go")
    pipe.line()
    order.send("go")
    record = ended(job)
    assert record.status == "Completed"
    assert rooms.log(record) == ["after"]


@pytest.mark.parametrize(
    ("moments", "kept"),
    [
        (["written"], 0),
        (["written", "CreateLogGroup"], 0),
        (["written", "CreateLogStream"], 0),
        (["PutLogEvents"], 1000),  # the first batch
    ],
)
def test_lines_written_during_a_deletion_are_in_the_log_and_on_disk(
    rooms: Rooms, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: list[str], kept: int
) -> None:
    """`kept` is the number of the first line that is written to CloudWatch Logs after the last deletion."""

    def delete_after(moment: str) -> None:
        if left and left[0] == moment:
            left.pop(0)
            call("DeleteLogGroup", logGroupName=group)

    def watched_append(*arguments: Any) -> None:
        append_lines(*arguments)
        delete_after("written")

    def watched_call(operation: str, **request: Any) -> dict[str, Any]:
        answer = call(operation, **request)
        delete_after(operation)
        return answer

    group, left, call = f"group-of-{name}", list(moments), rooms.services.logs
    stream, lines = Logs(tmp_path / "logs", rooms.services, group).stream(name), [str(number) for number in range(1500)]
    monkeypatch.setattr("localmode.services.logs.append_lines", watched_append)
    monkeypatch.setattr(rooms.services, "logs", watched_call)
    stream.write(lines)
    where = {"logGroupName": group, "logStreamName": name, "startFromHead": True}
    assert [event["message"] for event in call("GetLogEvents", **where)["events"]] == lines[kept:]
    assert (left, stream.last_lines(2000)) == ([], lines[kept:])


def test_deleted_logs_stay_deleted(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    logs = daemon.client("logs")
    for job in ("one", "two"):
        daemon.sagemaker.create_training_job(**job_request(job, "echo", job))
        daemon.finished(job)
    (stream,) = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="one/")["logStreams"]
    logs.delete_log_stream(logGroupName=GROUP, logStreamName=stream["logStreamName"])
    daemon.kill()
    daemon.start()
    assert [event["message"] for event in daemon.client("logs").filter_log_events(logGroupName=GROUP)["events"]] == [
        "two"
    ]
    daemon.client("logs").delete_log_group(logGroupName=GROUP)
    daemon.kill()
    daemon.start()
    with pytest.raises(ClientError, match="ResourceNotFound"):
        daemon.client("logs").filter_log_events(logGroupName=GROUP)
    daemon.sagemaker.create_training_job(**job_request("three", "echo", "three"))
    daemon.finished("three")
    assert len(daemon.client("logs").filter_log_events(logGroupName=GROUP)["events"]) == 1


def test_of_two_operations_in_a_request_the_one_that_moto_runs_is_journaled(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    body = b"Action=CreateUser&Version=2010-05-08&UserName=ghost"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert daemon.send("iam", "POST", "/?Action=ListUsers", body, **form)[0] == 200
    before = [user["UserName"] for user in daemon.client("iam").list_users()["Users"]]
    daemon.kill()
    daemon.start()
    assert [user["UserName"] for user in daemon.client("iam").list_users()["Users"]] == before == ["ghost"]
