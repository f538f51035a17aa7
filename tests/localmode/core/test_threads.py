"""Threads of the daemon: a crash is logged with its consequence and can be handled."""

import logging

import pytest

from localmode.core.threads import start_thread


def test_a_crash_is_logged_with_its_consequence_and_passed_to_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    handled: list[Exception] = []

    def crash() -> None:
        raise ValueError("no such thing")

    with caplog.at_level(logging.ERROR):
        start_thread("worker", crash, "Nothing is swept any more.", handled.append).join(10)
    assert "Thread worker crashed. Nothing is swept any more." in caplog.text
    assert "no such thing" in caplog.text
    assert [str(error) for error in handled] == ["no such thing"]


def test_a_thread_that_ends_by_itself_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    start_thread("worker", lambda: None, "").join(10)
    assert caplog.text == ""
