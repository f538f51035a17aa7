"""The cluster: the choice of the runner, the start and the end of attempts."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localmode.cluster import cluster
from localmode.cluster.cluster import Cluster
from localmode.core.errors import LocalModeError
from localmode.core.settings import Settings
from tests.support.local import Pipe, Rooms, ended, job_request, processes_naming, spot_request

SHELL = ("/bin/bash", "-c")


def test_a_namespace_runner_that_the_kernel_refuses_is_one_clear_line(
    rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = rooms_by_runner("rewrite")
    monkeypatch.setattr(cluster, "try_namespaces", lambda scratch: "unshare: Operation not permitted")
    with pytest.raises(LocalModeError, match="does not allow the namespace runner .*LOCALMODE_RUNNER=rewrite"):
        Cluster(Settings(tmp_path, "namespace"), rooms.storage, rooms.logs, {})
    assert Cluster(Settings(tmp_path, "auto"), rooms.storage, rooms.logs, {}).runner == "rewrite"


def test_signals_to_an_attempt_that_has_just_ended_are_ignored(rooms: Rooms, name: str) -> None:
    """Its job may be stopped or interrupted before it has heard of the end."""
    job = rooms.create(job_request(name))
    ended(job)
    rooms.instances.terminate(job, 1)
    rooms.instances.reclaim(job, 1)
    assert job.record.status == "Completed"


def without_threads(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Let no thread start whose name has the word."""

    def refuse(thread: threading.Thread) -> None:
        if word in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_an_attempt_that_cannot_start_fails_its_job(rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be InProgress for ever otherwise."""
    with monkeypatch.context() as full:
        without_threads(full, f"{name} attempt")
        record = ended(rooms.create(job_request(name)))
    assert (record.status, record.failure_reason) == (
        "Failed",
        "InternalServerError: localmode could not start a thread for the attempt",
    )


def test_closing_kills_what_runs_and_the_journal_keeps_it_unfinished(
    rooms: Rooms, tmp_path: Path, name: str, pipe: Pipe
) -> None:
    rooms = Rooms(tmp_path / "closing", rooms.services, rooms.storage, rooms.logs, rooms.instances.runner)
    rooms.create(spot_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    rooms.jobs.close()
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []
    document = json.loads((tmp_path / "closing" / "jobs" / f"{name}.json").read_text())
    assert (document["status"], document["secondary_status"]) == ("InProgress", "Training")


def test_a_job_that_is_accepted_while_the_daemon_ends_is_left_to_the_next_one(
    rooms: Rooms, tmp_path: Path, name: str
) -> None:
    """A client's request may outlast the server; a container that began now would keep the daemon from its end."""
    rooms = Rooms(tmp_path / "closed", rooms.services, rooms.storage, rooms.logs, rooms.instances.runner)
    rooms.jobs.close()
    rooms.create(job_request(name, "sleep", "600"))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(name)] == []
    assert not rooms.instances.root.exists()
    assert json.loads((tmp_path / "closed" / "jobs" / f"{name}.json").read_text())["status"] == "InProgress"
