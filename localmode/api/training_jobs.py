"""The operations on training jobs."""

from __future__ import annotations

import time

from localmode.api.checks import check_role, check_tags
from localmode.api.listing import paginate
from localmode.api.registry import SageMaker, operation
from localmode.api.training_job_checks import check_training_job
from localmode.core.aws import Request
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.training import spot
from localmode.training.job import TrainingJob
from localmode.training.record import DEFAULT_MAX_RUNTIME

_ECHOED = (  # members of CreateTrainingJob that DescribeTrainingJob returns unchanged
    "AlgorithmSpecification",
    "CheckpointConfig",
    "DebugHookConfig",
    "Environment",
    "ExperimentConfig",
    "HyperParameters",
    "InfraCheckConfig",
    "InputDataConfig",
    "OutputDataConfig",
    "ProfilerConfig",
    "RemoteDebugConfig",
    "ResourceConfig",
    "RetryStrategy",
    "RoleArn",
    "StoppingCondition",
    "VpcConfig",
)
_FLAGS = (  # returned as well, with False as the default
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
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


@operation
def create_training_job(sagemaker: SageMaker, request: Request) -> Request:
    """Start a training job."""
    name = request["TrainingJobName"]
    check_role(request["RoleArn"], sagemaker.trusts_sagemaker)
    check_tags(request)
    check_training_job(request, sagemaker.storage, sagemaker.settings, sagemaker.jobs.runner)
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
    """Describe a training job."""
    job = _training_job(sagemaker, request["TrainingJobName"])
    return describe(job, sagemaker.settings)


def describe(job: TrainingJob, settings: Settings) -> Request:
    """Return the response of DescribeTrainingJob, without empty structures, which break SDK v3's models."""
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
        **{flag: bool(record.request.get(flag)) for flag in _FLAGS},
    }
    answer.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME})
    started = [attempt.downloading for attempt in record.attempts if attempt.downloading is not None]
    if started:
        discount = settings.spot_discount if record.is_spot else 0.0
        answer["TrainingStartTime"] = started[0]
        answer["TrainingTimeInSeconds"] = spot.training_seconds(record.attempts, now)
        if record.is_final:
            answer["BillableTimeInSeconds"] = spot.billable_seconds(record.attempts, discount, now)
    if record.is_final and record.attempts:
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
    """List training jobs; with StatusEquals and MaxResults, a page is cut first and then filtered, as AWS does it."""
    if "WarmPoolStatusEquals" in request or "TrainingPlanArnEquals" in request:
        return paginate(request, "TrainingJob", [], "TrainingJobSummaries")  # no job here has a warm pool or a plan
    summaries = []
    for job in sagemaker.jobs.all():
        full = describe(job, sagemaker.settings)
        summaries.append({member: full[member] for member in _SUMMARY if member in full})
    if "MaxResults" not in request:
        summaries = _of_status(request, summaries)
    answer = paginate(request, "TrainingJob", summaries, "TrainingJobSummaries", default_order="Ascending")
    return {**answer, "TrainingJobSummaries": _of_status(request, answer["TrainingJobSummaries"])}


def _of_status(request: Request, summaries: list[Request]) -> list[Request]:
    return [each for each in summaries if request.get("StatusEquals") in (None, each["TrainingJobStatus"])]


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
