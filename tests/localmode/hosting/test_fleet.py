"""The servers of an endpoint: how many there are, and which of them gets a request."""

import random

import pytest

from localmode.hosting.errors import ModelServerError, Retired
from localmode.hosting.fleet import Fleet
from tests.support.hosting import StandInServers, variant


def test_stopping_a_server_that_fails_leaves_no_other_running() -> None:
    servers = StandInServers()
    fleet = Fleet([variant(InstanceCount=3)], servers.make, random.Random(7))
    fleet.start()
    servers.stop_error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        fleet.stop()
    assert servers.stopped == ["mine 1"] * 3


def test_a_fleet_that_is_stopped_neither_starts_nor_takes_requests() -> None:
    servers = StandInServers()
    fleet = Fleet([variant()], servers.make, random.Random(7))
    fleet.stop()
    with pytest.raises(ModelServerError, match="is being deleted"):
        fleet.start()
    assert fleet.wait_until_up(0)
    with pytest.raises(Retired):
        fleet.reserve("")


def test_requests_go_to_all_instances() -> None:
    servers = StandInServers()
    fleet = Fleet([variant(InstanceCount=3)], servers.make, random.Random(7))
    fleet.start()
    assert fleet.running() == {"mine": 3}
    assert len({fleet.reserve("").server for _ in range(50)}) == 3


def test_least_outstanding_requests_spreads_them_evenly() -> None:
    servers = StandInServers()
    routing = variant(InstanceCount=3, Routing="LEAST_OUTSTANDING_REQUESTS")
    fleet = Fleet([routing], servers.make, random.Random(7))
    fleet.start()
    held = [fleet.reserve("") for _ in range(6)]
    assert sorted(held.count(each) for each in held) == [1] * 6
    assert all(sum(each.server is server for each in held) == 2 for server in servers.made)
    held[0].release()
    assert fleet.reserve("").server is held[0].server
