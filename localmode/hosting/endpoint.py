"""One endpoint: its state machine.

The clock, the fleets, the journal and the threads are injected, so that a test can walk every path without a process.
The statuses are those of https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html.

    Creating -> InService | Failed
    InService -> Updating -> InService, or, if the new servers cannot be started, RollingBack -> InService
    InService | Failed -> Deleting

A daemon that finds an endpoint on disk starts its servers again and goes on from there.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from localmode.core.aws import ACCOUNT_ID, Tags
from localmode.core.errors import ApiError
from localmode.core.threads import start_thread
from localmode.hosting.errors import ModelServerError, Retired
from localmode.hosting.fleet import Fleet, Reservation
from localmode.hosting.record import MAX_FAILURE_REASON, EndpointStatus, Record, Variants
from localmode.hosting.server_process import TIMEOUT_SECONDS

_INTERNAL_ERROR = "InternalServerError: an unexpected error in localmode; the daemon's log has the details."
_log = logging.getLogger(__name__)


_SERVING = (EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING, EndpointStatus.ROLLING_BACK)


class Fleets(Protocol):
    """Makes the fleets of endpoints and keeps their files."""

    def make(self, endpoint: str, generation: str, variants: Variants) -> Fleet:
        """Return a fleet that has not been started; its files are kept under `generation`."""

    def discard(self, endpoint: str, generation: str = "") -> None:
        """Remove the files of a generation of an endpoint, or of all its generations."""


@dataclass(frozen=True)
class _State:
    """What readers see: it is replaced as a whole."""

    record: Record
    fleet: Fleet
    incoming: Fleet | None = None  # the fleet of an update until all its servers answer

    @property
    def status(self) -> EndpointStatus:
        return EndpointStatus(self.record["EndpointStatus"])


class Endpoint:
    """The life of one endpoint.

    A change that a client asks for is on disk before it can be seen. The outcome of a creation or an update that could
    not be written is found again after a restart, since the next daemon repeats the work. Readers and invocations take
    no lock that is held over the disk: they read the latest `_State`.
    """

    def __init__(
        self,
        record: Record,
        fleets: Fleets,
        save: Callable[[Record], None],
        forget: Callable[[], None],
        clock: Callable[[], float] = time.time,
        in_background: Callable[..., object] = start_thread,
    ) -> None:
        """Take over a record; nothing happens before `start`.

        `save` writes the record to disk, `forget` removes the endpoint everywhere. `in_background` has the parameters
        of localmode.core.threads.start_thread.
        """
        self.name = str(record["EndpointName"])
        self._fleets = fleets
        self._save = save
        self._forget = forget
        self._clock = clock
        self._in_background = in_background
        self._changing = threading.Lock()  # held by the thread that changes the state, also while it writes to disk
        self._settled = threading.Event()  # not set while a thread creates, updates or restarts the endpoint
        self._closed = False
        self._state = _State(record, fleets.make(self.name, record["Generation"], record["Variants"]))

    # What it is

    @property
    def record(self) -> Record:
        """The record as the journal keeps it; never changed, only replaced."""
        return self._state.record

    def describe(self) -> Record:
        """Return the record and, as `Running`, how many instances of each variant answer."""
        state = self._state
        return {**state.record, "Running": state.fleet.running()}

    @property
    def tags(self) -> Tags:
        """Its tags."""
        return list(self.record.get("Tags", []))

    def wait_until_settled(self, timeout: float | None = None) -> bool:
        """Wait until it is not being created, updated or restarted; return False if that takes too long."""
        return self._settled.wait(timeout)

    def reserve(self, target: str = "") -> Reservation:
        """Reserve a server for a request to the variant `target`, or to any.

        Raises ApiError for an endpoint that takes no requests, UnknownVariant, or Unavailable.
        """
        self._serving_fleet().wait_until_up(TIMEOUT_SECONDS)  # a daemon that has just started may still start servers
        while True:
            fleet = self._serving_fleet()
            try:
                return fleet.reserve(target)
            except Retired:
                if fleet is self._serving_fleet():
                    raise
                # An update has replaced the fleet in between.

    def _serving_fleet(self) -> Fleet:
        state = self._state
        if state.status is EndpointStatus.CREATING:
            raise ApiError("ValidationError", f"Endpoint {self.name} is being created and takes no requests yet.")
        if state.status not in _SERVING:
            raise not_found(self.name)
        return state.fleet

    # What happens to it

    def start(self) -> None:
        """Start the servers; an endpoint that has failed stays as it is."""
        with self._changing:
            if self._closed:
                return
        if self._state.status is EndpointStatus.FAILED:
            self._settled.set()
        else:
            self._work("start", self._bring_up)

    def update(self, config_name: str, change: Callable[[Variants], Variants]) -> None:
        """Begin to replace the fleet by one for another configuration; until that is up, the old one serves.

        `change` makes the new variants out of the present ones; two updates at once never see the same variants.
        Raises ApiError for an endpoint that is not in service.
        """
        self._begin_update(lambda _: (config_name, secrets.token_hex(8)), change)

    def scale(self, change: Callable[[Variants], Variants]) -> None:
        """Begin to change weights and instance counts of the variants; otherwise as `update`."""
        self._begin_update(lambda record: (record["EndpointConfigName"], record["Generation"]), change)

    def delete(self) -> None:
        """Begin to delete it: the servers are stopped, then it is forgotten.

        Raises ApiError for an endpoint that is being created or updated, which AWS does not delete either.
        """
        with self._changing:
            status = self._state.status
            if status is EndpointStatus.DELETING:
                return
            if status not in (EndpointStatus.IN_SERVICE, EndpointStatus.FAILED):
                raise self._in_progress()
            self._accept({**self.record, "EndpointStatus": EndpointStatus.DELETING})
        self._work("delete", self._take_down)

    def change_tags(self, change: Callable[[Tags], Tags]) -> Tags:
        """Change the tags and return them."""
        with self._changing:
            self._accept({**self.record, "Tags": change(self.tags)})
            return self.tags

    def close(self) -> None:
        """Stop the servers because the daemon ends; the record stays as it is, also if a server fails from now on."""
        with self._changing:
            self._closed = True
            state = self._state
        with ExitStack() as stops:
            stops.callback(state.fleet.stop)
            if state.incoming is not None:
                stops.callback(state.incoming.stop)

    # How it changes: in the thread of a request

    def _begin_update(
        self, target: Callable[[Record], tuple[str, str]], change: Callable[[Variants], Variants]
    ) -> None:
        with self._changing:
            record = self.record
            config_name, generation = target(record)
            update = {
                "EndpointConfigName": config_name,
                "Variants": change(record["Variants"]),
                "Generation": generation,
            }
            if self._state.status is not EndpointStatus.IN_SERVICE or not self._settled.is_set():
                raise self._in_progress()
            changes = {"EndpointStatus": EndpointStatus.UPDATING, "LastModifiedTime": self._clock(), "Update": update}
            self._accept({**record, **changes})
            self._settled.clear()
        self._work("update", self._carry_out_update)

    def _accept(self, record: Record) -> None:
        """Write a change that a client has asked for, then show it. Raises OSError: then nothing has changed."""
        self._save(record)
        self._state = replace(self._state, record=record)

    def _in_progress(self) -> ApiError:
        arn = self.record["EndpointArn"]
        return ApiError("ValidationException", f'Cannot update in-progress endpoint "{arn}".')

    # How it changes: in a thread of its own

    def _work(self, what: str, target: Callable[[], None]) -> None:
        consequence = f"Endpoint {self.name} becomes Failed or stays InService, and can be deleted."
        self._in_background(f"{what} endpoint {self.name}", target, consequence, self._on_crash)

    def _bring_up(self) -> None:
        state = self._state
        error = _attempt(state.fleet.start)
        if error:
            with ExitStack() as steps:  # run in reverse order, all of them
                steps.callback(self._settle, EndpointStatus.FAILED, FailureReason=error)
                steps.callback(state.fleet.abandon)
        elif "Update" in state.record:  # the daemon before was updating it
            self._carry_out_update()
        elif state.status is EndpointStatus.IN_SERVICE:  # before a restart; a record that has not changed is not saved
            self._settled.set()
        else:
            self._settle(EndpointStatus.IN_SERVICE, FailureReason=state.record.get("FailureReason"))

    def _carry_out_update(self) -> None:
        update, old = self.record["Update"], self._state.fleet
        if update["Generation"] == self.record["Generation"]:
            new, error = old, _attempt(lambda: old.scale(update["Variants"]))
        else:
            new = self._fleets.make(self.name, update["Generation"], update["Variants"])
            with self._changing:
                self._state = replace(self._state, incoming=new)
                closed = self._closed
            if closed:
                new.stop()  # then it does not start
            error = _attempt(new.start)
        with ExitStack() as steps:  # run in reverse order, all of them
            if new is not old:
                steps.callback(self._fleets.discard, self.name, (update if error else self.record)["Generation"])
            if error:
                reason = f"The update has been rolled back. {error}"
                steps.callback(self._settle, EndpointStatus.IN_SERVICE, FailureReason=reason)
                steps.callback(new.abandon)
                steps.callback(self._enter, EndpointStatus.ROLLING_BACK, FailureReason=reason)
            else:
                steps.callback(self._settle, EndpointStatus.IN_SERVICE, **update)
                if new is not old:
                    steps.callback(old.retire)
                with self._changing:
                    self._state = replace(self._state, fleet=new, incoming=None)  # new requests go there

    def _take_down(self) -> None:
        with ExitStack() as steps:  # run in reverse order, all of them
            steps.callback(self._forget)
            steps.callback(self._fleets.discard, self.name)
            steps.callback(self._settled.wait)  # for the end of a restart that `stop` has cut off
            steps.callback(self._state.fleet.stop)

    def _settle(self, status: EndpointStatus, **members: Any) -> None:
        """End a creation, an update or a restart: the endpoint takes requests to change it when the status is seen."""
        with self._changing:
            try:
                self._show(status, **members)
            finally:
                self._state = replace(self._state, incoming=None)
                self._settled.set()

    def _enter(self, status: EndpointStatus, **members: Any) -> None:
        """Change the status in the middle of an update."""
        with self._changing:
            self._show(status, **members)

    def _show(self, status: EndpointStatus, **members: Any) -> None:
        """Show what has happened, then write it to disk. If that fails, the next daemon repeats the work."""
        if self._closed or self._state.status is EndpointStatus.DELETING:
            return
        kept = {key: value for key, value in self.record.items() if key not in ("FailureReason", "Update")}
        if reason := members.pop("FailureReason", ""):
            kept["FailureReason"] = reason[:MAX_FAILURE_REASON]
        record = {**kept, **members, "EndpointStatus": status, "LastModifiedTime": self._clock()}
        self._state = replace(self._state, record=record)
        try:
            self._save(record)
        except OSError:
            _log.exception("The status %s of endpoint %s could not be written to disk.", status, self.name)

    def _on_crash(self, error: Exception) -> None:
        """Leave no endpoint in a status that nothing ends."""
        if self._settled.is_set():
            return
        status = EndpointStatus.FAILED if self._state.status is EndpointStatus.CREATING else EndpointStatus.IN_SERVICE
        self._settle(status, FailureReason=_INTERNAL_ERROR)


def not_found(name: str) -> ApiError:
    """Return the error for a request to an endpoint that does not exist."""
    return ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found.")


def _attempt(start: Callable[[], None]) -> str:
    """Start something; return the reason if that fails."""
    try:
        start()
    except ModelServerError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it was, it becomes the endpoint's FailureReason
        _log.exception("An endpoint cannot be started.")
        return _INTERNAL_ERROR
    return ""
