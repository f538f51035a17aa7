"""Parse requests to S3 according to botocore's model."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from werkzeug.test import EnvironBuilder

from localmode.core.aws import service_model
from localmode.s3.app import S3Application
from localmode.s3.store.objects import ObjectStore
from tests.support.local import BUCKET, Daemon
from tests.support.s3 import Client, code_of, raw_put, read

REQUIRED = {"uploadId", "partNumber", "x-amz-copy-source"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><Tagging><TagSet/></Tagging>',
        "<?xml version='1.0' encoding='utf-16'?><Tagging><TagSet/></Tagging>".encode("utf-16"),
        b"<Tagging>" + b"<a>" * 100_000,
        b" " * (5 << 20),
    ],
    ids=range(8),
)
def test_xml_without_the_required_elements_is_refused(daemon: Daemon, name: str, body: bytes) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=name, Body=b"1", Tagging="a=1")
    status, answer = raw_put(daemon, f"{name}?tagging", body)
    assert (status, b"<Code>" in answer) == (400, True)
    assert daemon.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"] == [{"Key": "a", "Value": "1"}]


def optional_and_required() -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """Yield requests of every operation of S3 in which one member of query or headers is present, but empty."""
    model = service_model("s3")
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, static = operation.http["requestUri"].partition("?")
        path = path.replace("{Bucket}", BUCKET).replace("{Key+}", "key")
        members = operation.input_shape.members.values() if operation.input_shape else ()
        places = [(member.serialization.get("location"), member.serialization.get("name")) for member in members]
        for empty in places:
            query, headers = dict(parse_qsl(static, keep_blank_values=True)), {}
            for place in places:
                value = "" if place == empty else "1"
                if place[0] == "querystring" and (place[1] in query or value == "" or place[1] in REQUIRED):
                    query[place[1]] = value
                elif place[0] == "header" and (value == "" or place[1] in REQUIRED):
                    headers[place[1]] = value
            if empty[0] in ("querystring", "header"):
                yield operation.http["method"], path, query, headers


def test_no_empty_member_of_a_request_is_an_internal_error(tmp_path: Path) -> None:
    files = ObjectStore(tmp_path / "s3")
    app, count = S3Application(files), 0
    for method, path, query, headers in optional_and_required():
        files.create_bucket(BUCKET)
        files.write(BUCKET, "key", [b"1"])
        request = EnvironBuilder(path, method=method, query_string=query, headers=list(headers.items()))
        with app.handle(request.get_environ()) as response:  # raises what is not an error of S3
            assert response.status_code < 500 or response.status_code == 501, (method, path, query, headers)
        count += 1
    assert count > 500


def test_an_empty_copy_source_is_ignored(daemon: Daemon, name: str) -> None:
    assert raw_put(daemon, name, b"1", x_amz_copy_source="")[0] == 200
    assert read(daemon.s3, name) == b"1"


def test_an_empty_continuation_token_is_refused(s3: Client) -> None:
    assert code_of(lambda: s3.list_objects_v2(Bucket=BUCKET, ContinuationToken="")) == "InvalidArgument"
