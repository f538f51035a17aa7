"""The state machine of an endpoint, with stand-ins for servers, disk and threads."""

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from localmode.core.errors import ApiError
from localmode.hosting.endpoint import Endpoint
from localmode.hosting.fleet import Fleet, Specification
from localmode.hosting.record import TRANSITIONS, EndpointStatus
from tests.support.gate import Gate
from tests.support.hosting import StandInServers, record, variant
from tests.support.local import SOON

Event = Callable[["World"], None]


class World:
    """One endpoint and all that is injected into it: its fleets, its disk and its threads."""

    def __init__(self) -> None:
        self.servers = StandInServers()
        self.disk: dict[str, Any] | None = {**record("this"), "EndpointStatus": "Creating", "Generation": "first"}
        self.saved: list[str] = []
        self.discarded: list[str] = []
        self.effect: Callable[[], None] = lambda: None  # of every call of what is injected
        self.saves_left: int | None = None  # then the daemon is killed: nothing reaches the disk any more
        self.work: list[tuple[Callable[[], None], Callable[[Exception], None]]] = []
        self.crashes: list[Exception] = []
        self.seen: set[tuple[str, str]] = set()
        self.restart()

    def restart(self) -> None:
        """Begin again with what is on disk, as a new daemon does."""
        self.work.clear()
        self.saves_left = None
        if self.disk is not None and self.disk["EndpointStatus"] == "Deleting":
            self.disk = None
        if self.disk is None:
            return
        self.status = str(self.disk["EndpointStatus"])
        self.endpoint = Endpoint(dict(self.disk), self, self._save, self._forget, lambda: 1.0, self._in_background)
        self.endpoint.start()

    def make(self, endpoint: str, generation: str, variants: list[Specification]) -> Fleet:
        self.effect()
        return Fleet(variants, self.servers.make, random.Random(7))

    def discard(self, endpoint: str, generation: str = "") -> None:
        self.discarded.append(generation)
        self.effect()

    def run(self) -> None:
        """Do all that has been left to threads."""
        while self.work:
            target, on_crash = self.work.pop(0)
            try:
                target()
            except ZeroDivisionError as error:
                self.crashes.append(error)
                try:
                    on_crash(error)
                except ZeroDivisionError as again:
                    self.crashes.append(again)

    def run_broken(self) -> None:
        """The same, where everything that can raise an unexpected exception does."""
        before, self.effect = self.effect, lambda: failing(ZeroDivisionError())
        self.servers.stop_error = ZeroDivisionError()
        self.run()
        self.effect, self.servers.stop_error = before, None

    def run_failing(self) -> None:
        """The same, where no server starts."""
        self.servers.error = "no memory"
        self.run()
        self.servers.error = ""

    def try_to(self, do: Callable[[Endpoint], None]) -> None:
        try:
            do(self.endpoint)
        except ApiError as error:
            assert "in-progress" in error.message

    def _save(self, document: dict[str, Any]) -> None:
        status = str(document["EndpointStatus"])
        if status != self.status:
            self.seen.add((self.status, status))
        self.status = status
        if self.saves_left is not None:
            if self.saves_left == 0:
                return
            self.saves_left -= 1
        self.effect()
        self.saved.append(status)
        self.disk = document

    def _forget(self) -> None:
        self.disk = None
        self.effect()

    def _in_background(
        self, name: str, target: Callable[[], None], consequence: str, on_crash: Callable[[Exception], None]
    ) -> None:
        self.work.append((target, on_crash))


def failing(error: Exception) -> None:
    raise error


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def endpoint(world: World) -> Endpoint:
    """An endpoint in service."""
    world.run()
    return world.endpoint


def other(present: list[Specification]) -> list[Specification]:
    return [variant(number=2)]


def killed_in_roll_back(world: World) -> None:
    world.saves_left = 1
    world.run_failing()
    world.restart()


EVENTS: dict[str, Event] = {
    "update": lambda world: world.try_to(lambda endpoint: endpoint.update("y", other)),
    "scale": lambda world: world.try_to(
        lambda endpoint: endpoint.scale(lambda present: [{**each, "InstanceCount": 2} for each in present])
    ),
    "delete": lambda world: world.try_to(Endpoint.delete),
    "work": World.run,
    "work that fails": World.run_failing,
    "work that breaks": World.run_broken,
    "restart": World.restart,
    "kill in a roll-back": killed_in_roll_back,
}


def test_every_history_keeps_to_the_table_of_transitions_and_ends_settled() -> None:
    seen: set[tuple[str, str]] = set()
    for history in itertools.product(EVENTS, repeat=4):
        world = World()
        for event in history:
            if world.disk is not None:
                EVENTS[event](world)
        if world.disk is not None:
            world.run()
        if world.disk is not None:
            assert world.endpoint.wait_until_settled(0), history
            assert world.endpoint.record["EndpointStatus"] in ("InService", "Failed"), history
        seen |= world.seen
    assert seen == {(str(old), str(new)) for old, later in TRANSITIONS.items() for new in later}
    assert TRANSITIONS.keys() == set(EndpointStatus)


@pytest.mark.parametrize("begin", ["", "update", "scale", "delete"])
def test_whatever_breaks_in_its_thread_the_endpoint_settles_and_can_be_deleted(world: World, begin: str) -> None:
    if begin:
        world.run()
        EVENTS[begin](world)
    world.run_broken()
    assert world.crashes
    if world.disk is not None:
        assert world.endpoint.wait_until_settled(0)
        assert world.endpoint.record["EndpointStatus"] in ("InService", "Failed")
        world.endpoint.delete()
        world.run()
    assert world.disk is None
    assert not any(server.answers for server in world.servers.made)


def test_an_endpoint_that_could_not_be_made_says_that_localmode_is_at_fault(world: World) -> None:
    world.run()
    world.endpoint.update("y", other)
    world.run_broken()
    found = world.endpoint.record
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "x")
    assert "InternalServerError" in found["FailureReason"]
    world.endpoint.update("y", other)
    world.run()
    assert "FailureReason" not in world.endpoint.record
    assert world.endpoint.reserve().server is world.servers.made[-1]


def test_an_update_whose_old_servers_cannot_be_stopped_is_complete(world: World) -> None:
    world.run()
    world.endpoint.update("y", other)
    world.servers.stop_error = ZeroDivisionError()
    world.run()
    found = world.endpoint.record
    assert (found["EndpointStatus"], found["EndpointConfigName"], len(world.crashes)) == ("InService", "y", 1)
    assert world.endpoint.describe()["Running"] == {"mine": 1}


def test_an_update_that_fails_is_rolled_back(world: World, endpoint: Endpoint) -> None:
    del world.saved[:]
    endpoint.update("y", other)
    world.run_failing()
    found = endpoint.record
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "x")
    assert found["FailureReason"].startswith("The update has been rolled back. The primary container for production ")
    assert world.servers.stopped == ["mine 2"]
    assert world.saved == ["Updating", "RollingBack", "InService"]


def test_the_reason_of_a_roll_back_outlives_the_daemon(world: World, endpoint: Endpoint) -> None:
    endpoint.update("y", other)
    killed_in_roll_back(world)
    assert world.endpoint.record["EndpointStatus"] == "RollingBack"
    world.run()
    found = world.endpoint.record
    assert (found["EndpointStatus"], found["FailureReason"][-9:]) == ("InService", "no memory")


def test_only_the_files_of_the_present_servers_are_kept(world: World, endpoint: Endpoint) -> None:
    endpoint.update("y", other)
    world.run()
    second = endpoint.record["Generation"]
    assert world.discarded == ["first"]
    endpoint.update("z", other)
    rolled_back = endpoint.record["Update"]["Generation"]
    world.run_failing()
    endpoint.scale(other)
    world.run()
    assert world.discarded == ["first", rolled_back]
    assert endpoint.record["Generation"] == second not in world.discarded
    endpoint.delete()
    world.run()
    assert world.discarded == ["first", rolled_back, ""]


def test_an_endpoint_can_be_updated_as_soon_as_it_is_seen_in_service(world: World, endpoint: Endpoint) -> None:
    """Also while the files of the update before are being removed."""

    def update_again() -> None:
        if endpoint.record["EndpointStatus"] == "InService" and world.discarded:
            world.effect = lambda: None
            endpoint.update("z", other)

    endpoint.update("y", other)
    world.effect = update_again
    world.run()
    assert endpoint.record["EndpointConfigName"] == "z"


def test_a_change_that_the_disk_refuses_is_not_made(world: World, endpoint: Endpoint) -> None:
    before = endpoint.record
    world.effect = lambda: failing(OSError("No space left on device"))
    for change in (
        lambda: endpoint.update("y", other),
        lambda: endpoint.scale(other),
        endpoint.delete,
        lambda: endpoint.change_tags(lambda _: [{"Key": "k", "Value": "v"}]),
    ):
        with pytest.raises(OSError, match="No space"):
            change()
    assert endpoint.record is before
    assert endpoint.wait_until_settled(0)
    assert world.work == []


def test_of_two_changes_at_once_neither_is_made_without_the_other(world: World, endpoint: Endpoint) -> None:
    """The second one sees the variants that the first one has left."""
    gate, seen = Gate(), []

    def first(present: list[Specification]) -> list[Specification]:
        gate.wait()
        return [{**each, "Weight": 0.5} for each in present]

    def second(present: list[Specification]) -> list[Specification]:
        seen.append(present[0]["Weight"])
        return present

    def try_again() -> None:
        with pytest.raises(ApiError, match="in-progress"):
            endpoint.scale(second)
        world.run()
        endpoint.scale(second)

    with ThreadPoolExecutor(2) as pool:
        changes = [pool.submit(endpoint.scale, first)]
        gate.arrived()
        changes.append(pool.submit(try_again))
        gate.opened.set()
        for change in changes:
            change.result(SOON)
    assert seen == [1.0, 0.5]


def test_while_a_change_is_written_to_disk_the_endpoint_is_described_and_takes_requests(
    world: World, endpoint: Endpoint
) -> None:
    gate, before = Gate(), endpoint.record
    world.effect = gate.wait
    with ThreadPoolExecutor(2) as pool:
        deletion = pool.submit(endpoint.delete)
        try:
            gate.arrived()
            reader = pool.submit(lambda: (endpoint.record, endpoint.describe(), endpoint.tags, endpoint.reserve()))
            assert reader.result(SOON)[0] is before
            assert not deletion.done()
        finally:
            gate.opened.set()
        deletion.result(SOON)
    with pytest.raises(ApiError, match="not found"):
        endpoint.reserve()


def test_a_request_that_meets_the_end_of_an_update_goes_to_the_new_servers(
    world: World, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked up the old servers, and they are retired before it reserves one of them."""
    reserve = Fleet.reserve

    def late(fleet: Fleet, target: str) -> Any:
        monkeypatch.undo()
        endpoint.update("y", other)
        world.run()
        return reserve(fleet, target)

    monkeypatch.setattr(Fleet, "reserve", late)
    assert endpoint.reserve().server is world.servers.made[1]


def test_closing_leaves_the_record_as_it_is(world: World, endpoint: Endpoint) -> None:
    endpoint.update("y", other)
    before = world.disk
    endpoint.close()
    world.run()
    assert world.disk == before
    assert not any(server.answers for server in world.servers.made)
