"""The daemon as a process: started, joined, killed, come back; and its command line."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

import localmode
from localmode.cli import main
from localmode.client import commands
from localmode.client import lifecycle as client
from localmode.core.errors import LocalModeError
from localmode.core.home import claim, is_running
from localmode.core.settings import Settings, default_home, from_environment
from tests.support.local import BUCKET, RUNNERS, SOON, Daemon, Pipe, job_request, processes_naming, spot_request

SHELL = ("/bin/bash", "-c")
Make = Callable[..., Daemon]


def started(*daemons: Daemon) -> list[subprocess.CompletedProcess[str]]:
    """Start daemons at the same instant."""
    command = [sys.executable, "-m", "localmode", "start"]
    processes = [
        subprocess.Popen(command, env=d.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for d in daemons
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=SOON)
        results.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return results


# Starting and joining


def test_starting_twice_joins(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    pid = daemon.pid
    again = daemon.cli("start")
    assert "already running" in again.stdout
    assert daemon.pid == pid


def test_starters_at_the_same_instant_give_one_daemon(new_daemon: Make) -> None:
    daemon = new_daemon()
    results = started(daemon, daemon, daemon)
    words = sorted(result.stdout.partition(" at ")[0] for result in results)
    assert [result.returncode for result in results] == [0, 0, 0], results
    assert words == ["localmode already running", "localmode already running", "localmode started"]
    assert len(processes_naming(f"serve\0--home\0{daemon.home}")) == 1


def test_looking_for_a_daemon_while_one_starts_does_not_keep_it_from_starting(new_daemon: Make) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_running(daemon.home)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        daemon.start()
    finally:
        done.set()
        watcher.join(10)
    assert is_running(daemon.home)


def test_a_start_while_another_process_stops_the_daemon_gives_a_new_one(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    with subprocess.Popen([sys.executable, "-m", "localmode", "stop"], env=daemon.environment) as stopping:
        while is_running(daemon.home):
            if daemon.cli("start").stdout.startswith("localmode started"):
                break
    assert stopping.returncode == 0
    daemon.start()
    assert daemon.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_daemon_whose_starter_is_killed_is_there_for_those_who_waited_for_it(new_daemon: Make) -> None:
    """The daemon has its lock, but reads a journal that the test writes last."""
    daemon = new_daemon()
    claim(daemon.home)
    journal = daemon.home / "models" / "slow.json"
    journal.parent.mkdir()
    os.mkfifo(journal)

    def begin(command: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "localmode", command]
        return subprocess.Popen(line, env=daemon.environment, stdout=-1, stderr=-1, text=True)

    with begin("start") as starter:
        while not is_running(daemon.home):
            pass
        starter.kill()
    with begin("start") as joining, begin("status") as asking:
        with journal.open("w") as file:
            file.write('{"ModelName": "slow", "ModelArn": "arn", "CreationTime": 0}')
        joined, answer = joining.communicate(timeout=SOON), asking.communicate(timeout=SOON)
    assert (joined[1], answer[1]) == ("", "")
    assert joined[0].startswith("localmode already running at")
    assert json.loads(answer[0])["pid"] == daemon.pid
    assert (daemon.home / "sagemaker-config.yaml").exists()


def test_a_start_while_another_process_deletes_the_state_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    claim(home)
    (home / "old").touch()
    deleting, go_on = threading.Event(), threading.Event()
    found: list[list[str]] = []

    def delete_slowly(home: Path) -> None:
        deleting.set()
        assert go_on.wait(SOON)

    monkeypatch.setattr(client, "remove_run_directory", delete_slowly)
    monkeypatch.setattr(client, "_spawn", lambda *_: found.append(sorted(path.name for path in home.iterdir())))
    with ThreadPoolExecutor(2) as pool:
        reset = pool.submit(client.reset, home)
        assert deleting.wait(SOON)
        start = pool.submit(client.ensure_daemon, Settings(home))
        wait([start], 0.3)
        go_on.set()
        assert (reset.result(), start.result()) == (None, True)
    assert found == [["daemon.lock", "logs", "sagemaker-config.yaml", "start.lock"]]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_daemon_whose_state_directory_is_deleted_ends_with_all_that_it_runs(new_daemon: Make, pipe: Pipe) -> None:
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


def test_the_state_directory_is_for_its_owner_alone(daemon: Daemon) -> None:
    assert daemon.home.stat().st_mode & 0o777 == 0o700


def test_a_stale_state_directory_is_taken_over_with_its_address_and_key(new_daemon: Make) -> None:
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


def test_a_port_and_key_that_make_no_sense_are_one_clear_line(new_daemon: Make) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    for content in ("{", "[]", '{"port": "x"}', '{"port": 99999999}', '{"port": 1, "access_key": 3}'):
        (daemon.home / "daemon.json").write_text(content)
        result = daemon.cli("start")
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "daemon.json is damaged" in result.stderr


@pytest.mark.parametrize("content", ["{", "{}", '{"request": 1}'])
def test_a_damaged_job_journal_is_one_clear_line(new_daemon: Make, content: str) -> None:
    daemon = new_daemon()
    claim(daemon.home)
    (daemon.home / "jobs").mkdir()
    (daemon.home / "jobs" / "mine.json").write_text(content)
    result = daemon.cli("start")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"{daemon.home}/jobs/mine.json is damaged" in result.stderr


def test_a_directory_that_holds_something_else_is_neither_used_nor_deleted(new_daemon: Make, tmp_path: Path) -> None:
    daemon = new_daemon(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    mode = tmp_path.stat().st_mode
    for command in ("start", "status", "reset", "serve"):
        result = daemon.cli(command)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode == mode


def test_a_home_that_cannot_be_made_is_one_clear_line(new_daemon: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = new_daemon(tmp_path / "file" / "home").cli("start")
    assert result.returncode == 1
    assert result.stderr.startswith("localmode: localmode cannot use its state directory")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("LOCALMODE_RUNNER", "podman"), ("LOCALMODE_GRACE_SECONDS", "-1"), ("LOCALMODE_SPOT_DISCOUNT", "nan")],
)
def test_a_setting_that_makes_no_sense_is_one_clear_line(new_daemon: Make, setting: str, value: str) -> None:
    result = new_daemon(**{setting: value}).cli("start")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"localmode: {setting} is '{value}'")


# Killed, and come back


def test_nothing_outlives_a_killed_daemon_and_jobs_come_back_as_sagemaker_would_have_it(
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


def test_a_log_line_cut_off_by_a_kill_damages_no_other(new_daemon: Make) -> None:
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
    """Where a daemon over a directory whose name no shell takes keeps its hosts' directories."""
    return (daemon.home / "run").readlink()


def test_what_a_killed_daemon_left_outside_of_its_directory_is_gone_with_the_next(
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


# Stopping


def test_stopping_ends_everything_and_says_what_was_not_finished(new_daemon: Make, pipe: Pipe) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_training_job(**spot_request("mine", *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    result = daemon.cli("stop")
    assert result.stdout.splitlines() == [
        "stopped",
        "mine was not finished; the next start treats it as SageMaker treats the loss of its hosts",
    ]
    assert processes_naming(str(daemon.home)) == []


def test_stopping_what_does_not_run_says_so(new_daemon: Make) -> None:
    daemon = new_daemon()
    assert daemon.cli("stop").stdout == f"no daemon runs over {daemon.home}\n"
    assert not daemon.home.exists()


def test_a_sigterm_stops_the_daemon_in_an_orderly_way(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    descriptor = os.pidfd_open(daemon.pid)
    os.kill(daemon.pid, signal.SIGTERM)
    assert select.select([descriptor], [], [], SOON)[0]
    os.close(descriptor)
    assert not is_running(daemon.home)


def test_resetting_deletes_everything_and_a_new_start_knows_nothing(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    daemon.s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert daemon.cli("reset").stdout == f"stopped; {daemon.home} is deleted\n"
    assert not daemon.home.exists()
    assert "Contents" not in daemon.start().s3.list_objects_v2(Bucket=BUCKET)


def test_resetting_what_is_not_there_is_no_error(new_daemon: Make) -> None:
    assert new_daemon().cli("reset").returncode == 0


# The command line, and what a process is told


def test_status_names_unfinished_jobs_and_where_the_daemon_is(daemon: Daemon, name: str, pipe: Pipe) -> None:
    daemon.sagemaker.create_training_job(**job_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    status = json.loads(daemon.cli("status").stdout)
    assert status["training_jobs"][name] == "Training"
    assert (status["pid"], status["home"]) == (daemon.pid, str(daemon.home))
    daemon.sagemaker.stop_training_job(TrainingJobName=name)
    assert daemon.finished(name)["TrainingJobStatus"] == "Stopped"


def test_status_without_a_daemon_says_how_to_start_one(new_daemon: Make) -> None:
    result = new_daemon().cli("status")
    assert result.returncode == 1
    assert result.stderr.endswith("`python -m localmode start` starts one\n")


def test_interrupting_by_command_line_makes_the_job_start_again(daemon: Daemon, name: str, pipe: Pipe) -> None:
    daemon.sagemaker.create_training_job(**spot_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    assert daemon.cli("interrupt", name).stdout == f"the instance of {name} is gone\n"
    pipe.line()
    daemon.sagemaker.stop_training_job(TrainingJobName=name)
    assert daemon.finished(name)["SecondaryStatus"] == "Stopped"


def test_interrupting_what_cannot_be_interrupted_is_one_clear_line(daemon: Daemon, name: str, pipe: Pipe) -> None:
    def refusal(job: str, *options: str) -> str:
        result = daemon.cli("interrupt", job, *options)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        return result.stderr

    daemon.sagemaker.create_training_job(**job_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    assert "does not use Spot instances" in refusal(name)
    assert "There is no training job 'unknown'" in refusal("unknown")
    assert "outage is -1" in refusal(name, "--outage=-1")
    daemon.sagemaker.create_training_job(**spot_request(f"{name}-2"))
    daemon.finished(f"{name}-2")
    assert "no running instance to reclaim: it is Completed, Completed" in refusal(f"{name}-2")
    daemon.sagemaker.stop_training_job(TrainingJobName=name)
    daemon.finished(name)


def test_without_spot_capacity_jobs_wait_until_it_returns(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    localmode.set_spot_capacity(False, home=daemon.home)
    daemon.sagemaker.create_training_job(**spot_request("mine"))
    waiting = daemon.sagemaker.describe_training_job(TrainingJobName="mine")
    assert waiting["SecondaryStatusTransitions"][-1]["StatusMessage"].startswith("Insufficient capacity error")
    localmode.set_spot_capacity(True, home=daemon.home)
    assert daemon.finished("mine")["TrainingJobStatus"] == "Completed"


def test_capacity_that_was_taken_away_is_so_after_a_kill(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    assert main(["spot-capacity", "off", "--home", str(daemon.home)]) == 0
    daemon.sagemaker.create_training_job(**spot_request("mine"))
    daemon.kill()
    daemon.start()
    assert localmode.status(daemon.home)["spot_capacity"] is False
    assert daemon.sagemaker.describe_training_job(TrainingJobName="mine")["SecondaryStatus"] == "Starting"
    assert main(["spot-capacity", "on", "--home", str(daemon.home)]) == 0
    assert daemon.finished("mine")["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("available", [None, "off", 0, []])
def test_capacity_is_there_or_not(new_daemon: Make, available: object) -> None:
    daemon = new_daemon().start()
    with pytest.raises(LocalModeError, match="it must be true or false"):
        commands.command(daemon.home, "spot-capacity", available=available)


def test_waiting_for_capacity_costs_no_time(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    localmode.set_spot_capacity(False, home=daemon.home)
    daemon.sagemaker.create_training_job(**spot_request("mine"))
    path = daemon.home / "jobs" / "mine.json"
    daemon.sagemaker.describe_training_job(TrainingJobName="mine")
    before = path.stat()
    for _ in range(20):
        daemon.sagemaker.list_training_jobs()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# Settings


def test_the_home_is_found_from_below_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALMODE_HOME", raising=False)
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "notebooks").mkdir()
    assert default_home(tmp_path / "project" / "notebooks") == tmp_path / "project" / ".localmode"
    monkeypatch.setenv("LOCALMODE_HOME", "/elsewhere")
    assert default_home(tmp_path) == Path("/elsewhere")


def test_settings_come_from_the_environment() -> None:
    environ = {"LOCALMODE_RUNNER": "rewrite", "LOCALMODE_GRACE_SECONDS": "2", "LOCALMODE_SPOT_DISCOUNT": "0.6"}
    assert from_environment(Path("/h"), environ) == Settings(Path("/h"), "rewrite", 2.0, 0.6, "us-east-1")
