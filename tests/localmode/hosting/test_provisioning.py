"""What servers get when they are made."""

import threading
from pathlib import Path

import pytest

from localmode.hosting import provisioning
from localmode.hosting.registry import Endpoints
from tests.support.hosting import StandInServers, created, settled, variant
from tests.support.local import BUCKET, SOON, Daemon, configure_endpoint


def test_how_long_servers_may_take_to_start_is_the_variant_s_and_eight_minutes_otherwise(
    endpoints: Endpoints, servers: StandInServers, name: str
) -> None:
    created(endpoints, name, variant(name, StartupSeconds=77), variant(name, VariantName="usual"))
    assert [server.limits.startup for server in servers.made] == [77, 480]


def test_the_time_to_start_that_a_configuration_asks_for_reaches_the_endpoint(daemon: Daemon, name: str) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=b"")
    configure_endpoint(daemon.sagemaker, name, f"s3://{BUCKET}/{name}/model.tar.gz")
    (asked,) = daemon.sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    asked["ContainerStartupHealthCheckTimeoutInSeconds"] = 66
    daemon.sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-66", ProductionVariants=[asked])
    daemon.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-66")
    assert '"StartupSeconds": 66' in (daemon.home / "endpoints" / f"{name}.json").read_text()


def test_the_files_of_one_generation_are_kept(endpoints: Endpoints, name: str, tmp_path: Path) -> None:
    endpoint = created(endpoints, name)
    endpoint.update("y", lambda _: [variant(name, number=2)])
    found = settled(endpoints, name)
    for thread in threading.enumerate():  # the files of the old fleet are removed after the update has been seen
        if thread.name == f"update endpoint {name}":
            thread.join(SOON)
    assert [path.name for path in (tmp_path / "serving" / name).iterdir()] == [found["Generation"]]


def test_an_unexpected_error_while_a_model_is_unpacked_fails_the_endpoint(
    endpoints: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "prepare", lambda *_: 1 / 0)
    found = created(endpoints, name).record
    assert (found["EndpointStatus"], found["FailureReason"][:19]) == ("Failed", "InternalServerError")
