"""TODO: localmode/api/listing.py"""

from __future__ import annotations

import base64
import json
from typing import Any

from localmode.core.aws import Request
from localmode.core.errors import ApiError


def page(
    request: Request, summaries: list[Request], member: str, kind: str, default_order: str = "Descending"
) -> Request:
    """Filter, sort and cut a list of summaries as the List operations do; 10 at once by default.

    A page begins after the last summary of the one before, whatever has been created or deleted meanwhile.
    """
    name = f"{kind}Name"
    contains = request.get("NameContains", "").lower()
    found = [
        summary
        for summary in summaries
        if contains in summary[name].lower()
        and request.get("CreationTimeAfter", 0) <= summary["CreationTime"]
        and summary["CreationTime"] <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0) <= summary.get("LastModifiedTime", float("inf"))
        and summary.get("LastModifiedTime", 0) <= request.get("LastModifiedTimeBefore", float("inf"))
    ]
    column = {"Name": name, "Status": f"{kind}Status"}.get(request.get("SortBy", ""), "CreationTime")
    descending = request.get("SortOrder", default_order) == "Descending"

    def key(summary: Request) -> tuple[Any, str]:
        return summary[column], summary[name]

    found.sort(key=key, reverse=descending)
    if token := request.get("NextToken"):
        last = _position(token, str if column != "CreationTime" else float)
        found = [each for each in found if (key(each) < last if descending else key(each) > last)]
    count = request.get("MaxResults", 10)
    page: Request = {member: found[:count]}
    if count < len(found):
        page["NextToken"] = base64.urlsafe_b64encode(json.dumps(key(found[count - 1])).encode()).decode()
    return page


def _position(token: str, kind: type) -> tuple[Any, str]:
    """Return the sort key in a token; raise ApiError for a token that was not given out for this order."""
    try:
        value, name = json.loads(base64.urlsafe_b64decode(token))
        if not isinstance(name, str):
            raise TypeError("the name is no string")
        return kind(value), name
    except (ValueError, TypeError) as error:
        raise ApiError("ValidationException", f"Invalid NextToken {token!r}") from error


def listed(request: Request, kind: str, entries: list[Request], *more: str) -> Request:
    """Return a page of summaries: name, ARN, time of creation, and `more` members of each entry."""
    members = (f"{kind}Name", f"{kind}Arn", "CreationTime", *more)
    return page(request, [{member: entry[member] for member in members} for entry in entries], f"{kind}s", kind)
