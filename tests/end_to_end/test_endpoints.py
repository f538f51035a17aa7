"""Endpoints of a daemon, with a tiny model that TensorFlow serves."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, SOON, Daemon, configure_endpoint, processes_naming
from tests.support.model_archives import UNUSABLE, archive_of
from tests.support.shapes import Checked


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
    """Return the IDs of the model servers' processes."""
    found = processes_naming("localmode.modelserver\0" + str(daemon.home))
    return [int(process.partition(":")[0]) for process in found]


def wait_for_instances(daemon: Daemon, count: int) -> None:
    """Wait until so many instances of the endpoint answer."""
    end = time.monotonic() + SOON
    while True:
        (variant,) = daemon.sagemaker.describe_endpoint(EndpointName="halves")["ProductionVariants"]
        if variant["CurrentInstanceCount"] == count:
            return
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def loaded(daemon: Daemon) -> list[tuple[str, str]]:
    """Return stream and text of the lines in the endpoint's log that servers write when they have loaded the model."""
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


def test_changed_weights_are_described(serving: Daemon) -> None:
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
    wait_for_instances(serving, 1)
    assert invoke(serving, "halves", [2]) == before
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
        """Wait until the server is back: how long the client would wait is random."""
        pauses.append(seconds)
        wait_for_instances(serving, 1)

    before = invoke(serving, "halves", [2])
    (number,) = servers(serving)
    os.kill(number, signal.SIGKILL)
    wait_for_instances(serving, 0)
    monkeypatch.setattr("botocore.endpoint.time.sleep", pause)
    answer = runtime.invoke_endpoint(EndpointName="halves", ContentType="application/json", Body='{"instances": [2]}')
    assert json.loads(answer["Body"].read()) == before
    assert pauses
    assert answer["ResponseMetadata"]["RetryAttempts"] == len(pauses)


def test_handlers_answer_in_a_server_whose_garbage_collection_leaves_out_tensorflow_s_objects(
    serving: Daemon, tmp_path: Path
) -> None:
    """A collection of all of them would take 0.2 s, every few hundred requests."""
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


# Archives that cannot be served, and requests that are refused


@pytest.mark.parametrize("reason", UNUSABLE)
def test_an_archive_that_cannot_be_served_fails_the_endpoint_with_the_reason(
    daemon: Daemon, name: str, reason: str
) -> None:
    create(daemon, name, UNUSABLE[reason])
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


def test_an_unsupported_member_of_a_request_is_refused_by_name(daemon: Daemon) -> None:
    runtime = daemon.client("sagemaker-runtime")
    answer = refusal(runtime.invoke_endpoint, EndpointName="unknown", Body=b"", TargetModel="other.tar.gz")
    message = "localmode does not support TargetModel. AWS would accept it."
    assert answer["Error"] == {"Code": "ValidationError", "Message": message}
