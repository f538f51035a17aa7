"""Which handler answers a request."""

import json
import re
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from localmode.core.control import KEY_HEADER
from localmode.core.errors import ApiError
from localmode.http.app import command_route, make_application
from localmode.http.routes import Route, Router
from tests.support.local import Daemon


def handler(environ: dict[str, Any], *arguments: str) -> Response:
    return Response(json.dumps(arguments))


@pytest.mark.parametrize(
    ("service", "target", "path", "arguments"),
    [
        ("sagemaker", "SageMaker.ListModels", "/endpoints/x", ("ListModels", "x")),
        ("sagemaker", "SageMaker.ListModels", "/endpoints/x/y", None),
        ("sagemaker", "Other.ListModels", "/endpoints/x", None),
        ("s3", "SageMaker.ListModels", "/endpoints/x", None),
    ],
)
def test_a_route_matches_service_target_and_path(
    service: str, target: str, path: str, arguments: tuple[str, ...] | None
) -> None:
    route = Route("sagemaker", handler, re.compile(r"SageMaker\.(.*)"), re.compile("/endpoints/([^/]+)"))
    assert route.match(service, target, path) == arguments


def test_the_first_route_that_matches_answers() -> None:
    router = Router(
        [
            Route("", handler, path=re.compile("/(a)")),
            Route("", handler, path=re.compile("/(.)")),
            Route("", handler, path=re.compile("/(b)(.?)")),
        ]
    )
    answers = [Response.from_app(router, EnvironBuilder(path).get_environ()).data for path in ("/a", "/b", "/bc")]
    assert [json.loads(answer) for answer in answers] == [["a"], ["b"], ["b", "c"]]


def test_a_request_without_a_route_is_an_error_that_names_it() -> None:
    with pytest.raises(ApiError, match="does not implement :/nowhere"):
        Response.from_app(Router([]), EnvironBuilder("/nowhere").get_environ())


def test_the_daemon_answers_the_stop_command_before_it_stops() -> None:
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
def test_the_error_for_an_unknown_service_or_operation_names_it(
    daemon: Daemon, service: str, headers: dict[str, str], path: str, named: str
) -> None:
    status, _, answer = daemon.send(service, "POST", path, b"{}", **headers)
    document = json.loads(answer)
    assert (status, document["__type"]) == (400, "UnknownOperationException")
    assert document["message"] == f"localmode does not implement {named}"


def test_the_error_for_an_unknown_command_names_it(daemon: Daemon) -> None:
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
    status, _, answer = daemon.request("POST", "/_localmode/fly", b"{}", headers)
    assert (status, "no command /_localmode/fly" in answer.decode()) == (400, True)
