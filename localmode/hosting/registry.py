"""All endpoints: created, updated, found, and kept on disk.

What a client was told is on disk; the outcome of a creation or an update that could not be written there is found
again after a restart, since the daemon then does the same once more.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

from localmode.core.aws import ACCOUNT_ID
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.fleet import Fleet, Specification
from localmode.hosting.provisioning import Hosting
from localmode.hosting.server_process import ModelServerError

_SERVING = ("InService", "Updating", "RollingBack")
_log = logging.getLogger(__name__)

Record = dict[str, Any]
Tags = list[dict[str, str]]


class Endpoint:
    """One endpoint: its record as the journal keeps it, and the fleet that serves it."""

    def __init__(self, record: Record, fleet: Fleet) -> None:
        self.record = record
        self.fleet = fleet
        self.incoming: Fleet | None = None  # that of an update, until it is up
        self.settled = threading.Event()  # set while it is not being created or updated

    @property
    def fleets(self) -> list[Fleet]:
        """All that have servers; to be asked for under the register's lock."""
        return [self.fleet, *([self.incoming] if self.incoming else [])]


def _read(document: Record) -> Record:
    """Take what the journal gives back; raise LookupError or TypeError if that is no endpoint."""
    members = ("EndpointName", "EndpointArn", "EndpointConfigName", "EndpointStatus", "Generation", "Variants")
    return {**document, **{member: document[member] for member in (*members, "CreationTime", "LastModifiedTime")}}


class Endpoints:
    """The register of endpoints."""

    def __init__(self, settings: Settings, hosting: Hosting, journal: Journal) -> None:
        self._settings = settings
        self._hosting = hosting
        self._journal = journal
        self.lock = threading.RLock()  # of all that is told here of an endpoint
        self._endpoints: dict[str, Endpoint] = {}
        self._closing = False
        with self.lock:  # nobody sweeps before all are known
            for name, record in journal.load(_read).items():
                if record["EndpointStatus"] == "Deleting":
                    journal.delete(name)
                else:
                    self._begin(record)
            self._sweep()

    def create(self, record: Record) -> bool:
        """Begin to create an endpoint; its status says how that went. Return False for a name in use."""
        with self.lock:
            if record["EndpointName"] in self._endpoints:
                return False
            record = {**record, "EndpointStatus": "Creating", "Generation": _generation()}
            self._save(record)
            self._begin(record)
            return True

    def update(self, name: str, config_name: str, variants: list[Specification], fresh: bool) -> None:
        """Begin to give an endpoint other variants, on a fresh fleet or on the one that it has.

        Until they are up the old ones serve. Raises ApiError for an endpoint that is not in service.
        """
        with self.lock:
            endpoint = self._endpoints[name]
            old = endpoint.record
            if old["EndpointStatus"] != "InService" or not endpoint.settled.is_set():
                raise _in_progress(old)
            generation = _generation() if fresh else old["Generation"]
            change = {"EndpointConfigName": config_name, "Variants": variants, "Generation": generation}
            record = {**old, "EndpointStatus": "Updating", "LastModifiedTime": time.time(), "Update": change}
            self._save(record)
            endpoint.record = record
            endpoint.settled.clear()
        self._in_thread("update", self._carry_out_update, endpoint)

    def delete(self, name: str) -> None:
        """Begin to delete an endpoint: its servers end, then it is forgotten.

        Raises ApiError for an endpoint that is being created or updated: AWS deletes it only when that is over.
        """
        with self.lock:
            endpoint = self._endpoints[name]
            if endpoint.record["EndpointStatus"] == "Deleting":
                return
            if endpoint.record["EndpointStatus"] not in ("InService", "Failed"):
                raise _in_progress(endpoint.record)
            record = {**endpoint.record, "EndpointStatus": "Deleting"}
            self._save(record)
            endpoint.record = record
        self._in_thread("delete", self._take_down, endpoint)

    def get(self, name: str) -> Record | None:
        """Return the record of an endpoint; `Running` counts the instances of each variant that answer."""
        with self.lock:
            endpoint = self._endpoints.get(name)
            return {**endpoint.record, "Running": endpoint.fleet.running()} if endpoint else None

    def all(self) -> list[Record]:
        """Return all records."""
        with self.lock:
            return [dict(endpoint.record) for endpoint in self._endpoints.values()]

    def tags(self, name: str, change: Callable[[Tags], Tags] | None = None) -> Tags | None:
        """Return an endpoint's tags, after a change to them if one is given; None for an unknown endpoint."""
        with self.lock:
            endpoint = self._endpoints.get(name)
            if endpoint is None:
                return None
            if change:
                record = {**endpoint.record, "Tags": change(endpoint.record.get("Tags", []))}
                self._save(record)
                endpoint.record = record
            return list(endpoint.record.get("Tags", []))

    def serving(self, name: str) -> Fleet:
        """Return the fleet that answers an endpoint's requests now; raise ApiError where there is none."""
        with self.lock:
            endpoint = self._endpoints.get(name)
            status = endpoint.record["EndpointStatus"] if endpoint else ""
            if status == "Creating":
                raise ApiError("ValidationError", f"Endpoint {name} is being created and takes no requests yet.")
            if endpoint is None or status not in _SERVING:
                raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.")
            return endpoint.fleet

    def close(self) -> None:
        """Stop all servers; the journal keeps the endpoints."""
        with self.lock:
            self._closing = True  # a server that ends from now on has not failed
            fleets = [fleet for endpoint in self._endpoints.values() for fleet in endpoint.fleets]
        for fleet in fleets:
            fleet.stop()

    # How an endpoint comes, changes and goes

    def _begin(self, record: Record) -> None:
        endpoint = Endpoint(
            record, self._hosting.fleet(record["EndpointName"], record["Generation"], record["Variants"])
        )
        self._endpoints[record["EndpointName"]] = endpoint
        if record["EndpointStatus"] == "Failed":  # before a restart
            endpoint.settled.set()
        elif not self._closing:  # or it is the next daemon's
            self._in_thread("bring up", self._bring_up, endpoint)

    def _bring_up(self, endpoint: Endpoint) -> None:
        error = _attempt(endpoint.fleet.start)
        if error:
            endpoint.fleet.abandon()
            self._settle(endpoint, {"EndpointStatus": "Failed"}, error)
        elif "Update" in endpoint.record:  # it was being updated when the last daemon ended
            self._carry_out_update(endpoint)
        elif endpoint.record["EndpointStatus"] == "InService":  # before a restart
            endpoint.settled.set()
        else:
            self._settle(endpoint, {"EndpointStatus": "InService"})

    def _carry_out_update(self, endpoint: Endpoint) -> None:
        change, old = endpoint.record["Update"], endpoint.fleet
        if change["Generation"] == endpoint.record["Generation"]:
            new, error = old, _attempt(lambda: old.scale(change["Variants"]))
        else:
            new = self._hosting.fleet(endpoint.record["EndpointName"], change["Generation"], change["Variants"])
            with self.lock:
                endpoint.incoming = new
                closing = self._closing
            error = "localmode is being stopped" if closing else _attempt(new.start)
        if error:
            reason = f"The update has been rolled back. {error}"
            self._change(endpoint, {"EndpointStatus": "RollingBack", "FailureReason": reason[:1024]}, "Update")
            new.abandon()
            self._settle(endpoint, {"EndpointStatus": "InService"}, reason)
            return
        with self.lock:
            endpoint.fleet, endpoint.incoming = new, None  # from here on, new requests go there
        if new is not old:
            old.retire()
        self._settle(endpoint, {"EndpointStatus": "InService", **change})

    def _settle(self, endpoint: Endpoint, changes: Record, reason: str = "") -> None:
        """End a creation or an update."""
        self._change(endpoint, {**changes, **({"FailureReason": reason[:1024]} if reason else {})}, "Update")
        self._sweep()
        endpoint.settled.set()

    def _change(self, endpoint: Endpoint, changes: Record, *gone: str) -> None:
        """Change a record by what has happened; on disk it may come later, since a restart does the same again."""
        with self.lock:
            if endpoint.record["EndpointStatus"] == "Deleting" or self._closing:
                return
            kept = {key: value for key, value in endpoint.record.items() if key not in ("FailureReason", *gone)}
            endpoint.record = {**kept, **changes, "LastModifiedTime": time.time()}
            try:
                self._save(endpoint.record)
            except OSError:
                _log.exception("endpoint %s could not be written to the journal", endpoint.record["EndpointName"])

    def _take_down(self, endpoint: Endpoint) -> None:
        name = endpoint.record["EndpointName"]
        with self.lock:
            fleets = endpoint.fleets
        for fleet in fleets:
            fleet.stop()
        endpoint.settled.wait()
        with self.lock:
            del self._endpoints[name]
            try:
                self._journal.delete(name)
            except OSError:  # the next daemon finds it `Deleting` and forgets it
                _log.exception("endpoint %s could not be deleted from the journal", name)
        self._sweep()

    def _save(self, record: Record) -> None:
        self._journal.save(record["EndpointName"], record)

    def _in_thread(self, what: str, function: Callable[[Endpoint], None], endpoint: Endpoint) -> None:
        name = f"{what} {endpoint.record['EndpointName']}"
        threading.Thread(target=function, args=(endpoint,), name=name, daemon=True).start()

    def _sweep(self) -> None:
        """Remove the files of fleets that are no more."""
        with self.lock:
            records = [(name, endpoint.record) for name, endpoint in self._endpoints.items()]
            kept = {
                (name, each["Generation"])
                for name, record in records
                for each in (record, record.get("Update", record))
            }
            removable = self._hosting.set_aside(kept)
        for path in removable:  # which may take a while
            shutil.rmtree(path, ignore_errors=True)


def _in_progress(record: Record) -> ApiError:
    """Return the error for what can be done only with an endpoint that is not being created or updated."""
    return ApiError("ValidationException", f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')


def _generation() -> str:
    """Return a name for the directory of a new fleet that no other has had."""
    return secrets.token_hex(8)


def _attempt(start: Callable[[], None]) -> str:
    """Start something; return why it failed, or nothing."""
    try:
        start()
    except ModelServerError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it was, the endpoint says so
        _log.exception("an endpoint cannot be started")
        return "InternalServerError: an unexpected error in localmode; its log has the details."
    return ""
