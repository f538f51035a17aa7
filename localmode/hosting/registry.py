"""All endpoints: find, create, load and forget them."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable

from localmode.core.aws import Tags
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.locks import KeyedLocks
from localmode.core.settings import Settings
from localmode.hosting.endpoint import Endpoint
from localmode.hosting.provisioning import Hosting
from localmode.hosting.record import EndpointStatus, Record, read_record

_log = logging.getLogger(__name__)


class Endpoints:
    """The registry of endpoints. Nothing waits for the disk of an endpoint but changes of an endpoint of that name."""

    def __init__(self, settings: Settings, hosting: Hosting, journal: Journal) -> None:
        """Load the endpoints; raise LocalModeError for one that cannot be read."""
        self._settings = settings
        self._hosting = hosting
        self._journal = journal
        self._names = KeyedLocks()  # held while an endpoint of a name is created or forgotten
        self._lock = threading.Lock()  # guards the dictionary and _closed
        self._closed = False
        self._endpoints: dict[str, Endpoint] = {}
        for name, record in journal.load(read_record).items():
            if record["EndpointStatus"] == EndpointStatus.DELETING:
                journal.delete(name)
            else:
                self._endpoints[name] = self._make(record)

    def start(self) -> None:
        """Start the servers of the endpoints that were loaded, and remove the files of those that are gone."""
        endpoints = self._snapshot()
        self._hosting.sweep(
            {
                (endpoint.name, record["Generation"])
                for endpoint in endpoints
                for record in (endpoint.record, endpoint.record.get("Update", endpoint.record))
            }
        )
        for endpoint in endpoints:
            endpoint.start()

    def create(self, record: Record) -> bool:
        """Begin to create an endpoint; its status tells how that goes. Return False for a name in use."""
        name = record["EndpointName"]
        with self._names.hold(name):
            if self.find(name) is not None:
                return False
            record = {**record, "EndpointStatus": EndpointStatus.CREATING, "Generation": secrets.token_hex(8)}
            self._journal.save(name, record)
            endpoint = self._make(record)
            with self._lock:
                self._endpoints[name] = endpoint
                closed = self._closed
        if closed:  # the next daemon starts it
            endpoint.close()
        endpoint.start()
        return True

    def find(self, name: str) -> Endpoint | None:
        """Return an endpoint; None for an unknown name."""
        return self._endpoints.get(name)

    def get(self, name: str) -> Endpoint:
        """Return an endpoint; raise ApiError for an unknown name."""
        endpoint = self.find(name)
        if endpoint is None:
            arn = self._settings.arn("endpoint", name)
            raise ApiError("ValidationException", f'Could not find endpoint "{arn}".')
        return endpoint

    def all(self) -> list[Record]:
        """Return the records of all endpoints."""
        return [endpoint.record for endpoint in self._snapshot()]

    def tags(self, name: str, change: Callable[[Tags], Tags] | None = None) -> Tags | None:
        """Return the tags of an endpoint, after `change` has been applied to them; None for an unknown name."""
        endpoint = self.find(name)
        if endpoint is None:
            return None
        return endpoint.change_tags(change) if change else endpoint.tags

    def close(self) -> None:
        """Stop all servers; the journal keeps the endpoints."""
        with self._lock:
            self._closed = True
        for endpoint in self._snapshot():
            endpoint.close()

    def _snapshot(self) -> list[Endpoint]:
        with self._lock:
            return list(self._endpoints.values())

    def _make(self, record: Record) -> Endpoint:
        name = record["EndpointName"]
        return Endpoint(
            record, self._hosting, lambda document: self._journal.save(name, document), lambda: self._forget(name)
        )

    def _forget(self, name: str) -> None:
        with self._names.hold(name):
            try:
                self._journal.delete(name)
            except OSError:  # the next daemon finds the status Deleting and forgets it
                _log.exception("Endpoint %s could not be removed from the disk.", name)
            finally:
                with self._lock:
                    del self._endpoints[name]
