"""The operations of the SageMaker API: validate, act, answer.

Every function registered here takes a request that fits botocore's input shape and returns a dictionary that
fits its output shape; what it refuses, it refuses with SageMaker's error code. The register is what the
README's table of operations is checked against.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from localmode import spot
from localmode.checks import check_role, check_training_job
from localmode.disk import Journal
from localmode.endpoints import Endpoints
from localmode.jobs import TrainingJobs
from localmode.settings import Settings
from localmode.shapes import ApiError, validate
from localmode.storage import Storage
from localmode.training import DEFAULT_MAX_RUNTIME, TrainingJob

Request = dict[str, Any]
Operation = Callable[["SageMaker", Request], Request]
OPERATIONS: dict[str, Operation] = {}

_ECHOED = (  # members of CreateTrainingJob that DescribeTrainingJob gives back as they were
    "AlgorithmSpecification",
    "CheckpointConfig",
    "Environment",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "RetryStrategy",
    "RoleArn",
    "StoppingCondition",
    "VpcConfig",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
)

_UNSUPPORTED_OF_CONFIG = (
    "AsyncInferenceConfig",
    "DataCaptureConfig",
    "EnableNetworkIsolation",
    "ExplainerConfig",
    "ShadowProductionVariants",
)

_SUMMARY = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "TrainingJobStatus",
    "SecondaryStatus",
)


def operation(function: Operation) -> Operation:
    """Register a function under the operation's name: create_model answers CreateModel."""
    OPERATIONS["".join(word.capitalize() for word in function.__name__.split("_"))] = function
    return function


class SageMaker:
    """What the operations work on."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        jobs: TrainingJobs,
        endpoints: Endpoints,
        models: Journal,
        configs: Journal,
        trusts_sagemaker: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.jobs = jobs
        self.endpoints = endpoints
        self.trusts_sagemaker = trusts_sagemaker
        self.models = Register(models, settings, "model", "model", "Model")
        self.configs = Register(configs, settings, "endpoint-config", "endpoint configuration", "EndpointConfig")

    def call(self, name: str, request: Any) -> Request:
        """Carry out one operation; raise ApiError where SageMaker would answer with an error."""
        if name not in OPERATIONS:
            raise ApiError("UnknownOperationException", f"localmode does not implement sagemaker:{name}")
        return OPERATIONS[name](self, validate(name, request))


class Register:
    """Resources that only are: models and endpoint configurations."""

    def __init__(self, journal: Journal, settings: Settings, kind: str, title: str, prefix: str) -> None:
        self._journal = journal
        self._settings = settings
        self._kind, self._title, self._prefix = kind, title, prefix
        self._entries = journal.load(dict)
        self._lock = threading.RLock()

    def arn(self, name: str) -> str:
        """Return the ARN of a resource of this kind."""
        return self._settings.arn(self._kind, name)

    def add(self, name: str, entry: Request) -> str:
        """Keep a new resource; raise ApiError for a name in use. Return its ARN."""
        stored = {**entry, f"{self._prefix}Arn": self.arn(name), "CreationTime": time.time()}
        with self._lock:
            if name in self._entries:
                raise ApiError(
                    "ValidationException", f'Cannot create already existing {self._title} "{self.arn(name)}".'
                )
            self._journal.save(name, stored)
            self._entries[name] = stored
        return self.arn(name)

    def get(self, name: str) -> Request:
        """Return a resource; raise ApiError if there is none of that name."""
        if name not in self._entries:
            raise ApiError("ValidationException", f'Could not find {self._title} "{self.arn(name)}".')
        return dict(self._entries[name])

    def delete(self, name: str) -> None:
        """Forget a resource; raise ApiError if there is none of that name."""
        with self._lock:
            self.get(name)
            self._journal.delete(name)
            del self._entries[name]

    def all(self) -> list[Request]:
        """Return all resources."""
        return [dict(entry) for entry in list(self._entries.values())]


def _page(
    request: Request, summaries: list[Request], member: str, kind: str, default_order: str = "Descending"
) -> Request:
    """Filter, sort and cut a list of summaries as the List operations do; 10 at once by default."""
    name = f"{kind}Name"
    contains = request.get("NameContains", "").lower()
    found = [
        summary
        for summary in summaries
        if contains in summary[name].lower()
        and request.get("CreationTimeAfter", 0) <= summary["CreationTime"]
        and summary["CreationTime"] <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0) <= summary.get("LastModifiedTime", float("inf"))
        and summary.get("LastModifiedTime", 0) <= request.get("LastModifiedTimeBefore", float("inf"))
    ]
    column = {"Name": name, "Status": f"{kind}Status"}.get(request.get("SortBy", ""), "CreationTime")
    found.sort(
        key=lambda summary: (summary[column], summary[name]),
        reverse=request.get("SortOrder", default_order) == "Descending",
    )
    token = request.get("NextToken", "0")
    if not re.fullmatch("[0-9]{1,9}", token):
        raise ApiError("ValidationException", f"Invalid NextToken {token!r}")
    start, count = int(token), request.get("MaxResults", 10)
    page: Request = {member: found[start : start + count]}
    if start + count < len(found):
        page["NextToken"] = str(start + count)
    return page


# Training jobs


@operation
def create_training_job(sagemaker: SageMaker, request: Request) -> Request:
    """Start a training job."""
    name = request["TrainingJobName"]
    check_role(request["RoleArn"], sagemaker.trusts_sagemaker)
    check_training_job(request, sagemaker.storage, sagemaker.settings)
    job = sagemaker.jobs.create(name, request)
    if job is None:
        raise ApiError(
            "ResourceInUse",
            "Job name must be unique within an AWS account and region, and a training job with this name "
            f"already exists ({sagemaker.settings.arn('training-job', name)})",
        )
    return {"TrainingJobArn": job.record.arn}


@operation
def describe_training_job(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about a training job."""
    job = _training_job(sagemaker, request["TrainingJobName"])
    with job.changed:
        return describe(job, sagemaker.settings)


def describe(job: TrainingJob, settings: Settings) -> Request:
    """Return the DescribeTrainingJob response; empty structures are left out, since they break SDK v3's models."""
    record, now = job.record, time.time()
    answer: Request = {
        "TrainingJobName": record.name,
        "TrainingJobArn": record.arn,
        "TrainingJobStatus": record.status,
        "SecondaryStatus": record.secondary_status,
        "CreationTime": record.created,
        "LastModifiedTime": record.transitions[-1]["StartTime"],
        "SecondaryStatusTransitions": [dict(transition) for transition in record.transitions],
        **{member: record.request[member] for member in _ECHOED if record.request.get(member) not in (None, {})},
    }
    answer.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME})
    for flag in _ECHOED[-3:]:
        answer.setdefault(flag, False)
    started = [attempt.downloading for attempt in record.attempts if attempt.downloading is not None]
    if started:
        discount = settings.spot_discount if job.is_spot else 0.0
        answer["TrainingStartTime"] = started[0]
        answer["TrainingTimeInSeconds"] = spot.training_seconds(record.attempts, now)
        if job.is_final:
            answer["BillableTimeInSeconds"] = spot.billable_seconds(record.attempts, discount, now)
    if job.is_final and record.attempts:
        answer["TrainingEndTime"] = record.transitions[-1]["StartTime"]
    if record.model_artifacts:
        answer["ModelArtifacts"] = {"S3ModelArtifacts": record.model_artifacts}
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    if record.metrics:
        answer["FinalMetricDataList"] = [
            {"MetricName": name, "Value": value, "Timestamp": moment}
            for name, (value, moment) in record.metrics.items()
        ]
    return answer


@operation
def list_training_jobs(sagemaker: SageMaker, request: Request) -> Request:
    """List training jobs."""
    summaries = []
    for job in sagemaker.jobs.all():
        with job.changed:
            full = describe(job, sagemaker.settings)
        if request.get("StatusEquals") in (None, full["TrainingJobStatus"]):
            summaries.append({member: full[member] for member in _SUMMARY if member in full})
    return _page(request, summaries, "TrainingJobSummaries", "TrainingJob", default_order="Ascending")


@operation
def stop_training_job(sagemaker: SageMaker, request: Request) -> Request:
    """Stop a training job: SIGTERM, a grace period, SIGKILL."""
    job = _training_job(sagemaker, request["TrainingJobName"])
    with job.changed:
        if job.is_final:
            raise ApiError(
                "ValidationException",
                f"The request was rejected because the training job is in status {job.record.status}.",
            )
        sagemaker.jobs.stop(job)
    return {}


def _training_job(sagemaker: SageMaker, name: str) -> TrainingJob:
    job = sagemaker.jobs.get(name)
    if job is None:
        raise ApiError("ValidationException", "Requested resource not found.")
    return job


# Models and endpoint configurations


@operation
def create_model(sagemaker: SageMaker, request: Request) -> Request:
    """Register a model: an archive in S3 and the image that serves it."""
    containers = [
        *request.get("Containers", []),
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
    ]
    if len(containers) != 1 or not containers[0].get("ModelDataUrl"):
        raise ApiError("ValidationException", "localmode serves a model of one container with a ModelDataUrl")
    if "ExecutionRoleArn" in request:
        check_role(request["ExecutionRoleArn"], sagemaker.trusts_sagemaker)
    entry = {
        "EnableNetworkIsolation": False,
        **{key: value for key, value in request.items() if key != "Tags"},
    }
    return {"ModelArn": sagemaker.models.add(request["ModelName"], entry)}


@operation
def describe_model(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about a model."""
    return sagemaker.models.get(request["ModelName"])


@operation
def list_models(sagemaker: SageMaker, request: Request) -> Request:
    """List models."""
    members = ("ModelName", "ModelArn", "CreationTime")
    summaries = [{member: entry[member] for member in members} for entry in sagemaker.models.all()]
    return _page(request, summaries, "Models", "Model")


@operation
def delete_model(sagemaker: SageMaker, request: Request) -> Request:
    """Forget a model; its archive stays in S3."""
    sagemaker.models.delete(request["ModelName"])
    return {}


@operation
def create_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Register an endpoint configuration."""
    for member in _UNSUPPORTED_OF_CONFIG:
        if request.get(member):
            raise ApiError("ValidationException", f"localmode does not do this: {member}. On AWS it would be accepted.")
    variants = request["ProductionVariants"]
    if len(variants) != 1 or "ModelName" not in variants[0]:
        raise ApiError("ValidationException", "localmode serves one production variant with a ModelName")
    sagemaker.models.get(variants[0]["ModelName"])
    entry = {key: value for key, value in request.items() if key != "Tags"}
    return {"EndpointConfigArn": sagemaker.configs.add(request["EndpointConfigName"], entry)}


@operation
def describe_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about an endpoint configuration."""
    return sagemaker.configs.get(request["EndpointConfigName"])


@operation
def list_endpoint_configs(sagemaker: SageMaker, request: Request) -> Request:
    """List endpoint configurations."""
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    summaries = [{member: entry[member] for member in members} for entry in sagemaker.configs.all()]
    return _page(request, summaries, "EndpointConfigs", "EndpointConfig")


@operation
def delete_endpoint_config(sagemaker: SageMaker, request: Request) -> Request:
    """Forget an endpoint configuration."""
    sagemaker.configs.delete(request["EndpointConfigName"])
    return {}


# Endpoints


@operation
def create_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Start a model server; DescribeEndpoint says when it is InService."""
    name = request["EndpointName"]
    arn = sagemaker.settings.arn("endpoint", name)
    variant = sagemaker.configs.get(request["EndpointConfigName"])["ProductionVariants"][0]
    model = sagemaker.models.get(variant["ModelName"])
    container = model.get("PrimaryContainer") or model["Containers"][0]
    now = time.time()
    record = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": request["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "CreationTime": now,
        "LastModifiedTime": now,
        "VariantName": variant["VariantName"],
        "ModelDataUrl": container["ModelDataUrl"],
    }
    if not sagemaker.endpoints.create(record):
        raise ApiError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
    return {"EndpointArn": arn}


@operation
def describe_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Tell all about an endpoint."""
    record = _endpoint(sagemaker, request["EndpointName"])
    answer = {key: value for key, value in record.items() if key not in ("VariantName", "ModelDataUrl")}
    variant = {"VariantName": record["VariantName"], "CurrentWeight": 1.0, "DesiredWeight": 1.0}
    running = int(record["EndpointStatus"] == "InService")
    answer["ProductionVariants"] = [{**variant, "CurrentInstanceCount": running, "DesiredInstanceCount": 1}]
    return answer


@operation
def list_endpoints(sagemaker: SageMaker, request: Request) -> Request:
    """List endpoints."""
    members = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    summaries = [
        {member: record[member] for member in members}
        for record in sagemaker.endpoints.all()
        if request.get("StatusEquals") in (None, record["EndpointStatus"])
    ]
    return _page(request, summaries, "Endpoints", "Endpoint")


@operation
def delete_endpoint(sagemaker: SageMaker, request: Request) -> Request:
    """Stop the model server and forget the endpoint."""
    _endpoint(sagemaker, request["EndpointName"])
    sagemaker.endpoints.delete(request["EndpointName"])
    return {}


def _endpoint(sagemaker: SageMaker, name: str) -> Request:
    record = sagemaker.endpoints.get(name)
    if record is None:
        arn = sagemaker.settings.arn("endpoint", name)
        raise ApiError("ValidationException", f'Could not find endpoint "{arn}".')
    return record
