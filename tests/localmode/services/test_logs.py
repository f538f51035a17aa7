"""What a container says, cut into events."""

import pytest
from botocore.exceptions import ClientError

from localmode.cluster.output import Lines, MetricScanner
from localmode.services.changes import at
from localmode.services.logs import GROUP
from tests.support.local import Daemon, Rooms, job_request

LIMIT = 256 * 1024 - 26


def lines(*chunks: bytes) -> list[str]:
    cutter = Lines()
    return [*(line for chunk in chunks for line in cutter.feed(chunk)), *cutter.rest()]


def test_lines_come_whole_however_they_arrive() -> None:
    said = "first\nsecond é\r\n\nlast".encode()
    assert lines(*(bytes([byte]) for byte in said)) == lines(said) == ["first", "second é", "", "last"]


def test_a_line_without_an_end_is_cut_and_not_gathered() -> None:
    cutter = Lines()
    said = [line for _ in range(100) for line in cutter.feed(b"x" * (1 << 16))]
    assert {len(line) for line in said} == {LIMIT}
    assert sum(map(len, [*said, *cutter.rest()])) == 100 << 16


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_cut_in_two(character: str, shift: int) -> None:
    said = "x" * shift + character * 200_000
    assert "".join(lines(said.encode())) == said


def test_bytes_that_are_no_text_are_cut_too() -> None:
    assert sum(map(len, lines(b"\x80" * 600_000))) == 600_000


def test_a_long_line_of_a_job_is_in_its_log(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, "head", "-c", "600000", "/dev/zero"))
    assert [len(line) for line in rooms.log(record)] == [LIMIT, LIMIT, 600_000 - 2 * LIMIT]


def test_a_metric_whose_regex_searches_for_ever_is_left_out_and_the_others_are_found() -> None:
    found: dict[str, float] = {}
    definitions = [{"Name": "endless", "Regex": "(a+)+b"}, {"Name": "x", "Regex": "x=([0-9.]+)"}]
    MetricScanner(definitions, found.__setitem__).scan("a" * 50 + " x=3")
    assert found == {"x": 3.0}


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


def test_a_clock_that_is_set_back_changes_no_order(rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
