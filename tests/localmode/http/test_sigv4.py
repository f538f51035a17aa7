"""Signatures: which are valid, how long, and for which requests."""

import io
import re
import time
import xml.etree.ElementTree as ElementTree
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, Daemon

LIST_JOBS = {"X-Amz-Target": "SageMaker.ListTrainingJobs"}
TWO_HOURS = timedelta(hours=2)
VERSIONS = ["s3", "s3v4"]  # as boto3 calls Signature Version 2 and 4
ODD_KEYS = ["a b", "a+b", "a%20b", "a%b", "\u00fc", "a//b", "/a", "a/", "a&b=c", "a?b#c", "~*'()!$,;:@", "a/../b", "."]
OPERATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "sagemaker": ("list_training_jobs", {}, "InvalidSignatureException"),
    "sagemaker-runtime": ("invoke_endpoint", {"EndpointName": "x", "Body": b"1"}, "InvalidSignatureException"),
    "s3": ("get_object", {"Bucket": BUCKET, "Key": "x"}, "SignatureDoesNotMatch"),
    "iam": ("list_roles", {}, "SignatureDoesNotMatch"),
    "sts": ("get_caller_identity", {}, "SignatureDoesNotMatch"),
    "logs": ("describe_log_groups", {}, "InvalidSignatureException"),
}


def client(daemon: Daemon, service: str, version: str | None = None, **keys: str) -> Any:
    """Return a client with a signature version, or with other keys."""
    keys = {"aws_access_key_id": daemon.state["access_key"], "aws_secret_access_key": daemon.state["secret_key"]} | keys
    options = {"signature_version": version} if version else {}
    config = Config(retries={"total_max_attempts": 1}, **options)
    return boto3.client(service, "us-east-1", endpoint_url=f"http://127.0.0.1:{daemon.port}", config=config, **keys)


def presigned(daemon: Daemon, version: str, key: str, operation: str = "get_object", **parameters: Any) -> str:
    """Return path and query of a presigned URL."""
    s3 = client(daemon, "s3", version)
    return path_of(daemon, s3.generate_presigned_url(operation, {"Bucket": BUCKET, "Key": key, **parameters}))


def path_of(daemon: Daemon, url: str) -> str:
    return url.removeprefix(f"http://127.0.0.1:{daemon.port}")


def refusal(daemon: Daemon, method: str, path: str, body: bytes = b"", **headers: str) -> str:
    """Send a request without adding a signature; return the code of the error, whose status is 403."""
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
def test_an_old_signature_is_refused(daemon: Daemon, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, parameters, code = OPERATIONS[service]
    call = getattr(client(daemon, service), operation)
    then = get_current_datetime() - timedelta(minutes=16)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: then)
    assert code_of(call, **parameters) == ("RequestTimeTooSkewed" if service == "s3" else code)


@pytest.mark.parametrize("service", ["sagemaker", "s3", "iam", "sts", "logs"])
@pytest.mark.parametrize("change", ["signature", "no signature", "method", "path", "query", "body", "target", "scope"])
def test_a_signature_is_valid_for_one_request_only(daemon: Daemon, service: str, change: str) -> None:
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


def test_a_body_must_match_the_hash_in_its_header(daemon: Daemon) -> None:
    said = {"X-Amz-Content-SHA256": sha256(b"{}").hexdigest()}
    assert daemon.send("sagemaker", "POST", "/", b"{}", **LIST_JOBS, **said)[0] == 200
    headers = daemon.signed("sagemaker", "POST", "/", b"{}", **LIST_JOBS, **said)
    assert daemon.request("POST", "/", b'{"MaxResults": 1}', headers)[0] == 403


def test_unsigned_x_amz_headers_are_refused(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    headers = daemon.signed("s3", "PUT", f"/{BUCKET}/{name}-2")
    added = {"X-Amz-Copy-Source": f"/{BUCKET}/{name}"}
    assert refusal(daemon, "PUT", f"/{BUCKET}/{name}-2", b"", **headers, **added) == "AccessDenied"
    four, two = (presigned(daemon, version, name, "put_object") for version in ("s3v4", "s3"))
    assert refusal(daemon, "PUT", four, b"", **added) == "AccessDenied"
    assert refusal(daemon, "PUT", two, b"", **added) == "SignatureDoesNotMatch"


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
def test_a_presigned_url_is_valid_for_one_request_only(daemon: Daemon, name: str, version: str) -> None:
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
    assert refusal(daemon, "GET", path_of(daemon, url)) == "SignatureDoesNotMatch"
    assert daemon.request("GET", path)[2] == b"1"


@pytest.mark.parametrize("service", ["sagemaker", "s3"])
@pytest.mark.parametrize("date", ["", "&X-Amz-Date=", "&X-Amz-Date=x", "&X-Amz-Date=20260101T000000Z"])
def test_a_signature_of_version_2_is_not_valid_as_version_4(daemon: Daemon, service: str, date: str) -> None:
    two = presigned(daemon, "s3", "x")
    signature, expires = (re.findall(rf"[?&]{name}=([^&]+)", two)[0] for name in ("Signature", "Expires"))
    scope = f"{daemon.state['access_key']}/20260101/us-east-1/{service}/aws4_request"
    query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-SignedHeaders=host{date}"
    query += f"&X-Amz-Expires={expires}&X-Amz-Signature={signature}"
    assert daemon.request("GET", f"/{BUCKET}/x?{query}", headers=LIST_JOBS)[0] == 403


@pytest.mark.parametrize("expires", ["", "x", "-1", "604801", "9" * 5000, "inf"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_invalid_expiry_is_refused(daemon: Daemon, version: str, expires: str) -> None:
    path = re.sub(r"Expires=\d+", f"Expires={expires}", presigned(daemon, version, "x"))
    assert refusal(daemon, "GET", path) == "AccessDenied"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_requests_for_any_key_can_be_signed(daemon: Daemon, name: str, key: str) -> None:
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


def test_a_signed_header_may_have_characters_outside_latin_1(daemon: Daemon, name: str) -> None:
    disposition = 'attachment; filename="\u00fc  \u00e9.csv"'
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", ContentDisposition=disposition)
    headers = daemon.signed("s3", "PUT", f"/{BUCKET}/{name}", b"2", **{"x-amz-meta-who": "\u4e2d"})
    headers["x-amz-meta-who"] = "\u4e2d".encode().decode("latin-1")  # in UTF-8 on the way
    assert daemon.request("PUT", f"/{BUCKET}/{name}", b"2", headers)[0] == 200


def test_a_stream_with_a_trailing_checksum_can_be_signed(daemon: Daemon, name: str) -> None:
    """boto3 sends trailing checksums over HTTPS only; the test makes it do so over HTTP."""
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
        assert daemon.request("GET", path_of(daemon, url))[2] == b"1"
    sagemaker = client(daemon, "sagemaker", aws_session_token="a+b/c==")
    assert sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"] == []
