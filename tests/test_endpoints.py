"""Endpoints: with a tiny model of TensorFlow's own, and with a stand-in where only their life is looked at."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local import BUCKET, ROLE, Daemon, Rooms, processes_naming

from localmode import endpoints
from localmode.disk import Journal
from localmode.endpoints import Endpoints, ModelServer, ModelServerError
from localmode.settings import Settings
from localmode.shapes import ApiError

MODEL = """
import sys
import tensorflow as tf
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="inputs")])
    def __call__(self, inputs):
        return {"output_0": inputs * 2.0 + 1.0}
model = Model()
tf.saved_model.save(model, sys.argv[1] + "/1", signatures=model.__call__)
"""


def archive_of(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return buffer.getvalue()


def put_model(daemon: Daemon, name: str, archive: bytes) -> None:
    """Upload an archive and describe an endpoint for it."""
    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=archive)
    container = {"Image": "none", "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz"}
    daemon.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "mine", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    daemon.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
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
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with an endpoint `double` that will be in service."""
    root = tmp_path_factory.mktemp("serving")
    (root / "model").mkdir()
    subprocess.run([sys.executable, "-c", MODEL, str(root / "model")], check=True, capture_output=True, timeout=120)
    daemon = Daemon(root / "home").start()
    try:
        put_model(daemon, "double", archive_of(root / "model"))
        wait_for(daemon, "double")
        yield daemon
    finally:
        daemon.stop()


def test_an_endpoint_answers_with_the_model_s_predictions(serving: Daemon) -> None:
    assert invoke(serving, "double", [[1.0, 2.0], [3.0, 4.0]]) == {"predictions": [[3.0, 5.0], [7.0, 9.0]]}


@pytest.mark.parametrize(
    "body", [b"{", b'{"instances": [[1]]}', b'{"instances": "x"}', b'{"instances": [[1, 2], [3]]}']
)
def test_a_body_that_the_model_cannot_read_is_a_model_error_with_its_status(serving: Daemon, body: bytes) -> None:
    runtime = serving.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="double", ContentType="application/json", Body=body)
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["Error"]["Message"].startswith("Received client error (400) from primary with message ")
    assert answer["OriginalStatusCode"] == 400
    assert "error" in answer["OriginalMessage"]
    assert answer["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/double")


def test_clients_at_once_get_each_its_own_answer(serving: Daemon) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: invoke(serving, "double", [[number, 0]]), range(24)))
    assert [answer["predictions"][0][0] for answer in answers] == [2 * number + 1 for number in range(24)]


def test_an_endpoint_comes_back_with_the_daemon_and_leaves_nothing_when_it_is_deleted(serving: Daemon) -> None:
    serving.kill()
    serving.start()
    assert invoke(serving, "double", [[1.0, 2.0]]) == {"predictions": [[3.0, 5.0]]}
    assert len(processes_naming("localmode/serving.py\0" + str(serving.home))) == 1
    stop = threading.Event()

    def ask() -> set[str]:
        """Invoke until it is gone; return how it was refused."""
        refusals = set()
        while not stop.is_set():
            try:
                invoke(serving, "double", [[1.0, 2.0]])
            except ClientError as error:
                refusals.add(error.response["Error"]["Code"])
        return refusals

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask) for _ in range(2)]
        serving.sagemaker.delete_endpoint(EndpointName="double")
        wait_for(serving, "double", "endpoint_deleted")
        stop.set()
    assert set().union(*(client.result() for client in clients)) <= {"ModelError", "ValidationError"}
    assert processes_naming("localmode/serving.py\0" + str(serving.home)) == []
    assert not (serving.home / "serving" / "double").exists()


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
    put_model(daemon, name, BAD_ARCHIVES[reason])
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
    other = f"{name}-2"
    daemon.s3.delete_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz")
    daemon.sagemaker.create_endpoint(EndpointName=other, EndpointConfigName=name)
    with pytest.raises(Exception, match="terminal failure state"):
        wait_for(daemon, other)
    reason = daemon.sagemaker.describe_endpoint(EndpointName=other)["FailureReason"]
    assert f"There is no model archive at s3://{BUCKET}/{name}/model.tar.gz" in reason


def test_an_unknown_endpoint_is_a_validation_error(daemon: Daemon) -> None:
    runtime = daemon.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=b"")
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"] == "Endpoint unknown of account 123456789012 not found."


# Their life, with a stand-in for the server


class StandIn(ModelServer):
    """Serves nothing; starts when it is told to."""

    may_start: threading.Event
    stopped: list[str]
    error = ""

    def start(self, archive: Path) -> None:
        assert self.may_start.wait(10)
        if self.error:
            raise ModelServerError(self.error)

    def invoke(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        if self._directory.name in self.stopped:
            raise ConnectionRefusedError
        return 200, "text/plain", body

    def stop(self) -> None:
        self.stopped.append(self._directory.name)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        may_start = threading.Event()
        stopped: list[str] = []

    monkeypatch.setattr(endpoints, "ModelServer", Fresh)
    return Fresh


@pytest.fixture
def make(
    rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, stand_in: type[StandIn], name: str
) -> Callable[[], Endpoints]:
    """Make endpoints over one journal: the second time, as after a restart."""
    storage = rooms_by_runner("rewrite").storage
    (tmp_path / "model").write_text("x")
    storage.put_file(BUCKET, f"{name}/model", tmp_path / "model")
    return lambda: Endpoints(Settings(tmp_path), storage, Journal(tmp_path / "endpoints", tmp_path))


def record(name: str) -> dict[str, Any]:
    url = f"s3://{BUCKET}/{name}/model"
    state = {"EndpointStatus": "Creating", "VariantName": "mine", "ModelDataUrl": url, "LastModifiedTime": 0}
    return {"EndpointName": name, "EndpointArn": "arn", "EndpointConfigName": "x", "CreationTime": 0, **state}


def settled(these: Endpoints, name: str) -> dict[str, Any]:
    assert these._endpoints[name].settled.wait(10)
    found = these.get(name)
    assert found is not None
    return found


def test_an_endpoint_is_created_then_in_service(
    make: Callable[[], Endpoints], stand_in: type[StandIn], name: str
) -> None:
    these = make()
    assert these.create(record(name))
    assert not these.create(record(name))
    with pytest.raises(ApiError, match="is being created"):
        these.invoke(name, b"x", {})
    stand_in.may_start.set()
    assert settled(these, name)["EndpointStatus"] == "InService"
    assert these.invoke(name, b"x", {}) == ("mine", "text/plain", b"x")


def test_an_endpoint_in_service_comes_back_and_a_failed_one_stays_failed(
    make: Callable[[], Endpoints], stand_in: type[StandIn], name: str
) -> None:
    stand_in.may_start.set()
    these = make()
    these.create(record(name))
    settled(these, name)
    stand_in.error = "no"
    these.create({**record(name), "EndpointName": "failing"})
    assert settled(these, "failing")["FailureReason"].endswith("cannot serve the model: no")
    these.close()
    stand_in.error = ""
    again = make()
    assert settled(again, name)["EndpointStatus"] == "InService"
    assert settled(again, "failing")["EndpointStatus"] == "Failed"


def test_an_endpoint_whose_daemon_stops_while_it_is_created_has_not_failed(
    make: Callable[[], Endpoints], stand_in: type[StandIn], name: str
) -> None:
    these = make()
    these.create(record(name))
    stand_in.error = "killed"
    these.close()
    stand_in.may_start.set()
    settled(these, name)
    stand_in.error = ""
    found = settled(make(), name)
    assert (found["EndpointStatus"], "FailureReason" in found) == ("InService", False)


def test_an_endpoint_deleted_while_it_is_created_is_gone_when_it_has_been(
    make: Callable[[], Endpoints], stand_in: type[StandIn], name: str
) -> None:
    these = make()
    these.create(record(name))
    these.delete(name)
    assert these.get(name)["EndpointStatus"] == "Deleting"
    these.delete(name)
    deleting = [thread for thread in threading.enumerate() if thread.name == f"delete {name}"]
    stand_in.may_start.set()
    for thread in deleting:
        thread.join(10)
    assert (len(deleting), these.get(name), stand_in.stopped) == (1, None, [name])
    assert these.create(record(name))


def test_an_endpoint_that_was_being_deleted_is_gone_after_a_restart(
    make: Callable[[], Endpoints], stand_in: type[StandIn], name: str
) -> None:
    these = make()
    these.create(record(name))
    these.delete(name)
    assert make().get(name) is None
    stand_in.may_start.set()
