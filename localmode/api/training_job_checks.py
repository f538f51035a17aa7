"""The checks of CreateTrainingJob that botocore's model does not express."""

from __future__ import annotations

import regex

from localmode.api.checks import refusal, refuse
from localmode.core.aws import Request
from localmode.core.errors import ApiError
from localmode.core.runners import OPT_ML, too_many
from localmode.core.settings import Settings
from localmode.s3.storage import Storage, StorageError, parse_uri
from localmode.training.record import DEFAULT_MAX_RUNTIME

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
_LONGEST_RUNTIME = 28 * 24 * 3600
_LONGEST_WAIT_WITHOUT_CHECKPOINTS = 3600
_UNSUPPORTED = (
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
    "DataSource.FileSystemDataSource",
    "DataSource.S3DataSource.AttributeNames",
    "DataSource.S3DataSource.HubAccessConfig",
    "DataSource.S3DataSource.InstanceGroupNames",
    "DataSource.S3DataSource.ModelAccessConfig",
    "ShuffleConfig",
)


def check_training_job(request: Request, storage: Storage, settings: Settings, runner: str) -> None:
    """Raise ApiError for a valid CreateTrainingJob request that cannot be carried out, in general or by this runner."""
    refuse(_UNSUPPORTED, request)
    for member in ("AlgorithmSpecification", "ResourceConfig"):  # botocore's model requires neither
        if member not in request:
            path = member[0].lower() + member[1:]
            message = f"Value null at '{path}' failed to satisfy constraint: Member must not be null"
            raise ApiError("ValidationException", f"1 validation error detected: {message}")
    _check_algorithm(request["AlgorithmSpecification"], runner)
    _check_instances(request["ResourceConfig"], runner)
    _check_times(request)
    _check_channels(request.get("InputDataConfig", []), storage, settings)
    _check_output(request, storage)


def _check_algorithm(algorithm: Request, runner: str) -> None:
    for definition in algorithm.get("MetricDefinitions", []):
        try:
            regex.compile(definition["Regex"])
        except regex.error as error:
            message = f"The Regex {definition['Regex']!r} of metric {definition['Name']!r} is invalid: {error}"
            raise ApiError("ValidationException", message) from error
    if bool(algorithm.get("TrainingImage")) == bool(algorithm.get("AlgorithmName")):
        raise ApiError("ValidationException", "Specify either TrainingImage or AlgorithmName, not both or none")
    if runner == "docker" and algorithm.get("AlgorithmName"):
        raise refusal("AlgorithmName with the docker runner, which takes a TrainingImage")
    if algorithm.get("TrainingInputMode", "File") != "File":
        raise refusal(f"TrainingInputMode {algorithm['TrainingInputMode']}")


def _check_instances(resources: Request, runner: str) -> None:
    count = resources.get("InstanceCount", 1)
    if count < 1:
        raise ApiError("ValidationException", "A training job needs an InstanceCount of at least 1")
    if reason := too_many(count, runner):
        raise ApiError("ValidationException", reason)


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
        _check_wait(request, runtime, wait)
    elif wait is not None:
        raise ApiError(
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds. It can only be set when EnableManagedSpotTraining is true.",
        )


def _check_wait(request: Request, runtime: int, wait: int | None) -> None:
    if wait is None or wait < runtime:
        raise ApiError(
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            f"MaxRuntimeInSeconds ({runtime}) when EnableManagedSpotTraining is true.",
        )
    checkpoints = "AlgorithmName" not in request["AlgorithmSpecification"] or "CheckpointConfig" in request
    if not checkpoints and wait > _LONGEST_WAIT_WITHOUT_CHECKPOINTS:
        raise ApiError(
            "ValidationException",
            f"Invalid MaxWaitTimeInSeconds. It cannot be greater than {_LONGEST_WAIT_WITHOUT_CHECKPOINTS} seconds for "
            "an algorithm that does not support checkpointing.",
        )


def _check_channels(channels: list[Request], storage: Storage, settings: Settings) -> None:
    for channel in channels:
        _check_channel(channel, storage, settings)
    names = [channel["ChannelName"] for channel in channels]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ApiError("ValidationException", f"Duplicate channel names: {', '.join(sorted(repeated))}")


def _check_channel(channel: Request, storage: Storage, settings: Settings) -> None:
    name = channel["ChannelName"]
    where = f" (channel {name})"
    refuse(_UNSUPPORTED_OF_CHANNELS, channel, where)
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise ApiError("ValidationException", f"Channel {name} has no DataSource; give it an S3DataSource")
    if name in (".", ".."):  # the pattern of the API allows them
        raise ApiError("ValidationException", f"A channel cannot be called {name!r}, which is a directory's name")
    for member, value, accepted in (
        ("S3DataType", source["S3DataType"], "S3Prefix"),
        ("InputMode", channel.get("InputMode", "File"), "File"),
        ("CompressionType", channel.get("CompressionType", "None"), "None"),
        ("RecordWrapperType", channel.get("RecordWrapperType", "None"), "None"),
    ):
        if value != accepted:
            raise refusal(f"{member} {value}{where}")
    _check_objects(source["S3Uri"], name, storage, settings)


def _check_objects(uri: str, name: str, storage: Storage, settings: Settings) -> None:
    try:
        found = storage.objects(*parse_uri(uri))
        reason = ""
    except StorageError as error:
        found, reason = [], f" {error}."
    if not found:
        raise ApiError(
            "ValidationException",
            f'No S3 objects found under S3 URL "{uri}" given in input data source (channel {name}). Please ensure '
            f"that the bucket exists in the selected region ({settings.region}) and that objects exist under that "
            f"S3 prefix.{reason}",
        )


def _check_output(request: Request, storage: Storage) -> None:
    _check_bucket(request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath", storage)
    checkpoints = request.get("CheckpointConfig")
    if checkpoints:
        _check_bucket(checkpoints["S3Uri"], "CheckpointConfig.S3Uri", storage)
        local_path = checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints")
        if not local_path.startswith(f"{OPT_ML}/") or ".." in local_path.split("/"):
            raise refusal(f"a CheckpointConfig.LocalPath outside {OPT_ML} ({local_path})")


def _check_bucket(uri: str, member: str, storage: Storage) -> None:
    try:
        bucket, _ = parse_uri(uri)
    except StorageError as error:
        raise ApiError("ValidationException", f"{member}: {error}") from error
    if not storage.bucket_exists(bucket):
        raise ApiError("ValidationException", f"{member}: the S3 bucket '{bucket}' does not exist; create it first")
