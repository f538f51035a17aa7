"""Endpoints: with a tiny model of TensorFlow's own, and with a stand-in where only their life is looked at."""

import gzip
import io
import json
import os
import random
import shutil
import signal
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from localmode.api.endpoints import describe_endpoint
from localmode.api.registry import SageMaker
from localmode.core.archives import ArchiveError
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting import provisioning as hosting
from localmode.hosting.model_archive import prepare
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from localmode.hosting.runtime import Invoker
from localmode.hosting.server_process import Answer, ModelServer, ModelServerError
from tests.support.local import BUCKET, SOON, Daemon, Rooms, configure_endpoint, processes_naming
from tests.support.shapes import Checked


def archive_of(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return buffer.getvalue()


def put_model(daemon: Daemon, name: str, archive: bytes) -> None:
    """Upload an archive and describe an endpoint for it."""
    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=archive)
    configure_endpoint(daemon.sagemaker, name, f"s3://{BUCKET}/{name}/model.tar.gz")


def create(daemon: Daemon, name: str, archive: bytes) -> None:
    """Upload an archive and create an endpoint for it."""
    put_model(daemon, name, archive)
    daemon.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def wait_for(daemon: Daemon, name: str, event: str = "endpoint_in_service") -> None:
    waiter = daemon.sagemaker.get_waiter(event)
    waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 1200})


def invoke(daemon: Daemon, name: str, instances: Any) -> Any:
    runtime = daemon.client("sagemaker-runtime")
    body = json.dumps({"instances": instances})
    answer = runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=body)
    assert answer["InvokedProductionVariant"] == "mine"
    return json.loads(answer["Body"].read())


def refusal(function: Callable[..., Any], **request: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        function(**request)
    return dict(caught.value.response)


# With a model


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model of serving_model.py, and the same with another highest version."""
    from tests.support.serving_model import save_model

    root = tmp_path_factory.mktemp("models")
    return {
        "plus-10": archive_of(save_model(root / "plus-10", (1, 10))),
        "plus-20": archive_of(save_model(root / "plus-20", (20,))),
    }


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, bytes]) -> Iterator[Daemon]:
    """A daemon with an endpoint `halves` in service, which adds 10, and a configuration whose model adds 20."""
    daemon = Daemon(tmp_path_factory.mktemp("serving") / "home").start()
    try:
        create(daemon, "halves", archives["plus-10"])
        put_model(daemon, "plus-20", archives["plus-20"])
        wait_for(daemon, "halves")
        yield daemon
    finally:
        daemon.stop()


def servers(daemon: Daemon) -> list[int]:
    """Return the numbers of the model servers' processes."""
    found = processes_naming("localmode/modelserver/server.py\0" + str(daemon.home))
    return [int(process.partition(":")[0]) for process in found]


def loaded(daemon: Daemon) -> list[tuple[str, str]]:
    """Return the lines of the endpoint's log that say that a server has loaded its model, with their streams."""
    group = "/aws/sagemaker/Endpoints/halves"
    events = daemon.client("logs").filter_log_events(logGroupName=group, filterPattern="serving model")["events"]
    return [(event["logStreamName"], event["message"]) for event in events]


def test_an_endpoint_answers_with_the_model_s_predictions(serving: Daemon) -> None:
    assert invoke(serving, "halves", [[1.0, 2.0], [3.0, 4.0]]) == {"predictions": [[10.5, 11.0], [11.5, 12.0]]}


def test_content_type_accept_and_custom_attributes_reach_the_container(serving: Daemon) -> None:
    answer = serving.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="halves",
        ContentType="text/csv",
        Accept="application/jsonlines",
        CustomAttributes="tfs-model-version=1",
        Body=b"2.0,4.0",
    )
    assert (answer["ContentType"], answer["Body"].read()) == ("application/jsonlines", b'{"predictions": [[2.0, 3.0]]}')


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b'{"instances": [["x"]]}', 400),
        ("application/json", b'{"instances": [[1, 2], [3]]}', 400),
        ("text/plain", b"1", 415),
    ],
)
def test_what_the_model_refuses_is_a_model_error_with_its_status(
    serving: Daemon, content_type: str, body: bytes, status: int
) -> None:
    runtime = serving.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="halves", ContentType=content_type, Body=body)
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    message = f'Received client error ({status}) from primary with message "{answer["OriginalMessage"]}". See '
    assert answer["Error"]["Message"].startswith(message + "/aws/sagemaker/Endpoints/halves in account ")
    assert answer["OriginalStatusCode"] == status
    assert list(json.loads(answer["OriginalMessage"])) == ["error"]
    assert answer["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/halves")


def test_clients_at_once_get_each_its_own_answer(serving: Daemon) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: invoke(serving, "halves", [2 * number]), range(24)))
    assert [answer["predictions"][0] for answer in answers] == [number + 10 for number in range(24)]


def test_weights_are_changed_and_told(serving: Daemon) -> None:
    call, halves = Checked(serving), {"EndpointName": "halves"}
    desired = [{"VariantName": "mine", "DesiredWeight": 2.5}]
    call("UpdateEndpointWeightsAndCapacities", **halves, DesiredWeightsAndCapacities=desired)
    wait_for(serving, "halves")
    assert call("DescribeEndpoint", **halves)["ProductionVariants"] == [
        {
            "VariantName": "mine",
            "DeployedImages": [{"SpecifiedImage": "none"}],
            "CurrentWeight": 2.5,
            "DesiredWeight": 2.5,
            "CurrentInstanceCount": 1,
            "DesiredInstanceCount": 1,
        }
    ]


def test_no_request_fails_while_the_endpoint_is_updated(serving: Daemon) -> None:
    runtime, updated = serving.client("sagemaker-runtime"), threading.Event()

    def ask() -> list[float]:
        answers = []
        while not updated.is_set():
            body = runtime.invoke_endpoint(EndpointName="halves", ContentType="application/json", Body=b"[2]")["Body"]
            answers += json.loads(body.read())["predictions"][0]
        return answers

    before = servers(serving)
    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask) for _ in range(2)]
        try:
            Checked(serving)("UpdateEndpoint", EndpointName="halves", EndpointConfigName="plus-20")
            endpoint = Checked(serving)("DescribeEndpoint", EndpointName="halves")
            wait_for(serving, "halves")
        finally:
            updated.set()
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("Updating", "halves")
    pending = endpoint["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "plus-20"
    assert [variant["DesiredInstanceCount"] for variant in pending["ProductionVariants"]] == [1]
    for client in clients:
        answers = client.result()
        assert answers == sorted(answers), "an old server has answered after a new one"
        assert set(answers) <= {11.0, 21.0}
    assert invoke(serving, "halves", [2]) == {"predictions": [21.0]}
    assert serving.sagemaker.describe_endpoint(EndpointName="halves")["EndpointConfigName"] == "plus-20"
    assert len(servers(serving)) == 1
    assert not set(before) & set(servers(serving))
    assert len(list((serving.home / "serving" / "halves").iterdir())) == 1


def test_a_server_that_is_killed_is_started_again_and_its_log_is_kept(serving: Daemon) -> None:
    before, log = invoke(serving, "halves", [2]), loaded(serving)
    (number,) = servers(serving)
    os.kill(number, signal.SIGKILL)
    answer = refusal(invoke, daemon=serving, name="halves", instances=[2])
    assert answer["Error"]["Code"] == "ServiceUnavailable"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503, "which AWS's clients answer by trying again"
    end = time.monotonic() + SOON
    while answer:
        try:
            assert invoke(serving, "halves", [2]) == before
            answer = {}
        except serving.client("sagemaker-runtime").exceptions.ServiceUnavailable:
            assert time.monotonic() < end
    assert servers(serving) != [number]
    assert len(loaded(serving)) == len(log) + 1
    assert {stream.partition("-")[0] for stream, _ in log} == {"mine/i"}


def test_what_a_client_tries_again_by_itself_is_answered_once_the_server_is_back(
    serving: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, address = serving.state, f"http://127.0.0.1:{serving.port}"
    keys = {"aws_access_key_id": state["access_key"], "aws_secret_access_key": state["secret_key"]}
    runtime = boto3.client("sagemaker-runtime", region_name="us-east-1", endpoint_url=address, **keys)
    pauses = []

    def pause(seconds: float) -> None:
        """Take as long as the server needs, for the length that the client would wait is left to chance."""
        pauses.append(seconds)
        end = time.monotonic() + SOON
        while not running():
            assert time.monotonic() < end

    def running() -> int:
        (variant,) = serving.sagemaker.describe_endpoint(EndpointName="halves")["ProductionVariants"]
        return int(variant["CurrentInstanceCount"])

    before = invoke(serving, "halves", [2])
    (number,) = servers(serving)
    os.kill(number, signal.SIGKILL)
    while running():
        pass
    monkeypatch.setattr("botocore.endpoint.time.sleep", pause)
    answer = runtime.invoke_endpoint(EndpointName="halves", ContentType="application/json", Body='{"instances": [2]}')
    assert json.loads(answer["Body"].read()) == before
    assert pauses
    assert answer["ResponseMetadata"]["RetryAttempts"] == len(pauses)


def test_the_handlers_of_an_archive_answer_in_a_server_that_does_not_look_over_tensorflow_s_objects(
    serving: Daemon, tmp_path: Path
) -> None:
    """That would take 0.2 s every few hundred requests."""
    from tests.support.serving_model import save_model

    save_model(tmp_path, (1,))
    script = "import gc\ndef handler(data, context):\n    return str(gc.get_freeze_count()), context.accept_header\n"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(script)
    create(serving, "handled", archive_of(tmp_path))
    wait_for(serving, "handled")
    assert invoke(serving, "handled", [1.0]) > 100_000
    serving.sagemaker.delete_endpoint(EndpointName="handled")
    wait_for(serving, "handled", "endpoint_deleted")


def test_an_endpoint_comes_back_with_the_daemon_and_leaves_nothing_when_it_is_deleted(serving: Daemon) -> None:
    before = invoke(serving, "halves", [2])
    for name in ("halves", "plus-20"):  # as on AWS, the instance has a copy
        serving.s3.delete_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz")
    serving.kill()
    serving.start()
    assert invoke(serving, "halves", [2]) == before
    assert len(servers(serving)) == 1
    stop = threading.Event()

    def ask() -> set[str]:
        """Invoke until it is gone; return how it was refused."""
        refusals = set()
        while not stop.is_set():
            try:
                invoke(serving, "halves", [2])
            except ClientError as error:
                refusals.add(error.response["Error"]["Code"])
        return refusals

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask) for _ in range(2)]
        serving.sagemaker.delete_endpoint(EndpointName="halves")
        wait_for(serving, "halves", "endpoint_deleted")
        stop.set()
    assert set().union(*(client.result() for client in clients)) <= {"ServiceUnavailable", "ValidationError"}
    assert servers(serving) == []
    assert not (serving.home / "serving" / "halves").exists()


# Archives that cannot be served


def tar(*members: tuple[str, str, bytes]) -> bytes:
    """Return an archive of members (name, link target or nothing, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member_name, target, content in members:
            info = tarfile.TarInfo(member_name)
            info.size = len(content)
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def damaged(archive: bytes) -> bytes:
    """Return an archive that begins well and goes on with what gzip cannot read."""
    compressor = zlib.compressobj(wbits=31)
    start = compressor.compress(gzip.decompress(archive)[:5000]) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + b"\xff" * 100


BAD_ARCHIVES = {
    "no numbered SavedModel": tar(("saved_model.pb", "", b"x")),
    "a member outside of it": tar(("../escaped", "", b"x")),
    "no file or directory": tar(("link", "../../..", b""), ("link/escaped", "", b"x")),
    "no file or directory: 'passwd'": tar(("passwd", "/etc/passwd", b"")),
    "outside of it: '/absolute'": tar(("/absolute", "", b"x")),
    "not a gzip file|could not be opened": b"nothing",
    "end-of-stream|unexpected end": tar(("1/saved_model.pb", "", bytes(range(256)) * 1000))[:-200],
    "invalid block type": damaged(tar(("1/saved_model.pb", "", bytes(range(256)) * 1000))),
}


@pytest.mark.parametrize("reason", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_served_fails_the_endpoint_with_the_reason(
    daemon: Daemon, name: str, reason: str
) -> None:
    create(daemon, name, BAD_ARCHIVES[reason])
    with pytest.raises(Exception, match="terminal failure state"):
        wait_for(daemon, name)
    endpoint = daemon.sagemaker.describe_endpoint(EndpointName=name)
    assert endpoint["EndpointStatus"] == "Failed"
    start = "The primary container for production variant mine cannot serve the model: "
    assert endpoint["FailureReason"].startswith(start)
    assert any(part in endpoint["FailureReason"] for part in reason.split("|")), endpoint["FailureReason"]
    assert not list(daemon.home.rglob("escaped"))
    daemon.sagemaker.delete_endpoint(EndpointName=name)
    wait_for(daemon, name, "endpoint_deleted")


def test_a_model_whose_archive_is_not_there_fails_the_endpoint(daemon: Daemon, name: str) -> None:
    put_model(daemon, name, b"x")
    daemon.s3.delete_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz")
    daemon.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    with pytest.raises(Exception, match="terminal failure state"):
        wait_for(daemon, name)
    reason = daemon.sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]
    assert f"There is no model archive at s3://{BUCKET}/{name}/model.tar.gz" in reason


def test_an_unknown_endpoint_is_a_validation_error(daemon: Daemon) -> None:
    runtime = daemon.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=b"")
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"] == "Endpoint unknown of account 123456789012 not found."


def test_a_request_larger_than_the_limit_is_refused_with_the_limit(daemon: Daemon) -> None:
    runtime, body = daemon.client("sagemaker-runtime"), b"x" * (6 * 1024 * 1024 + 1)
    answer = refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=body)
    assert answer["Error"] == {"Code": "413", "Message": "HTTP content length exceeded 6291456 bytes."}
    assert (
        refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=body[:-1])["Error"]["Code"] == "ValidationError"
    )


def test_what_a_request_asks_for_and_local_mode_does_not_do_is_refused_by_name(daemon: Daemon) -> None:
    runtime = daemon.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=b"", TargetModel="other.tar.gz")
    message = "localmode does not support TargetModel. AWS would accept it."
    assert answer["Error"] == {"Code": "ValidationError", "Message": message}


# Code beside the model


def wheel(path: Path) -> Path:
    """Write a package `tiny` as pip installs it."""
    with zipfile.ZipFile(path / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny.py", "number = 1")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path / "tiny-1.0-py3-none-any.whl"


def packed(tmp_path: Path, requirements: str) -> Path:
    """Return an archive with code and its requirements."""
    script = b"open('/opt/ml/model/code/x')"
    members = [("1/saved_model.pb", "", b"x"), ("code/inference.py", "", script)]
    content = tar(*members, ("code/requirements.txt", "", requirements.encode()))
    (tmp_path / "model.tar.gz").write_bytes(content)
    return tmp_path / "model.tar.gz"


PIP = {"PATH": os.defpath, "PIP_NO_INDEX": "1"}


def test_requirements_are_installed_beside_the_code_and_paths_are_put_right(tmp_path: Path) -> None:
    lines: list[str] = []
    prepare(packed(tmp_path, str(wheel(tmp_path))), tmp_path / "model", PIP, lines.extend)
    assert (tmp_path / "model/code/lib/tiny.py").read_text() == "number = 1"
    assert (tmp_path / "model/code/inference.py").read_text() == f"open('{tmp_path}/model/code/x')"
    assert any("Successfully installed tiny-1.0" in line for line in lines)


def test_requirements_that_cannot_be_installed_are_named_and_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="has a code/requirements.txt that cannot be installed: ERROR: .*nonesuch"):
        prepare(packed(tmp_path, "nonesuch"), tmp_path / "model", PIP, lambda _: None)
    assert not (tmp_path / "model").exists()


# Their life, with a stand-in for the server


class StandIn(ModelServer):
    """Answers with what it was started from; starts when it is told to."""

    may_start: threading.Event
    stopped: list[str]
    error = ""

    def __init__(self, directory: Path, environment: dict[str, str], *others: Any) -> None:
        super().__init__(directory, environment, *others)
        self.name = f"{directory.name} {environment['NUMBER']}"
        self.begun = self.gone = False

    @property
    def answers(self) -> bool:
        return self.begun and not self.gone

    def start(self) -> None:
        assert self.may_start.wait(10)
        if self.error or self.gone:
            raise ModelServerError(self.error or "stopped")
        self.begun = True

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        if self.gone:
            raise ConnectionRefusedError("gone")
        if headers.get("raise") == "timeout":
            raise TimeoutError
        status = int(headers.get("status", 200))
        return Answer(status, "text/plain", self.name.encode() + body * int(headers.get("times", 1)))

    def stop(self) -> None:
        self.gone = True
        self.stopped.append(self.name)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        may_start = threading.Event()
        stopped: list[str] = []

    monkeypatch.setattr(hosting, "ModelServer", Fresh)
    return Fresh


Make = Callable[[], Endpoints]


@pytest.fixture
def make(rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, stand_in: type[StandIn], name: str) -> Make:
    """Make endpoints over one journal: the second time, as after a restart."""
    rooms = rooms_by_runner("rewrite")
    (tmp_path / "model").write_bytes(tar(("1/saved_model.pb", "", b"x")))
    rooms.storage.put_file(BUCKET, f"{name}/model", tmp_path / "model")
    journal, settings = Journal(tmp_path / "endpoints", tmp_path), Settings(tmp_path)

    def make() -> Endpoints:
        chance = random.Random(7)
        return Endpoints(settings, Hosting(settings, rooms.storage, rooms.services, {}, chance), journal)

    return make


def variant(name: str, **members: Any) -> dict[str, Any]:
    """Return the specification of a variant called `mine`; its servers answer with its name and number."""
    url, number = f"s3://{BUCKET}/{name}/model", str(members.pop("number", 1))
    usual = {"VariantName": "mine", "Weight": 1.0, "InstanceCount": 1, "Routing": "RANDOM"}
    return {**usual, "ModelDataUrl": url, "Environment": {"NUMBER": number}, **members}


def record(name: str, *variants: dict[str, Any]) -> dict[str, Any]:
    about = {"EndpointName": name, "EndpointArn": "arn", "EndpointConfigName": "x", "CreationTime": 0}
    return {**about, "LastModifiedTime": 0, "Variants": list(variants or [variant(name)])}


def settled(these: Endpoints, name: str) -> dict[str, Any]:
    assert these._endpoints[name].settled.wait(10)
    found = these.get(name)
    assert found is not None
    return found


def ask(these: Endpoints, *request: Any) -> tuple[str, Answer]:
    return Invoker(Settings(Path()), these).invoke(*request)


def reserve(these: Endpoints, name: str, target: str = "") -> tuple[ModelServer, Callable[[], None]]:
    """Let a server have a request; return it, and what ends the request."""
    fleet = these.serving(name)
    _, server = fleet.reserve(target)
    return server, lambda: fleet.release(server)


def begin_update(these: Endpoints, stand_in: type[StandIn], name: str) -> None:
    """Create an endpoint and begin to update it; the new server starts when it is told to."""
    these.create(record(name))
    settled(these, name)
    stand_in.may_start.clear()
    these.update(name, "y", [variant(name, number=2)], fresh=True)


def answer(these: Endpoints, name: str, target: str = "", **headers: str) -> str:
    """Invoke an endpoint; return which server has answered."""
    served, reply = ask(these, name, b"", headers, target)
    assert reply.body.decode().startswith(served)
    return reply.body.decode()


@pytest.fixture
def these(make: Make, stand_in: type[StandIn]) -> Endpoints:
    """Endpoints whose servers start at once."""
    stand_in.may_start.set()
    return make()


def test_an_endpoint_is_created_then_in_service(make: Make, stand_in: type[StandIn], name: str) -> None:
    these = make()
    assert these.create(record(name))
    assert not these.create(record(name))
    assert these.get(name)["EndpointStatus"] == "Creating"
    with pytest.raises(ApiError, match="is being created"):
        ask(these, name, b"x", {})
    stand_in.may_start.set()
    assert settled(these, name)["EndpointStatus"] == "InService"
    assert ask(these, name, b"x", {}) == ("mine", Answer(200, "text/plain", b"mine 1x"))


def test_what_is_being_deployed_is_told(make: Make, stand_in: type[StandIn], name: str) -> None:
    def described() -> dict[str, Any]:
        return describe_endpoint(cast(SageMaker, SimpleNamespace(endpoints=these)), {"EndpointName": name})

    these = make()
    these.create(record(name, variant(name, Image="mine:1")))
    wanted = {"VariantName": "mine", "DeployedImages": [{"SpecifiedImage": "mine:1"}]}
    wanted |= {"DesiredWeight": 1.0, "DesiredInstanceCount": 1}
    pending = {"EndpointConfigName": "x", "ProductionVariants": [wanted], "StartTime": 0}
    assert described()["PendingDeploymentSummary"] == pending
    stand_in.may_start.set()
    settled(these, name)
    found = described()
    assert found["ProductionVariants"] == [{**wanted, "CurrentWeight": 1.0, "CurrentInstanceCount": 1}]
    assert "PendingDeploymentSummary" not in found
    stand_in.may_start.clear()
    these.update(name, "y", [variant(name, InstanceCount=2)], fresh=True)
    found = described()["PendingDeploymentSummary"]
    assert (found["EndpointConfigName"], found["ProductionVariants"][0]["DesiredInstanceCount"]) == ("y", 2)
    stand_in.may_start.set()
    settled(these, name)


def test_an_endpoint_in_service_comes_back_and_a_failed_one_stays_failed(
    these: Endpoints, make: Make, stand_in: type[StandIn], name: str
) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.error = "no"
    these.create({**record(name), "EndpointName": "failing"})
    assert settled(these, "failing")["FailureReason"].endswith("variant mine cannot serve the model: no")
    these.close()
    stand_in.error = ""
    again = make()
    assert settled(again, name)["EndpointStatus"] == "InService"
    assert settled(again, "failing")["EndpointStatus"] == "Failed"


def test_an_endpoint_whose_daemon_stops_while_it_is_created_has_not_failed(
    make: Make, stand_in: type[StandIn], name: str
) -> None:
    these = make()
    these.create(record(name))
    these.close()
    stand_in.may_start.set()
    settled(these, name)
    found = settled(make(), name)
    assert (found["EndpointStatus"], "FailureReason" in found) == ("InService", False)


def test_an_endpoint_that_is_accepted_while_the_daemon_ends_is_left_to_the_next_one(
    these: Endpoints, make: Make, name: str
) -> None:
    these.close()
    assert these.create(record(name))
    assert [thread.name for thread in threading.enumerate() if thread.name == f"bring up {name}"] == []
    assert these.get(name)["EndpointStatus"] == "Creating"
    assert settled(make(), name)["EndpointStatus"] == "InService"


def test_an_endpoint_is_not_deleted_while_it_is_created(make: Make, stand_in: type[StandIn], name: str) -> None:
    these = make()
    these.create(record(name))
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        these.delete(name)
    stand_in.may_start.set()
    assert settled(these, name)["EndpointStatus"] == "InService"
    these.delete(name)


def restarted(make: Make, stand_in: type[StandIn], name: str) -> Endpoints:
    """Return what has an endpoint in service whose servers are being started again."""
    stand_in.may_start.set()
    these = make()
    these.create(record(name))
    settled(these, name)
    these.close()
    stand_in.may_start.clear()
    return make()


def test_an_endpoint_deleted_while_its_servers_start_again_is_gone_when_they_have(
    make: Make, stand_in: type[StandIn], name: str
) -> None:
    these = restarted(make, stand_in, name)
    while not these._endpoints[name].fleet._starting:
        pass
    these.delete(name)
    assert these.get(name)["EndpointStatus"] == "Deleting"
    these.delete(name)
    deleting = [thread for thread in threading.enumerate() if thread.name == f"delete {name}"]
    stand_in.may_start.set()
    for thread in deleting:
        thread.join(10)
    assert (len(deleting), these.get(name)) == (1, None)
    assert these.create(record(name))
    assert settled(these, name)["EndpointStatus"] == "InService"


def test_while_the_files_of_an_endpoint_are_removed_others_answer(
    these: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_slowly(path: Path, **options: Any) -> None:
        removing.set()
        assert go_on.wait(SOON)
        rmtree(path, **options)

    removing, go_on, rmtree = threading.Event(), threading.Event(), shutil.rmtree
    these.create(record(name))
    settled(these, name)
    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    these.delete(name)
    assert removing.wait(SOON)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(these.get, name)
        done, _ = wait([asking], 1.0)
        go_on.set()
    assert done == {asking}


def test_an_endpoint_that_was_being_deleted_is_gone_after_a_restart(
    make: Make, stand_in: type[StandIn], name: str
) -> None:
    restarted(make, stand_in, name).delete(name)
    assert make().get(name) is None
    stand_in.may_start.set()


def test_several_instances_are_several_servers(these: Endpoints, name: str) -> None:
    these.create(record(name, variant(name, InstanceCount=3)))
    assert settled(these, name)["Running"] == {"mine": 3}
    servers = {id(reserve(these, name)[0]) for _ in range(50)}
    assert len(servers) == 3


def test_how_long_servers_may_take_to_start_is_the_variant_s_and_eight_minutes_otherwise(
    daemon: Daemon, these: Endpoints, name: str
) -> None:
    these.create(record(name, variant(name, StartupSeconds=77), variant(name, VariantName="usual")))
    settled(these, name)
    servers = [each.servers[0]._startup_seconds for each in these._endpoints[name].fleet._variants.values()]
    assert servers == [77, 480]

    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=b"")
    configure_endpoint(daemon.sagemaker, name, f"s3://{BUCKET}/{name}/model.tar.gz")
    (asked,) = daemon.sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    asked["ContainerStartupHealthCheckTimeoutInSeconds"] = 66
    daemon.sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-66", ProductionVariants=[asked])
    daemon.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-66")
    assert '"StartupSeconds": 66' in (daemon.home / "endpoints" / f"{name}.json").read_text()


def test_least_outstanding_requests_spreads_them_evenly(these: Endpoints, name: str) -> None:
    these.create(record(name, variant(name, InstanceCount=3, Routing="LEAST_OUTSTANDING_REQUESTS")))
    settled(these, name)
    held = [reserve(these, name) for _ in range(6)]
    assert {server.outstanding for server, _ in held} == {2}
    first, release = held[0]
    release()
    assert reserve(these, name)[0] is first


def test_traffic_follows_the_weights_and_a_target_overrides_them(these: Endpoints, name: str) -> None:
    these.create(record(name, variant(name, VariantName="a", Weight=3.0), variant(name, VariantName="b")))
    settled(these, name)
    served = [answer(these, name)[0] for _ in range(400)]
    assert 280 < served.count("a") < 320
    assert {answer(these, name, "b") for _ in range(20)} == {"b 1"}
    with pytest.raises(ApiError, match="there is no production variant 'c'; there is a, b") as caught:
        ask(these, name, b"", {}, "c")
    assert caught.value.code == "ValidationError"


def test_without_any_weight_only_a_target_is_served(these: Endpoints, name: str) -> None:
    these.create(record(name, variant(name, Weight=0.0)))
    settled(these, name)
    with pytest.raises(ApiError, match="every production variant has the weight 0"):
        ask(these, name, b"", {})
    assert answer(these, name, "mine") == "mine 1"


def test_the_old_servers_serve_until_the_new_ones_are_up(
    these: Endpoints, stand_in: type[StandIn], name: str, tmp_path: Path
) -> None:
    begin_update(these, stand_in, name)
    assert (these.get(name)["EndpointStatus"], these.get(name)["EndpointConfigName"]) == ("Updating", "x")
    assert answer(these, name) == "mine 1"
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        these.update(name, "z", [variant(name)], fresh=True)
    _, release = reserve(these, name)  # a request that the old server is still busy with
    stand_in.may_start.set()
    while answer(these, name) == "mine 1":
        pass
    assert (these.get(name)["EndpointStatus"], stand_in.stopped) == ("Updating", [])
    release()
    found = settled(these, name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "y")
    assert (stand_in.stopped, "Update" in found) == (["mine 1"], False)
    assert [path.name for path in (tmp_path / "serving" / name).iterdir()] == [found["Generation"]]


def test_an_update_that_fails_is_rolled_back(
    these: Endpoints, stand_in: type[StandIn], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.error = "broken"
    seen, save = [], these._journal.save
    monkeypatch.setattr(these._journal, "save", lambda *saved: seen.append(saved[1]["EndpointStatus"]) or save(*saved))
    these.update(name, "y", [variant(name, number=2)], fresh=True)
    found = settled(these, name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "x")
    assert found["FailureReason"].startswith("The update has been rolled back. The primary container for production ")
    assert (answer(these, name), stand_in.stopped) == ("mine 1", ["mine 2"])
    assert seen == ["Updating", "RollingBack", "InService"]
    stand_in.error = ""
    these.update(name, "y", [variant(name, number=3)], fresh=True)
    assert "FailureReason" not in settled(these, name)
    assert answer(these, name) == "mine 3"


def test_a_restart_changes_nothing_that_is_told_of_an_endpoint(
    these: Endpoints, make: Make, stand_in: type[StandIn], name: str
) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.error = "broken"
    these.update(name, "y", [variant(name, number=2)], fresh=True)
    before = settled(these, name)
    these.close()
    stand_in.error = ""
    assert settled(make(), name) == before


def test_an_update_goes_on_after_a_restart(make: Make, these: Endpoints, stand_in: type[StandIn], name: str) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.may_start.clear()
    these.update(name, "y", [variant(name, number=2)], fresh=True)
    these.close()
    stand_in.may_start.set()
    settled(these, name)
    again = make()
    assert settled(again, name)["EndpointConfigName"] == "y"
    assert answer(again, name) == "mine 2"


def test_weights_and_capacities_change_in_place(these: Endpoints, stand_in: type[StandIn], name: str) -> None:
    both = [variant(name, VariantName=each) for each in "ab"]
    these.create(record(name, *both))
    settled(these, name)
    these.update(name, "x", [{**both[0], "Weight": 0.0}, {**both[1], "InstanceCount": 3}], fresh=False)
    assert settled(these, name)["Running"] == {"a": 1, "b": 3}
    assert {answer(these, name) for _ in range(50)} == {"b 1"}
    _, release = reserve(these, name, "b")
    these.update(name, "x", [both[0], {**both[1], "InstanceCount": 1}], fresh=False)
    release()
    assert settled(these, name)["Running"] == {"a": 1, "b": 1}
    assert len(stand_in.stopped) == 2


def test_more_instances_than_can_be_started_are_rolled_back(
    these: Endpoints, stand_in: type[StandIn], name: str
) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.error = "no memory"
    these.update(name, "x", [variant(name, InstanceCount=3, Weight=5.0)], fresh=False)
    found = settled(these, name)
    assert (found["EndpointStatus"], found["Running"], found["Variants"]) == ("InService", {"mine": 1}, [variant(name)])
    assert found["FailureReason"].endswith("no memory")
    assert (answer(these, name), stand_in.stopped) == ("mine 1", ["mine 1", "mine 1"])


def test_requests_that_meet_an_update_all_succeed(these: Endpoints, name: str) -> None:
    these.create(record(name))
    settled(these, name)
    done = threading.Event()

    def ask() -> int:
        count = 0
        while not done.is_set():
            answer(these, name)
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            for number in range(2, 12):
                these.update(name, "x", [variant(name, number=number, InstanceCount=2)], fresh=True)
                settled(these, name)
        finally:
            done.set()
    assert all(client.result() > 0 for client in clients)
    assert answer(these, name) == "mine 11"


def test_of_updates_at_once_one_is_accepted(make: Make, these: Endpoints, stand_in: type[StandIn], name: str) -> None:
    these.create(record(name))
    settled(these, name)
    stand_in.may_start.clear()

    def update(number: int) -> str:
        try:
            these.update(name, f"config-{number}", [variant(name, number=number)], fresh=True)
        except ApiError as error:
            return error.code
        return f"mine {number}"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(update, range(8)))
    stand_in.may_start.set()
    settled(these, name)
    assert sorted(results)[:7] == ["ValidationException"] * 7
    assert answer(these, name) == sorted(results)[7]


@pytest.fixture
def sagemaker(these: Endpoints, rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, name: str) -> SageMaker:
    """The operations over these endpoints, of which there is one of two variants, `a` and `b`."""
    rooms, journals = rooms_by_runner("rewrite"), [Journal(tmp_path / kind, tmp_path) for kind in ("models", "configs")]
    sagemaker = SageMaker(rooms.settings, rooms.storage, rooms.jobs, these, *journals, lambda role: True)
    container = {"Image": "none", "ModelDataUrl": f"s3://{BUCKET}/{name}/model", "Environment": {"NUMBER": "2"}}
    sagemaker.call("CreateModel", {"ModelName": "x", "PrimaryContainer": container})
    usual = {"ModelName": "x", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    variants = [usual | {"VariantName": each} for each in "ab"]
    sagemaker.call("CreateEndpointConfig", {"EndpointConfigName": "x", "ProductionVariants": variants})
    sagemaker.call("CreateEndpoint", {"EndpointName": name, "EndpointConfigName": "x"})
    settled(these, name)
    return sagemaker


def weigh(name: str, **weights: float) -> tuple[str, dict[str, Any]]:
    changes = [{"VariantName": each, "DesiredWeight": weight} for each, weight in weights.items()]
    return "UpdateEndpointWeightsAndCapacities", {"EndpointName": name, "DesiredWeightsAndCapacities": changes}


def after_the_first_look(these: Endpoints, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> threading.Thread:
    """Once somebody has looked at an endpoint, do something in another thread, or let it wait for its turn."""
    other, get = threading.Thread(target=do), these.get

    def look(name: str) -> dict[str, Any] | None:
        monkeypatch.undo()
        found = get(name)
        other.start()
        other.join(0.3)
        return found

    monkeypatch.setattr(these, "get", look)
    return other


def test_of_two_that_change_weights_at_once_neither_loses_what_it_was_told(
    these: Endpoints, sagemaker: SageMaker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"a": 0.0, "b": 1.0}

    def weigh_b() -> None:
        while True:
            try:
                sagemaker.call(*weigh(name, b=5.0))
            except ApiError as error:
                assert "in-progress" in error.message
            else:
                expected["b"] = 5.0
                break
        settled(these, name)

    other = after_the_first_look(these, monkeypatch, weigh_b)
    sagemaker.call(*weigh(name, a=0.0))
    other.join(SOON)
    assert {each["VariantName"]: each["Weight"] for each in settled(these, name)["Variants"]} == expected
    assert expected["b"] == 5.0


@pytest.mark.parametrize("operation", ["DeleteEndpoint", "UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"])
def test_an_endpoint_deleted_by_another_at_once_is_no_internal_error(
    these: Endpoints, sagemaker: SageMaker, name: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def delete() -> None:
        while True:
            try:
                these.delete(name)
            except KeyError:
                return  # it is gone
            except ApiError:
                continue  # it is being updated
            break
        for thread in threading.enumerate():
            if thread.name == f"delete {name}":
                thread.join(SOON)

    request = weigh(name, a=0.0)[1] | {"EndpointConfigName": "x"}
    other = after_the_first_look(these, monkeypatch, delete)
    sagemaker.call(operation, request)
    other.join(SOON)
    while these.get(name) is not None:
        pass
    with pytest.raises(ApiError, match="Could not find endpoint"):
        sagemaker.call(operation, request)


def test_a_model_deleted_while_it_is_read_is_there_or_not(sagemaker: SageMaker, name: str) -> None:
    class Vanishing(dict[str, Any]):
        """A register that another thread empties after every look."""

        def __contains__(self, key: object) -> bool:
            there = super().__contains__(key)
            self.clear()
            return there

    sagemaker.models._entries = Vanishing(sagemaker.models._entries)
    assert sagemaker.call("DescribeModel", {"ModelName": "x"})["ModelName"] == "x"


def test_an_endpoint_is_described_while_variants_of_other_names_take_over(
    these: Endpoints, sagemaker: SageMaker, stand_in: type[StandIn], name: str
) -> None:
    """The old ones still have a request when the new ones serve."""
    _, release = reserve(these, name, "a")
    these.update(name, "y", [variant(name, VariantName="new")], fresh=True)
    while these.get(name)["Running"] != {"new": 1}:
        pass
    described = sagemaker.call("DescribeEndpoint", {"EndpointName": name})
    counts = {each["VariantName"]: each["CurrentInstanceCount"] for each in described["ProductionVariants"]}
    assert (described["EndpointStatus"], counts) == ("Updating", {"a": 0, "b": 0})
    release()
    settled(these, name)
    described = sagemaker.call("DescribeEndpoint", {"EndpointName": name})
    assert [each["VariantName"] for each in described["ProductionVariants"]] == ["new"]


def test_an_endpoint_is_not_deleted_while_it_is_updated_and_then_leaves_no_server(
    these: Endpoints, stand_in: type[StandIn], name: str, tmp_path: Path
) -> None:
    begin_update(these, stand_in, name)
    while not ((incoming := these._endpoints[name].incoming) and incoming._starting):
        pass
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        these.delete(name)
    stand_in.may_start.set()
    settled(these, name)
    these.delete(name)
    for deleting in [thread for thread in threading.enumerate() if thread.name == f"delete {name}"]:
        deleting.join(10)
    assert these.get(name) is None
    assert set(stand_in.stopped) == {"mine 1", "mine 2"}
    assert list((tmp_path / "serving").iterdir()) == []


def test_a_server_that_does_not_answer_in_time_is_a_model_error_that_names_the_limit(
    these: Endpoints, name: str
) -> None:
    these.create(record(name))
    settled(these, name)
    with pytest.raises(ApiError, match="timed out .* it has 60 seconds to answer") as caught:
        ask(these, name, b"", {"raise": "timeout"})
    assert (caught.value.code, caught.value.members["OriginalStatusCode"]) == ("ModelError", 0)


def test_an_answer_larger_than_the_limit_is_a_model_error_that_names_it(these: Endpoints, name: str) -> None:
    these.create(record(name))
    settled(these, name)
    with pytest.raises(ApiError, match="an answer of 7000006 bytes, where 6291456 are the most") as caught:
        ask(these, name, b"x" * 1000, {"times": "7000"})
    assert caught.value.code == "ModelError"


def test_an_endpoint_that_the_disk_refuses_is_not_accepted(
    these: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(these._journal, "save", full)
        with pytest.raises(OSError, match="No space"):
            these.create(record(name))
    assert these.get(name) is None
    assert these.create(record(name))
    assert settled(these, name)["EndpointStatus"] == "InService"


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_endpoint_whose_state_cannot_be_written_serves_and_can_be_deleted(
    make: Make, stand_in: type[StandIn], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    these = make()
    these.create(record(name))
    with monkeypatch.context() as disk:
        disk.setattr(these._journal, "save", full)
        stand_in.may_start.set()
        assert settled(these, name)["EndpointStatus"] == "InService"
        assert answer(these, name) == "mine 1"
        with pytest.raises(OSError, match="No space"):
            these.delete(name)
        assert answer(these, name) == "mine 1"
    again = make()  # which reads `Creating`, and does it again
    assert settled(again, name)["EndpointStatus"] == "InService"


def test_a_thread_that_fails_unexpectedly_fails_the_endpoint(
    these: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "prepare", lambda *_: 1 / 0)
    these.create(record(name))
    found = settled(these, name)
    assert (found["EndpointStatus"], found["FailureReason"][:19]) == ("Failed", "InternalServerError")
