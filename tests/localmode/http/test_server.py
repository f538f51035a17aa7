"""The front door: who may come in, and what hostile or broken requests get."""

import io
import json
import re
import socket
import time
import xml.etree.ElementTree as ElementTree
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.exceptions import ClientError
from werkzeug.test import EnvironBuilder, run_wsgi_app

from localmode.core.control import KEY_HEADER
from localmode.http.app import command_route, make_application
from tests.support.local import BUCKET, SOON, Daemon

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
    """Return the head of a request, with a signature (as of no body) and further lines."""
    more = dict(line.split(": ", 1) for line in lines)
    headers = daemon.signed(service, method, path, **{name: more[name] for name in more if name.startswith("X-Amz")})
    start = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers | more).items())]
    return ("\r\n".join(start) + "\r\n\r\n").encode("latin-1")


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
    route = command_route({}, lambda: told.append("stop"))
    application = make_application(80, "key", "secret", [route])
    request = EnvironBuilder("/_localmode/stop", "http://127.0.0.1:80", method="POST", headers={KEY_HEADER: "secret"})
    body, status, _ = run_wsgi_app(application, request.get_environ())
    assert (status, list(body), told) == ("200 OK", [b"{}"], [])
    body.close()  # as a server does when all has been sent
    assert told == ["stop"]


# Who may come in


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
def test_without_the_key_nobody_comes_in(daemon: Daemon, headers: dict[str, str], path: str) -> None:
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
def test_a_preflight_of_another_origin_gets_nothing_usable(daemon: Daemon, path: str) -> None:
    status, headers, _ = daemon.request("OPTIONS", path, headers=ORIGIN)
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_no_answer_allows_another_origin_to_read_it(daemon: Daemon, service: str) -> None:
    _, headers, _ = daemon.send(service, "GET", "/", **ORIGIN)
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


def test_every_answer_has_an_id_of_its_own(daemon: Daemon) -> None:
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


def test_it_listens_on_the_loopback_address_alone(daemon: Daemon) -> None:
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    ours = [address for address in listening if int(address.partition(":")[2], 16) == daemon.port]
    assert ours == [f"0100007F:{daemon.port:04X}"]
    assert f":{daemon.port:04X} " not in Path("/proc/net/tcp6").read_text()


# Signatures

TWO_HOURS = timedelta(hours=2)
VERSIONS = ["s3", "s3v4"]  # as boto3 calls Signature Version 2 and 4
ODD_KEYS = ["a b", "a+b", "a%20b", "a%b", "\u00fc", "a//b", "/a", "a/", "a&b=c", "a?b#c", "~*'()!$,;:@", "a/../b", "."]
OPERATIONS = {
    "sagemaker": ("list_training_jobs", {}, "InvalidSignatureException"),
    "sagemaker-runtime": ("invoke_endpoint", {"EndpointName": "x", "Body": b"1"}, "InvalidSignatureException"),
    "s3": ("get_object", {"Bucket": BUCKET, "Key": "x"}, "SignatureDoesNotMatch"),
    "iam": ("list_roles", {}, "SignatureDoesNotMatch"),
    "sts": ("get_caller_identity", {}, "SignatureDoesNotMatch"),
    "logs": ("describe_log_groups", {}, "InvalidSignatureException"),
}


def client(daemon: Daemon, service: str, version: str | None = None, **keys: str) -> Any:
    """Return a client that signs in a way of its own."""
    keys = {"aws_access_key_id": daemon.state["access_key"], "aws_secret_access_key": daemon.state["secret_key"]} | keys
    options = {"signature_version": version} if version else {}
    config = Config(retries={"total_max_attempts": 1}, **options)
    return boto3.client(service, "us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", config=config, **keys)


def presigned(daemon: Daemon, version: str, key: str, operation: str = "get_object", **parameters: Any) -> str:
    """Return path and query of a presigned URL."""
    s3 = client(daemon, "s3", version)
    return of_url(daemon, s3.generate_presigned_url(operation, {"Bucket": BUCKET, "Key": key, **parameters}))


def of_url(daemon: Daemon, url: str) -> str:
    return url.removeprefix(f"http://127.0.0.1:{daemon.port}")


def refusal(daemon: Daemon, method: str, path: str, body: bytes = b"", **headers: str) -> str:
    """Return the code of the error that a request without more of a signature gets, which is 403."""
    status, _, answer = daemon.request(method, path, body, headers)
    assert status == 403, answer
    return ElementTree.fromstring(answer).findtext("Code") or ""


def code_of(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as failure:
        call(**parameters)
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(failure.value.response["Error"]["Code"])


@pytest.mark.parametrize("service", OPERATIONS)
def test_a_signature_with_another_secret_key_is_refused(daemon: Daemon, service: str) -> None:
    operation, parameters, code = OPERATIONS[service]
    call = getattr(client(daemon, service, aws_secret_access_key="made up"), operation)
    assert code_of(call, **parameters) == code


@pytest.mark.parametrize("service", OPERATIONS)
def test_a_signature_of_long_ago_is_refused(daemon: Daemon, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, parameters, code = OPERATIONS[service]
    call = getattr(client(daemon, service), operation)
    then = get_current_datetime() - timedelta(minutes=16)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: then)
    assert code_of(call, **parameters) == ("RequestTimeTooSkewed" if service == "s3" else code)


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
@pytest.mark.parametrize("change", ["signature", "no signature", "method", "path", "query", "body", "target", "scope"])
def test_a_signature_is_good_for_one_request(daemon: Daemon, service: str, change: str) -> None:
    method, path, body = "POST", "/a", b"{}"
    headers = daemon.signed(service, method, path, body, **LIST_JOBS)
    start, _, signature = headers["Authorization"].rpartition("=")
    if change == "signature":
        headers["Authorization"] = f"{start}={'0' * len(signature)}"
    elif change == "no signature":
        headers["Authorization"] = start.rpartition(",")[0]
    elif change == "scope":
        headers["Authorization"] = headers["Authorization"].replace("us-east-1", "us-east-2")
    elif change == "target":
        headers["X-Amz-Target"] = "SageMaker.CreateTrainingJob"
    elif change == "body" and service == "s3":
        headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    method = "PUT" if change == "method" else method
    path += {"path": "/b", "query": "?b"}.get(change, "")
    body = b"[]" if change == "body" else body
    status, _, answer = daemon.request(method, path, body, headers)
    assert (status, b"signature we calculated does not match" in answer) == (403, True)


def test_a_hash_in_a_header_stands_for_no_other_body(daemon: Daemon) -> None:
    said = {"X-Amz-Content-SHA256": sha256(b"{}").hexdigest()}
    assert daemon.send("sagemaker", "POST", "/", b"{}", **LIST_JOBS, **said)[0] == 200
    headers = daemon.signed("sagemaker", "POST", "/", b"{}", **LIST_JOBS, **said)
    assert daemon.request("POST", "/", b'{"MaxResults": 1}', headers)[0] == 403


def test_what_is_not_signed_of_x_amz_is_refused(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    headers = daemon.signed("s3", "PUT", f"/{BUCKET}/{name}-2")
    added = {"X-Amz-Copy-Source": f"/{BUCKET}/{name}"}
    assert refusal(daemon, "PUT", f"/{BUCKET}/{name}-2", **headers, **added) == "AccessDenied"
    four, two = (presigned(daemon, version, name, "put_object") for version in ("s3v4", "s3"))
    assert refusal(daemon, "PUT", four, **added) == "AccessDenied"
    assert refusal(daemon, "PUT", two, **added) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_presigned_url_works_until_it_expires(
    daemon: Daemon, name: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    path = presigned(daemon, version, name)
    assert daemon.request("GET", path)[2] == b"1"
    assert daemon.request("GET", presigned(daemon, version, name, ResponseContentType="x/y z+"))[2] == b"1"
    then = get_current_datetime() - TWO_HOURS
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: then)
    monkeypatch.setattr("botocore.auth.time", SimpleNamespace(time=lambda: time.time() - TWO_HOURS.total_seconds()))
    status, _, answer = daemon.request("GET", presigned(daemon, version, name))
    assert (status, b"<Code>AccessDenied</Code><Message>Request has expired</Message>" in answer) == (403, True)
    assert b"Request has expired" in daemon.request("GET", presigned(daemon, version, "no-such-key"))[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_presigned_url_is_good_for_one_thing(daemon: Daemon, name: str, version: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    path = presigned(daemon, version, name)
    key = daemon.state["access_key"]
    signature = "Signature=" if version == "s3" else "X-Amz-Signature="
    for other in (path.replace(name, f"{name}-2"), path.replace(signature, f"{signature}0"), f"{path}&versionId=null"):
        assert refusal(daemon, "GET", other) == "SignatureDoesNotMatch"
    assert refusal(daemon, "DELETE", path) == "SignatureDoesNotMatch"
    assert daemon.request("GET", path.replace(key, "LOCALMODE0"))[0] == 403
    keys = {"aws_secret_access_key": "made up"}
    url = client(daemon, "s3", version, **keys).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": name})
    assert refusal(daemon, "GET", of_url(daemon, url)) == "SignatureDoesNotMatch"
    assert daemon.request("GET", path)[2] == b"1"


@pytest.mark.parametrize("service", ["sagemaker", "s3"])
@pytest.mark.parametrize("date", ["", "&X-Amz-Date=", "&X-Amz-Date=x", "&X-Amz-Date=20260101T000000Z"])
def test_a_signature_of_one_version_is_none_of_the_other(daemon: Daemon, service: str, date: str) -> None:
    two = presigned(daemon, "s3", "x")
    signature, expires = (re.search(rf"[?&]{name}=([^&]+)", two)[1] for name in ("Signature", "Expires"))
    scope = f"{daemon.state['access_key']}/20260101/us-east-1/{service}/aws4_request"
    query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-SignedHeaders=host{date}"
    query += f"&X-Amz-Expires={expires}&X-Amz-Signature={signature}"
    assert daemon.request("GET", f"/{BUCKET}/x?{query}", headers=LIST_JOBS)[0] == 403


@pytest.mark.parametrize("expires", ["", "x", "-1", "604801", "9" * 5000, "inf"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_expiry_that_makes_no_sense_is_refused(daemon: Daemon, version: str, expires: str) -> None:
    path = re.sub(r"Expires=\d+", f"Expires={expires}", presigned(daemon, version, "x"))
    assert refusal(daemon, "GET", path) == "AccessDenied"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_any_key_can_be_signed(daemon: Daemon, name: str, key: str) -> None:
    for version in ("s3v4", "s3"):
        whole = f"{name}/{key}/{version}" if key == "." else f"{name}-{version}/{key}"
        s3 = client(daemon, "s3", "s3v4")
        put = {"ContentType": "text/x", "Metadata": {"who": "a  b"}}
        s3.put_object(Bucket=BUCKET, Key=whole, Body=b"1", **put)
        assert s3.get_object(Bucket=BUCKET, Key=whole)["Body"].read() == b"1"
        assert whole in [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix=whole)["Contents"]]
        assert daemon.request("GET", presigned(daemon, version, whole))[2] == b"1"
        path = presigned(daemon, version, whole, "put_object", **put)
        headers = {"Content-Type": "text/x", "x-amz-meta-who": "a  b"}
        assert daemon.request("PUT", path, b"2", headers)[0] == 200
        assert s3.get_object(Bucket=BUCKET, Key=whole)["Body"].read() == b"2"


def test_a_header_may_have_any_letters(daemon: Daemon, name: str) -> None:
    disposition = 'attachment; filename="\u00fc  \u00e9.csv"'
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ContentDisposition=disposition)
    headers = daemon.signed("s3", "PUT", f"/{BUCKET}/{name}", b"2", **{"x-amz-meta-who": "\u4e2d"})
    headers["x-amz-meta-who"] = "\u4e2d".encode().decode("latin-1")  # in UTF-8 on the way
    assert daemon.request("PUT", f"/{BUCKET}/{name}", b"2", headers)[0] == 200


def test_a_stream_with_its_checksum_behind_it_can_be_signed(daemon: Daemon, name: str) -> None:
    """boto3 sends it so over HTTPS; here it is told to do so over HTTP."""
    trailer = {"algorithm": "crc32", "in": "trailer", "name": "x-amz-checksum-crc32"}
    sent: list[Any] = []
    s3 = client(daemon, "s3", "s3v4")
    events = s3.meta.events
    events.register(
        "before-call.s3.PutObject", lambda params, **_: params["context"]["checksum"].update(request_algorithm=trailer)
    )
    events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request.headers))
    s3.put_object(Bucket=BUCKET, Key=name, Body=SimpleNamespace(read=io.BytesIO(b"12").read))  # it cannot seek
    assert sent[0]["X-Amz-Content-SHA256"] == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() == b"12"


def test_a_session_token_changes_nothing(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    for version in VERSIONS:
        s3 = client(daemon, "s3", version, aws_session_token="a+b/c==")
        url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": name})
        assert daemon.request("GET", of_url(daemon, url))[2] == b"1"
    sagemaker = client(daemon, "sagemaker", aws_session_token="a+b/c==")
    assert sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"] == []


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
    status, _, answer = daemon.send(service, "POST", path, b"{}", **headers)
    document = json.loads(answer)
    assert (status, document["__type"]) == (400, "UnknownOperationException")
    assert document["message"] == f"localmode does not implement {named}"


def test_an_unknown_command_is_named(daemon: Daemon) -> None:
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
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
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
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
