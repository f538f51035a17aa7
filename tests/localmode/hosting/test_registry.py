"""Endpoints over a journal, with stand-ins for their servers: created, found again after a restart, and forgotten."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from localmode.core.durable import Journal
from localmode.core.errors import ApiError, LocalModeError
from localmode.hosting.registry import Endpoints
from tests.support.gate import Gate
from tests.support.hosting import StandInServers, answer, created, gone, record, settled, variant
from tests.support.local import SOON

Make = Callable[[], Endpoints]


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def begin_update(endpoints: Endpoints, servers: StandInServers, name: str) -> None:
    """Create an endpoint and begin to update it; the new server starts when it is allowed to."""
    endpoint = created(endpoints, name)
    servers.wait_until_starting()
    servers.may_start.clear()
    endpoint.update("y", lambda _: [variant(name, number=2)])
    servers.wait_until_starting()


def test_an_endpoint_is_created_then_in_service(endpoints: Endpoints, servers: StandInServers, name: str) -> None:
    servers.may_start.clear()
    assert endpoints.create(record(name))
    assert not endpoints.create(record(name))
    assert endpoints.get(name).record["EndpointStatus"] == "Creating"
    servers.may_start.set()
    assert settled(endpoints, name)["EndpointStatus"] == "InService"


def test_an_endpoint_in_service_comes_back_and_a_failed_one_stays_failed(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    created(endpoints, name)
    servers.error = "no"
    endpoints.create({**record(name), "EndpointName": "failing"})
    assert settled(endpoints, "failing")["FailureReason"].endswith("variant mine cannot serve the model: no")
    endpoints.close()
    servers.error = ""
    again = make()
    assert settled(again, name)["EndpointStatus"] == "InService"
    assert settled(again, "failing")["EndpointStatus"] == "Failed"


@pytest.mark.parametrize("status", ["Creating", "InService", "Updating", "RollingBack", "Failed", "Deleting"])
def test_an_endpoint_on_disk_from_the_release_before_comes_back(
    make: Make, journal: Journal, name: str, status: str
) -> None:
    """It wrote no Image and no StartupSeconds."""
    old = {**record(name), "EndpointStatus": status, "Generation": "0123456789abcdef", "Tags": []}
    update = {"EndpointConfigName": "y", "Variants": [variant(name, number=2)], "Generation": "fedcba9876543210"}
    journal.save(name, old | ({"Update": update} if status == "Updating" else {}))
    endpoints = make()
    if status == "Deleting":
        assert (endpoints.find(name), endpoints.all()) == (None, [])
        return
    found = settled(endpoints, name)
    assert found["EndpointStatus"] == ("Failed" if status == "Failed" else "InService")
    assert found["EndpointConfigName"] == ("y" if status == "Updating" else "x")
    if status != "Failed":
        assert answer(endpoints, name) == ("mine 2" if status == "Updating" else "mine 1")


@pytest.mark.parametrize("damage", [{"EndpointStatus": "Sleeping"}, {"Generation": None}])
def test_a_record_that_is_no_endpoint_is_named(
    make: Make, endpoints: Endpoints, name: str, tmp_path: Path, damage: dict[str, Any]
) -> None:
    path = tmp_path / "endpoints" / f"{name}.json"
    created(endpoints, name)
    document = json.loads(path.read_text()) | damage
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    with pytest.raises(LocalModeError, match=f"{path} is damaged"):
        make()


def test_an_endpoint_whose_daemon_stops_while_it_is_created_has_not_failed(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    servers.may_start.clear()
    endpoints.create(record(name))
    endpoints.close()
    servers.may_start.set()
    settled(endpoints, name)
    found = settled(make(), name)
    assert (found["EndpointStatus"], "FailureReason" in found) == ("InService", False)


def test_an_endpoint_that_is_accepted_while_the_daemon_ends_is_left_to_the_next_one(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    endpoints.close()
    assert endpoints.create(record(name))
    assert [thread.name for thread in threading.enumerate() if thread.name == f"start endpoint {name}"] == []
    assert endpoints.get(name).record["EndpointStatus"] == "Creating"
    assert servers.made == []
    assert settled(make(), name)["EndpointStatus"] == "InService"


def test_an_endpoint_is_not_deleted_while_it_is_created(
    endpoints: Endpoints, servers: StandInServers, name: str
) -> None:
    servers.may_start.clear()
    endpoints.create(record(name))
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        endpoints.get(name).delete()
    servers.may_start.set()
    assert settled(endpoints, name)["EndpointStatus"] == "InService"
    endpoints.get(name).delete()
    gone(endpoints, name)


def restarted(endpoints: Endpoints, make: Make, servers: StandInServers, name: str) -> Endpoints:
    """Return endpoints with one in service whose server is being started again."""
    created(endpoints, name)
    servers.wait_until_starting()
    endpoints.close()
    servers.may_start.clear()
    again = make()
    servers.wait_until_starting()
    return again


def test_an_endpoint_deleted_while_its_servers_start_again_is_gone_when_they_have(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    again = restarted(endpoints, make, servers, name)
    again.get(name).delete()
    assert again.get(name).record["EndpointStatus"] == "Deleting"
    again.get(name).delete()
    assert [thread.name for thread in threading.enumerate()].count(f"delete endpoint {name}") == 1
    servers.may_start.set()
    gone(again, name)
    assert created(again, name).record["EndpointStatus"] == "InService"


def test_an_endpoint_that_was_being_deleted_is_gone_after_a_restart(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    restarted(endpoints, make, servers, name).get(name).delete()
    assert make().find(name) is None
    servers.may_start.set()


def test_while_the_files_of_an_endpoint_are_removed_others_answer(
    endpoints: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_slowly(path: Path, **options: Any) -> None:
        gate.wait()
        rmtree(path, **options)

    gate, rmtree = Gate(), shutil.rmtree
    created(endpoints, name)
    endpoints.create({**record(name), "EndpointName": "other"})
    settled(endpoints, "other")
    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    endpoints.get(name).delete()
    gate.arrived()
    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(answer, endpoints, "other").result(SOON) == "mine 1"
            assert pool.submit(endpoints.get(name).describe).result(SOON)["EndpointStatus"] == "Deleting"
        finally:
            gate.opened.set()
    gone(endpoints, name)


@pytest.mark.parametrize("change", ["create", "update", "scale", "delete"])
def test_while_a_change_of_an_endpoint_is_written_to_disk_others_answer_and_change(
    endpoints: Endpoints, journal: Journal, name: str, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def save_slowly(saved: str, document: dict[str, Any]) -> None:
        if saved == "slow":
            gate.wait()
        save(saved, document)

    created(endpoints, name)
    slow = {**record(name), "EndpointName": "slow"}
    if change != "create":
        endpoints.create(slow)
        settled(endpoints, "slow")
    gate, save = Gate(), journal.save
    monkeypatch.setattr(journal, "save", save_slowly)
    changes: dict[str, Callable[[], object]] = {
        "create": lambda: endpoints.create(slow),
        "update": lambda: endpoints.get("slow").update("y", lambda present: present),
        "scale": lambda: endpoints.get("slow").scale(lambda present: present),
        "delete": lambda: endpoints.get("slow").delete(),
    }
    with ThreadPoolExecutor(2) as pool:
        changing = pool.submit(changes[change])
        try:
            gate.arrived()
            assert pool.submit(answer, endpoints, name).result(SOON) == "mine 1"
            assert len(pool.submit(endpoints.all).result(SOON)) == (1 if change == "create" else 2)
            pool.submit(endpoints.get(name).scale, lambda present: present).result(SOON)
            if change != "create":
                assert pool.submit(answer, endpoints, "slow").result(SOON) == "mine 1"
        finally:
            gate.opened.set()
        changing.result(SOON)
    if change == "delete":
        gone(endpoints, "slow")
    else:
        assert settled(endpoints, "slow")["EndpointStatus"] == "InService"


def test_of_two_that_create_an_endpoint_of_one_name_one_succeeds(endpoints: Endpoints, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: endpoints.create(record(name)), range(8))) == [False] * 7 + [True]
    settled(endpoints, name)


def test_the_old_servers_serve_until_the_new_ones_answer(
    endpoints: Endpoints, servers: StandInServers, name: str
) -> None:
    begin_update(endpoints, servers, name)
    endpoint = endpoints.get(name)
    assert (endpoint.record["EndpointStatus"], endpoint.record["EndpointConfigName"]) == ("Updating", "x")
    assert answer(endpoints, name) == "mine 1"
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        endpoint.update("z", lambda present: present)
    reservation = endpoint.reserve()  # for a request that the old server has not answered yet
    servers.may_start.set()
    while answer(endpoints, name) == "mine 1":
        assert not endpoint.wait_until_settled(0.001)
    assert (endpoint.record["EndpointStatus"], servers.stopped) == ("Updating", [])
    reservation.release()
    found = settled(endpoints, name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "y")
    assert (servers.stopped, "Update" in found) == (["mine 1"], False)


def test_a_restart_changes_nothing_in_an_endpoint_s_description(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    endpoint = created(endpoints, name)
    servers.error = "broken"
    endpoint.update("y", lambda _: [variant(name, number=2)])
    before = settled(endpoints, name)
    assert "broken" in before["FailureReason"]
    endpoints.close()
    servers.error = ""
    assert settled(make(), name) == before


def test_an_update_goes_on_after_a_restart(
    endpoints: Endpoints, make: Make, servers: StandInServers, name: str
) -> None:
    begin_update(endpoints, servers, name)
    endpoints.close()
    servers.may_start.set()
    settled(endpoints, name)
    again = make()
    assert settled(again, name)["EndpointConfigName"] == "y"
    assert answer(again, name) == "mine 2"


def test_weights_and_capacities_change_in_place(endpoints: Endpoints, servers: StandInServers, name: str) -> None:
    both = [variant(name, VariantName=each) for each in "ab"]
    endpoint = created(endpoints, name, *both)
    endpoint.scale(lambda _: [{**both[0], "Weight": 0.0}, {**both[1], "InstanceCount": 3}])
    assert settled(endpoints, name)["Running"] == {"a": 1, "b": 3}
    assert {answer(endpoints, name) for _ in range(50)} == {"b 1"}
    reservation = endpoint.reserve("b")
    endpoint.scale(lambda _: [both[0], {**both[1], "InstanceCount": 1}])
    reservation.release()
    assert settled(endpoints, name)["Running"] == {"a": 1, "b": 1}
    assert len(servers.stopped) == 2


def test_more_instances_than_can_be_started_are_rolled_back(
    endpoints: Endpoints, servers: StandInServers, name: str
) -> None:
    endpoint = created(endpoints, name)
    servers.error = "no memory"
    endpoint.scale(lambda _: [variant(name, InstanceCount=3, Weight=5.0)])
    found = settled(endpoints, name)
    assert (found["EndpointStatus"], found["Running"], found["Variants"]) == ("InService", {"mine": 1}, [variant(name)])
    assert found["FailureReason"].endswith("no memory")
    assert (answer(endpoints, name), servers.stopped) == ("mine 1", ["mine 1", "mine 1"])


def test_of_updates_at_once_one_is_accepted(endpoints: Endpoints, servers: StandInServers, name: str) -> None:
    endpoint = created(endpoints, name)
    servers.may_start.clear()

    def update(number: int) -> str:
        try:
            endpoint.update(f"config-{number}", lambda _: [variant(name, number=number)])
        except ApiError as error:
            return error.code
        return f"mine {number}"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(update, range(8)))
    servers.may_start.set()
    settled(endpoints, name)
    assert sorted(results)[:7] == ["ValidationException"] * 7
    assert answer(endpoints, name) == sorted(results)[7]


def test_an_endpoint_is_not_deleted_while_it_is_updated_and_then_leaves_no_server(
    endpoints: Endpoints, servers: StandInServers, name: str, tmp_path: Path
) -> None:
    begin_update(endpoints, servers, name)
    with pytest.raises(ApiError, match='Cannot update in-progress endpoint "arn".'):
        endpoints.get(name).delete()
    servers.may_start.set()
    settled(endpoints, name)
    endpoints.get(name).delete()
    gone(endpoints, name)
    assert set(servers.stopped) == {"mine 1", "mine 2"}
    assert list((tmp_path / "serving").iterdir()) == []


def test_an_endpoint_that_the_disk_refuses_is_not_accepted(
    endpoints: Endpoints, journal: Journal, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(journal, "save", full)
        with pytest.raises(OSError, match="No space"):
            endpoints.create(record(name))
    assert endpoints.find(name) is None
    assert created(endpoints, name).record["EndpointStatus"] == "InService"


def test_an_endpoint_whose_state_cannot_be_written_serves_and_can_be_deleted(
    make: Make,
    endpoints: Endpoints,
    journal: Journal,
    servers: StandInServers,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers.may_start.clear()
    endpoints.create(record(name))
    with monkeypatch.context() as disk:
        disk.setattr(journal, "save", full)
        servers.may_start.set()
        assert settled(endpoints, name)["EndpointStatus"] == "InService"
        assert answer(endpoints, name) == "mine 1"
        with pytest.raises(OSError, match="No space"):
            endpoints.get(name).delete()
        assert answer(endpoints, name) == "mine 1"
    again = make()  # which reads the status Creating and creates the endpoint again
    assert settled(again, name)["EndpointStatus"] == "InService"


def test_an_endpoint_that_cannot_be_removed_from_the_disk_is_gone(
    endpoints: Endpoints, make: Make, journal: Journal, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = created(endpoints, name)
    with monkeypatch.context() as disk:
        disk.setattr(journal, "delete", full)
        endpoint.delete()
        gone(endpoints, name)
    assert make().find(name) is None
