"""The operations on models and endpoint configurations."""

from __future__ import annotations

from localmode.api.checks import check_role, check_tags, refusal, refuse
from localmode.api.listing import list_resources
from localmode.api.registry import SageMaker, operation
from localmode.core.aws import Request
from localmode.core.errors import ApiError

_UNSUPPORTED = {  # members that must be absent, false or empty, by the structure that has them
    "Model": ("InferenceExecutionConfig", "EnableNetworkIsolation"),
    "Container": (
        "AdditionalModelDataSources",
        "ContainerMetricsConfig",
        "InferenceSpecificationName",
        "ModelDataSource",
        "ModelPackageName",
        "MultiModelConfig",
    ),
    "EndpointConfig": (
        "AsyncInferenceConfig",
        "DataCaptureConfig",
        "EnableNetworkIsolation",
        "ExplainerConfig",
        "MetricsConfig",
        "ShadowProductionVariants",
    ),
    "Variant": (
        "AcceleratorPartitionLayouts",
        "CapacityReservationConfig",
        "CoreDumpConfig",
        "InstancePools",
        "ManagedInstanceScaling",
        "ServerlessConfig",
    ),
}
_MOST_VARIANTS = 10  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html


@operation
def create_model(sagemaker: SageMaker, request: Request) -> Request:
    """Register a model: an archive in S3 and the image that serves it."""
    containers = [
        *request.get("Containers", []),
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
    ]
    if len(containers) != 1 or not containers[0].get("ModelDataUrl"):
        raise ApiError(
            "ValidationException",
            f"localmode supports models of one container with a ModelDataUrl; model {request['ModelName']} is not one",
        )
    refuse(_UNSUPPORTED["Model"], request)
    refuse(_UNSUPPORTED["Container"], containers[0])
    if containers[0].get("Mode", "SingleModel") != "SingleModel":
        raise refusal("Mode MultiModel")
    if "ExecutionRoleArn" in request:
        check_role(request["ExecutionRoleArn"], sagemaker.trusts_sagemaker)
    entry = {"EnableNetworkIsolation": False, **request, "Tags": check_tags(request)}
    return {"ModelArn": sagemaker.models.add(request["ModelName"], entry)}


@operation
def describe_model(sagemaker: SageMaker, request: Request) -> Request:
    """Describe a model."""
    return sagemaker.models.get(request["ModelName"])


@operation
def list_models(sagemaker: SageMaker, request: Request) -> Request:
    """List models."""
    return list_resources(request, "Model", sagemaker.models.all())


@operation
def delete_model(sagemaker: SageMaker, request: Request) -> Request:
    """Delete a model; its archive stays in S3."""
    sagemaker.models.delete(request["ModelName"])
    return {}


@operation
def create_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Register an endpoint configuration."""
    refuse(_UNSUPPORTED["EndpointConfig"], request)
    names = [variant["VariantName"] for variant in request["ProductionVariants"]]
    if len(names) > _MOST_VARIANTS or len(set(names)) < len(names):
        raise ApiError(
            "ValidationException",
            f"An endpoint has at most {_MOST_VARIANTS} production variants, of different names",
        )
    for variant in request["ProductionVariants"]:
        _check_variant(sagemaker, variant)
    entry = {**request, "Tags": check_tags(request)}
    return {"EndpointConfigArn": sagemaker.configs.add(request["EndpointConfigName"], entry)}


def _check_variant(sagemaker: SageMaker, variant: Request) -> None:
    name = variant["VariantName"]
    refuse(_UNSUPPORTED["Variant"], variant)
    for member in ("ModelName", "InstanceType", "InitialInstanceCount"):
        if member not in variant:
            message = f"Production variant {name} has no {member}; localmode supports only variants on instances"
            raise ApiError("ValidationException", message)
    if variant.get("RoutingConfig", {}).get("RoutingStrategy") == "PREFIX_AWARE":
        raise refusal("RoutingStrategy PREFIX_AWARE")
    sagemaker.models.get(variant["ModelName"])


@operation
def describe_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Describe an endpoint configuration."""
    return sagemaker.configs.get(request["EndpointConfigName"])


@operation
def list_endpoint_configs(sagemaker: SageMaker, request: Request) -> Request:
    """List endpoint configurations."""
    return list_resources(request, "EndpointConfig", sagemaker.configs.all())


@operation
def delete_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Delete an endpoint configuration."""
    sagemaker.configs.delete(request["EndpointConfigName"])
    return {}
