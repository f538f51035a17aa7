"""The daemon as a process: killed, restarted, stopped."""

import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from localmode.core.home import is_running
from tests.support.local import RUNNERS, SOON, Daemon, Pipe, job_request, processes_naming, spot_request

SHELL = ("/bin/bash", "-c")


Make = Callable[..., Daemon]


def test_a_daemon_whose_state_directory_is_moved_ends_with_all_its_processes(new_daemon: Make, pipe: Pipe) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_training_job(**job_request("mine", "/bin/sh", "-c", f"echo up > {pipe}; sleep 600"))
    pipe.line()
    numbers = [daemon.pid, *(int(found.partition(":")[0]) for found in processes_naming(str(daemon.home)))]
    descriptors = [os.pidfd_open(number) for number in numbers]
    daemon.home.rename(daemon.home.with_name("elsewhere"))
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], SOON)[0]
        os.close(descriptor)
    daemon.start()
    assert daemon.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_after_a_kill_the_next_daemon_keeps_address_and_keys(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    before = daemon.state
    daemon.kill()
    daemon.start()
    assert {**daemon.state, "pid": 0} == {**before, "pid": 0}
    assert daemon.pid != before["pid"]


def test_a_port_that_is_taken_is_replaced_by_another(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    port = daemon.port
    daemon.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        daemon.start()
    assert daemon.port != port
    assert daemon.s3.list_buckets()["Buckets"]


def test_a_killed_daemon_leaves_no_process_and_its_jobs_are_recovered(
    new_daemon: Make, pipe: Pipe, order: Pipe
) -> None:
    daemon = new_daemon(LOCALMODE_RUNNER=RUNNERS[-1]).start()
    wait = f"(setsid sleep 600 &); echo up > {pipe}; read line < {order}"
    for name, request in (("spot", spot_request), ("on-demand", job_request)):
        daemon.sagemaker.create_training_job(**request(name, *SHELL, wait))
        pipe.line()
    daemon.sagemaker.create_training_job(**job_request("done", *SHELL, "echo m > /opt/ml/model/m; echo said"))
    done = daemon.finished("done")
    daemon.kill()
    assert processes_naming(str(daemon.home)) == []
    daemon.start()
    order.send("go")
    spot, lost = daemon.finished("spot"), daemon.finished("on-demand")
    assert "Interrupted" in [transition["Status"] for transition in spot["SecondaryStatusTransitions"]]
    assert spot["TrainingJobStatus"] == "Completed"
    assert lost["FailureReason"].startswith("InternalServerError")
    again = daemon.finished("done")
    assert {**again, "ResponseMetadata": 0} == {**done, "ResponseMetadata": 0}
    assert log(daemon, "done") == ["said"]


def log(daemon: Daemon, job: str) -> list[str]:
    group = "/aws/sagemaker/TrainingJobs"
    logs = daemon.client("logs")
    stream = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"][0]
    answer = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
    return [event["message"] for event in answer["events"]]


def test_a_half_written_log_line_does_not_damage_others(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_training_job(**job_request("job", "echo", "whole"))
    daemon.finished("job")
    daemon.kill()
    path = next((daemon.home / "logs" / "training").iterdir())
    with path.open("a") as file:
        file.write('{"timestamp": 1, "mess')
    daemon.start()
    assert log(daemon, "job") == ["whole"]
    assert path.read_text().endswith('"whole"}\n')


def run_directory(daemon: Daemon) -> Path:
    """Return the hosts' directory, which is elsewhere if the name of the state directory needs quoting in a shell."""
    return (daemon.home / "run").readlink()


def test_the_next_daemon_removes_the_run_directory_of_a_killed_one(
    new_daemon: Make, tmp_path: Path, pipe: Pipe
) -> None:
    daemon = new_daemon(tmp_path / "a b", TMPDIR=str(tmp_path)).start()
    daemon.sagemaker.create_training_job(**job_request("lost", *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    left = run_directory(daemon)
    daemon.kill()
    assert (left / "lost").is_dir()
    daemon.start()
    assert (left.exists(), run_directory(daemon).is_dir()) == (False, True)
    assert daemon.cli("reset").returncode == 0
    assert list(tmp_path.glob("localmode-*")) == []


def test_sigterm_stops_the_daemon(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    descriptor = os.pidfd_open(daemon.pid)
    os.kill(daemon.pid, signal.SIGTERM)
    assert select.select([descriptor], [], [], SOON)[0]
    os.close(descriptor)
    assert not is_running(daemon.home)
