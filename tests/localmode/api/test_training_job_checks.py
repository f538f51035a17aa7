"""Requests that CreateTrainingJob refuses although botocore's model allows them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.model import ListShape, Shape, StructureShape

from localmode.api.training_job_checks import check_training_job
from localmode.api.validation import validate
from localmode.core.errors import ApiError
from tests.support.api import ODD_VALUES, refusal
from tests.support.local import BUCKET, Daemon, Rooms, channel, job_request, spot_request
from tests.support.shapes import MODEL, Checked


def paths(shape: Shape, depth: int = 4) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every member of a shape."""
    members: dict[str | int, Shape] = {}
    if isinstance(shape, StructureShape):
        members = dict(shape.members)
    elif isinstance(shape, ListShape):
        members = {0: shape.member}
    for name, member in members.items():
        yield (name,)
        if depth > 1:
            yield from ((name, *path) for path in paths(member, depth - 1))


def with_value(request: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a request with another value at a path, whose missing parts are added."""
    if not path:
        return value
    name, *rest = path
    if isinstance(name, int):
        return [with_value((request or [{}])[0], tuple(rest), value)]
    return {**(request or {}), name: with_value((request or {}).get(name), tuple(rest), value)}


def test_no_value_at_any_depth_of_a_job_is_an_internal_error(rooms_by_runner: Callable[[str], Rooms]) -> None:
    rooms = rooms_by_runner("rewrite")
    good = spot_request("x")
    accepted = 0
    for path in paths(MODEL.operation_model("CreateTrainingJob").input_shape):
        for value in ODD_VALUES:
            try:
                request = validate("CreateTrainingJob", with_value(good, path, value))
                check_training_job(request, rooms.storage, rooms.settings, "namespace")
                accepted += 1
            except ApiError as error:
                assert error.code in ("ValidationException", "SerializationException")
    assert accepted > 0


@pytest.fixture
def call(daemon: Daemon) -> Checked:
    return Checked(daemon)


@pytest.mark.parametrize("member", sorted(job_request("x")))
@pytest.mark.parametrize("value", [None, {}], ids=["null", "empty"])
def test_a_job_without_a_member_is_refused_or_described(
    daemon: Daemon, call: Checked, name: str, member: str, value: object
) -> None:
    status, answer = daemon.call("CreateTrainingJob", {**job_request(name), member: value})
    if member == "StoppingCondition" or (member, value) == ("ResourceConfig", {}):
        daemon.finished(name)
        assert call("DescribeTrainingJob", TrainingJobName=name)["StoppingCondition"] == (
            {"MaxRuntimeInSeconds": 86400 if member == "StoppingCondition" else 600}
        )
    else:
        expected = (
            "SerializationException" if member in ("RoleArn", "TrainingJobName") and value == {} else "Validation"
        )
        assert (status, expected in answer["__type"]) == (400, True), answer


def test_an_algorithm_without_checkpoints_waits_at_most_an_hour(daemon: Daemon, name: str) -> None:
    algorithm = {"TrainingInputMode": "File", "AlgorithmName": "arn:aws:sagemaker:us-east-1:123456789012:algorithm/x"}
    request = {
        **job_request(name),
        "AlgorithmSpecification": algorithm,
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 3601},
    }
    assert "cannot be greater than 3600 seconds" in refusal(daemon.sagemaker.create_training_job, **request)[1]
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 3600}
    assert daemon.sagemaker.create_training_job(**request)["TrainingJobArn"].endswith(name)


BAD_REQUESTS = [
    ({"StoppingCondition": {"MaxWaitTimeInSeconds": 10}}, "It can only be set when EnableManagedSpotTraining is true"),
    ({"StoppingCondition": {"MaxRuntimeInSeconds": 28 * 86400 + 1}}, "It can be at most 2419200 seconds"),
    ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 0, "VolumeSizeInGB": 1}}, "at least 1"),
    ({"EnableManagedSpotTraining": True}, "It must be present and be greater than or equal to MaxRuntimeInSeconds"),
    (
        {
            "EnableManagedSpotTraining": True,
            "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59},
        },
        "It must be present and be greater than or equal to MaxRuntimeInSeconds (60)",
    ),
    (
        {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxWaitTimeInSeconds": 59}},
        "greater than or equal to MaxRuntimeInSeconds (86400)",
    ),
    ({"OutputDataConfig": {"S3OutputPath": "s3://no-such-bucket/x"}}, "S3OutputPath: the S3 bucket 'no-such-bucket'"),
    ({"OutputDataConfig": {"S3OutputPath": "s3://x"}}, "OutputDataConfig.S3OutputPath: 's3://x' is not an S3 URI"),
    (
        {"CheckpointConfig": {"S3Uri": "s3://no-such-bucket/x"}},
        "CheckpointConfig.S3Uri: the S3 bucket 'no-such-bucket'",
    ),
    (
        {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/x", "LocalPath": "/opt/ml/../x"}},
        "CheckpointConfig.LocalPath outside /opt/ml (/opt/ml/../x)",
    ),
    ({"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/x", "LocalPath": "/tmp"}}, "CheckpointConfig.LocalPath outside"),
    (
        {"InputDataConfig": [channel("train", "no/such/prefix")]},
        f'No S3 objects found under S3 URL "s3://{BUCKET}/no/such/prefix" given in input data source (channel train).',
    ),
    (
        {"InputDataConfig": [channel("x", "there"), channel("x", "there")]},
        "Duplicate channel names: x",
    ),
    ({"InputDataConfig": [channel("..", "there")]}, "A channel cannot be called '..'"),
    ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "Specify either TrainingImage or AlgorithmName"),
    (
        {
            "AlgorithmSpecification": {
                "TrainingInputMode": "File",
                "TrainingImage": "x",
                "MetricDefinitions": [{"Name": "loss", "Regex": "("}],
            }
        },
        "The Regex '(' of metric 'loss' is invalid",
    ),
]


@pytest.mark.parametrize(("members", "message"), BAD_REQUESTS, ids=range(len(BAD_REQUESTS)))
def test_a_contradictory_or_impossible_job_is_refused(
    daemon: Daemon, name: str, members: dict[str, Any], message: str
) -> None:
    daemon.s3.put_object(Bucket=BUCKET, Key="there", Body=b"1")
    code, said = refusal(daemon.sagemaker.create_training_job, **{**job_request(name), **members})
    assert (code, message in said) == ("ValidationException", True), said
    assert refusal(daemon.sagemaker.describe_training_job, TrainingJobName=name)[0] == "ValidationException"


SOURCE = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/there"}


FILE_SYSTEM = {
    "FileSystemId": "fs-12345678901",
    "FileSystemAccessMode": "ro",
    "FileSystemType": "EFS",
    "DirectoryPath": "/",
}


DATASET = "arn:aws:sagemaker:us-east-1:123456789012:hub-content/hub/DataSet/mine/1.0.0"


UNSUPPORTED = [
    ({"EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
    ({"AlgorithmSpecification": {"TrainingImage": "x", "TrainingInputMode": "Pipe"}}, "TrainingInputMode Pipe"),
    ({"AlgorithmSpecification": {"TrainingImage": "x", "TrainingInputMode": "FastFile"}}, "TrainingInputMode FastFile"),
    ({"ResourceConfig": {"InstanceCount": 5}}, "an InstanceCount above 4"),
    (
        {
            "ResourceConfig": {
                "InstanceGroups": [{"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "a"}]
            }
        },
        "ResourceConfig.InstanceGroups",
    ),
    ({"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}, "ResourceConfig.KeepAlivePeriodInSeconds"),
    ({"RemoteDebugConfig": {"EnableRemoteDebug": True}}, "RemoteDebugConfig.EnableRemoteDebug"),
    ({"TensorBoardOutputConfig": {"S3OutputPath": f"s3://{BUCKET}/x"}}, "TensorBoardOutputConfig"),
    (
        {"InputDataConfig": [{"ChannelName": "x", "DataSource": {"FileSystemDataSource": FILE_SYSTEM}}]},
        "DataSource.FileSystemDataSource (channel x)",
    ),
    (
        {"InputDataConfig": [{"ChannelName": "x", "DataSource": {"S3DataSource": SOURCE}, "InputMode": "Pipe"}]},
        "InputMode Pipe (channel x)",
    ),
    (
        {"InputDataConfig": [{"ChannelName": "x", "DataSource": {"S3DataSource": SOURCE}, "CompressionType": "Gzip"}]},
        "CompressionType Gzip (channel x)",
    ),
    (
        {
            "InputDataConfig": [
                {"ChannelName": "x", "DataSource": {"S3DataSource": {**SOURCE, "S3DataType": "ManifestFile"}}}
            ]
        },
        "S3DataType ManifestFile (channel x)",
    ),
    (
        {"InputDataConfig": [{"ChannelName": "x", "DataSource": {"DatasetSource": {"DatasetArn": DATASET}}}]},
        "DataSource.DatasetSource (channel x)",
    ),
    (
        {
            "InputDataConfig": [
                {"ChannelName": "x", "DataSource": {"S3DataSource": SOURCE}, "ShuffleConfig": {"Seed": 0}}
            ]
        },
        "ShuffleConfig (channel x)",
    ),
    (
        {
            "InputDataConfig": [
                {
                    "ChannelName": "x",
                    "DataSource": {"S3DataSource": {**SOURCE, "ModelAccessConfig": {"AcceptEula": True}}},
                }
            ]
        },
        "DataSource.S3DataSource.ModelAccessConfig (channel x)",
    ),
    (
        {"ResourceConfig": {"InstancePlacementConfig": {"EnableMultipleJobs": True}}},
        "ResourceConfig.InstancePlacementConfig",
    ),
]


@pytest.mark.parametrize(("members", "feature"), UNSUPPORTED, ids=[feature for _, feature in UNSUPPORTED])
def test_an_unsupported_member_is_refused_by_name(
    daemon: Daemon, name: str, members: dict[str, Any], feature: str
) -> None:
    code, message = refusal(daemon.sagemaker.create_training_job, **{**job_request(name), **members})
    assert code == "ValidationException"
    assert message == f"localmode does not support {feature}. AWS would accept it."


def test_an_unsupported_member_that_is_off_is_accepted(daemon: Daemon, name: str) -> None:
    members = {"EnableNetworkIsolation": False, "RemoteDebugConfig": {"EnableRemoteDebug": False}}
    daemon.sagemaker.create_training_job(**job_request(name), **members)
    assert daemon.finished(name)["TrainingJobStatus"] == "Completed"
