"""Attempts as processes, with each runner: how they fail, signals, and that nothing outlives them."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from localmode.cluster.host import Host
from localmode.s3.store.index import StoredObject
from localmode.services.logs import LogStream
from tests.support.local import (
    BUCKET,
    SOON,
    Pipe,
    Rooms,
    channel,
    ended,
    job_request,
    objects,
    processes_naming,
    put,
    spot_request,
)

SHELL = ("/bin/bash", "-c")
PYTHON = ("python3", "-c")


# How it fails


def test_a_script_that_exits_3_fails_the_job_with_its_last_words(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "echo first >&2; echo no such column >&2; exit 3"))
    assert record.status == "Failed"
    assert record.failure_reason == "AlgorithmError: first; no such column, exit code: 3"


def test_what_the_container_says_in_its_failure_file_is_the_reason(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "printf 'bad labels' > /opt/ml/output/failure; echo noise; exit 1"))
    assert record.failure_reason == "AlgorithmError: bad labels, exit code: 1"


def test_an_entrypoint_that_is_not_there_fails_the_job_and_is_named(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, "/opt/ml/no-such-program"))
    assert record.status == "Failed"
    assert "the container cannot start" in record.failure_reason
    assert "exit code: 127" in record.failure_reason


def test_a_script_that_is_not_there_is_named(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, "python3", "/opt/ml/code/train.py"))
    assert "can't open file" in record.failure_reason
    assert "train.py" in record.failure_reason


def test_an_environment_that_no_process_can_have_fails_the_job_with_one_line(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, Environment={"A": "\0"}))
    assert "the container cannot start: embedded null byte, exit code: 127" in record.failure_reason


def test_a_container_ended_by_a_signal_fails_with_its_number(rooms: Rooms, name: str) -> None:
    code = "import ctypes; ctypes.string_at(0)"
    assert "exit code: 139" in rooms.run(job_request(name, *PYTHON, code)).failure_reason


def test_objects_that_would_lie_outside_their_channel_fail_the_job(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/../x", b"A", tmp_path)
    record = rooms.run(job_request(name, InputDataConfig=[channel("train", f"{name}/")]))
    assert record.failure_reason.startswith("ClientError: The S3 object name '../x' leads out")


def test_an_object_deleted_while_a_channel_is_downloaded_fails_the_job_and_is_named(
    rooms: Rooms, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_when_listed(bucket: str, prefix: str) -> list[StoredObject]:
        found = listed(bucket, prefix)
        rooms.storage.delete(bucket, f"{name}/a")
        return found

    put(rooms, f"{name}/a", b"1", tmp_path)
    listed = rooms.storage.objects
    monkeypatch.setattr(rooms.storage, "objects", delete_when_listed)
    record = rooms.run(job_request(name, InputDataConfig=[channel("data", f"{name}/")]))
    reason = f"ClientError: Data download failed: the S3 object '{name}/a' has been deleted meanwhile"
    assert (record.status, record.failure_reason) == ("Failed", reason)


def test_an_output_bucket_deleted_meanwhile_fails_the_job(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": "s3://no-such-bucket/out"}
    record = rooms.run(job_request(name, *SHELL, "echo > /opt/ml/model/m", OutputDataConfig=output))
    assert record.status == "Failed"
    assert "The S3 bucket 'no-such-bucket' does not exist" in record.failure_reason


def test_an_unexpected_error_fails_the_job(rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be InProgress for ever otherwise."""

    def fail(host: Host, check: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Host, "prepare", fail)
    record = rooms.run(job_request(name))
    assert record.failure_reason.startswith("InternalServerError: an unexpected error in localmode")


# Signals


def waiting(pipe: Pipe, order: Pipe) -> str:
    """Shell commands: say `up`, then wait until told to go on."""
    return f"echo up > {pipe}; read line < {order}"


def test_a_shell_that_outlives_the_grace_period_is_killed(rooms: Rooms, name: str, pipe: Pipe, order: Pipe) -> None:
    job = rooms.create(job_request(name, *SHELL, f"{waiting(pipe, order)}; echo never"))
    pipe.line()
    job.stop()
    record = ended(job)
    assert record.secondary_status == "Stopped"
    assert rooms.log(record) == []
    assert record.transitions[-1]["StartTime"] - record.transitions[-2]["StartTime"] >= 0.3


HANDLER = """
import signal, sys
def leave(*_):
    print("saving", flush=True)
    open("/opt/ml/model/saved", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("up", file=open(sys.argv[1], "w"), flush=True)
signal.pause()
"""


def test_an_entrypoint_with_a_handler_gets_sigterm_and_its_model_is_kept(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(job_request(name, *PYTHON, HANDLER, str(pipe)))
    pipe.line()
    job.stop()
    assert ended(job).secondary_status == "Stopped"
    assert rooms.log(job.record) == ["saving"]
    assert job.record.model_artifacts != ""
    assert job.record.failure_reason == ""


def test_a_program_that_the_shell_execs_gets_sigterm(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(job_request(name, *SHELL, 'exec python3 -c "$0" "$1"', HANDLER, str(pipe)))
    pipe.line()
    job.stop()
    ended(job)
    assert rooms.log(job.record) == ["saving"]


def test_an_interrupted_job_runs_again_from_the_beginning(rooms: Rooms, name: str, pipe: Pipe, order: Pipe) -> None:
    job = rooms.create(spot_request(name, *SHELL, f"echo attempt; {waiting(pipe, order)}"))
    pipe.line()
    rooms.jobs.interrupt(name, 0)
    pipe.line()
    order.send("go")
    record = ended(job)
    assert record.status == "Completed"
    assert rooms.log(record) == ["attempt", "attempt"]
    assert "Interrupted" in [transition["Status"] for transition in record.transitions]


def test_an_interruption_uploads_no_model(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(spot_request(name, *PYTHON, HANDLER, str(pipe)))
    pipe.line()
    rooms.jobs.interrupt(name, 9999)
    assert job.record.secondary_status == "Interrupted"
    assert objects(rooms, f"out/{name}/") == {}
    job.stop()
    assert ended(job).model_artifacts == ""


FAMILY = """
import os, sys, time
def child():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
child()
child()
print("up", file=open(sys.argv[1], "w"), flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and a subreaper")
def test_processes_that_daemonised_end_with_the_entrypoint(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(job_request(name, *PYTHON, FAMILY, str(pipe), "leave"))
    pipe.line()
    assert ended(job).status == "Completed"
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and a subreaper")
def test_processes_that_daemonised_end_when_the_job_is_stopped(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(job_request(name, *PYTHON, FAMILY, str(pipe), "stay"))
    pipe.line()
    assert len(processes_naming(f"TRAINING_JOB_NAME={name}")) == 3
    job.stop()
    assert ended(job).status == "Stopped"
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


def test_a_grace_period_that_cannot_be_timed_ends_at_once(
    rooms: Rooms, name: str, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("grace period"):
            raise RuntimeError("can't start new thread")
        start(thread)

    job = rooms.create(job_request(name, *SHELL, f"trap '' TERM; echo up > {pipe}; sleep 600; true"))
    pipe.line()
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)
    job.stop()
    assert ended(job).status == "Stopped"


# Where two meet


def test_an_exit_and_an_interruption_at_the_same_instant_leave_a_job_that_completes(
    rooms: Rooms, name: str, pipe: Pipe, order: Pipe
) -> None:
    job = rooms.create(spot_request(name, *SHELL, waiting(pipe, order)))
    pipe.line()
    order.send("go")
    interrupted = job.interrupt(0)
    if interrupted and job.record.secondary_status != "Completed":
        order.send("go")
    assert ended(job).status == "Completed"


def test_a_stop_while_the_instance_is_reclaimed_ends_in_stopped(
    rooms: Rooms, name: str, pipe: Pipe, order: Pipe
) -> None:
    job = rooms.create(spot_request(name, *SHELL, waiting(pipe, order)))
    pipe.line()
    assert job.interrupt(0)
    job.stop()
    assert ended(job).secondary_status == "Stopped"
    assert job.record.model_artifacts == ""


def test_a_job_is_training_before_its_container_does_anything(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever hears of the container and then interrupts it, interrupts a training."""
    seen = []

    def start(host: Host, addresses: dict[str, str]) -> None:
        job = rooms.jobs.get(name)
        seen.append(job and job.record.secondary_status)
        really_start(host, addresses)

    really_start = Host.start
    monkeypatch.setattr(Host, "start", start)
    assert rooms.run(job_request(name)).status == "Completed"
    assert seen == ["Training"]


@pytest.mark.parametrize("phase", ["Starting", "Downloading", "Training"])
def test_a_job_can_be_stopped_from_its_first_moment_on(rooms: Rooms, name: str, phase: str) -> None:
    job = rooms.create(job_request(name, "sleep", "600"))
    if phase != "Starting":
        with job.changed:
            job.changed.wait_for(
                lambda: len(job.record.transitions) > ["Starting", "Downloading", "Training"].index(phase)
            )
    job.stop()
    assert ended(job).secondary_status == "Stopped"


def test_a_stop_does_not_wait_for_a_container_that_is_being_prepared(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile nobody could have the job described."""

    def open_slowly(name: str) -> LogStream:
        opening.set()
        assert go_on.wait(SOON)
        return stream(name)

    opening, go_on, stream = threading.Event(), threading.Event(), rooms.logs.stream
    monkeypatch.setattr(rooms.logs, "stream", open_slowly)
    job = rooms.create(job_request(name, "sleep", "600"))
    assert opening.wait(SOON)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(rooms.jobs.stop, job)
        done, _ = wait([stopping], 1.0)
        go_on.set()
    assert done == {stopping}
    assert ended(job).status == "Stopped"


def test_an_interruption_while_the_model_is_uploaded_starts_the_job_again(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: list[bool] = []

    def put_file(*arguments: Any) -> None:
        if not interrupted:
            job = rooms.jobs.get(name)
            interrupted.append(job is not None and job.interrupt(0))
        put(*arguments)

    put = rooms.storage.put_file
    monkeypatch.setattr(rooms.storage, "put_file", put_file)
    job = rooms.create(
        spot_request(name, *SHELL, "echo > /opt/ml/model/m", CheckpointConfig={"S3Uri": f"s3://{BUCKET}/{name}"})
    )
    record = ended(job)
    statuses = [transition["Status"] for transition in record.transitions]
    assert interrupted == [True]
    assert statuses == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Interrupted",
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
