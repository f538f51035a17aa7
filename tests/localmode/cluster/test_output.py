"""The output of a container: lines, and the metrics in them."""

import pytest

from localmode.cluster.output import Lines, MetricScanner
from tests.support.local import Rooms, job_request

SHELL = ("/bin/bash", "-c")

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


def test_a_metric_whose_regex_searches_for_ever_is_left_out_and_the_others_are_found() -> None:
    found: dict[str, float] = {}
    definitions = [{"Name": "endless", "Regex": "(a+)+b"}, {"Name": "x", "Regex": "x=([0-9.]+)"}]
    MetricScanner(definitions, found.__setitem__).scan("a" * 50 + " x=3")
    assert found == {"x": 3.0}


# In jobs


def test_every_line_is_in_the_log_once_and_in_order(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "for i in $(seq 5000); do echo line $i; done; printf 'the last'"))
    assert rooms.log(record) == [*(f"line {number}" for number in range(1, 5001)), "the last"]


def test_bytes_that_are_no_text_do_not_end_the_log(rooms: Rooms, name: str) -> None:
    to = "&1" if rooms.instances.runner == "docker" else "&2"  # Docker keeps the two apart
    record = rooms.run(job_request(name, *SHELL, rf"printf 'a\xff\xfeb\n\n\x00\n\xc3'; printf '\xa9\r\nz\n' >{to}"))
    assert rooms.log(record) == ["a\ufffd\ufffdb", "\0", "é", "z"]


def test_metrics_are_found_by_their_regexes(rooms: Rooms, name: str) -> None:
    definitions = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}, {"Name": "word", "Regex": "loss=(.*)"}]
    command = "echo loss=0.5; echo loss=bad; echo loss=0.25"
    record = rooms.run(job_request(name, *SHELL, command, algorithm={"MetricDefinitions": definitions}))
    assert {key: value for key, (value, _) in record.metrics.items()} == {"loss": 0.25, "word": 0.25}
