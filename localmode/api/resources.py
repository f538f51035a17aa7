"""Resources without a lifecycle: models and endpoint configurations."""

from __future__ import annotations

import time
from collections.abc import Callable

from localmode.core.aws import Request, Tags
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.locks import KeyedLocks
from localmode.core.settings import Settings


class Resources:
    """The resources of one kind, each stored as the request that created it, its ARN and its creation time.

    A change is on disk before it is visible. Readers wait for no disk; changes wait only for changes of the same
    resource.
    """

    def __init__(self, journal: Journal, settings: Settings, kind: str, title: str, prefix: str) -> None:
        """Load the resources of a kind.

        `kind` names it in ARNs (`endpoint-config`), `title` in error messages (`endpoint configuration`), and
        `prefix` in its members (`EndpointConfig`, of `EndpointConfigName`).
        """
        self._journal = journal
        self._settings = settings
        self._kind, self._title, self._prefix = kind, title, prefix
        self._resources = journal.load(self._read)
        self._changing = KeyedLocks()

    def _read(self, document: Request) -> Request:
        """Return a resource from its journal document; raise LookupError or TypeError if a member is missing."""
        needed = {f"{self._prefix}{part}": document[f"{self._prefix}{part}"] for part in ("Name", "Arn")}
        return {**document, **needed, "CreationTime": document["CreationTime"]}

    def arn(self, name: str) -> str:
        """Return the ARN of a resource of this kind."""
        return self._settings.arn(self._kind, name)

    def add(self, name: str, request: Request) -> str:
        """Store a new resource and return its ARN; raise ApiError for a name in use."""
        arn = self.arn(name)
        resource = {**request, f"{self._prefix}Arn": arn, "CreationTime": time.time()}
        with self._changing.hold(name):
            if name in self._resources:
                raise ApiError("ValidationException", f'Cannot create already existing {self._title} "{arn}".')
            self._save(name, resource)
        return arn

    def get(self, name: str) -> Request:
        """Return a resource without its tags; raise ApiError for an unknown name."""
        resource = self._resources.get(name)
        if resource is None:
            raise ApiError("ValidationException", f'Could not find {self._title} "{self.arn(name)}".')
        return _without_tags(resource)

    def all(self) -> list[Request]:
        """Return all resources without their tags."""
        return [_without_tags(resource) for resource in list(self._resources.values())]

    def tags(self, name: str, change: Callable[[Tags], Tags] | None = None) -> Tags | None:
        """Return the tags of a resource, after `change` has been applied to them; None for an unknown name."""
        if change is None:
            resource = self._resources.get(name)
            return None if resource is None else list(resource.get("Tags", []))
        with self._changing.hold(name):
            tags = self.tags(name)
            if tags is None:
                return None
            changed = change(tags)
            self._save(name, {**self._resources[name], "Tags": changed})
            return list(changed)

    def delete(self, name: str) -> None:
        """Delete a resource; raise ApiError for an unknown name."""
        with self._changing.hold(name):
            self.get(name)
            self._journal.delete(name)
            del self._resources[name]

    def _save(self, name: str, resource: Request) -> None:
        self._journal.save(name, resource)
        self._resources[name] = resource


def _without_tags(resource: Request) -> Request:
    return {member: value for member, value in resource.items() if member != "Tags"}
