"""What holds after every request to the HTTP server."""

import pytest

from tests.support.local import Daemon


@pytest.fixture(autouse=True)
def the_daemon_lives_on(daemon: Daemon) -> object:
    """Whatever a test sends, the same process answers afterwards, and nothing was unexpected to it."""
    log = daemon.home / "logs" / "daemon.log"
    before = log.read_text().count("Traceback")
    yield
    status, answer = daemon.call("ListTrainingJobs", {})
    assert (status, list(answer)[0]) == (200, "TrainingJobSummaries")
    assert log.read_text().count("Traceback") == before, log.read_text()[-3000:]
