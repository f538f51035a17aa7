"""What CloudWatch Logs' FilterLogEvents takes and moto ignores: patterns and prefixes of stream names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from localmode.core.errors import ApiError
from localmode.services.errors import ServiceError

_SUPPORTED = re.compile(r'\s*|[^\W\d_]\w*(\s+\w+)*|"[^"]*"')  # for any other pattern moto returns every event


def check_pattern(body: bytes) -> None:
    """Raise ApiError for a FilterLogEvents request whose pattern moto would ignore.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    try:
        pattern = json.loads(body).get("filterPattern")
    except (ValueError, AttributeError):  # moto refuses it
        return
    if isinstance(pattern, str) and not _SUPPORTED.fullmatch(pattern):
        raise ApiError(
            "InvalidParameterException",
            "localmode supports a filterPattern of words, the first beginning with a letter, or of one quoted phrase, "
            f"and not {pattern!r}",
        )


def with_stream_names(body: bytes, call: Callable[..., dict[str, Any]]) -> bytes:
    """Replace the prefix of stream names in a FilterLogEvents request, which moto ignores, by the names themselves.

    `call` calls an operation of CloudWatch Logs.
    """
    try:
        request = json.loads(body)
        prefix = request["logStreamNamePrefix"]
        names: list[str] = []
        page: dict[str, Any] = {"logGroupName": request["logGroupName"], "logStreamNamePrefix": prefix}
        while True:
            answer = call("DescribeLogStreams", **page)
            names += [stream["logStreamName"] for stream in answer["logStreams"]]
            if not answer.get("nextToken"):
                break
            page["nextToken"] = answer["nextToken"]
    except (ValueError, KeyError, TypeError, ServiceError):  # no prefix, or a request that moto refuses
        return body
    return json.dumps({**request, "logStreamNames": names or [prefix]}).encode()
