"""The files of a host, with each runner: what a container finds."""

import json
import signal
import zipfile
from pathlib import Path

import pytest

from tests.support.local import (
    Pipe,
    Rooms,
    channel,
    ended,
    job_request,
    put,
)

SHELL = ("/bin/bash", "-c")
PYTHON = ("python3", "-c")


def test_the_container_has_an_opt_ml_of_its_own(rooms: Rooms, name: str) -> None:
    root = "$PWD" if rooms.instances.runner == "rewrite" else "/opt/ml"
    record = rooms.run(job_request(name, *SHELL, f"cd {root} && find . -type d | sort"))
    expected = "checkpoints code input input/config input/data model output output/data"
    assert rooms.log(record) == [".", *(f"./{directory}" for directory in expected.split())]


def test_the_rest_of_opt_stays_as_it_is(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "ls -A /opt"))
    mine = set() if rooms.instances.runner == "rewrite" else {"ml"}
    others = set() if rooms.instances.runner == "docker" else {entry.name for entry in Path("/opt").iterdir()}
    assert set(rooms.log(record)) == others | mine


def test_channels_lie_where_sagemaker_puts_them(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/data/a", b"A", tmp_path)
    put(rooms, f"{name}/data/deep/b", b"B", tmp_path)
    command = "cd /opt/ml/input/data/train && cat a deep/b"
    record = rooms.run(job_request(name, *SHELL, command, InputDataConfig=[channel("train", f"{name}/data/")]))
    assert rooms.log(record) == ["AB"]


def test_a_channel_may_be_a_single_object(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/one.csv", b"1", tmp_path)
    request = job_request(name, *SHELL, "ls /opt/ml/input/data/x", InputDataConfig=[channel("x", f"{name}/one.csv")])
    assert rooms.log(rooms.run(request)) == ["one.csv"]


def test_the_configuration_is_what_the_request_says(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/a", b"A", tmp_path)
    command = (
        "cd /opt/ml/input/config; for f in hyperparameters inputdataconfig resourceconfig; do cat $f.json; echo; done"
    )
    members = {"HyperParameters": {"epochs": "3"}, "InputDataConfig": [channel("train", f"{name}/a")]}
    hyperparameters, channels, resources = map(
        json.loads, rooms.log(rooms.run(job_request(name, *SHELL, command, **members)))
    )
    assert hyperparameters == {"epochs": "3"}
    assert channels["train"]["S3DistributionType"] == "FullyReplicated"
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])


def test_the_environment_is_the_request_s_and_nothing_of_this_process(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "1")
    record = rooms.run(job_request(name, "env", Environment={"MINE": "a b"}))
    seen = dict(line.partition("=")[::2] for line in rooms.log(record))
    assert (seen["MINE"], seen["TRAINING_JOB_NAME"], seen["AWS_REGION"]) == ("a b", name, "us-east-1")
    assert seen["TRAINING_JOB_ARN"].endswith(f":training-job/{name}")
    assert "SECRET_OF_MINE" not in seen


def test_paths_below_opt_ml_mean_the_container_s_own_in_commands_and_environment(rooms: Rooms, name: str) -> None:
    request = job_request(name, *SHELL, 'touch "$WHERE/x" && ls /opt/ml/model', Environment={"WHERE": "/opt/ml/model"})
    assert rooms.log(rooms.run(request)) == ["x"]


def test_the_code_channel_may_speak_of_opt_ml_in_its_files(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/code/run.sh", b"ls /opt/ml/input/data", tmp_path)
    request = job_request(
        name, "bash", "/opt/ml/input/data/code/run.sh", InputDataConfig=[channel("code", f"{name}/code")]
    )
    assert rooms.log(rooms.run(request)) == ["code"]


def test_two_jobs_do_not_see_each_other(rooms: Rooms, name: str, pipe: Pipe, order: Pipe) -> None:
    first = rooms.create(
        job_request(f"{name}-a", *SHELL, f"touch /opt/ml/model/x; echo up > {pipe}; read line < {order}")
    )
    pipe.line()
    assert rooms.log(rooms.run(job_request(f"{name}-b", "ls", "/opt/ml/model"))) == []
    order.send("go")
    assert ended(first).status == "Completed"


def test_python3_and_pip3_are_on_the_path_and_see_the_packages_of_the_daemon(rooms: Rooms, name: str) -> None:
    versions = "pip3 --version | cut -d' ' -f1 && python3 -m pip --version | cut -d' ' -f1"
    command = f"python3 -c 'import boto3; print(1)' && {versions}"
    assert rooms.log(rooms.run(job_request(name, *SHELL, command))) == ["1", "pip", "pip"]


def test_what_a_job_installs_stays_in_the_job(rooms: Rooms, name: str, wheel: Path) -> None:
    install = "pip3 install -q --no-index --no-cache-dir --disable-pip-version-check --root-user-action=ignore"
    command = f"{install} {wheel} && python3 -c 'import tiny_package; print(tiny_package.__file__)'"
    record = rooms.run(job_request(name, *SHELL, command))
    assert record.status == "Completed", rooms.log(record)
    own = "/lib/python3" if rooms.instances.runner == "docker" else "/env/lib/python3"
    assert own in rooms.log(record)[-1]
    assert rooms.run(job_request(f"{name}-2", *PYTHON, "import tiny_package")).status == "Failed"
    with pytest.raises(ImportError):
        __import__("tiny_package")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel made by hand, so that no package index is needed."""
    path = tmp_path / "tiny_package-1.0-py3-none-any.whl"
    info = "tiny_package-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_package.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_no_signal_is_ignored_when_a_container_starts(rooms: Rooms, name: str) -> None:
    """Python ignores SIGPIPE, and who starts localmode may ignore SIGHUP; a container's entrypoint inherits neither."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        record = rooms.run(job_request(name, *SHELL, "yes | head -n 1; grep SigIgn /proc/self/status"))
    finally:
        signal.signal(signal.SIGHUP, before)
    first, ignored = rooms.log(record)
    assert first == "y"
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0  # 32 and up are the C library's: nobody can set them back
