"""The command line: status, interrupt, spot-capacity, stop."""

import json
from collections.abc import Callable

import pytest

import localmode
from localmode.cli import main
from localmode.client import commands
from localmode.core.errors import LocalModeError
from tests.support.local import Daemon, Pipe, job_request, processes_naming, spot_request

SHELL = ("/bin/bash", "-c")


Make = Callable[..., Daemon]


def test_status_names_unfinished_jobs_and_where_the_daemon_is(daemon: Daemon, name: str, pipe: Pipe) -> None:
    daemon.sagemaker.create_training_job(**job_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    status = json.loads(daemon.cli("status").stdout)
    assert status["training_jobs"][name] == "Training"
    assert (status["pid"], status["home"]) == (daemon.pid, str(daemon.home))
    daemon.sagemaker.stop_training_job(TrainingJobName=name)
    assert daemon.finished(name)["TrainingJobStatus"] == "Stopped"


def test_without_a_daemon_status_tells_how_to_start_one(new_daemon: Make) -> None:
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


def test_interrupting_a_job_without_a_spot_instance_is_a_one_line_error(daemon: Daemon, name: str, pipe: Pipe) -> None:
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


def test_withdrawn_capacity_stays_withdrawn_after_a_kill(new_daemon: Make) -> None:
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
def test_spot_capacity_must_be_a_boolean(new_daemon: Make, available: object) -> None:
    daemon = new_daemon().start()
    with pytest.raises(LocalModeError, match="it must be true or false"):
        commands.command(daemon.home, "spot-capacity", available=available)


def test_waiting_for_capacity_writes_nothing_to_disk(new_daemon: Make) -> None:
    daemon = new_daemon().start()
    localmode.set_spot_capacity(False, home=daemon.home)
    daemon.sagemaker.create_training_job(**spot_request("mine"))
    path = daemon.home / "jobs" / "mine.json"
    daemon.sagemaker.describe_training_job(TrainingJobName="mine")
    before = path.stat()
    for _ in range(20):
        daemon.sagemaker.list_training_jobs()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_stop_ends_all_processes_and_names_unfinished_jobs(new_daemon: Make, pipe: Pipe) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_training_job(**spot_request("mine", *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    result = daemon.cli("stop")
    assert result.stdout.splitlines() == [
        "stopped",
        "mine was not finished; the next start treats it as SageMaker treats the loss of its hosts",
    ]
    assert processes_naming(str(daemon.home)) == []
