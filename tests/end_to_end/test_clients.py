"""Unmodified AWS clients; environment variables alone direct them to a daemon."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.local import BUCKET, ROLE, RUNNERS, SOON, Daemon, Rooms, job_request

pytestmark = pytest.mark.timeout(600)  # seconds; the first test of each runner waits for the jobs of a client
ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
PACKAGE = "only_for_this_job"  # no other package has this name
V2 = ROOT / ".venv-clients" / "bin"
LINES = [f"line {number:02}" for number in range(40)]
BOTH_ATTEMPTS = [f"attempt {attempt} {line}" for attempt in (1, 2) for line in LINES]
HYPERPARAMETERS = {
    "words": "two words",
    "quoted": 'say "hi" $HOME `id`',
    "accented": "é",
    "whole": 3,
    "fraction": 0.1,
    "flag": True,
    "list": [1, "two words"],
    "table": {"key": [1.5, None]},
    "nothing": None,
}
Run = Callable[[str, str], list[str]]


def needed(path: Path, command: str) -> Path:
    """Return the path of an optional program. If it is missing, skip the test; in CI, fail it."""
    if not path.exists():
        reason = f"{path.relative_to(ROOT)} is missing; `{command}` installs it"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return path


def client_environment(daemon: Daemon) -> dict[str, str]:
    """Return the environment of a shell after `eval "$(python -m localmode env)"`."""
    script = 'eval "$("$0" -m localmode env)" && env -0'
    result = subprocess.run(["bash", "-c", script, sys.executable], env=daemon.environment, capture_output=True)
    pairs = (pair.partition("=") for pair in result.stdout.decode().split("\0") if pair)
    return {name: value for name, _, value in pairs if not name.startswith("LOCALMODE_")}


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Daemon]]:
    """A daemon for each runner."""
    folder = tmp_path_factory.mktemp("clients")
    made = {
        runner: Daemon(folder / runner, LOCALMODE_RUNNER=runner, LOCALMODE_GRACE_SECONDS="2").start()
        for runner in RUNNERS
    }
    yield made
    for daemon in made.values():
        daemon.stop()


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of a job, and a package that its requirements name."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copy(CLIENTS / "train.py", folder)
    shutil.copy(CLIENTS / "meet.py", folder)
    (folder / "tensorflow.py").touch()  # the toolkit imports TensorFlow only for the names of its errors
    information = f"{PACKAGE}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{PACKAGE}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{PACKAGE}.py", "")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links .\n{PACKAGE}==1.0\n")
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "sub").mkdir()
    (folder / "one.txt").write_text("1")
    (folder / "sub" / "two.txt").write_text("2")
    return folder


def follow(daemon: Daemon, command: list[str | Path], interrupted: int) -> list[str]:
    """Run a client and return what it prints; interrupt the first jobs that it names, each after its first checkpoint.

    The first job is interrupted only after the client has printed the last line of its first attempt.
    """
    printed: list[str] = []
    names: list[str] = []
    last_line = BOTH_ATTEMPTS[len(LINES) - 1]
    with subprocess.Popen(
        command, env=client_environment(daemon), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        assert client.stdout is not None
        for line in client.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("names "):
                names = line.split()[1 : 1 + interrupted]
            elif last_line in line and names:
                for name in names:
                    interrupt(daemon, name)
                names = []
    assert client.returncode == 0, "\n".join(printed)
    return printed


def interrupt(daemon: Daemon, name: str) -> None:
    """Interrupt a job as soon as its first checkpoint is in S3."""
    key = f"checkpoints/{name.partition('--')[0]}/attempt-1"
    waiter = daemon.s3.get_waiter("object_exists")
    waiter.wait(Bucket=BUCKET, Key=key, WaiterConfig={"Delay": 0.1, "MaxAttempts": SOON * 10})
    result = daemon.cli("interrupt", name)
    assert result.returncode == 0, result.stderr


def run_v3(daemon: Daemon, source_dir: Path, inputs: Path) -> list[str]:
    code = {"source_dir": str(source_dir)}
    script, command = "train.py", "exec python3 train.py"
    jobs: list[dict[str, Any]] = [
        {"name": "by-script-", "source_code": code | {"entry_script": script}, "environment": {"INTERRUPTED": "yes"}},
        {"name": "by-command-", "source_code": code | {"command": command}, "environment": {"INTERRUPTED": "yes"}},
        {
            "name": "features-",
            "source_code": code | {"entry_script": script, "requirements": "requirements.txt"},
            "hyperparameters": HYPERPARAMETERS,
            "environment": {"GREETING": "hello there"},
            "inputs": {"folder": str(inputs), "one": str(inputs / "one.txt")},
        },
    ]
    if daemon.environment["LOCALMODE_RUNNER"] != "rewrite":
        jobs.append({"name": "hosts-", "source_code": code | {"entry_script": "meet.py"}, "hosts": 2})
    for job in jobs[:2]:
        job["checkpoints"] = f"s3://{BUCKET}/checkpoints/{job['name'][:-1]}"
    return follow(daemon, [sys.executable, CLIENTS / "client_v3.py", json.dumps(jobs)], interrupted=2)


def run_v2(daemon: Daemon, source_dir: Path, inputs: Path) -> list[str]:
    plain = daemon.home.with_name(f"{daemon.home.name}-source")
    shutil.copytree(source_dir, plain, ignore=shutil.ignore_patterns("requirements.txt"))
    given = {
        "plain": str(plain),
        "source_dir": str(source_dir),
        "inputs": str(inputs),
        "checkpoints": f"s3://{BUCKET}/checkpoints/v2-tensorflow",
        "hyperparameters": HYPERPARAMETERS,
        "tensorflow": "v2-tensorflow",
        "estimator": "v2-estimator",
    }
    return follow(daemon, [V2 / "python", CLIENTS / "client_v2.py", json.dumps(given)], interrupted=1)


@pytest.fixture(scope="module")
def run(daemons: dict[str, Daemon], source_dir: Path, inputs: Path) -> Iterator[Run]:
    """Return what an SDK prints, by version and runner; all run at the same time, and beside the other tests."""
    able = {"v3": run_v3}
    if (V2 / "python").exists() and Path(sys.executable).with_name("train").exists():
        able["v2"] = run_v2
    with ThreadPoolExecutor() as pool:
        runs: dict[tuple[str, str], Future[list[str]]] = {
            (sdk, runner): pool.submit(program, daemons[runner], source_dir, inputs)
            for sdk, program in able.items()
            for runner in RUNNERS
        }
        yield lambda sdk, runner: runs[sdk, runner].result()


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, run: Run) -> str:
    return str(request.param)


@pytest.fixture
def v2(run: Run, runner: str) -> list[str]:
    needed(V2 / "python", "make clients")
    needed(Path(sys.executable).with_name("train"), "make toolkit")
    return run("v2", runner)


@pytest.fixture
def v3(run: Run, runner: str) -> list[str]:
    return run("v3", runner)


def section(printed: list[str], name: str) -> list[str]:
    """Return the part of SDK v3's output that belongs to one job."""
    start = next(number for number, line in enumerate(printed) if line.startswith(f"following {name}"))
    rest = printed[start + 1 :]
    ends = [number for number, line in enumerate(rest) if line.startswith("following ")]
    return rest[: ends[0]] if ends else rest


def attempts(printed: list[str]) -> list[str]:
    return re.findall(r"attempt \d line \d\d", "\n".join(printed))


def facts(printed: list[str]) -> dict[str, Any]:
    """Return what the script of the last job has printed about its environment."""
    return dict(json.loads([line for line in printed if line.startswith("facts ")][-1].removeprefix("facts ")))


def described(daemon: Daemon, start: str) -> dict[str, Any]:
    names = [
        job["TrainingJobName"]
        for job in daemon.sagemaker.list_training_jobs(NameContains=start)["TrainingJobSummaries"]
    ]
    assert len(names) == 1
    return dict(daemon.sagemaker.describe_training_job(TrainingJobName=names[0]))


def tags(daemon: Daemon, start: str) -> list[dict[str, str]]:
    arn = described(daemon, start)["TrainingJobArn"]
    return list(daemon.sagemaker.list_tags(ResourceArn=arn)["Tags"])


def secondary_statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


ONCE_INTERRUPTED = [
    *("Starting", "Downloading", "Training", "Interrupted"),
    *("Starting", "Downloading", "Training", "Uploading", "Completed"),
]
CHANNELS = {"folder": ["one.txt", "sub/two.txt"], "one": ["one.txt"]}


# The AWS command line


@pytest.fixture(scope="module")
def aws(daemons: dict[str, Daemon], run: Run) -> Callable[..., str]:
    """Return a function that runs the AWS command line, while the SDKs run, and returns what it prints."""
    environment = client_environment(daemons[RUNNERS[0]])

    def run_aws(*arguments: str | Path, program: str | Path = V2 / "aws") -> str:
        result = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=SOON)
        assert result.returncode == 0, result.stderr
        return result.stdout

    needed(V2 / "aws", "make clients")
    return run_aws


def cli_job(folder: Path, name: str, *command: str) -> str:
    """Write a request to a file; return the URI for `--cli-input-json`."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(job_request(name, *command)))
    return path.as_uri()


def test_the_command_line_runs_a_job_and_reads_its_log(
    aws: Callable[..., str], daemons: dict[str, Daemon], name: str, tmp_path: Path
) -> None:
    daemon = daemons[RUNNERS[0]]
    daemon.sagemaker.create_training_job(**job_request("not-this-one", "echo", "not this"))
    created = aws("sagemaker", "create-training-job", "--cli-input-json", cli_job(tmp_path, name, "echo", "hello"))
    assert json.loads(created)["TrainingJobArn"].endswith(f":training-job/{name}")
    daemon.finished("not-this-one")
    daemon.finished(name)  # or the next command sleeps for a minute before it looks again
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", name)
    described = json.loads(aws("sagemaker", "describe-training-job", "--training-job-name", name))
    assert described["TrainingJobStatus"] == "Completed"
    listed = aws("sagemaker", "list-training-jobs", "--name-contains", name, "--query", "TrainingJobSummaries[0]")
    assert json.loads(listed)["TrainingJobName"] == name
    messages = ("--log-group-name", "/aws/sagemaker/TrainingJobs", "--query", "events[].message")
    for prefix, lines in ((name, ["hello"]), ("no-such-job", [])):
        found = aws("logs", "filter-log-events", *messages, "--log-stream-name-prefix", prefix)
        assert json.loads(found) == lines


def test_the_command_line_stops_a_job(
    aws: Callable[..., str], daemons: dict[str, Daemon], name: str, tmp_path: Path
) -> None:
    aws("sagemaker", "create-training-job", "--cli-input-json", cli_job(tmp_path, name, "sleep", "600"))
    aws("sagemaker", "stop-training-job", "--training-job-name", name)
    assert daemons[RUNNERS[0]].finished(name)["TrainingJobStatus"] == "Stopped"


def test_the_command_line_uploads_and_downloads(
    aws: Callable[..., str], name: str, inputs: Path, tmp_path: Path
) -> None:
    aws("s3", "sync", inputs, f"s3://{BUCKET}/{name}")
    assert [line.split()[-1] for line in aws("s3", "ls", "--recursive", f"s3://{BUCKET}/{name}/").splitlines()] == [
        f"{name}/one.txt",
        f"{name}/sub/two.txt",
    ]
    assert aws("s3", "sync", inputs, f"s3://{BUCKET}/{name}") == ""  # all of it is there
    aws("s3", "rm", f"s3://{BUCKET}/{name}/one.txt")
    aws("s3", "cp", f"s3://{BUCKET}/{name}/sub/two.txt", f"s3://{BUCKET}/{name}/three.txt")
    aws("s3", "sync", f"s3://{BUCKET}/{name}", tmp_path / "back")
    back = {str(path.relative_to(tmp_path / "back")): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert back == {"sub/two.txt": "2", "three.txt": "2"}


def test_version_2_of_the_command_line_tails_a_log(
    aws: Callable[..., str], daemons: dict[str, Daemon], name: str
) -> None:
    found = [shutil.which("aws", path=directory) for directory in os.get_exec_path()]
    programs = [path for path in found if path and aws("--version", program=path).startswith("aws-cli/2")]
    if not programs:
        pytest.skip("`aws logs tail` is of version 2 of the AWS command line, which no package index has")
    daemon = daemons[RUNNERS[0]]
    for job, word in ((name, "hello"), ("nor-this-one", "not this")):
        daemon.sagemaker.create_training_job(**job_request(job, "echo", word))
        daemon.finished(job)
    address = ("--endpoint-url", f"http://127.0.0.1:{daemon.port}")  # releases before 2.13 do not read it
    tail = aws(
        "logs", "tail", "/aws/sagemaker/TrainingJobs", "--log-stream-name-prefix", name, *address, program=programs[0]
    )
    assert [line.split()[-1] for line in tail.splitlines()] == ["hello"]


# boto3


@pytest.fixture
def sagemaker(daemons: dict[str, Daemon], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client that boto3 configures from the environment alone."""
    for variable, value in client_environment(daemons[RUNNERS[0]]).items():
        monkeypatch.setenv(variable, value)
    return boto3.session.Session().client("sagemaker")


def test_boto3_waits_for_the_end_of_a_job(sagemaker: Any, name: str) -> None:
    sagemaker.create_training_job(**job_request(name))
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0.1})
    assert sagemaker.describe_training_job(TrainingJobName=name)["RoleArn"] == ROLE


def test_boto3_pages_through_jobs(sagemaker: Any, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for each in names:
        sagemaker.create_training_job(**job_request(each))
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=name, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    assert [[job["TrainingJobName"] for job in page["TrainingJobSummaries"]] for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
    ]


# SDK v3


def test_v3_shows_every_line_of_both_attempts_once_and_in_order(v3: list[str]) -> None:
    assert attempts(section(v3, "by-script")) == BOTH_ATTEMPTS


def test_v3_resumes_an_interrupted_job(v3: list[str], daemons: dict[str, Daemon], runner: str) -> None:
    assert "found attempt-1 attempt-2" in section(v3, "by-script")
    assert secondary_statuses(described(daemons[runner], "by-script")) == ONCE_INTERRUPTED


def test_sigterm_does_not_reach_an_entry_script(v3: list[str]) -> None:
    assert "found attempt-1 attempt-2" in section(v3, "by-script")  # and nothing that the handler would have saved


def test_sigterm_reaches_the_process_of_the_command(v3: list[str]) -> None:
    printed = section(v3, "by-command")
    assert "attempt 1 was told" in printed
    assert "found attempt-1 attempt-2 saved-on-sigterm" in printed


def test_v3_passes_hyperparameters_of_every_json_type(v3: list[str]) -> None:
    told = facts(section(v3, "features"))
    assert told["hyperparameters"] == HYPERPARAMETERS
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in HYPERPARAMETERS.items()}
    assert told["arguments"] == [word for name, value in text.items() for word in (f"--{name}", value)]


def test_v3_passes_environment_and_tags(v3: list[str], daemons: dict[str, Daemon], runner: str) -> None:
    assert facts(section(v3, "features"))["greeting"] == "hello there"
    assert {"Key": "team", "Value": "trees + birds"} in tags(daemons[runner], "features")


def test_v3_uploads_local_paths_as_channels(v3: list[str]) -> None:
    assert facts(section(v3, "features"))["channels"] == CHANNELS


@pytest.mark.skipif(RUNNERS[0] == "rewrite", reason="only Linux gives hosts names of their own")
def test_v3_trains_on_two_hosts_that_connect_by_name(run: Run) -> None:
    said = "\n".join(section(run("v3", RUNNERS[0]), "hosts-"))
    assert "algo-1 of algo-1 algo-2 heard algo-2" in said
    assert "algo-2 of algo-1 algo-2 heard algo-1" in said


def test_v3_installs_requirements_for_that_job_alone(v3: list[str]) -> None:
    assert facts(section(v3, "features"))["package"] is True
    assert facts(section(v3, "by-command"))["package"] is False
    assert find_spec(PACKAGE) is None


# SDK v2, and the toolkit


def test_v2_shows_every_line_of_both_attempts_once_and_in_order(v2: list[str]) -> None:
    assert attempts(v2) == BOTH_ATTEMPTS + BOTH_ATTEMPTS[: len(LINES)]


def test_v2_resumes_an_interrupted_job(v2: list[str], daemons: dict[str, Daemon], runner: str) -> None:
    assert "found attempt-1 attempt-2" in v2
    assert secondary_statuses(described(daemons[runner], "v2-tensorflow")) == ONCE_INTERRUPTED
    assert f"model s3://{BUCKET}/v2-tensorflow/output/model.tar.gz" in v2


def test_v2_shows_what_spot_saves(v2: list[str]) -> None:
    for line in (r"Training seconds: \d+", r"Billable seconds: \d+", r"Managed Spot Training savings: \d\d\.\d%"):
        assert len([printed for printed in v2 if re.fullmatch(line, printed)]) == 2


def test_v2_passes_hyperparameters_environment_and_channels(v2: list[str]) -> None:
    told = facts(v2)
    assert told["hyperparameters"] == HYPERPARAMETERS
    assert told["greeting"] == "hello there"
    assert told["channels"] == CHANNELS


def test_v2_reads_metrics_and_sets_tags(v2: list[str], daemons: dict[str, Daemon], runner: str) -> None:
    assert "metrics [0.25]" in v2
    assert tags(daemons[runner], "v2-estimator") == [{"Key": "team", "Value": "trees + birds"}]


def test_the_toolkit_installs_requirements_for_that_job_alone(v2: list[str]) -> None:
    assert facts(v2)["package"] is True
    assert find_spec(PACKAGE) is None


@pytest.mark.skipif("docker" in RUNNERS, reason="the image has its own toolkit")
def test_every_pip_command_belongs_to_the_environment_of_the_job(rooms: Rooms, name: str) -> None:
    names = sorted(path.name for path in Path(sys.executable).parent.glob("pip*"))
    script = 'for each; do grep -q "exec $VIRTUAL_ENV/bin/python3 " "$(command -v "$each")" && echo "$each"; done'
    assert rooms.log(rooms.run(job_request(name, "/bin/bash", "-c", script, "-", *names))) == names


@pytest.mark.skipif("docker" in RUNNERS, reason="the image has its own toolkit")
def test_without_the_toolkit_the_reason_names_what_is_missing(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    request = job_request(name)
    del request["AlgorithmSpecification"]["ContainerEntrypoint"]
    record = rooms.run(request)
    assert record.status == "Failed"
    assert "`train`" in record.failure_reason and "`pip install 'localmode[toolkit]'`" in record.failure_reason
    assert record.failure_reason.endswith(", exit code: 127")
    assert rooms.log(record) == [record.failure_reason.removeprefix("AlgorithmError: ").rpartition(", exit")[0]]
