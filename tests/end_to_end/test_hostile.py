"""Hostile requests to every operation, some of them generated: the answer is a 4xx, and no error is logged."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote, urlencode

import pytest
from botocore.credentials import Credentials
from botocore.model import ListShape, MapShape, Shape, StructureShape
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from localmode.api.registry import OPERATIONS
from localmode.core.aws import service_model
from localmode.core.settings import Settings
from localmode.core.wsgi import TARGET, as_text, headers_in
from localmode.daemon import Daemon
from tests.support.examples import EXAMPLES
from tests.support.local import BUCKET, ROLE, Rooms, channel, job_request, signed

ODD = [
    "..",
    ".",
    "a/b",
    "../x",
    "/etc/passwd",
    "\0",
    "a\0b",
    "a\nb",
    "é" * 512,
    "x" * 1024,
    "",
    " ",
    "%2e%2e",
    "\ud800",
]
NAMES = ["x", *ODD]
NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.integers(min_value=10**30, max_value=10**31))
TEXTS = st.one_of(st.sampled_from([*NAMES, ROLE, f"s3://{BUCKET}/x", "s3://../..", "s3://"]), st.text(max_size=40))
ANYTHING = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


class Complaints(logging.Handler):
    """The errors that localmode has logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Front:
    """A daemon in this process, whose WSGI application is called without a server."""

    def __init__(self, home: Path, rooms: Rooms) -> None:
        home.mkdir()
        (home / "daemon.lock").touch()
        (home / "changes.jsonl").touch()  # the rooms have created the execution role in moto, one for each process
        self.home = home
        settings = Settings(home=home, runner="rewrite")
        self.daemon = Daemon(settings, instances=Mock(runner="rewrite"))
        keys = self.daemon.environment()
        self.keys = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
        self.complaints = Complaints()
        logging.getLogger("localmode").addHandler(self.complaints)

    def send(self, service: str, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send an authenticated request; check that the response is well-formed and not a server error."""
        builder = EnvironBuilder(method=method, path="/", data=body)
        environ = builder.get_environ()
        raw, _, query = path.partition("?")
        environ |= {"PATH_INFO": raw, "QUERY_STRING": query, "HTTP_HOST": f"127.0.0.1:{self.daemon.port}", **headers}
        environ[TARGET] = quote(raw.encode("latin-1")) + (f"?{query}" if query else "")
        if service:
            named = {name: as_text(value) for name, value in headers_in(environ)}
            given = signed(self.keys, service, method, environ[TARGET], body, {"Host": named.pop("host"), **named})
            for name in ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256"):
                if name in given:
                    environ["HTTP_" + name.upper().replace("-", "_")] = given[name]
        self.complaints.found.clear()
        response = Response.from_app(self.daemon.application, environ, buffered=True)
        response.close()
        assert response.status_code < 500 or response.status_code == 501, (path, body, response.data[:500])
        str(response.headers).encode("latin-1")  # or the server cannot send them
        assert self.complaints.found == [], (path, body)
        assert b"SignatureDoesNotMatch" not in response.data and b"InvalidSignature" not in response.data
        return response

    def call(self, operation: str, request: Any) -> Response:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.send("sagemaker", "POST", "/", body, HTTP_X_AMZ_TARGET=f"SageMaker.{operation}")

    def close(self) -> None:
        logging.getLogger("localmode").removeHandler(self.complaints)
        self.daemon.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, rooms_by_runner: Callable[[str], Rooms]) -> Iterator[Front]:
    root = tmp_path_factory.mktemp("hostile")
    front = Front(root / "home", rooms_by_runner("rewrite"))
    front.send("s3", "PUT", f"/{BUCKET}/there", b"1")
    rooms = {path.name for path in front.home.iterdir()}
    yield front
    front.close()
    assert [path.name for path in root.iterdir()] == ["home"]  # nothing was written outside the home
    assert {path.name for path in front.home.iterdir()} <= {*rooms, "jobs", "endpoints", "serving", "logs"}


# SageMaker


def fitting(shape: Shape, depth: int = 5) -> st.SearchStrategy[Any]:
    """Return values; many fit a shape, and many nearly fit it."""
    if isinstance(shape, StructureShape):
        members = {name: mostly(fitting(member, depth - 1)) for name, member in shape.members.items()} if depth else {}
        needed = {name: members.pop(name) for name in shape.required_members if name in members}
        return st.fixed_dictionaries(needed, optional=members)
    if isinstance(shape, ListShape):
        return st.lists(fitting(shape.member, depth - 1), max_size=2)
    if isinstance(shape, MapShape):
        return st.dictionaries(fitting(shape.key), fitting(shape.value, depth - 1), max_size=2)
    if "enum" in shape.metadata:
        return st.sampled_from(shape.metadata["enum"])
    if shape.type_name == "string":
        return st.one_of(TEXTS, st.from_regex(r"[a-zA-Z0-9]{1,20}", fullmatch=True))
    if shape.type_name == "boolean":
        return st.booleans()
    return st.one_of(st.integers(0, 100), NUMBERS)


def mostly(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda number: ANYTHING if number == 0 else values)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_no_request_is_an_internal_error(front: Front, operation: str) -> None:
    shape = service_model().operation_model(operation).input_shape

    @EXAMPLES
    @given(st.one_of(fitting(shape), ANYTHING, st.binary(max_size=50)))
    def sent(request: Any) -> None:
        assert front.call(operation, request).status_code in (200, 400)

    sent()


BODIES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"\0",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"a": 1, "a": 2}',
    b"1" * 10_000,
    b"-",
    b'"\\ud800"',
]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_body_is_an_internal_error(front: Front, operation: str, body: bytes) -> None:
    assert front.call(operation, body).status_code in (200, 400)


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("operation", [operation for operation in sorted(OPERATIONS) if operation.startswith("Create")])
def test_a_resource_name_with_a_path_is_refused(front: Front, operation: str, name: str) -> None:
    shape = service_model().operation_model(operation).input_shape
    before = sorted(front.home.rglob("*"))
    good = {
        **job_request("x"),
        "ModelName": "x",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"ModelDataUrl": f"s3://{BUCKET}/there"},
        "EndpointConfigName": "x",
        "ProductionVariants": [{"VariantName": "x", "ModelName": "x"}],
        "EndpointName": "x",
    }
    request = {member: good[member] for member in {*shape.members} & {*good}}
    answer = front.call(operation, {**request, shape.required_members[0]: name})
    assert (answer.status_code, json.loads(answer.data)["__type"]) == (400, "ValidationException")
    assert sorted(front.home.rglob("*")) == before


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/x", "\0", "", "x" * 65])
def test_a_channel_name_with_a_path_is_refused(front: Front, name: str) -> None:
    answer = front.call("CreateTrainingJob", job_request("job", InputDataConfig=[channel(name, "there")]))
    assert (answer.status_code, json.loads(answer.data)["__type"]) == (400, "ValidationException")


# localmode's own commands, invocations


@pytest.mark.parametrize("command", ["status", "interrupt", "spot-capacity", "stop", "..", ""])
def test_no_body_of_a_command_is_an_internal_error(front: Front, command: str) -> None:
    members = st.sampled_from(["training_job_name", "outage", "available"])

    @EXAMPLES
    @given(
        st.one_of(st.dictionaries(members, ANYTHING), ANYTHING).map(lambda body: json.dumps(body).encode())
        | st.binary()
    )
    def sent(body: bytes) -> None:
        answer = front.send("", "POST", f"/_localmode/{command}", body, HTTP_X_LOCALMODE_KEY=front.keys.secret_key)
        assert answer.status_code in (200, 400)

    sent()


@EXAMPLES
@given(TEXTS, st.binary(max_size=50), st.text(st.characters(max_codepoint=255), max_size=20))
def test_no_invocation_is_an_internal_error(front: Front, name: str, body: bytes, content_type: str) -> None:
    path = "/endpoints/" + name.encode(errors="replace").decode("latin-1") + "/invocations"
    assert front.send("sagemaker", "POST", path, body, CONTENT_TYPE=content_type).status_code == 400


# S3, IAM, STS, CloudWatch Logs

KEYS = [
    "../x",
    "../../../x",
    "/etc/passwd",
    "..",
    ".",
    "a//b",
    "a/../../x",
    "x/" * 512,
    "x" * 1024,
    "é" * 512,
    "a\\..\\b",
    "a\nb",
    "%2e%2e/x",
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_an_object_with_any_key_is_stored_or_refused(front: Front, key: str) -> None:
    path = f"/{BUCKET}/{key}".encode().decode("latin-1")
    if front.send("s3", "PUT", path, key.encode()).status_code == 200:
        assert front.send("s3", "GET", path).data == key.encode()
        assert front.send("s3", "DELETE", path).status_code == 204
    else:
        assert front.send("s3", "GET", path).status_code in (400, 404)


def test_a_key_of_more_than_1024_bytes_is_refused(front: Front) -> None:
    answer = front.send("s3", "PUT", f"/{BUCKET}/{'x' * 1025}", b"1")
    assert (answer.status_code, b"KeyTooLongError" in answer.data) == (400, True)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?response-content-type=a%0d%0ax:y", {}),
        ("?response-content-disposition=a%00", {}),
        ("", {"HTTP_IF_MODIFIED_SINCE": "99999999999999999999"}),
        ("", {"HTTP_IF_UNMODIFIED_SINCE": "inf"}),
        ("?response-expires=Fri,%2031%20Dec%209999%2023:00:00%20-2300", {}),
    ],
)
def test_invalid_headers_of_a_read_are_refused(front: Front, query: str, headers: dict[str, str]) -> None:
    answer = front.send("s3", "GET", f"/{BUCKET}/there{query}", b"", **headers)
    assert (answer.status_code, b"InvalidArgument" in answer.data) == (400, True)


@pytest.mark.parametrize("header", ["HTTP_CONTENT_DISPOSITION", "HTTP_X_AMZ_META_X", "CONTENT_TYPE"])
@pytest.mark.parametrize("value", ["a\r\n b", "a\0"])
def test_invalid_headers_of_an_object_are_refused(front: Front, header: str, value: str) -> None:
    answer = front.send("s3", "PUT", f"/{BUCKET}/new", b"1", **{header: value})
    assert (answer.status_code, b"InvalidArgument" in answer.data) == (400, True)
    assert front.send("s3", "GET", f"/{BUCKET}/new").status_code == 404


def test_a_region_with_a_control_character_is_refused(front: Front) -> None:
    body = b"<CreateBucketConfiguration><LocationConstraint>a&#10;b</LocationConstraint></CreateBucketConfiguration>"
    answer = front.send("s3", "PUT", "/nowhere", body)
    assert (answer.status_code, b"InvalidLocationConstraint" in answer.data) == (400, True)
    assert front.send("s3", "HEAD", "/nowhere").status_code == 404


@settings(EXAMPLES, max_examples=400)
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS"]),
    st.sampled_from(["", BUCKET, "no-such-bucket", "..", ".new", "A_b"]),
    st.one_of(st.just(""), st.sampled_from(KEYS), st.text(max_size=10)),
    st.dictionaries(
        st.sampled_from(
            [
                "uploads",
                "uploadId",
                "partNumber",
                "delete",
                "tagging",
                "acl",
                "list-type",
                "prefix",
                "delimiter",
                "max-keys",
            ]
        )
        | st.sampled_from(
            ["versions", "continuation-token", "start-after", "encoding-type", "location", "policy", "cors", "marker"]
        ),
        TEXTS,
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(["HTTP_RANGE", "HTTP_X_AMZ_COPY_SOURCE", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE"])
        | st.sampled_from(["HTTP_CONTENT_MD5", "HTTP_X_AMZ_TAGGING", "HTTP_X_AMZ_META_X", "HTTP_X_AMZ_CONTENT_SHA256"])
        | st.sampled_from(["HTTP_CONTENT_DISPOSITION", "CONTENT_TYPE", "HTTP_EXPIRES"])
        | st.sampled_from(["HTTP_CONTENT_ENCODING", "HTTP_X_AMZ_CHECKSUM_CRC32", "HTTP_X_AMZ_DECODED_CONTENT_LENGTH"]),
        st.sampled_from(["aws-chunked", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "bytes=0-1", "bytes=9-", "bytes=-"])
        | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
        max_size=3,
    ),
    st.one_of(
        st.binary(max_size=50),
        st.sampled_from(
            [b"<", b"<a/>", b"<Delete><Object><Key>../x</Key></Object></Delete>", b"5\r\nhello\r\n0\r\n\r\n"]
        ),
        st.just(b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 100 + b'"><!ENTITY c "&b;&b;">]><Delete>&c;</Delete>'),
    ),
)
def test_no_request_to_s3_is_an_internal_error(
    front: Front, method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    path = f"/{bucket}/{key}" if key else f"/{bucket}"
    pairs = urlencode({name: value.encode(errors="replace") for name, value in query.items()})
    sent = path.encode(errors="replace").decode("latin-1")
    if (method, bucket, key) == ("DELETE", BUCKET, ""):
        return  # this one is allowed
    front.send("s3", method, f"{sent}?{pairs}", body, **headers)


def operations_of(service: str) -> list[str]:
    return list(service_model(service).operation_names)


@pytest.mark.parametrize("service", ["iam", "sts"])
def test_no_query_is_an_internal_error(front: Front, service: str) -> None:
    members = "RoleName PolicyArn PolicySourceArn ActionNames.member.1 RoleArn RoleSessionName UserName MaxItems Marker"

    @settings(EXAMPLES, max_examples=300)
    @given(
        st.sampled_from([*operations_of(service), "", "__class__", "NoSuchThing"]),
        st.dictionaries(
            st.sampled_from([*members.split(), "AssumeRolePolicyDocument", "PolicyDocument"]), TEXTS, max_size=4
        ),
        st.binary(max_size=20),
    )
    def sent(action: str, parameters: dict[str, str], more: bytes) -> None:
        pairs = {name: value.encode(errors="replace") for name, value in parameters.items()}
        body = urlencode({"Version": "2010-05-08", "Action": action, **pairs}).encode() + more
        form = "application/x-www-form-urlencoded"
        front.send(service, "POST", "/", body, CONTENT_TYPE=form, CONTENT_LENGTH=str(len(body)))

    sent()


def test_no_request_to_the_logs_is_an_internal_error(front: Front) -> None:
    members = (
        "logGroupName logStreamName logStreamNamePrefix logStreamNames limit startTime nextToken logEvents orderBy"
    )

    @settings(EXAMPLES, max_examples=300)
    @given(
        st.sampled_from([*operations_of("logs"), "", "NoSuchThing"]),
        st.one_of(st.dictionaries(st.sampled_from(members.split()), ANYTHING, max_size=4), ANYTHING, st.binary()),
    )
    def sent(operation: str, request: Any) -> None:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        front.send("logs", "POST", "/", body, HTTP_X_AMZ_TARGET=f"Logs_20140328.{operation}")

    sent()
