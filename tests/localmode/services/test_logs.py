"""Logs of jobs in CloudWatch Logs: events, filters, streams that a client deletes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from botocore.exceptions import ClientError

from localmode.core.errors import LocalModeError
from localmode.services.changes import at
from localmode.services.errors import ServiceError
from localmode.services.logs import GROUP, Logs, LogStream
from tests.support.local import Daemon, Rooms, job_request

LIMIT = 256 * 1024 - 26


def test_a_long_line_is_divided_into_several_events(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, "head", "-c", "600000", "/dev/zero"))
    assert [len(line) for line in rooms.log(record)] == [LIMIT, LIMIT, 600_000 - 2 * LIMIT]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["one ERROR", "two 2"]),
        ("ERROR one", ["one ERROR"]),
        ('"o 2"', ["two 2"]),
        *((pattern, None) for pattern in ("?one ?two", "-ERROR", "one -two", "2", "%o.e%", "{ $.a = 1 }", "[a, b]")),
    ],
)
def test_a_log_is_filtered_or_the_pattern_refused(
    daemon: Daemon, name: str, pattern: str, found: list[str] | None
) -> None:
    daemon.sagemaker.create_training_job(**job_request(name, "/bin/sh", "-c", "echo one ERROR; echo two 2"))
    daemon.finished(name)
    request = {"logGroupName": GROUP, "logStreamNamePrefix": f"{name}/", "filterPattern": pattern}
    if found is None:
        with pytest.raises(ClientError, match="InvalidParameterException.*filterPattern"):
            daemon.client("logs").filter_log_events(**request)
    else:
        events = daemon.client("logs").filter_log_events(**request)["events"]
        assert [event["message"] for event in events] == found


def test_events_keep_their_order_when_the_clock_is_set_back(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = rooms.logs.stream(name)
    moments = iter([2000000000.0, 1999999999.998, 2000000001.0])
    monkeypatch.setattr("localmode.services.logs.time.time", lambda: next(moments))
    for line in ("one", "two", "three"):
        with at(2000000000.0):
            stream.write([line])
    events = rooms.services.logs("GetLogEvents", logGroupName=GROUP, logStreamName=name, startFromHead=True)["events"]
    assert [(event["message"], event["timestamp"] - 2000000000000) for event in events] == [
        ("one", 0),
        ("two", 0),
        ("three", 1000),
    ]


class Deleting:
    """CloudWatch Logs of a client that deletes the group of a new stream, `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def logs(self, operation: str, **request: Any) -> dict[str, Any]:
        if operation == "CreateLogStream" and self.left:
            self.left -= 1
            raise ServiceError(operation, "400", '{"__type": "ResourceNotFoundException"}')
        return {}


def test_a_stream_is_created_however_often_a_client_deletes_its_group(tmp_path: Path) -> None:
    services: Any = Deleting(10_000)
    LogStream(tmp_path / "stream.jsonl", "stream", services, "group").create()
    assert services.left == 0


class Refused:
    """CloudWatch Logs where every call fails."""

    def logs(self, operation: str, **request: Any) -> dict[str, Any]:
        raise ServiceError(operation, "400", '{"__type": "InvalidParameterException"}')


def test_any_other_error_of_cloudwatch_logs_is_raised(tmp_path: Path) -> None:
    services: Any = Refused()
    with pytest.raises(ServiceError) as caught:
        LogStream(tmp_path / "stream.jsonl", "stream", services, "group").create()
    assert caught.value.code == "InvalidParameterException"


class Refusing:
    """A file on a disk with space for ten more bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.truncate = file.tell, file.truncate

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        return self._file.write(content[:10])


def test_a_log_on_a_full_disk_keeps_only_whole_lines(
    rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.jsonl"
    stream = LogStream(path, "mine", rooms_by_runner("rewrite").services, "group")
    monkeypatch.setattr(stream, "publish", lambda events: None)
    stream.write(["first"])
    opened: Callable[..., IO[bytes]] = Path.open
    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left on device"):
        full.setattr(Path, "open", lambda *arguments, **options: Refusing(opened(*arguments, **options)))
        stream.write(["second"])
    stream.write(["third"])
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == ["first", "third"]


def test_a_damaged_log_is_reported_and_kept_when_a_client_deletes_its_group(
    rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"timestamp": 1, "message": "x"}\n{"mess\n')
    services = rooms_by_runner("rewrite").services
    with pytest.raises(LocalModeError, match=f"{path} is damaged"):
        Logs(tmp_path, services, f"group-of-{name}")
    services.logs("CreateLogGroup", logGroupName=f"group-of-{name}")
    services.logs("DeleteLogGroup", logGroupName=f"group-of-{name}")
    assert path.exists()
