"""What CreateTrainingJob refuses beyond the shape of the request: contradictions, what is missing in S3, and
what localmode does not do, which is never ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import regex

from localmode.core.aws import ACCOUNT_ID, Request
from localmode.core.errors import ApiError, unsupported
from localmode.core.runners import OPT_ML, too_many
from localmode.core.settings import Settings
from localmode.s3.storage import Storage, StorageError, parse_uri
from localmode.training.record import DEFAULT_MAX_RUNTIME

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
_LONGEST_RUNTIME = 28 * 24 * 3600
_UNSUPPORTED = (  # paths into the request that must be absent or false
    "EnableNetworkIsolation",
    "ResourceConfig.InstanceGroups",
    "ResourceConfig.InstancePlacementConfig",
    "ResourceConfig.InstancePreferences",
    "ResourceConfig.KeepAlivePeriodInSeconds",
    "ResourceConfig.TrainingPlanArn",
    "ServerlessJobConfig",
    "MlflowConfig",
    "TensorBoardOutputConfig",
    "ModelPackageConfig",
    "DebugRuleConfigurations",
    "ProfilerRuleConfigurations",
    "RemoteDebugConfig.EnableRemoteDebug",
    "SessionChainingConfig.EnableSessionTagChaining",
)
_UNSUPPORTED_OF_CHANNELS = (
    "DataSource.DatasetSource",
    "DataSource.S3DataSource.AttributeNames",
    "DataSource.S3DataSource.HubAccessConfig",
    "DataSource.S3DataSource.InstanceGroupNames",
    "DataSource.S3DataSource.ModelAccessConfig",
    "ShuffleConfig",
)


def check_training_job(request: Request, storage: Storage, settings: Settings, runner: str) -> None:
    """Raise ApiError for a request that fits its shape and yet cannot be carried out, at least by this runner."""
    refuse(_UNSUPPORTED, request)
    for member in ("algorithmSpecification", "resourceConfig"):  # optional in the model, for serverless jobs
        if member[0].upper() + member[1:] not in request:
            fault = f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
            raise ApiError("ValidationException", f"1 validation error detected: {fault}")
    algorithm = request["AlgorithmSpecification"]
    _check_metrics(algorithm.get("MetricDefinitions", []))
    if bool(algorithm.get("TrainingImage")) == bool(algorithm.get("AlgorithmName")):
        raise ApiError("ValidationException", "Specify either TrainingImage or AlgorithmName, not both or none")
    if runner == "docker" and algorithm.get("AlgorithmName"):
        raise refusal("AlgorithmName with the docker runner, which takes a TrainingImage")
    if algorithm.get("TrainingInputMode", "File") != "File":
        raise refusal(f"TrainingInputMode {algorithm['TrainingInputMode']}")
    count = request["ResourceConfig"].get("InstanceCount", 1)
    if count < 1:
        raise ApiError("ValidationException", "A training job needs an InstanceCount of at least 1")
    if reason := too_many(count, runner):
        raise ApiError("ValidationException", reason)
    _check_times(request)
    _check_storage(request, storage, settings)


def check_role(arn: str, trusts_sagemaker: Callable[[str], bool]) -> None:
    """Raise ApiError for a role that SageMaker could not assume in this account."""
    if arn.split(":")[4] != ACCOUNT_ID:
        raise ApiError("AccessDeniedException", "Cross-account pass role is not allowed.")
    if not trusts_sagemaker(arn.rpartition("/")[2]):
        raise ApiError(
            "ValidationException",
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role.",
        )


def _check_metrics(definitions: list[dict[str, str]]) -> None:
    for definition in definitions:
        try:
            regex.compile(definition["Regex"])
        except regex.error as error:
            message = f"The Regex {definition['Regex']!r} of metric {definition['Name']!r} is invalid: {error}"
            raise ApiError("ValidationException", message) from error


def refusal(feature: str) -> ApiError:
    """Return the error for what localmode does not do, which is never ignored."""
    return ApiError("ValidationException", unsupported(feature))


def refuse(paths: tuple[str, ...], structure: Request, whose: str = "") -> None:
    """Raise ApiError if something stands at one of these paths into a structure, and it is not false or empty."""
    for path in paths:
        if _look_up(structure, path):
            raise refusal(f"{path}{whose}")


def _look_up(structure: Request, path: str) -> Any:
    value: Any = structure
    for member in path.split("."):
        value = value.get(member) if isinstance(value, dict) else None
    return value


def _check_times(request: Request) -> None:
    condition = request.get("StoppingCondition", {})
    runtime = condition.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME)
    wait = condition.get("MaxWaitTimeInSeconds")
    if runtime > _LONGEST_RUNTIME:
        raise ApiError(
            "ValidationException",
            f"Invalid MaxRuntimeInSeconds. It can be at most {_LONGEST_RUNTIME} seconds, 28 days.",
        )
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < runtime:
            raise ApiError(
                "ValidationException",
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                f"MaxRuntimeInSeconds ({runtime}) when EnableManagedSpotTraining is true.",
            )
        if "AlgorithmName" in request["AlgorithmSpecification"] and "CheckpointConfig" not in request and wait > 3600:
            raise ApiError(
                "ValidationException",
                "Invalid MaxWaitTimeInSeconds. It cannot be greater than 3600 seconds for an algorithm that does not "
                "support checkpointing.",
            )
    elif wait is not None:
        raise ApiError(
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds. It can only be set when EnableManagedSpotTraining is true.",
        )


def _check_storage(request: Request, storage: Storage, settings: Settings) -> None:
    for channel in request.get("InputDataConfig", []):
        _check_channel(channel, storage, settings)
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(names)) != len(names):
        raise ApiError("ValidationException", f"Duplicate channel names: {', '.join(sorted(names))}")
    _check_bucket(request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath", storage)
    checkpoints = request.get("CheckpointConfig")
    if checkpoints:
        _check_bucket(checkpoints["S3Uri"], "CheckpointConfig.S3Uri", storage)
        local_path = checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints")
        if not local_path.startswith(f"{OPT_ML}/") or ".." in local_path.split("/"):
            raise refusal(f"a CheckpointConfig.LocalPath outside {OPT_ML} ({local_path})")


def _check_channel(channel: Request, storage: Storage, settings: Settings) -> None:
    name = channel["ChannelName"]
    refuse(_UNSUPPORTED_OF_CHANNELS, channel, f" (channel {name})")
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise refusal(f"a file system data source (channel {name})")
    if name in (".", ".."):  # the pattern of the API would allow them
        raise ApiError("ValidationException", f"A channel cannot be called {name!r}: it is a directory's name")
    for member, accepted in (
        (source["S3DataType"], "S3Prefix"),
        (channel.get("InputMode", "File"), "File"),
        (channel.get("CompressionType", "None"), "None"),
        (channel.get("RecordWrapperType", "None"), "None"),
    ):
        if member != accepted:
            raise refusal(f"{member} (channel {name})")
    uri = source["S3Uri"]
    try:
        found = storage.objects(*parse_uri(uri))
        why = ""
    except StorageError as error:
        found, why = [], f" {error}."
    if not found:
        raise ApiError(
            "ValidationException",
            f'No S3 objects found under S3 URL "{uri}" given in input data source (channel {name}). Please ensure '
            f"that the bucket exists in the selected region ({settings.region}) and that objects exist under that "
            f"S3 prefix.{why}",
        )


def _check_bucket(uri: str, member: str, storage: Storage) -> None:
    try:
        bucket, _ = parse_uri(uri)
    except StorageError as error:
        raise ApiError("ValidationException", f"{member}: {error}") from error
    if not storage.bucket_exists(bucket):
        raise ApiError("ValidationException", f"{member}: the S3 bucket '{bucket}' does not exist")
