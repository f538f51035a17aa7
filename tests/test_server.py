"""The front door: who may come in, and what hostile or broken requests get."""

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local import BUCKET, SOON, Daemon
from werkzeug.test import EnvironBuilder, run_wsgi_app

from localmode.server import KEY_HEADER, Application

ORIGIN = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
LIST_JOBS = {"X-Amz-Target": "SageMaker.ListTrainingJobs"}


def raw(daemon: Daemon, content: bytes, more: bytes = b"") -> bytes:
    """Send bytes as they are, end the sending side, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as connection:
        connection.sendall(content)
        if more:
            connection.sendall(more)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def head(daemon: Daemon, service: str, *lines: str, method: str = "POST", path: str = "/") -> bytes:
    """Return the head of a request, with a signature and further lines."""
    authorization = daemon.signed(service)["Authorization"]
    start = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{daemon.port}", f"Authorization: {authorization}"]
    return ("\r\n".join([*start, *lines]) + "\r\n\r\n").encode("latin-1")


@pytest.fixture(autouse=True)
def the_daemon_lives_on(daemon: Daemon) -> object:
    """Whatever a test sends, the same process answers afterwards, and nothing was unexpected to it."""
    log = daemon.home / "logs" / "daemon.log"
    before = log.read_text().count("Traceback")
    yield
    status, answer = daemon.call("ListTrainingJobs", {})
    assert (status, list(answer)[0]) == (200, "TrainingJobSummaries")
    assert log.read_text().count("Traceback") == before, log.read_text()[-3000:]


def test_a_daemon_told_to_stop_answers_before_it_stops() -> None:
    told: list[str] = []
    nothing: Any = SimpleNamespace(settings=None, endpoints=None)
    application = Application(80, "key", nothing, nothing, nothing, {}, lambda: told.append("stop"))
    request = EnvironBuilder("/_localmode/stop", "http://127.0.0.1:80", method="POST", headers={KEY_HEADER: "key"})
    body, status, _ = run_wsgi_app(application, request.get_environ())
    assert (status, list(body), told) == ("200 OK", [b"{}"], [])
    body.close()  # as a server does when all has been sent
    assert told == ["stop"]


# Who may come in


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_a_wrong_key_is_refused(daemon: Daemon, service: str) -> None:
    headers = daemon.signed(service, **LIST_JOBS)
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
        {"Authorization": "Basic eDp5"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=/20260101/us-east-1/s3/aws4_request"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential="},
        {"Authorization": "AWS key:signature"},
    ],
)
@pytest.mark.parametrize("path", ["/", f"/{BUCKET}/x", "/_localmode/status", "/endpoints/x/invocations", "/?x=%ff"])
def test_without_the_key_nobody_comes_in(daemon: Daemon, headers: dict[str, str], path: str) -> None:
    assert daemon.request("POST", path, b"{}", headers)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_another_host_name_is_refused_even_with_the_key(daemon: Daemon, host: str) -> None:
    headers = daemon.signed("sagemaker", **LIST_JOBS, Host=host.format(port=daemon.port))
    assert daemon.request("POST", "/", b"{}", headers)[0] == 403


def test_a_request_without_a_host_is_refused(daemon: Daemon) -> None:
    request = f"POST / HTTP/1.0\r\nAuthorization: {daemon.signed('sagemaker')['Authorization']}\r\n\r\n"
    assert status_of(raw(daemon, request.encode())) == 403


@pytest.mark.parametrize("path", ["/", f"/{BUCKET}/x", "/_localmode/status"])
def test_a_preflight_of_another_origin_gets_nothing_usable(daemon: Daemon, path: str) -> None:
    status, headers, _ = daemon.request("OPTIONS", path, headers=ORIGIN)
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_no_answer_allows_another_origin_to_read_it(daemon: Daemon, service: str) -> None:
    _, headers, _ = daemon.request("GET", "/", headers=daemon.signed(service, **ORIGIN))
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_no_answer_of_moto_does_either(daemon: Daemon) -> None:
    answers = [daemon.client("iam").list_roles(), daemon.client("logs").describe_log_groups()]
    answers.append(daemon.client("sts").get_session_token())
    for answer in answers:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_localmode_s_own_errors_of_iam_have_its_form(daemon: Daemon) -> None:
    with pytest.raises(ClientError) as caught:
        daemon.client("iam").get_organizations_access_report(JobId="0" * 36)
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


def test_it_listens_on_the_loopback_address_alone(daemon: Daemon) -> None:
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    ours = [address for address in listening if int(address.partition(":")[2], 16) == daemon.port]
    assert ours == [f"0100007F:{daemon.port:04X}"]
    assert f":{daemon.port:04X} " not in Path("/proc/net/tcp6").read_text()


def test_a_presigned_url_with_another_key_is_refused(daemon: Daemon) -> None:
    url = daemon.s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "x"})
    path = url.partition(str(daemon.port))[2].replace(daemon.state["access_key"], "LOCALMODE0")
    assert daemon.request("GET", path)[0] == 403


def test_a_presigned_url_of_signature_version_4_works(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    credential = f"{daemon.state['access_key']}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    path = f"/{BUCKET}/{name}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Signature=0"
    assert daemon.request("GET", path)[2] == b"1"


# What is not there


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
    status, _, answer = daemon.request("POST", path, b"{}", daemon.signed(service, **headers))
    document = json.loads(answer)
    assert (status, document["__type"]) == (400, "UnknownOperationException")
    assert document["message"] == f"localmode does not implement {named}"


def test_an_unknown_command_is_named(daemon: Daemon) -> None:
    headers = {"X-Localmode-Key": daemon.state["access_key"]}
    status, _, answer = daemon.request("POST", "/_localmode/fly", b"{}", headers)
    assert (status, "no command /_localmode/fly" in answer.decode()) == (400, True)


# What is broken

NOT_JSON = [b"{", b"nope", b"\xff\xfe", b"\x00" * 100, b'{"a": }', b"1" * 5000, b"[" * 100_000, b'{"a":' * 5000, b"''"]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_a_body_that_is_no_json_is_a_serialization_error(daemon: Daemon, body: bytes) -> None:
    status, answer = daemon.call("CreateTrainingJob", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"NaN", b"true"])
def test_json_that_is_no_object_is_a_serialization_error(daemon: Daemon, body: bytes) -> None:
    status, answer = daemon.call("ListTrainingJobs", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("body", [b"[]", b"{", b"null", b"\xff", b"1"])
@pytest.mark.parametrize("command", ["interrupt", "spot-capacity"])
def test_a_command_with_a_broken_body_is_refused(daemon: Daemon, command: str, body: bytes) -> None:
    headers = {"X-Localmode-Key": daemon.state["access_key"]}
    assert daemon.request("POST", f"/_localmode/{command}", body, headers)[0] == 400


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_a_body_shorter_than_it_says_is_a_client_s_error(daemon: Daemon, service: str) -> None:
    lines = ["Content-Length: 1000", "X-Amz-Target: SageMaker.ListTrainingJobs"]
    answer = raw(daemon, head(daemon, service, *lines, method="PUT", path=f"/{BUCKET}/short") + b"{")
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999999", "1, 2"])
def test_a_length_that_makes_no_sense_is_no_crash(daemon: Daemon, length: str) -> None:
    answer = raw(daemon, head(daemon, "sagemaker", f"Content-Length: {length}", "X-Amz-Target: SageMaker.X") + b"{}")
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"ffffff\r\n{}", b"2\r\n{}", b""])
@pytest.mark.parametrize("service", ["sagemaker", "s3"])
def test_broken_chunks_are_a_client_s_error(daemon: Daemon, service: str, chunks: bytes) -> None:
    lines = ["Transfer-Encoding: chunked", "X-Amz-Target: SageMaker.ListTrainingJobs"]
    answer = raw(daemon, head(daemon, service, *lines, method="PUT", path=f"/{BUCKET}/chunks") + chunks)
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n\r\n", b"GET", b"\xff" * 70_000, b"A B C D\r\n\r\n"]
)
def test_garbage_is_no_crash(daemon: Daemon, garbage: bytes) -> None:
    answer = raw(daemon, garbage)
    assert b" 200 " not in answer


def test_a_body_larger_than_any_request_is_refused(daemon: Daemon) -> None:
    size = (25 << 20) + 1000
    lines = [f"Content-Length: {size}", "X-Amz-Target: SageMaker.ListTrainingJobs"]
    assert status_of(raw(daemon, head(daemon, "sagemaker", *lines), b" " * size)) == 413


NO_BUCKETS = [
    "//a",
    "/..",
    "/.new",
    "/A_b",
    "/ab",
    "/%ff",
    "/b\xff",
    "*",
    "/%00",
    "/%0a",
]


@pytest.mark.parametrize("path", NO_BUCKETS, ids=ascii)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_what_names_no_bucket_changes_none(daemon: Daemon, method: str, path: str, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key="there", Body=b"1")
    before = {entry.name for entry in (daemon.home / "s3").iterdir()}
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert (status_of(answer), b"InvalidBucketName" in answer) == (400, True)
    assert {entry.name for entry in (daemon.home / "s3").iterdir()} == before
    assert (daemon.home / "s3" / BUCKET / "there").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["/", "//"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_the_service_itself_cannot_be_changed(daemon: Daemon, method: str, path: str) -> None:
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert (status_of(answer), b"MethodNotAllowed" in answer) == (405, True)


@pytest.mark.parametrize("path", ["//", "/../../etc/passwd", "/" + "x" * 5000, "/some-bucket", f"/{BUCKET}/%2e%2e/x"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH", "TRACE", "FLY"])
def test_odd_paths_and_methods_are_no_crash(daemon: Daemon, method: str, path: str) -> None:
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert status_of(answer) < 500 or status_of(answer) == 501


def test_a_client_that_says_nothing_holds_up_nobody(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as silent:
        silent.sendall(b"POST / HTTP/1.1\r\n")
        assert daemon.call("ListTrainingJobs", {})[0] == 200


def test_a_slow_upload_holds_up_nobody(daemon: Daemon, name: str) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as slow:
        slow.sendall(head(daemon, "s3", "Content-Length: 10", method="PUT", path=f"/{BUCKET}/{name}") + b"12345")
        daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}-2", Body=b"1")
        slow.sendall(b"67890")
        assert status_of(slow.recv(100)) == 200
