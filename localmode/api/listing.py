"""The pages that the List operations answer with."""

from __future__ import annotations

import base64
import json
from typing import Any

from localmode.core.aws import Request
from localmode.core.errors import ApiError

_DEFAULT_PAGE_SIZE = 10


def list_resources(request: Request, kind: str, resources: list[Request], *more: str) -> Request:
    """Return a page of summaries of resources: name, ARN, creation time and the members named by `more`."""
    members = (f"{kind}Name", f"{kind}Arn", "CreationTime", *more)
    summaries = [{member: resource[member] for member in members} for resource in resources]
    return paginate(request, kind, summaries, f"{kind}s")


def paginate(
    request: Request, kind: str, summaries: list[Request], member: str, default_order: str = "Descending"
) -> Request:
    """Return one page of summaries as `member` of a response, filtered and sorted as the List request asks.

    A page begins after the last summary of the page before, even if resources were created or deleted in between.
    """
    column = {"Name": f"{kind}Name", "Status": f"{kind}Status"}.get(request.get("SortBy", ""), "CreationTime")
    descending = request.get("SortOrder", default_order) == "Descending"

    def key(summary: Request) -> tuple[Any, str]:
        return summary[column], summary[f"{kind}Name"]

    found = [summary for summary in summaries if _matches(request, kind, summary)]
    found.sort(key=key, reverse=descending)
    if token := request.get("NextToken"):
        last = _sort_key(token, str if column != "CreationTime" else float)
        found = [summary for summary in found if (key(summary) < last if descending else key(summary) > last)]
    count = request.get("MaxResults", _DEFAULT_PAGE_SIZE)
    response: Request = {member: found[:count]}
    if count < len(found):
        response["NextToken"] = _token(key(found[count - 1]))
    return response


def _matches(request: Request, kind: str, summary: Request) -> bool:
    """Tell whether a summary passes the filters for name and times."""
    return (
        request.get("NameContains", "").lower() in summary[f"{kind}Name"].lower()
        and request.get("CreationTimeAfter", 0) <= summary["CreationTime"]
        and summary["CreationTime"] <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0) <= summary.get("LastModifiedTime", float("inf"))
        and summary.get("LastModifiedTime", 0) <= request.get("LastModifiedTimeBefore", float("inf"))
    )


def _token(sort_key: tuple[Any, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(sort_key).encode()).decode()


def _sort_key(token: str, kind: type) -> tuple[Any, str]:
    """Return the sort key in a token; raise ApiError for a token that was not issued for this order."""
    try:
        value, name = json.loads(base64.urlsafe_b64decode(token))
        if not isinstance(name, str):
            raise TypeError("the name is no string")
        return kind(value), name
    except (ValueError, TypeError) as error:
        raise ApiError("ValidationException", f"Invalid NextToken {token!r}") from error
