"""Requests that CreateModel and CreateEndpointConfig refuse."""

from typing import Any

import pytest

from tests.support.api import config_request, model_request, refusal
from tests.support.local import ROLE, Daemon


def test_a_configuration_of_an_unknown_model_and_an_endpoint_of_an_unknown_configuration_are_refused(
    daemon: Daemon,
) -> None:
    code, message = refusal(daemon.sagemaker.create_endpoint_config, **config_request("x", "no-such-model"))
    assert (code, "Could not find model" in message) == ("ValidationException", True)
    code, message = refusal(daemon.sagemaker.create_endpoint, EndpointName="x", EndpointConfigName="no-such-config")
    assert (code, "Could not find endpoint configuration" in message) == ("ValidationException", True)


def test_a_pipeline_of_containers_is_refused(daemon: Daemon, name: str) -> None:
    container = model_request(name)["PrimaryContainer"]
    request = {"ModelName": name, "Containers": [container, container], "ExecutionRoleArn": ROLE}
    assert "one container" in refusal(daemon.sagemaker.create_model, **request)[1]


def test_unsupported_members_of_endpoint_configurations_are_refused_by_name(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_model(**model_request(name))
    for member, value in (
        ("AsyncInferenceConfig", {"OutputConfig": {}}),
        ("EnableNetworkIsolation", True),
        ("MetricsConfig", {"EnableEnhancedMetrics": True}),
        ("ShadowProductionVariants", config_request(name, name)["ProductionVariants"]),
    ):
        message = refusal(daemon.sagemaker.create_endpoint_config, **config_request(name, name), **{member: value})[1]
        assert message == f"localmode does not support {member}. AWS would accept it."
    request = {"EndpointName": name, "EndpointConfigName": name}
    deployment = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "x"}]}}
    for operation in (daemon.sagemaker.create_endpoint, daemon.sagemaker.update_endpoint):
        assert "does not support DeploymentConfig." in refusal(operation, **request, DeploymentConfig=deployment)[1]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ServerlessConfig", {"MemorySizeInMB": 1024, "MaxConcurrency": 1}),
        ("ManagedInstanceScaling", {"Status": "ENABLED"}),
        ("RoutingConfig", {"RoutingStrategy": "PREFIX_AWARE"}),
    ],
)
def test_unsupported_members_of_variants_are_refused(daemon: Daemon, name: str, member: str, value: Any) -> None:
    daemon.sagemaker.create_model(**model_request(name))
    (variant,) = config_request(name, name)["ProductionVariants"]
    request = {"EndpointConfigName": name, "ProductionVariants": [{**variant, member: value}]}
    code, message = refusal(daemon.sagemaker.create_endpoint_config, **request)
    assert (code, message.startswith("localmode does not support ")) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("container", "feature"),
    [
        ({"Mode": "MultiModel"}, "Mode MultiModel"),
        ({"MultiModelConfig": {"ModelCacheSetting": "Enabled"}}, "MultiModelConfig"),
        ({"ModelPackageName": "mine"}, "ModelPackageName"),
        ({"ContainerMetricsConfig": {"MetricsEndpoints": []}}, "ContainerMetricsConfig"),
    ],
)
def test_unsupported_members_of_models_are_refused_by_name(
    daemon: Daemon, name: str, container: dict[str, Any], feature: str
) -> None:
    message = refusal(daemon.sagemaker.create_model, **model_request(name, **container))[1]
    assert message == f"localmode does not support {feature}. AWS would accept it."


def test_variants_need_different_names_and_instances(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_model(**model_request(name))
    (variant,) = config_request(name, name)["ProductionVariants"]
    create = daemon.sagemaker.create_endpoint_config
    assert "of different names" in refusal(create, EndpointConfigName=name, ProductionVariants=[variant] * 2)[1]
    del variant["InitialInstanceCount"]
    message = refusal(create, EndpointConfigName=name, ProductionVariants=[variant])[1]
    assert message.startswith("Production variant all has no InitialInstanceCount; ")
