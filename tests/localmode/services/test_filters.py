"""What localmode adds to moto's FilterLogEvents."""

import json
from typing import Any

import pytest

from localmode.core.errors import ApiError
from localmode.services.errors import ServiceError
from localmode.services.filters import check_pattern, with_stream_names

PREFIXED = json.dumps({"logGroupName": "group", "logStreamNamePrefix": "job/", "limit": 5}).encode()


class Streams:
    """Stands in for CloudWatch Logs: DescribeLogStreams with pages of two names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        assert operation == "DescribeLogStreams"
        start = int(request.get("nextToken", 0))
        found = [name for name in self.names if name.startswith(request["logStreamNamePrefix"])]
        page = [{"logStreamName": name} for name in found[start : start + 2]]
        return {"logStreams": page, **({"nextToken": str(start + 2)} if start + 2 < len(found) else {})}


@pytest.mark.parametrize("pattern", ["", " ", "ERROR", "one two2 été", '"a quoted phrase: 100 %"', '""'])
def test_words_and_a_quoted_phrase_are_accepted(pattern: str) -> None:
    check_pattern(json.dumps({"filterPattern": pattern}).encode())


@pytest.mark.parametrize("pattern", ["2", "?one", "-one", "one -two", '"one" "two"', '"open', "{ $.a = 1 }", "%one%"])
def test_a_pattern_that_moto_would_ignore_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_pattern(json.dumps({"filterPattern": pattern}).encode())
    assert caught.value.code == "InvalidParameterException"
    assert repr(pattern) in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b'{"filterPattern": 1}'])
def test_a_request_that_moto_refuses_is_left_to_moto(body: bytes) -> None:
    check_pattern(body)
    assert with_stream_names(body, Streams("job/1")) == body


def test_a_prefix_becomes_the_names_of_all_pages() -> None:
    request = json.loads(with_stream_names(PREFIXED, Streams("job/1", "other", "job/2", "job/3")))
    assert request["logStreamNames"] == ["job/1", "job/2", "job/3"]
    assert (request["logGroupName"], request["limit"]) == ("group", 5)


def test_a_prefix_of_no_stream_becomes_a_name_that_no_stream_has() -> None:
    assert json.loads(with_stream_names(PREFIXED, Streams("other")))["logStreamNames"] == ["job/"]


def test_a_group_that_does_not_exist_is_left_to_moto() -> None:
    def refuse(operation: str, **request: Any) -> dict[str, Any]:
        raise ServiceError(operation, "400", '{"__type": "ResourceNotFoundException"}')

    assert with_stream_names(PREFIXED, refuse) == PREFIXED
