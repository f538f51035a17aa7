"""The copy of a model server's log."""

import io
import logging

import pytest

from localmode.hosting.log_copier import MAX_LINE_BYTES, copy_log


class Log:
    """A log on a disk that is full for a while."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.lines: list[str] = []
        self._failures, self._error = failures, error

    def write(self, lines: list[str]) -> None:
        if self._failures:
            self._failures -= 1
            raise self._error
        self.lines += lines


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a defect")])
def test_the_pipe_is_drained_while_the_log_cannot_be_written(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    log, stream = Log(3, error), io.BytesIO(b"a\nb\nc\nd\ne\n")
    with caplog.at_level(logging.ERROR):
        copy_log(stream, log.write)
    assert stream.closed
    assert log.lines == ["localmode could not write 3 lines of this log", "d", "e"]
    assert len(caplog.records) == 1


def test_a_line_without_an_end_is_divided() -> None:
    log = Log(0, OSError())
    copy_log(io.BytesIO(b"x" * (MAX_LINE_BYTES + 1) + b"\n\xff"), log.write)
    assert [len(line) for line in log.lines] == [MAX_LINE_BYTES, 1, 1]
