"""Responses and errors in the protocols of the services, as botocore parses them."""

import json
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser

from localmode.core.errors import ApiError
from localmode.http.responses import error_response, json_response

ERROR = ApiError("NoSuchThing", "a < b & c", 404, Reason="because")


def parsed(service: str, protocol: str) -> dict[str, Any]:
    """Return an error as boto3 gives it to its caller."""
    response = error_response(service, ERROR)
    raw = {"status_code": response.status_code, "headers": HeadersDict(response.headers), "body": response.data}
    return dict(create_parser(protocol).parse(raw, None))


@pytest.mark.parametrize(
    ("service", "protocol"),
    [("sagemaker", "json"), ("logs", "json"), ("s3", "rest-xml"), ("iam", "query"), ("sts", "query")],
)
def test_a_client_reads_code_message_and_status_of_an_error(service: str, protocol: str) -> None:
    answer = parsed(service, protocol)
    assert (answer["Error"]["Code"], answer["Error"]["Message"]) == ("NoSuchThing", "a < b & c")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_json_error_has_its_further_members_and_its_type_in_a_header() -> None:
    response = error_response("sagemaker", ERROR)
    document = {"__type": "NoSuchThing", "message": "a < b & c", "Reason": "because"}
    assert (json.loads(response.data), response.headers["x-amzn-ErrorType"]) == (document, "NoSuchThing")


def test_a_json_response_has_the_type_of_the_protocol() -> None:
    response = json_response({"a": 1}, 201)
    assert (response.status_code, json.loads(response.data)) == (201, {"a": 1})
    assert response.content_type == "application/x-amz-json-1.1"
