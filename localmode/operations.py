"""The register of the operations of the SageMaker API, and what those of every kind share: resources and pages.

Every function registered here takes a request that fits botocore's input shape and returns a dictionary that
fits its output shape; what it refuses, it refuses with SageMaker's error code. The register is what the
README's table of operations is checked against.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from localmode.disk import Journal
from localmode.endpoints import Endpoints
from localmode.jobs import TrainingJobs
from localmode.settings import Settings
from localmode.shapes import ApiError, validate
from localmode.storage import Storage

Request = dict[str, Any]
Tags = list[dict[str, str]]
Operation = Callable[["SageMaker", Request], Request]
OPERATIONS: dict[str, Operation] = {}
_MAX_TAGS = 50  # https://docs.aws.amazon.com/general/latest/gr/aws_tagging.html


def operation(function: Operation) -> Operation:
    """Register a function under the operation's name: create_model answers CreateModel."""
    OPERATIONS["".join(word.capitalize() for word in function.__name__.split("_"))] = function
    return function


class SageMaker:
    """What the operations work on."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        jobs: TrainingJobs,
        endpoints: Endpoints,
        models: Journal,
        configs: Journal,
        trusts_sagemaker: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.jobs = jobs
        self.endpoints = endpoints
        self.trusts_sagemaker = trusts_sagemaker
        self.models = Register(models, settings, "model", "model", "Model")
        self.configs = Register(configs, settings, "endpoint-config", "endpoint configuration", "EndpointConfig")

    def call(self, name: str, request: Any) -> Request:
        """Carry out one operation; raise ApiError where SageMaker would answer with an error."""
        if name not in OPERATIONS:
            raise ApiError("UnknownOperationException", f"localmode does not implement sagemaker:{name}")
        return OPERATIONS[name](self, validate(name, request))


class Register:
    """Resources that only are: models and endpoint configurations."""

    def __init__(self, journal: Journal, settings: Settings, kind: str, title: str, prefix: str) -> None:
        self._journal = journal
        self._settings = settings
        self._kind, self._title, self._prefix = kind, title, prefix
        self._entries = journal.load(self._read)
        self._lock = threading.RLock()

    def _read(self, document: Request) -> Request:
        """Take what the journal gives back; raise LookupError or TypeError if that is no such resource."""
        needed = {f"{self._prefix}{part}": document[f"{self._prefix}{part}"] for part in ("Name", "Arn")}
        return {**document, **needed, "CreationTime": document["CreationTime"]}

    def arn(self, name: str) -> str:
        """Return the ARN of a resource of this kind."""
        return self._settings.arn(self._kind, name)

    def add(self, name: str, entry: Request) -> str:
        """Keep a new resource; raise ApiError for a name in use. Return its ARN."""
        stored = {**entry, f"{self._prefix}Arn": self.arn(name), "CreationTime": time.time()}
        with self._lock:
            if name in self._entries:
                raise ApiError(
                    "ValidationException", f'Cannot create already existing {self._title} "{self.arn(name)}".'
                )
            self._journal.save(name, stored)
            self._entries[name] = stored
        return self.arn(name)

    def get(self, name: str) -> Request:
        """Return a resource; raise ApiError if there is none of that name."""
        entry = self._entries.get(name)  # at once: it may be deleted at this moment
        if entry is None:
            raise ApiError("ValidationException", f'Could not find {self._title} "{self.arn(name)}".')
        return _untagged(entry)

    def tags(self, name: str, change: Callable[[Tags], Tags] | None = None) -> Tags | None:
        """Return a resource's tags, after a change to them if one is given; None for an unknown resource."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and change:
                entry = {**entry, "Tags": change(entry.get("Tags", []))}
                self._journal.save(name, entry)
                self._entries[name] = entry
        return None if entry is None else list(entry.get("Tags", []))

    def delete(self, name: str) -> None:
        """Forget a resource; raise ApiError if there is none of that name."""
        with self._lock:
            self.get(name)
            self._journal.delete(name)
            del self._entries[name]

    def all(self) -> list[Request]:
        """Return all resources."""
        return [_untagged(entry) for entry in list(self._entries.values())]


def _untagged(entry: Request) -> Request:
    return {member: value for member, value in entry.items() if member != "Tags"}


def check_tags(request: Request) -> Tags:
    """Return a request's tags; raise ApiError for those that SageMaker would not attach to a resource."""
    tags: Tags = request.get("Tags", [])
    keys = [tag["Key"] for tag in tags]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ApiError("ValidationException", f"Duplicate tag keys: {', '.join(sorted(twice))}")
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise ApiError("ValidationException", f"Tag keys that begin with aws: are reserved: {', '.join(reserved)}")
    if len(tags) > _MAX_TAGS:
        raise ApiError("ResourceLimitExceeded", f"A resource has at most {_MAX_TAGS} tags, not {len(tags)}.")
    return tags


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
