"""The operations on models, endpoint configurations and endpoints: validate, act, answer."""

from __future__ import annotations

import time
from typing import Any

from localmode.checks import check_role
from localmode.model_server import STARTUP_SECONDS
from localmode.operations import Request, SageMaker, check_tags, operation, page
from localmode.shapes import ApiError

_UNSUPPORTED = {  # members that must be absent or false, by the structure that has them
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
    "Endpoint": ("DeploymentConfig",),
}
_MOST_VARIANTS = 10  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
_OWN = ("Variants", "Generation", "Update", "Tags", "Running")  # of an endpoint's record, not for Describe


def _refuse(structure: str, value: Request) -> None:
    """Raise ApiError for what localmode does not do; it would be accepted on AWS."""
    for member in _UNSUPPORTED[structure]:
        if value.get(member):
            raise ApiError("ValidationException", f"localmode does not do this: {member}. On AWS it would be accepted.")


@operation
def create_model(sagemaker: SageMaker, request: Request) -> Request:
    """Register a model: an archive in S3 and the image that serves it."""
    containers = [
        *request.get("Containers", []),
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
    ]
    if len(containers) != 1 or not containers[0].get("ModelDataUrl"):
        raise ApiError("ValidationException", "localmode serves a model of one container with a ModelDataUrl")
    _refuse("Model", request)
    _refuse("Container", containers[0])
    if containers[0].get("Mode", "SingleModel") != "SingleModel":
        raise ApiError("ValidationException", "localmode does not do this: MultiModel. On AWS it would be accepted.")
    if "ExecutionRoleArn" in request:
        check_role(request["ExecutionRoleArn"], sagemaker.trusts_sagemaker)
    entry = {"EnableNetworkIsolation": False, **request, "Tags": check_tags(request)}
    return {"ModelArn": sagemaker.models.add(request["ModelName"], entry)}


@operation
def describe_model(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about a model."""
    return sagemaker.models.get(request["ModelName"])


@operation
def list_models(sagemaker: SageMaker, request: Request) -> Request:
    """List models."""
    return _listed(request, "Model", sagemaker.models.all())


@operation
def delete_model(sagemaker: SageMaker, request: Request) -> Request:
    """Forget a model; its archive stays in S3."""
    sagemaker.models.delete(request["ModelName"])
    return {}


@operation
def create_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Register an endpoint configuration."""
    _refuse("EndpointConfig", request)
    names = [variant["VariantName"] for variant in request["ProductionVariants"]]
    if len(names) > _MOST_VARIANTS or len(set(names)) < len(names):
        raise ApiError(
            "ValidationException", f"An endpoint has at most {_MOST_VARIANTS} production variants, of different names"
        )
    for variant in request["ProductionVariants"]:
        _check_variant(sagemaker, variant)
    entry = {**request, "Tags": check_tags(request)}
    return {"EndpointConfigArn": sagemaker.configs.add(request["EndpointConfigName"], entry)}


def _check_variant(sagemaker: SageMaker, variant: Request) -> None:
    name = variant["VariantName"]
    _refuse("Variant", variant)
    for member in ("ModelName", "InstanceType", "InitialInstanceCount"):
        if member not in variant:
            raise ApiError("ValidationException", f"Production variant {name} has no {member}")
    if variant.get("RoutingConfig", {}).get("RoutingStrategy") == "PREFIX_AWARE":
        raise ApiError("ValidationException", "localmode does not do this: PREFIX_AWARE. On AWS it would be accepted.")
    sagemaker.models.get(variant["ModelName"])


@operation
def describe_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about an endpoint configuration."""
    return sagemaker.configs.get(request["EndpointConfigName"])


@operation
def list_endpoint_configs(sagemaker: SageMaker, request: Request) -> Request:
    """List endpoint configurations."""
    return _listed(request, "EndpointConfig", sagemaker.configs.all())


@operation
def delete_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Forget an endpoint configuration."""
    sagemaker.configs.delete(request["EndpointConfigName"])
    return {}


# Endpoints


@operation
def create_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Start a model server; DescribeEndpoint says when it is InService."""
    _refuse("Endpoint", request)
    name = request["EndpointName"]
    arn = sagemaker.settings.arn("endpoint", name)
    now = time.time()
    record = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": request["EndpointConfigName"],
        "CreationTime": now,
        "LastModifiedTime": now,
        "Variants": _variants(sagemaker, request["EndpointConfigName"]),
        "Tags": check_tags(request),
    }
    if not sagemaker.endpoints.create(record):
        raise ApiError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
    return {"EndpointArn": arn}


def _variants(sagemaker: SageMaker, config_name: str) -> list[Request]:
    """Return the variants of a configuration as a fleet takes them, with all that it needs to start them."""
    variants = []
    for variant in sagemaker.configs.get(config_name)["ProductionVariants"]:
        model = sagemaker.models.get(variant["ModelName"])
        container = model.get("PrimaryContainer") or model["Containers"][0]
        variants.append(
            {
                "VariantName": variant["VariantName"],
                "Image": container.get("Image"),
                "ModelDataUrl": container["ModelDataUrl"],
                "Environment": container.get("Environment", {}),
                "Weight": float(variant.get("InitialVariantWeight", 1.0)),
                "InstanceCount": variant["InitialInstanceCount"],
                "Routing": variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM"),
                "StartupSeconds": variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS),
            }
        )
    return variants


@operation
def update_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Start servers for another configuration; the old ones serve until the new ones are up."""
    _refuse("Endpoint", request)
    with sagemaker.endpoints.lock:  # so that nobody changes or deletes what the new variants are made of
        record = _endpoint(sagemaker, request["EndpointName"])
        variants = _variants(sagemaker, request["EndpointConfigName"])
        if request.get("RetainAllVariantProperties"):
            lost = {each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties", [])}
            old = {variant["VariantName"]: variant for variant in record["Variants"]}
            for variant in variants:
                for member, kind in (("Weight", "DesiredWeight"), ("InstanceCount", "DesiredInstanceCount")):
                    if kind not in lost and variant["VariantName"] in old:
                        variant[member] = old[variant["VariantName"]][member]
        sagemaker.endpoints.update(request["EndpointName"], request["EndpointConfigName"], variants, fresh=True)
    return {"EndpointArn": record["EndpointArn"]}


@operation
def update_endpoint_weights_and_capacities(sagemaker: SageMaker, request: Request) -> Request:
    """Give variants other weights and instance counts."""
    with sagemaker.endpoints.lock:  # so that of two such changes neither is made without the other
        record = _endpoint(sagemaker, request["EndpointName"])
        variants = _changed(record, request["DesiredWeightsAndCapacities"])
        sagemaker.endpoints.update(request["EndpointName"], record["EndpointConfigName"], variants, fresh=False)
    return {"EndpointArn": record["EndpointArn"]}


def _changed(record: Request, changes: list[Any]) -> list[Request]:
    """Return the variants of an endpoint after changes; raise ApiError for a variant that it does not have."""
    variants = {variant["VariantName"]: dict(variant) for variant in record["Variants"]}
    for desired in changes:
        variant = variants.get(desired["VariantName"])
        if variant is None:
            raise ApiError(
                "ValidationException",
                f'Endpoint "{record["EndpointArn"]}" has no production variant {desired["VariantName"]}.',
            )
        if desired.get("ServerlessUpdateConfig") or desired.get("DesiredInstanceCount") == 0:
            raise ApiError("ValidationException", f"Production variant {desired['VariantName']} needs an instance.")
        variant["Weight"] = float(desired.get("DesiredWeight", variant["Weight"]))
        variant["InstanceCount"] = desired.get("DesiredInstanceCount", variant["InstanceCount"])
    return list(variants.values())


@operation
def describe_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about an endpoint."""
    record = _endpoint(sagemaker, request["EndpointName"])
    answer = {key: value for key, value in record.items() if key not in _OWN}
    update = record.get("Update", record)
    scaled = update if update["Generation"] == record["Generation"] else record
    desired = {variant["VariantName"]: variant for variant in scaled["Variants"]}
    answer["ProductionVariants"] = [
        {
            "CurrentWeight": variant["Weight"],
            # None of a variant that only ends the requests which it still has.
            "CurrentInstanceCount": record["Running"].get(variant["VariantName"], 0),
            **_desired(desired[variant["VariantName"]]),
        }
        for variant in record["Variants"]
    ]
    if update is not scaled or record["EndpointStatus"] == "Creating":
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": update["EndpointConfigName"],
            "ProductionVariants": [_desired(variant) for variant in update["Variants"]],
            "StartTime": record["LastModifiedTime"],
        }
    return answer


def _desired(variant: Request) -> Request:
    """Return what a description of an endpoint says of a variant as it was asked for."""
    image = variant.get("Image")  # not in what a release before wrote down
    return {
        "VariantName": variant["VariantName"],
        **({"DeployedImages": [{"SpecifiedImage": image}]} if image else {}),
        "DesiredWeight": variant["Weight"],
        "DesiredInstanceCount": variant["InstanceCount"],
    }


@operation
def list_endpoints(sagemaker: SageMaker, request: Request) -> Request:
    """List endpoints."""
    status = request.get("StatusEquals")
    records = [record for record in sagemaker.endpoints.all() if status in (None, record["EndpointStatus"])]
    return _listed(request, "Endpoint", records, "LastModifiedTime", "EndpointStatus")


@operation
def delete_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Stop the model server and forget the endpoint."""
    with sagemaker.endpoints.lock:  # whoever else deletes it
        _endpoint(sagemaker, request["EndpointName"])
        sagemaker.endpoints.delete(request["EndpointName"])
    return {}


def _listed(request: Request, kind: str, entries: list[Request], *more: str) -> Request:
    """Return a page of summaries: name, ARN, time of creation, and `more` members of each entry."""
    members = (f"{kind}Name", f"{kind}Arn", "CreationTime", *more)
    return page(request, [{member: entry[member] for member in members} for entry in entries], f"{kind}s", kind)


def _endpoint(sagemaker: SageMaker, name: str) -> Request:
    record = sagemaker.endpoints.get(name)
    if record is None:
        arn = sagemaker.settings.arn("endpoint", name)
        raise ApiError("ValidationException", f'Could not find endpoint "{arn}".')
    return record
