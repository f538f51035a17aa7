"""The output of a container: lines, and the metrics in them."""

import pytest

from localmode.cluster.output import Lines, MetricScanner

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
