"""The operations on endpoints."""

from __future__ import annotations

import time
from typing import Any

from localmode.api.checks import check_tags, refuse
from localmode.api.listing import list_resources
from localmode.api.registry import SageMaker, operation
from localmode.core.aws import Request
from localmode.core.errors import ApiError
from localmode.hosting.server_process import STARTUP_SECONDS

_INTERNAL = ("Variants", "Generation", "Update", "Tags", "Running")  # members that DescribeEndpoint does not return


@operation
def create_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Begin to create an endpoint; DescribeEndpoint shows when it is InService."""
    refuse(("DeploymentConfig",), request)
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
    """Return the variants of a configuration as localmode.hosting.fleet.Specification."""
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
    """Begin to start servers for another configuration; the present ones serve until the new ones answer."""
    refuse(("DeploymentConfig",), request)
    endpoint = sagemaker.endpoints.get(request["EndpointName"])
    variants = _variants(sagemaker, request["EndpointConfigName"])
    endpoint.update(request["EndpointConfigName"], lambda present: _retained(variants, present, request))
    return {"EndpointArn": endpoint.record["EndpointArn"]}


def _retained(variants: list[Request], present: list[Request], request: Request) -> list[Request]:
    """Return new variants with the weights and instance counts that the request retains of the present ones."""
    if not request.get("RetainAllVariantProperties"):
        return variants
    excluded = {each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties", [])}
    properties = {"Weight": "DesiredWeight", "InstanceCount": "DesiredInstanceCount"}
    retained = [member for member, kind in properties.items() if kind not in excluded]
    by_name = {variant["VariantName"]: variant for variant in present}
    return [
        {**variant, **{member: by_name[variant["VariantName"]][member] for member in retained}}
        if variant["VariantName"] in by_name
        else variant
        for variant in variants
    ]


@operation
def update_endpoint_weights_and_capacities(sagemaker: SageMaker, request: Request) -> Request:
    """Begin to give variants other weights and instance counts."""
    endpoint = sagemaker.endpoints.get(request["EndpointName"])
    arn = endpoint.record["EndpointArn"]
    endpoint.scale(lambda present: _changed(present, request["DesiredWeightsAndCapacities"], arn))
    return {"EndpointArn": arn}


def _changed(present: list[Request], changes: list[Any], arn: str) -> list[Request]:
    """Return the variants of an endpoint after changes; raise ApiError for a variant that it does not have."""
    variants = {variant["VariantName"]: dict(variant) for variant in present}
    for desired in changes:
        variant = variants.get(desired["VariantName"])
        if variant is None:
            raise ApiError(
                "ValidationException",
                f'Endpoint "{arn}" has no production variant {desired["VariantName"]}.',
            )
        if desired.get("ServerlessUpdateConfig") or desired.get("DesiredInstanceCount") == 0:
            raise ApiError("ValidationException", f"Production variant {desired['VariantName']} needs an instance.")
        variant["Weight"] = float(desired.get("DesiredWeight", variant["Weight"]))
        variant["InstanceCount"] = desired.get("DesiredInstanceCount", variant["InstanceCount"])
    return list(variants.values())


@operation
def describe_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Describe an endpoint."""
    record = sagemaker.endpoints.get(request["EndpointName"]).describe()
    answer = {key: value for key, value in record.items() if key not in _INTERNAL}
    update = record.get("Update", record)
    scaled = update if update["Generation"] == record["Generation"] else record
    desired = {variant["VariantName"]: variant for variant in scaled["Variants"]}
    answer["ProductionVariants"] = [
        {
            "CurrentWeight": variant["Weight"],
            # 0 for a variant of the old servers, which only finish their requests
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
    """Return the members of ProductionVariantSummary that the request determines."""
    image = variant.get("Image")  # absent from endpoints that an earlier release wrote to disk
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
    return list_resources(request, "Endpoint", records, "LastModifiedTime", "EndpointStatus")


@operation
def delete_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Begin to stop the model servers; then the endpoint is forgotten."""
    sagemaker.endpoints.get(request["EndpointName"]).delete()
    return {}
