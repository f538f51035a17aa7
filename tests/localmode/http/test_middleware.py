"""Which requests are refused, and what every response has."""

import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError
from werkzeug.exceptions import ClientDisconnected
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from localmode.core.errors import ApiError, LocalModeError
from localmode.http.middleware import Authentication, ErrorResponses, HostCheck, RequestIds
from tests.support.local import BUCKET, Daemon
from tests.support.raw_http import head, raw

ORIGIN = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
LIST_JOBS = {"X-Amz-Target": "SageMaker.ListTrainingJobs"}
LOGS = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/logs/aws4_request, Signature=0"
S3 = LOGS.replace("logs", "s3")


def answered(application: Any, host: str = "127.0.0.1:80", **headers: str) -> Response:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    request = EnvironBuilder("/", method="POST", headers=[("Host", host), *named], data=b"{}")
    return Response.from_app(application, request.get_environ())


@pytest.mark.parametrize(
    ("error", "status", "code", "logged"),
    [
        (ApiError("NoSuchThing", "no such thing", 404), 404, "NoSuchThing", False),
        (LocalModeError("no such job"), 400, "LocalModeError", False),
        (ClientDisconnected(), 400, "BadRequest", False),
        (OSError("Invalid chunk header"), 400, "BadRequest", False),
        (OSError(28, "No space left on device"), 500, "InternalError", True),
        (LookupError("a defect"), 500, "InternalFailure", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_exception_becomes_an_error_response_and_is_logged_if_no_client_caused_it(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, code: str, logged: bool
) -> None:
    def failing(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    with caplog.at_level(logging.ERROR):
        response = answered(ErrorResponses(failing))
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (status, code)
    assert ("POST /" in caplog.text) == logged
    assert b"a defect" not in response.data


@pytest.mark.parametrize(("signature", "header"), [(S3, "x-amz-request-id"), (LOGS, "x-amzn-RequestId")])
def test_a_response_gets_an_id_unless_it_has_one(signature: str, header: str) -> None:
    first, second = (answered(RequestIds(Response()), Authorization=signature).headers[header] for _ in range(2))
    assert len({first, second}) == 2
    own = answered(RequestIds(Response(headers={header.upper(): "own"})), Authorization=signature)
    assert own.headers.getlist(header) == ["own"]


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost:80"])
def test_the_host_check_passes_the_addresses_of_the_server(host: str) -> None:
    assert answered(HostCheck(Response("passed"), 80), host).data == b"passed"


@pytest.mark.parametrize("host", ["127.0.0.1:81", "127.0.0.1", "evil.example:80", "LOCALHOST:80 "])
def test_the_host_check_refuses_other_hosts(host: str) -> None:
    with pytest.raises(ApiError) as caught:
        answered(HostCheck(Response(), 80), host)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)


def test_a_request_with_the_secret_key_passes_authentication() -> None:
    assert answered(Authentication(Response("passed"), "key", "secret"), X_Localmode_Key="secret").data == b"passed"


@pytest.mark.parametrize(
    "headers",
    [{}, {"X_Localmode_Key": "key"}, {"Authorization": LOGS.replace("key", "other")}, {"Authorization": LOGS}],
)
def test_a_request_without_a_valid_key_and_signature_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        answered(Authentication(Response(), "key", "secret"), **headers)
    assert caught.value.status == 403


# Over HTTP


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_a_wrong_key_is_refused(daemon: Daemon, service: str) -> None:
    headers = daemon.signed(service, "POST", "/", b"{}", **LIST_JOBS)
    headers["Authorization"] = headers["Authorization"].replace(daemon.state["access_key"], "LOCALMODE0000000000000000")
    status, _, answer = daemon.request("POST", "/", b"{}", headers)
    assert status == 403
    assert b"does not carry localmode" in answer


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Localmode-Key": ""},
        {"X-Localmode-Key": "x"},
        {"X-Localmode-Key": "\xe9"},
        {"X-Localmode-Key": "{access_key}"},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=/20260101/us-east-1/s3/aws4_request"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential="},
        {"Authorization": "AWS key:signature"},
        {"Authorization": "AWS {access_key}:signature"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential={access_key}/20260101/us-east-1/s3/aws4_request"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential={access_key}/20260101/us-east-1/localmode/aws4_request"},
    ],
)
@pytest.mark.parametrize("path", ["/", f"/{BUCKET}/x", "/_localmode/status", "/endpoints/x/invocations", "/?x=%ff"])
def test_a_request_without_a_valid_key_is_refused(daemon: Daemon, headers: dict[str, str], path: str) -> None:
    given = {name: value.replace("{access_key}", daemon.state["access_key"]) for name, value in headers.items()}
    assert daemon.request("POST", path, b"{}", given)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_another_host_name_is_refused_even_with_the_key(daemon: Daemon, host: str) -> None:
    status, _, answer = daemon.send("sagemaker", "POST", "/", b"{}", **LIST_JOBS, Host=host.format(port=daemon.port))
    assert (status, b"only under its own loopback address" in answer) == (403, True)


def test_a_request_without_a_host_is_refused(daemon: Daemon) -> None:
    request = head(daemon, "sagemaker").replace(f"Host: 127.0.0.1:{daemon.port}\r\n".encode(), b"")
    assert b"only under its own loopback address" in raw(daemon, request)


@pytest.mark.parametrize("path", ["/", f"/{BUCKET}/x", "/_localmode/status"])
def test_a_preflight_request_of_another_origin_gets_no_cors_headers(daemon: Daemon, path: str) -> None:
    status, headers, _ = daemon.request("OPTIONS", path, headers=ORIGIN)
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_no_response_has_cors_headers(daemon: Daemon, service: str) -> None:
    _, headers, _ = daemon.send(service, "GET", "/", b"", **ORIGIN)
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_no_response_of_moto_has_cors_headers(daemon: Daemon) -> None:
    answers = [daemon.client("iam").list_roles(), daemon.client("logs").describe_log_groups()]
    answers.append(daemon.client("sts").get_session_token())
    for answer in answers:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_errors_that_localmode_adds_to_iam_have_the_format_of_iam(daemon: Daemon) -> None:
    with pytest.raises(ClientError) as caught:
        daemon.client("iam").get_organizations_access_report(JobId="0" * 36)
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


def test_every_response_has_a_unique_request_id(daemon: Daemon) -> None:
    ids = set()
    for service, call, refused in (
        ("sagemaker", ("list_models", {}), ("describe_model", {"ModelName": "unknown"})),
        ("sagemaker-runtime", None, ("invoke_endpoint", {"EndpointName": "unknown", "Body": b""})),
        ("s3", ("list_buckets", {}), ("get_object", {"Bucket": BUCKET, "Key": "unknown"})),
        ("logs", ("describe_log_groups", {}), ("get_log_events", {"logGroupName": "a", "logStreamName": "b"})),
    ):
        client = daemon.client(service)
        if call:
            ids.add(getattr(client, call[0])(**call[1])["ResponseMetadata"]["RequestId"])
        with pytest.raises(ClientError) as caught:
            getattr(client, refused[0])(**refused[1])
        ids.add(caught.value.response["ResponseMetadata"]["RequestId"])
    assert len(ids) == 7
