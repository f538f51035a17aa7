"""Which handler answers a request."""

import json

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from localmode.core.control import KEY_HEADER
from localmode.http.app import command_route, make_application
from tests.support.local import Daemon


def test_a_daemon_told_to_stop_answers_before_it_stops() -> None:
    told: list[str] = []
    route = command_route({}, lambda: told.append("stop"))
    application = make_application(80, "key", "secret", [route])
    request = EnvironBuilder("/_localmode/stop", "http://127.0.0.1:80", method="POST", headers=[(KEY_HEADER, "secret")])
    response = Response.from_app(application, request.get_environ())
    assert (response.status, response.data, told) == ("200 OK", b"{}", [])
    response.close()  # as a server does after it has sent the body
    assert told == ["stop"]


@pytest.mark.parametrize(
    ("service", "headers", "path", "named"),
    [
        ("sagemaker", {"X-Amz-Target": "SageMaker.CreateNotebookInstance"}, "/", "sagemaker:CreateNotebookInstance"),
        ("sagemaker", {"X-Amz-Target": "SageMaker."}, "/", "sagemaker:"),
        ("sagemaker", {"X-Amz-Target": "SageMaker.__class__"}, "/", "sagemaker:__class__"),
        ("sagemaker", {"X-Amz-Target": "SageMakerMetrics.X"}, "/", "sagemaker:SageMakerMetrics.X"),
        ("sagemaker", {}, "/nowhere", "sagemaker:/nowhere"),
        ("dynamodb", {"X-Amz-Target": "DynamoDB_20120810.ListTables"}, "/", "dynamodb:DynamoDB_20120810.ListTables"),
        ("ec2", {}, "/", "ec2:/"),
    ],
)
def test_an_unknown_service_or_operation_is_named(
    daemon: Daemon, service: str, headers: dict[str, str], path: str, named: str
) -> None:
    status, _, answer = daemon.send(service, "POST", path, b"{}", **headers)
    document = json.loads(answer)
    assert (status, document["__type"]) == (400, "UnknownOperationException")
    assert document["message"] == f"localmode does not implement {named}"


def test_an_unknown_command_is_named(daemon: Daemon) -> None:
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
    status, _, answer = daemon.request("POST", "/_localmode/fly", b"{}", headers)
    assert (status, "no command /_localmode/fly" in answer.decode()) == (400, True)
