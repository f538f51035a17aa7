"""What must be true after every request to the HTTP server."""

from collections.abc import Iterator

import pytest

from tests.support.local import Daemon


@pytest.fixture(autouse=True)
def the_daemon_still_answers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that the daemon, if the test has used it, still answers and has logged no exception."""
    if "daemon" not in request.fixturenames:
        yield
        return
    daemon: Daemon = request.getfixturevalue("daemon")
    log = daemon.home / "logs" / "daemon.log"
    before = log.read_text().count("Traceback")
    yield
    status, answer = daemon.call("ListTrainingJobs", {})
    assert (status, list(answer)[0]) == (200, "TrainingJobSummaries")
    assert log.read_text().count("Traceback") == before, log.read_text()[-3000:]
