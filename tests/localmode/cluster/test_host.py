"""Jobs on several hosts: names, addresses, data, artifacts, checkpoints, and how they end together."""

import io
import json
import math
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localmode.api.training_job_checks import check_training_job
from localmode.api.training_jobs import describe
from localmode.cluster.artifacts import merge
from localmode.cluster.containers import launch
from localmode.cluster.host import Addresses
from localmode.core.errors import ApiError
from localmode.training.record import Record
from tests.support.local import (
    BUCKET,
    RUNNERS,
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

RUNNER = RUNNERS[0]
pytestmark = pytest.mark.skipif(RUNNER == "rewrite", reason="only Linux gives hosts names of their own")
SHELL = ("/bin/bash", "-c")
PYTHON = ("python3", "-c")
HOST = """HOST=$(sed 's/.*"current_host": "\\([^"]*\\)".*/\\1/' /opt/ml/input/config/resourceconfig.json)"""


@pytest.fixture
def rooms(rooms_by_runner: Callable[[str], Rooms]) -> Rooms:
    return rooms_by_runner(RUNNER)


def several(request: dict[str, Any], count: int = 2) -> dict[str, Any]:
    request["ResourceConfig"]["InstanceCount"] = count
    return request


def model(rooms: Rooms, record: Record, archive: str = "model") -> dict[str, bytes]:
    """What a job's archive holds: the content of its files."""
    found = objects(rooms, f"out/{record.name}/output/")
    with tarfile.open(fileobj=io.BytesIO(found[f"{archive}.tar.gz"])) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


# What each host finds


def test_each_host_knows_itself_and_the_others(rooms: Rooms, name: str) -> None:
    record = rooms.run(several(job_request(name, "cat", "/opt/ml/input/config/resourceconfig.json"), 3))
    configs = [json.loads("".join(rooms.log(record, f"algo-{number}"))) for number in (1, 2, 3)]
    assert [config["current_host"] for config in configs] == ["algo-1", "algo-2", "algo-3"]
    hosts = ["algo-1", "algo-2", "algo-3"]
    groups = [{"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": hosts}]
    for config in configs:
        assert (config["hosts"], config["instance_groups"]) == (hosts, groups)
        assert config["current_group_name"] == "homogeneousCluster"


MEETING = """
import json, socket
config = json.load(open("/opt/ml/input/config/resourceconfig.json"))
me, others = config["current_host"], [host for host in config["hosts"] if host != config["current_host"]]
server = socket.create_server((me, 23456))
for other in others:
    while True:
        try:
            socket.create_connection((other, 23456)).sendall(me.encode())
            break
        except ConnectionRefusedError:
            pass
print(*sorted(server.accept()[0].recv(10).decode() for _ in others))
"""


def test_hosts_meet_by_name_on_one_port_in_two_jobs_at_once(rooms: Rooms, name: str) -> None:
    jobs = [rooms.create(several(job_request(f"{name}-{number}", *PYTHON, MEETING), 3)) for number in (1, 2)]
    for job in jobs:
        record = ended(job)
        assert record.status == "Completed", rooms.log(record)
        assert [rooms.log(record, f"algo-{number}") for number in (1, 2, 3)] == [
            ["algo-2 algo-3"],
            ["algo-1 algo-3"],
            ["algo-1 algo-2"],
        ]


def test_a_job_of_one_host_can_resolve_its_name_and_the_machine_s(rooms: Rooms, name: str) -> None:
    code = 'import socket; print(socket.gethostbyname("algo-1").split(".")[0], socket.gethostbyname("localhost"))'
    assert rooms.log(rooms.run(job_request(name, *PYTHON, code))) == ["127 127.0.0.1"]


def test_a_sharded_channel_is_shared_out_and_another_is_not(rooms: Rooms, name: str, tmp_path: Path) -> None:
    for key in "abcde":
        put(rooms, f"{name}/{key}", b"1", tmp_path)
    channels = [channel("parts", f"{name}/"), channel("whole", f"{name}/")]
    channels[0]["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    command = "cd /opt/ml/input/data; ls parts; echo; ls whole | wc -l; cat ../config/inputdataconfig.json"
    record = rooms.run(several(job_request(name, *SHELL, command, InputDataConfig=channels)))
    first, second = rooms.log(record, "algo-1"), rooms.log(record, "algo-2")
    assert (first[:-2], second[:-2]) == (["a", "c", "e"], ["b", "d"])
    assert first[-2] == second[-2] == "5"
    assert json.loads(first[-1])["parts"]["S3DistributionType"] == "ShardedByS3Key"


def test_a_host_for_which_no_object_is_left_gets_an_empty_channel(rooms: Rooms, name: str, tmp_path: Path) -> None:
    put(rooms, f"{name}/only", b"1", tmp_path)
    data = channel("train", f"{name}/")
    data["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    record = rooms.run(several(job_request(name, "ls", "/opt/ml/input/data/train", InputDataConfig=[data])))
    assert (record.status, rooms.log(record, "algo-1"), rooms.log(record, "algo-2")) == ("Completed", ["only"], [])


# What they leave


def test_the_model_is_what_all_hosts_wrote_and_so_is_the_output(rooms: Rooms, name: str) -> None:
    command = f"{HOST}; mkdir /opt/ml/model/1; echo $HOST | tee /opt/ml/model/1/$HOST > /opt/ml/output/data/$HOST"
    record = rooms.run(several(job_request(name, *SHELL, command)))
    assert model(rooms, record) == {"1/algo-1": b"algo-1\n", "1/algo-2": b"algo-2\n"}
    assert model(rooms, record, "output") == {"algo-1": b"algo-1\n", "algo-2": b"algo-2\n"}


def test_of_equal_names_the_first_host_s_is_kept_and_the_log_says_so(rooms: Rooms, name: str) -> None:
    record = rooms.run(several(job_request(name, *SHELL, f"{HOST}; echo $HOST > /opt/ml/model/weights")))
    assert model(rooms, record) == {"weights": b"algo-1\n"}
    assert rooms.log(record, "algo-1") == ["localmode: several hosts wrote model/weights; the first host's is kept"]


def test_uncompressed_models_are_merged_too(rooms: Rooms, name: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
    command = f"{HOST}; echo $HOST > /opt/ml/model/$HOST"
    record = rooms.run(several(job_request(name, *SHELL, command, OutputDataConfig=output)))
    assert objects(rooms, f"out/{name}/output/") == {"model/algo-1": b"algo-1\n", "model/algo-2": b"algo-2\n"}
    assert record.model_artifacts == f"s3://{BUCKET}/out/{name}/output/model/"


@pytest.mark.parametrize(
    ("second", "clash"), [("a", "a"), ("a/b", "a/b"), ("dir", "dir"), ("dir/x", "dir/x"), ("dir/y", ""), ("a.b", "")]
)
def test_a_file_and_a_directory_of_one_name_are_never_both_kept(tmp_path: Path, second: str, clash: str) -> None:
    trees = [tmp_path / "1", tmp_path / "2"]
    for tree, names in zip(trees, (("a", "dir/x"), (second,)), strict=True):
        for each in names:
            (tree / each).parent.mkdir(parents=True, exist_ok=True)
            (tree / each).write_text(str(tree))
    merged, clashes = merge(trees)
    assert [each for each in clashes if (trees[1] / each).is_file()] == ([clash] if clash else [])
    directories = {each for each, path in merged.items() if path.is_dir()}
    assert all(Path(each).parent.as_posix() in directories for each in merged if "/" in each)


def test_hosts_share_the_checkpoints(rooms: Rooms, name: str, pipe: Pipe, order: Pipe) -> None:
    script = f"""
        cd /opt/ml/checkpoints; {HOST}; echo found $(ls)
        echo $HOST > $HOST
        until [ -e $HOST.sagemaker-uploaded ]; do sleep 0.01; done
        echo up > {pipe}; read line < {order}"""
    job = rooms.create(several(spot_request(name, *SHELL, script)))
    pipe.line(), pipe.line()
    rooms.jobs.interrupt(name, 0)
    pipe.line(), pipe.line()
    order.send("go"), order.send("go")
    record = ended(job)
    assert record.status == "Completed"
    for host in ("algo-1", "algo-2"):
        assert rooms.log(record, host) == ["found", "found algo-1 algo-2"]
    assert set(objects(rooms, f"checkpoints/{name}/")) == {"algo-1", "algo-2"}


# How they end


def test_a_host_that_fails_ends_the_job_with_its_words(rooms: Rooms, name: str, pipe: Pipe) -> None:
    script = f"""{HOST}
        [ $HOST = algo-2 ] && {{ read line < {pipe}; echo no memory; exit 3; }}
        trap 'echo asked; exit 0' TERM; echo up > {pipe}; sleep 600 & wait"""
    record = rooms.run(several(job_request(name, *SHELL, script)))
    assert (record.status, record.failure_reason) == ("Failed", "AlgorithmError: no memory, exit code: 3")
    assert rooms.log(record, "algo-1") == ["asked"]
    assert record.model_artifacts == ""
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


def test_a_host_that_ignores_sigterm_is_killed_when_another_fails(rooms: Rooms, name: str, pipe: Pipe) -> None:
    script = f"{HOST}; [ $HOST = algo-1 ] && {{ read line < {pipe}; exit 1; }}; echo up > {pipe}; sleep 600; true"
    record = rooms.run(several(job_request(name, *SHELL, script)))
    assert record.failure_reason.endswith("exit code: 1")
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


def test_a_job_goes_on_until_its_last_host_has_ended(rooms: Rooms, name: str, pipe: Pipe) -> None:
    script = f"{HOST}; [ $HOST = algo-1 ] && exit 0; read line < {pipe}; echo late > /opt/ml/model/late"
    job = rooms.create(several(job_request(name, *SHELL, script)))
    with job.changed:
        job.changed.wait_for(lambda: job.record.secondary_status == "Training", 30)
    pipe.send("go")
    record = ended(job)
    assert (record.status, model(rooms, record)) == ("Completed", {"late": b"late\n"})


def test_stopping_and_interrupting_reach_all_hosts(rooms: Rooms, name: str, pipe: Pipe) -> None:
    script = f"{HOST}; trap 'echo asked; exit 143' TERM; echo $HOST > {pipe}; sleep 600 & wait"
    job = rooms.create(several(spot_request(name, *SHELL, script), 3))
    for order in (lambda: rooms.jobs.interrupt(name, 0), job.stop):
        assert {pipe.line() for _ in range(3)} == {"algo-1", "algo-2", "algo-3"}
        order()
    record = ended(job)
    assert record.secondary_status == "Stopped"
    assert [rooms.log(record, f"algo-{number}") for number in (1, 2, 3)] == [["asked", "asked"]] * 3
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


def test_the_running_time_ends_all_hosts(rooms: Rooms, name: str) -> None:
    condition = {"MaxRuntimeInSeconds": 1}
    record = rooms.run(several(job_request(name, "sleep", "600", StoppingCondition=condition)))
    assert (record.status, record.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


def test_metrics_are_found_in_every_host_s_log(rooms: Rooms, name: str) -> None:
    definitions = [{"Name": host, "Regex": f"{host}=([0-9]+)"} for host in ("algo-1", "algo-2")]
    request = job_request(name, *SHELL, f"{HOST}; echo $HOST=7", algorithm={"MetricDefinitions": definitions})
    assert rooms.run(several(request)).metrics.keys() == {"algo-1", "algo-2"}


def test_a_host_that_cannot_start_leaves_no_other_running(
    rooms: Rooms, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def spawn(*arguments: Any) -> Any:
        if started:
            raise OSError("no more processes")
        started.append(real(*arguments))
        return started[-1]

    real = launch.spawn
    monkeypatch.setattr("localmode.cluster.host.spawn", spawn)
    record = rooms.run(several(job_request(name, "sleep", "600")))
    assert record.failure_reason == "InternalServerError: no more processes"
    assert started[0].poll() is not None
    assert processes_naming(f"TRAINING_JOB_NAME={name}") == []


@pytest.mark.parametrize(("count", "runner", "words"), [(5, "namespace", "above 4"), (2, "rewrite", "rewrite runner")])
def test_more_hosts_than_can_be_run_are_refused_in_one_line(
    rooms: Rooms, name: str, count: int, runner: str, words: str
) -> None:
    request = several(job_request(name), count)
    with pytest.raises(ApiError, match=f"localmode does not support.*{words}") as refusal:
        check_training_job(request, rooms.storage, rooms.settings, runner)
    assert (refusal.value.code, "\n" in refusal.value.message) == ("ValidationException", False)


def test_the_rewrite_runner_fails_a_job_of_several_hosts_that_another_runner_took(
    rooms_by_runner: Callable[[str], Rooms], name: str
) -> None:
    record = rooms_by_runner("rewrite").run(several(job_request(name)))
    assert record.failure_reason.startswith("InternalServerError: localmode does not support an InstanceCount of")


def test_the_hosts_of_a_job_are_billed_as_aws_reports_them_by_the_clock(rooms: Rooms, name: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html: times InstanceCount."""
    rooms.run(several(job_request(name, "true"), 4))
    job = rooms.jobs.get(name)
    assert job is not None
    answer = describe(job, rooms.settings)
    (attempt,) = job.record.attempts
    assert attempt.ended is not None and attempt.downloading is not None
    seconds = math.ceil(attempt.ended - attempt.downloading)  # however long four containers take to start
    assert (answer["TrainingTimeInSeconds"], answer["BillableTimeInSeconds"]) == (seconds, seconds)
    assert answer["ResourceConfig"]["InstanceCount"] == 4


# Addresses


def test_addresses_are_lent_to_one_at_a_time_and_come_back(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    with addresses.lent(4) as first, addresses.lent(4) as second:
        assert len({*first, *second}) == 8
        with pytest.raises(OSError, match="no loopback address left"), addresses.lent(250):
            pass
    with addresses.lent(254) as every:
        assert {"127"} == {address.split(".")[0] for address in every}
