"""The operations on endpoints: validate, act, answer."""

from __future__ import annotations

import time
from typing import Any

from localmode.api.checks import check_tags, refuse
from localmode.api.listing import list_resources
from localmode.api.registry import SageMaker, operation
from localmode.core.aws import Request
from localmode.core.errors import ApiError
from localmode.hosting.server_process import STARTUP_SECONDS

_OWN = ("Variants", "Generation", "Update", "Tags", "Running")  # of an endpoint's record, not for Describe


@operation
def create_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Start a model server; DescribeEndpoint says when it is InService."""
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
    refuse(("DeploymentConfig",), request)
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
    return list_resources(request, "Endpoint", records, "LastModifiedTime", "EndpointStatus")


@operation
def delete_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Stop the model server and forget the endpoint."""
    with sagemaker.endpoints.lock:  # whoever else deletes it
        _endpoint(sagemaker, request["EndpointName"])
        sagemaker.endpoints.delete(request["EndpointName"])
    return {}


def _endpoint(sagemaker: SageMaker, name: str) -> Request:
    record = sagemaker.endpoints.get(name)
    if record is None:
        arn = sagemaker.settings.arn("endpoint", name)
        raise ApiError("ValidationException", f'Could not find endpoint "{arn}".')
    return record
