"""Attempts as processes, with each runner: what a container finds, how it ends, and that nothing outlives it."""

import io
import json
import signal
import sys
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

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


# What a container finds


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


# What it leaves


def test_the_model_and_the_output_are_uploaded(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "echo m > /opt/ml/model/m; echo o > /opt/ml/output/data/o"))
    found = objects(rooms, f"out/{name}/output/")
    assert record.model_artifacts == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    for archive, member in (("model.tar.gz", "m"), ("output.tar.gz", "o")):
        with tarfile.open(fileobj=io.BytesIO(found[archive])) as tar:
            assert tar.getnames() == [member]


def test_uncompressed_output_keeps_its_files(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    record = rooms.run(
        job_request(name, *SHELL, "mkdir /opt/ml/model/1; echo m > /opt/ml/model/1/m", OutputDataConfig=output)
    )
    assert objects(rooms, f"out/{name}/output/") == {"model/1/m": b"m\n"}
    assert record.model_artifacts == f"s3://{BUCKET}/out/{name}/output/model/"


def test_uncompressed_output_has_the_files_that_its_links_lead_to(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    command = """
        cd /opt/ml/model; mkdir 1; echo m > 1/m; ln -s 1/m relative; ln -s /opt/ml/model/relative absolute
        ln -s /opt/ml/model/1 latest; ln -s /opt/ml/model/latest/../1/m through
        ln -s /etc/passwd secret; ln -s ../output/data/o out; ln -s nowhere broken; ln -s loop loop; ln -s . self
        ln -s / "$(printf '\\377')"
        echo o > /opt/ml/output/data/o"""
    record = rooms.run(job_request(name, *SHELL, command, OutputDataConfig=output))
    links = {f"model/{link}": b"m\n" for link in ("1/m", "relative", "absolute", "through")}
    assert record.status == "Completed"
    assert objects(rooms, f"out/{name}/output/") == {**links, "output/o": b"o\n"}
    assert rooms.log(record) == [
        f"localmode: model/{link} is not uploaded: it is a link to no file in /opt/ml/model"
        for link in ("broken", "latest", "loop", "out", "secret", "self", r"\udcff")
    ]


def test_an_uncompressed_file_that_s3_cannot_name_fails_the_job(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    command = "echo 1 > \"$(printf '/opt/ml/model/\\377')\""
    record = rooms.run(job_request(name, *SHELL, command, OutputDataConfig=output))
    assert record.status == "Failed"
    assert record.failure_reason.startswith("ClientError: the artifacts could not be uploaded: 'out/")
    assert record.failure_reason.endswith("cannot be the name of an S3 object: it is not UTF-8")


@pytest.mark.parametrize("directory", ["output/data", "output", "model"])
def test_a_job_may_remove_the_directories_for_its_output(rooms: Rooms, name: str, directory: str) -> None:
    record = rooms.run(job_request(name, *SHELL, f"rm -rf /opt/ml/{directory}"))
    assert (record.status, record.failure_reason) == ("Completed", "")


def test_the_instance_s_directories_are_gone_afterwards(rooms: Rooms, name: str) -> None:
    job = rooms.create(job_request(name))
    ended(job)
    attempt = rooms.instances._attempts.get(name)
    if attempt is not None:
        attempt.join()
    assert not (rooms.instances.root / name).exists()


# The log


def test_every_line_is_in_the_log_once_and_in_order(rooms: Rooms, name: str) -> None:
    record = rooms.run(job_request(name, *SHELL, "for i in $(seq 5000); do echo line $i; done; printf 'the last'"))
    assert rooms.log(record) == [*(f"line {number}" for number in range(1, 5001)), "the last"]


def test_bytes_that_are_no_text_do_not_end_the_log(rooms: Rooms, name: str) -> None:
    to = "&1" if rooms.instances.runner == "docker" else "&2"  # Docker keeps the two apart
    record = rooms.run(job_request(name, *SHELL, rf"printf 'a\xff\xfeb\n\n\x00\n\xc3'; printf '\xa9\r\nz\n' >{to}"))
    assert rooms.log(record) == ["a\ufffd\ufffdb", "\0", "é", "z"]


def test_metrics_are_found_by_their_regexes(rooms: Rooms, name: str) -> None:
    definitions = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}, {"Name": "word", "Regex": "loss=(.*)"}]
    command = "echo loss=0.5; echo loss=bad; echo loss=0.25"
    record = rooms.run(job_request(name, *SHELL, command, algorithm={"MetricDefinitions": definitions}))
    assert {key: value for key, (value, _) in record.metrics.items()} == {"loss": 0.25, "word": 0.25}


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


# Signals


def waiting(pipe: Pipe, order: Pipe) -> str:
    """Shell commands: say `up`, then wait until told to go on."""
    return f"echo up > {pipe}; read line < {order}"


def test_a_shell_without_a_trap_ignores_sigterm_as_pid_1_does(rooms: Rooms, name: str, pipe: Pipe, order: Pipe) -> None:
    job = rooms.create(job_request(name, *SHELL, f"{waiting(pipe, order)}; echo alive; exit 0"))
    pipe.line()
    rooms.instances._attempts[name]._send(b"T")
    order.send("go")
    assert ended(job).status == "Completed"
    assert rooms.log(job.record) == ["alive"]


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
    interrupted = []

    def put_file(bucket: str, key: str, path: Path) -> None:
        if not interrupted:
            job = rooms.jobs.get(name)
            interrupted.append(job is not None and job.interrupt(0))
        put(bucket, key, path)

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
