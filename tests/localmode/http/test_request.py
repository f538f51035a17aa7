"""Requests with broken bodies, lengths, chunks and paths."""

import pytest
from werkzeug.test import EnvironBuilder

from localmode.core.errors import ApiError
from localmode.http.request import read_body, read_json, service_of
from tests.support.local import BUCKET, Daemon
from tests.support.raw_http import head, raw, status_of

SCOPE = "key/20260101/us-east-1/logs/aws4_request"


@pytest.mark.parametrize(
    ("path", "headers", "service"),
    [
        ("/", {"Authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE}, Signature=0"}, "logs"),
        (f"/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}", {}, "logs"),
        ("/a/b?AWSAccessKeyId=key&Signature=0", {}, "s3"),
        ("/", {"X-Localmode-Key": "", "Authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE}"}, "localmode"),
        ("/", {"Authorization": "Basic eDp5"}, ""),
        ("/", {}, ""),
    ],
)
def test_the_signature_names_the_service(path: str, headers: dict[str, str], service: str) -> None:
    assert service_of(EnvironBuilder(path, headers=list(headers.items())).get_environ()) == service


def test_a_body_can_be_read_twice() -> None:
    environ = EnvironBuilder(method="POST", data=b'{"a": 1}').get_environ()
    assert (read_body(environ), read_json(environ)) == (b'{"a": 1}', {"a": 1})


def test_no_body_is_an_empty_object() -> None:
    assert read_json(EnvironBuilder(method="POST").get_environ()) == {}


def test_a_body_has_at_most_25_mib() -> None:
    environ = EnvironBuilder(method="POST", data=b" " * (25 << 20)).get_environ()
    assert len(read_body(environ)) == 25 << 20
    with pytest.raises(ApiError) as caught:
        read_body(EnvironBuilder(method="POST", data=b" " * ((25 << 20) + 1)).get_environ())
    assert (caught.value.code, caught.value.status) == ("RequestEntityTooLarge", 413)


# Over HTTP

NOT_JSON = [b"{", b"nope", b"\xff\xfe", b"\x00" * 100, b'{"a": }', b"1" * 5000, b"[" * 100_000, b'{"a":' * 5000, b"''"]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_a_body_that_is_not_json_is_a_serialization_error(daemon: Daemon, body: bytes) -> None:
    status, answer = daemon.call("CreateTrainingJob", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"NaN", b"true"])
def test_json_that_is_not_an_object_is_a_serialization_error(daemon: Daemon, body: bytes) -> None:
    status, answer = daemon.call("ListTrainingJobs", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("body", [b"[]", b"{", b"null", b"\xff", b"1"])
@pytest.mark.parametrize("command", ["interrupt", "spot-capacity"])
def test_a_command_with_a_broken_body_is_refused(daemon: Daemon, command: str, body: bytes) -> None:
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
    assert daemon.request("POST", f"/_localmode/{command}", body, headers)[0] == 400


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
def test_a_body_shorter_than_its_content_length_is_a_client_error(daemon: Daemon, service: str) -> None:
    lines = ["Content-Length: 1000", "X-Amz-Target: SageMaker.ListTrainingJobs"]
    answer = raw(daemon, head(daemon, service, *lines, method="PUT", path=f"/{BUCKET}/short") + b"{")
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999999", "1, 2"])
def test_an_invalid_content_length_is_a_client_error(daemon: Daemon, length: str) -> None:
    answer = raw(daemon, head(daemon, "sagemaker", f"Content-Length: {length}", "X-Amz-Target: SageMaker.X") + b"{}")
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"ffffff\r\n{}", b"2\r\n{}", b""])
@pytest.mark.parametrize("service", ["sagemaker", "s3"])
def test_invalid_chunks_are_a_client_error(daemon: Daemon, service: str, chunks: bytes) -> None:
    lines = ["Transfer-Encoding: chunked", "X-Amz-Target: SageMaker.ListTrainingJobs"]
    answer = raw(daemon, head(daemon, service, *lines, method="PUT", path=f"/{BUCKET}/chunks") + chunks)
    assert 400 <= status_of(answer) < 500


def test_a_body_above_25_mib_is_refused(daemon: Daemon) -> None:
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
def test_a_path_with_an_invalid_bucket_name_changes_nothing(daemon: Daemon, method: str, path: str, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key="there", Body=b"1")
    before = {entry.name for entry in (daemon.home / "s3").iterdir()}
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert (status_of(answer), b"InvalidBucketName" in answer) == (400, True)
    assert {entry.name for entry in (daemon.home / "s3").iterdir()} == before
    assert (daemon.home / "s3" / BUCKET / "there").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["/", "//"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_the_root_path_does_not_allow_changes(daemon: Daemon, method: str, path: str) -> None:
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert (status_of(answer), b"MethodNotAllowed" in answer) == (405, True)


@pytest.mark.parametrize("path", ["//", "/../../etc/passwd", "/" + "x" * 5000, "/some-bucket", f"/{BUCKET}/%2e%2e/x"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH", "TRACE", "FLY"])
def test_unusual_paths_and_methods_are_not_internal_errors(daemon: Daemon, method: str, path: str) -> None:
    answer = raw(daemon, head(daemon, "s3", "Content-Length: 0", method=method, path=path))
    assert status_of(answer) < 500 or status_of(answer) == 501
