"""What a container says, cut into events."""

import pytest
from local import Rooms, job_request

from localmode.logs import Lines

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
