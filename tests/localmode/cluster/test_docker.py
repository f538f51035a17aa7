"""The docker runner alone: images, what it leaves behind, and what keeps it safe. `make test-docker` runs them."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localmode.api.training_job_checks import check_training_job
from localmode.cluster.containers import docker as engine
from localmode.core.errors import ApiError, LocalModeError
from localmode.core.settings import Settings, from_environment
from tests.end_to_end.test_clients import CLIENTS, client_environment
from tests.support.course import course, kept
from tests.support.local import BUCKET, IMAGE, Daemon, Pipe, Rooms, containers, ended, job_request, spot_request
from tests.support.training import TRAIN, write_channels

COMPOSED = "com.docker.compose.project.working_dir"
SHELL = ("/bin/bash", "-c")
AMAZON = "763104351884.dkr.ecr.eu-west-1.amazonaws.com"


def docker(*arguments: str, text: str = "") -> list[str]:
    result = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, input=text)
    return result.stdout.split()


@pytest.fixture
def image() -> Iterator[Callable[[str], str]]:
    """Build an image on that of the tests from some more lines of a Dockerfile."""
    made: list[str] = []

    def build(lines: str) -> str:
        made.append(f"localmode-test-{secrets.token_hex(4)}")
        docker("build", "--quiet", "--tag", made[-1], "-", text=f"FROM {IMAGE}\n{lines}\n")
        return made[-1]

    yield build
    for name in made:
        docker("rmi", "--force", name)


def with_image(request: dict[str, Any], image: str) -> dict[str, Any]:
    request["AlgorithmSpecification"]["TrainingImage"] = image
    return request


# Images


def test_a_missing_image_fails_the_job_with_the_command_that_pulls_it(rooms: Rooms, name: str) -> None:
    record = rooms.run(with_image(job_request(name), "no-such-image:1"))
    assert record.failure_reason == (
        "ClientError: The image 'no-such-image:1' is not on this machine: pull it with `docker pull no-such-image:1`, "
        "or build one with this name."
    )


def test_of_a_missing_image_of_amazon_s_the_login_is_named_too(rooms: Rooms, name: str) -> None:
    reason = rooms.run(with_image(job_request(name), f"{AMAZON}/tensorflow-training:none")).failure_reason
    login = "aws ecr get-login-password --region eu-west-1 | docker login --username AWS --password-stdin"
    assert f"(after `{login} {AMAZON}`)" in reason


@pytest.mark.parametrize("image", ["--privileged", "Not A Name", "a:b:c"])
def test_what_is_no_image_name_is_one_clear_line(rooms: Rooms, name: str, image: str) -> None:
    reason = rooms.run(with_image(job_request(name), image)).failure_reason
    assert reason.startswith(f"ClientError: The image {image!r} ")
    assert "\n" not in reason


def test_the_image_s_own_entrypoint_gets_the_word_train(rooms: Rooms, name: str, image: Callable[[str], str]) -> None:
    request = with_image(
        job_request(name), image('WORKDIR /var\nENV A=b\nENTRYPOINT ["bash", "-c", "pwd; echo $A $0 $1"]')
    )
    del request["AlgorithmSpecification"]["ContainerEntrypoint"]
    request["AlgorithmSpecification"]["ContainerArguments"] = ["more"]
    assert rooms.log(rooms.run(request)) == ["/var", "b train more"]


def test_an_algorithm_s_name_without_an_image_is_refused(rooms: Rooms, name: str) -> None:
    request = job_request(name)
    request["AlgorithmSpecification"]["AlgorithmName"] = request["AlgorithmSpecification"].pop("TrainingImage")
    with pytest.raises(ApiError, match="localmode does not support AlgorithmName with the docker runner"):
        check_training_job(request, rooms.storage, rooms.settings, "docker")


# What a container finds


def test_a_job_reaches_the_daemon(new_daemon: Callable[..., Daemon], name: str) -> None:
    daemon = new_daemon(LOCALMODE_RUNNER="docker").start()
    code = f"import boto3; boto3.client('s3').put_object(Bucket='{BUCKET}', Key='from-the-job', Body=b'1')"
    daemon.sagemaker.create_training_job(**job_request(name, "python3", "-c", code))
    answer = daemon.finished(name)
    assert answer["TrainingJobStatus"] == "Completed", answer
    assert daemon.s3.get_object(Bucket=BUCKET, Key="from-the-job")["Body"].read() == b"1"


def test_the_user_s_options_reach_the_engine(rooms: Rooms, name: str, tmp_path: Path) -> None:
    settings = from_environment(Path(), {"LOCALMODE_DOCKER_OPTIONS": "--env 'TWO=w o'"})
    rooms = Rooms(tmp_path / "home", rooms.services, rooms.storage, rooms.logs, "docker", settings.docker_options)
    assert rooms.log(rooms.run(job_request(name, *SHELL, "echo $TWO"))) == ["w o"]
    rooms.jobs.close()
    with pytest.raises(LocalModeError, match="LOCALMODE_DOCKER_OPTIONS is .*No closing quotation"):
        from_environment(Path(), {"LOCALMODE_DOCKER_OPTIONS": "'"})


def test_files_of_a_container_belong_to_whoever_runs_the_daemon(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 5678)
    options = engine.options(Settings(Path("/home")))
    output = docker("run", "--rm", *options, IMAGE, "bash", "-c", "echo $(id -u) $(id -g); touch $HOME/x && echo $HOME")
    assert output == ["1234", "5678", "/tmp"]


def test_values_of_the_environment_are_in_no_command_line(tmp_path: Path) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "s3cret", "PATH": "/bin"}
    create = engine.specification("n", tmp_path, IMAGE, ["env"], environment, {}, [])["create"]
    assert "s3cret" not in str(create)
    assert isinstance(create, list) and "--env=PATH=/bin" in create  # which `docker` reads itself


# What it leaves behind: nothing


def test_volumes_of_the_image_go_with_the_container(rooms: Rooms, name: str, image: Callable[[str], str]) -> None:
    before = docker("volume", "ls", "--quiet")
    record = rooms.run(with_image(job_request(name, "touch", "/data/x"), image("VOLUME /data")))
    assert record.status == "Completed"
    assert docker("volume", "ls", "--quiet") == before


def test_an_ended_job_leaves_no_container(rooms: Rooms, name: str) -> None:
    for command in ("true", "/no-such-program"):
        rooms.run(job_request(f"{name}-{len(command)}", command))
    assert containers(str(rooms.settings.home)) == []


def start_waiting(daemon: Daemon, name: str) -> None:
    """Start a Spot job that waits once it is trained on, and then goes on."""
    script = "if [ -e /opt/ml/checkpoints/x ]; then exit 0; fi; touch /opt/ml/checkpoints/x; echo up; exec sleep 600"
    daemon.sagemaker.create_training_job(**spot_request(name, *SHELL, script))
    checkpoint = {"Bucket": BUCKET, "Key": f"checkpoints/{name}/x"}
    daemon.s3.get_waiter("object_exists").wait(**checkpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})


def test_no_container_outlives_a_killed_daemon_and_the_job_resumes(
    new_daemon: Callable[..., Daemon], name: str
) -> None:
    daemon = new_daemon(LOCALMODE_RUNNER="docker").start()
    start_waiting(daemon, name)
    assert len(containers(str(daemon.home))) == 1
    daemon.kill()
    assert containers(str(daemon.home)) == []
    daemon.start()
    assert daemon.finished(name)["TrainingJobStatus"] == "Completed"


def test_what_is_left_when_all_are_killed_together_goes_with_the_next_start(
    new_daemon: Callable[..., Daemon], name: str
) -> None:
    daemon = new_daemon(LOCALMODE_RUNNER="docker").start()
    start_waiting(daemon, name)
    watching = subprocess.run(["pgrep", "-f", f"docker_shim.py {daemon.home}"], capture_output=True, text=True)
    assert len(watching.stdout.split()) == 2
    for number in (str(daemon.pid), *watching.stdout.split()):
        os.kill(int(number), signal.SIGSTOP)  # so that none of them can act on another's end
    for number in (str(daemon.pid), *watching.stdout.split()):
        os.kill(int(number), signal.SIGKILL)
    assert len(containers(str(daemon.home))) == 1
    daemon.start()
    assert daemon.finished(name)["TrainingJobStatus"] == "Completed"
    daemon.stop()
    assert containers(str(daemon.home)) == []


def test_without_an_engine_the_start_fails_with_one_clear_line(new_daemon: Callable[..., Daemon]) -> None:
    result = new_daemon(LOCALMODE_RUNNER="docker", DOCKER_HOST="unix:///no/such/socket").cli("start")
    assert result.returncode == 1
    assert "The docker runner needs a running Docker engine (" in result.stderr
    assert "/no/such/socket" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_container_removed_by_hand_fails_the_job(rooms: Rooms, name: str, pipe: Pipe) -> None:
    job = rooms.create(job_request(name, *SHELL, f"echo up > {pipe}; exec sleep 600"))
    pipe.line()
    docker("rm", "--force", *containers(str(rooms.settings.home)))
    assert "exit code: 137" in ended(job).failure_reason


# The course, and the SDK's own local mode


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_course_runs_unchanged(tmp_path: Path) -> None:
    """Notebook 2 insists on the weights of notebook 1, which this machine's Python trained, not the image's."""
    began = str(time.time())
    run = course(home=tmp_path / "state", output=kept("docker"), LOCALMODE_RUNNER="docker")
    assert run.returncode == 0, run.stdout + run.stderr
    created = ["--filter", "event=create", "--filter", f"label=localmode={tmp_path / 'state'}"]
    events = docker("events", "--since", began, "--until", str(time.time()), *created, "--format", "{{.Type}}")
    assert len(events) >= 4  # a job on demand, and one on Spot that is interrupted twice
    assert containers(str(tmp_path)) == []


@pytest.fixture(scope="module")
def local_mode(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[list[str]]]]:
    """What the SDK's own local mode prints when it runs one job twice in the same directory, and that directory."""
    root = tmp_path_factory.mktemp("sdk")
    write_channels(root / "data")
    given = {
        "image": IMAGE,
        "root": str(root / "container"),
        "source_dir": str(TRAIN.parent),
        "checkpoints": f"s3://{BUCKET}/sdk-local-mode",
        "hyperparameters": {"epochs": 2, "checkpoint-every": 1},
        "inputs": {name: str(root / "data" / name) for name in ("train", "validation")},
    }
    (root / "container").mkdir()
    program = [sys.executable, str(CLIENTS / "local_container.py"), json.dumps(given)]
    environment = client_environment(daemon)
    runs = [subprocess.run(program, env=environment, capture_output=True, text=True) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stdout[-3000:] + runs[0].stderr[-3000:]
    yield root / "container", [run.stdout.splitlines() for run in runs]
    left = docker("ps", "--all", "--quiet", "--filter", f"label={COMPOSED}={root / 'container'}")
    assert len(left) == 1  # the SDK leaves its container and its network
    docker("rm", "--force", "--volumes", *left)
    subprocess.run(["docker", "network", "rm", "sagemaker-local"], capture_output=True)  # unless another uses it


@pytest.mark.slow
def test_the_sdk_s_local_mode_trains_the_script(local_mode: tuple[Path, list[list[str]]]) -> None:
    root, (lines, _) = local_mode
    assert any("final_weights_sha256=" in line for line in lines)
    with tarfile.open(root / "compressed_artifacts" / "model.tar.gz") as model:
        assert "1/saved_model.pb" in model.getnames()


def test_the_sdk_s_local_mode_drops_the_running_time(local_mode: tuple[Path, list[list[str]]]) -> None:
    """One second was allowed, also to wait; it trains to the end and does not say a word of it."""
    _, (lines, _) = local_mode
    assert float(lines[-1].removeprefix("seconds ")) > 1
    assert not [line for line in lines if re.search("max.?(runtime|wait)|stopping", line, re.IGNORECASE)]


def test_the_sdk_s_local_mode_drops_checkpoints(daemon: Daemon, local_mode: tuple[Path, list[list[str]]]) -> None:
    """The script writes them, into the container alone: none reaches S3 or this machine, and none is found again."""
    root, (first, second) = local_mode
    assert "checkpoint" not in (root / "docker-compose.yaml").read_text()
    assert "Contents" not in daemon.s3.list_objects_v2(Bucket=BUCKET, Prefix="sdk-local-mode")
    assert not [path for path in root.rglob("*checkpoint*") if "artifacts" not in path.parts]
    assert not [line for line in first + second if "resumed" in line]


def test_the_sdk_s_local_mode_drops_spot(daemon: Daemon, local_mode: tuple[Path, list[list[str]]]) -> None:
    """There is no job to describe or to interrupt, and no word of Spot."""
    _, (lines, _) = local_mode
    assert not daemon.sagemaker.list_training_jobs(NameContains="local-container")["TrainingJobSummaries"]
    assert not [line for line in lines if "spot" in line.lower()]
