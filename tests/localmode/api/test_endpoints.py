"""The operations on endpoints, also two at once; most tests replace the model servers."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localmode.api.registry import SageMaker
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.endpoint import Endpoint
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from tests.support.api import config_request, model_request, refusal, wait_until_failed
from tests.support.hosting import StandInServers, gone, settled, variant
from tests.support.local import BUCKET, SOON, Daemon, Rooms
from tests.support.model_archives import SMALLEST


def test_a_missing_or_failed_endpoint_is_not_updated(daemon: Daemon, name: str) -> None:
    request = {"EndpointName": name, "EndpointConfigName": name}
    assert "Could not find endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    daemon.sagemaker.create_model(**model_request(name))
    daemon.sagemaker.create_endpoint_config(**config_request(name, name))
    daemon.sagemaker.create_endpoint(**request)
    wait_until_failed(daemon, name)
    assert "Cannot update in-progress endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    capacities = [{"VariantName": "other", "DesiredWeight": 1}]
    message = refusal(
        daemon.sagemaker.update_endpoint_weights_and_capacities,
        EndpointName=name,
        DesiredWeightsAndCapacities=capacities,
    )[1]
    assert "has no production variant other" in message


@pytest.fixture
def servers() -> StandInServers:
    return StandInServers()


@pytest.fixture
def sagemaker(rooms_by_runner: Callable[[str], Rooms], tmp_path: Path, servers: StandInServers, name: str) -> SageMaker:
    """The operations, and an endpoint with the variants `a` and `b`."""
    rooms, settings = rooms_by_runner("rewrite"), Settings(tmp_path)
    (tmp_path / "model").write_bytes(SMALLEST)
    rooms.storage.put_file(BUCKET, f"{name}/model", tmp_path / "model")
    hosting = Hosting(settings, rooms.storage, rooms.services, {}, random.Random(7), servers)
    endpoints, models, configs = (Journal(tmp_path / kind, tmp_path) for kind in ("endpoints", "models", "configs"))
    registry = Endpoints(settings, hosting, endpoints)
    sagemaker = SageMaker(rooms.settings, rooms.storage, rooms.jobs, registry, models, configs, lambda role: True)
    container = {"Image": "mine:1", "ModelDataUrl": f"s3://{BUCKET}/{name}/model", "Environment": {"NUMBER": "2"}}
    sagemaker.call("CreateModel", {"ModelName": "x", "PrimaryContainer": container})
    usual = {"ModelName": "x", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    variants = [usual | {"VariantName": each} for each in "ab"]
    sagemaker.call("CreateEndpointConfig", {"EndpointConfigName": "x", "ProductionVariants": variants})
    sagemaker.call("CreateEndpoint", {"EndpointName": name, "EndpointConfigName": "x"})
    settled(registry, name)
    return sagemaker


def weigh(name: str, **weights: float) -> tuple[str, dict[str, Any]]:
    changes = [{"VariantName": each, "DesiredWeight": weight} for each, weight in weights.items()]
    return "UpdateEndpointWeightsAndCapacities", {"EndpointName": name, "DesiredWeightsAndCapacities": changes}


def after_the_first_look(sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Call `do` in another thread after an operation has found an endpoint and before it uses the endpoint."""
    get = sagemaker.endpoints.get

    def look(name: str) -> Endpoint:
        monkeypatch.undo()
        found = get(name)
        other = threading.Thread(target=do)
        other.start()
        other.join(SOON)
        return found

    monkeypatch.setattr(sagemaker.endpoints, "get", look)


def test_simultaneous_changes_of_weights_are_all_kept(
    sagemaker: SageMaker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weigh_b() -> None:
        sagemaker.call(*weigh(name, b=5.0))
        settled(sagemaker.endpoints, name)

    after_the_first_look(sagemaker, monkeypatch, weigh_b)
    sagemaker.call(*weigh(name, a=0.0))
    found = settled(sagemaker.endpoints, name)["Variants"]
    assert {each["VariantName"]: each["Weight"] for each in found} == {"a": 0.0, "b": 5.0}


@pytest.mark.parametrize("operation", ["DeleteEndpoint", "UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"])
def test_deleting_an_endpoint_during_an_operation_is_not_an_internal_error(
    sagemaker: SageMaker, name: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def delete() -> None:
        sagemaker.endpoints.get(name).delete()
        gone(sagemaker.endpoints, name)

    request = weigh(name, a=0.0)[1] | {"EndpointConfigName": "x"}
    after_the_first_look(sagemaker, monkeypatch, delete)
    try:
        sagemaker.call(operation, request)
    except ApiError as error:
        assert "Cannot update in-progress endpoint" in error.message
    with pytest.raises(ApiError, match="Could not find endpoint"):
        sagemaker.call(operation, request)


def test_a_retained_property_is_kept_and_an_excluded_one_is_not(sagemaker: SageMaker, name: str) -> None:
    sagemaker.call(*weigh(name, a=3.0))
    settled(sagemaker.endpoints, name)
    request = {"EndpointName": name, "EndpointConfigName": "x", "RetainAllVariantProperties": True}
    sagemaker.call("UpdateEndpoint", request)
    assert [each["Weight"] for each in settled(sagemaker.endpoints, name)["Variants"]] == [3.0, 1.0]
    excluded = [{"VariantPropertyType": "DesiredWeight"}]
    sagemaker.call("UpdateEndpoint", request | {"ExcludeRetainedVariantProperties": excluded})
    assert [each["Weight"] for each in settled(sagemaker.endpoints, name)["Variants"]] == [1.0, 1.0]


def test_an_endpoint_is_described_while_variants_of_other_names_take_over(
    sagemaker: SageMaker, servers: StandInServers, name: str
) -> None:
    """An old variant still has a request while the new one serves."""
    endpoint = sagemaker.endpoints.get(name)
    reservation = endpoint.reserve("a")
    endpoint.update("y", lambda _: [variant(name, VariantName="new")])
    while endpoint.describe()["Running"] != {"new": 1}:
        assert not endpoint.wait_until_settled(0.001)
    described = sagemaker.call("DescribeEndpoint", {"EndpointName": name})
    counts = {each["VariantName"]: each["CurrentInstanceCount"] for each in described["ProductionVariants"]}
    assert (described["EndpointStatus"], counts) == ("Updating", {"a": 0, "b": 0})
    reservation.release()
    settled(sagemaker.endpoints, name)
    described = sagemaker.call("DescribeEndpoint", {"EndpointName": name})
    assert [each["VariantName"] for each in described["ProductionVariants"]] == ["new"]


def test_a_deployment_that_is_pending_is_described(sagemaker: SageMaker, servers: StandInServers) -> None:
    def described() -> dict[str, Any]:
        return sagemaker.call("DescribeEndpoint", {"EndpointName": "mine"})

    servers.may_start.clear()
    usual = {"VariantName": "a", "ModelName": "x", "InstanceType": "ml.m5.large"}
    for config, count in (("one", 1), ("two", 2)):
        variants = [usual | {"InitialInstanceCount": count}]
        sagemaker.call("CreateEndpointConfig", {"EndpointConfigName": config, "ProductionVariants": variants})
    sagemaker.call("CreateEndpoint", {"EndpointName": "mine", "EndpointConfigName": "one"})
    wanted: dict[str, Any] = {"VariantName": "a", "DeployedImages": [{"SpecifiedImage": "mine:1"}]}
    wanted |= {"DesiredWeight": 1.0, "DesiredInstanceCount": 1}
    start = described()["LastModifiedTime"]
    pending = {"EndpointConfigName": "one", "ProductionVariants": [wanted], "StartTime": start}
    assert described()["PendingDeploymentSummary"] == pending
    servers.may_start.set()
    settled(sagemaker.endpoints, "mine")
    found = described()
    assert found["ProductionVariants"] == [{**wanted, "CurrentWeight": 1.0, "CurrentInstanceCount": 1}]
    assert "PendingDeploymentSummary" not in found
    servers.may_start.clear()
    sagemaker.call("UpdateEndpoint", {"EndpointName": "mine", "EndpointConfigName": "two"})
    found = described()["PendingDeploymentSummary"]
    assert (found["EndpointConfigName"], found["ProductionVariants"][0]["DesiredInstanceCount"]) == ("two", 2)
    servers.may_start.set()
    settled(sagemaker.endpoints, "mine")
