"""The operations: what they answer is what botocore's model says, and what they refuse, they refuse as AWS does."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from localmode.api.training_job_checks import check_training_job
from localmode.api.registry import OPERATIONS
from localmode.api.validation import compiled, validate
from localmode.core.errors import ApiError
from localmode.training.job import TrainingJob
from tests.support.local import BUCKET, ROLE, Daemon, Pipe, Rooms, channel, ended, job_request, spot_request
from tests.support.shapes import MODEL, Checked, faults

ARN = "arn:aws:sagemaker:us-east-1:123456789012:"
SHELL = ("/bin/bash", "-c")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"TrainingJobArn": 1}, "answer.TrainingJobArn is 1, no string"),
        ({}, "answer.TrainingJobArn is missing"),
        ({"TrainingJobArn": "a", "More": 1}, "answer.More is unknown"),
    ],
)
def test_the_checker_finds_faults(answer: dict[str, Any], fault: str) -> None:
    assert list(faults(MODEL.operation_model("CreateTrainingJob").output_shape, answer)) == [fault]


@pytest.fixture
def call(daemon: Daemon) -> Checked:
    return Checked(daemon)


def model(name: str, **container: Any) -> dict[str, Any]:
    container = {"Image": "none", "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz", **container}
    return {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": ROLE}


def config(name: str, model_name: str) -> dict[str, Any]:
    variant = {"VariantName": "all", "ModelName": model_name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {"EndpointConfigName": name, "ProductionVariants": [variant]}


def test_every_operation_answers_as_its_model_says(call: Checked, name: str) -> None:
    call.daemon.s3.put_object(Bucket=BUCKET, Key=f"{name}/data", Body=b"1")
    definitions = [{"Name": "loss", "Regex": "loss=(.*)"}]
    request = spot_request(
        name,
        *SHELL,
        "echo loss=0.5; echo > /opt/ml/model/m",
        InputDataConfig=[channel("train", f"{name}/data")],
        HyperParameters={"a": "1"},
        Environment={},
        Tags=[{"Key": "a", "Value": "b"}],
        algorithm={"MetricDefinitions": definitions},
    )
    call("CreateTrainingJob", **request)
    call("DescribeTrainingJob", TrainingJobName=name)
    call.daemon.finished(name)
    assert call("DescribeTrainingJob", TrainingJobName=name)["FinalMetricDataList"][0]["Value"] == 0.5
    call("ListTrainingJobs")
    arn = f"{ARN}training-job/{name}"
    call("AddTags", ResourceArn=arn, Tags=[{"Key": "c", "Value": "d"}])
    call("ListTags", ResourceArn=arn)
    call("DeleteTags", ResourceArn=arn, TagKeys=["a"])
    failing = f"{name}-fails"
    call("CreateTrainingJob", **job_request(failing, "false"))
    call.daemon.finished(failing)
    assert "FailureReason" in call("DescribeTrainingJob", TrainingJobName=failing)
    call("CreateTrainingJob", **job_request(f"{name}-2", "sleep", "600"))
    call("StopTrainingJob", TrainingJobName=f"{name}-2")
    call.daemon.finished(f"{name}-2")
    call("DescribeTrainingJob", TrainingJobName=f"{name}-2")
    call("CreateModel", **model(name))
    call("DescribeModel", ModelName=name)
    call("ListModels")
    call("CreateEndpointConfig", **config(name, name))
    call("DescribeEndpointConfig", EndpointConfigName=name)
    call("ListEndpointConfigs")
    call("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
    call("DescribeEndpoint", EndpointName=name)
    failed(call.daemon, name)
    call("DescribeEndpoint", EndpointName=name)
    call("ListEndpoints")
    call("DeleteEndpoint", EndpointName=name)
    call("DeleteEndpointConfig", EndpointConfigName=name)
    call("DeleteModel", ModelName=name)
    in_service = {"UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"}  # see test_endpoints.py
    assert call.operations == set(OPERATIONS) - in_service


def failed(daemon: Daemon, name: str) -> None:
    with pytest.raises(Exception, match="terminal failure state"):
        daemon.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 0.05})


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_pattern_of_a_supported_operation_is_one_that_python_understands(operation: str) -> None:
    def walk(shape: Shape, seen: frozenset[str]) -> None:
        compiled(shape.metadata.get("pattern", ""))
        members = {StructureShape: lambda: shape.members.values(), ListShape: lambda: [shape.member]}
        for member in members.get(type(shape), list)():
            if member.name not in seen:
                walk(member, seen | {member.name})
        if isinstance(shape, MapShape):
            walk(shape.key, seen)
            walk(shape.value, seen)

    walk(MODEL.operation_model(operation).input_shape, frozenset())


@pytest.mark.parametrize(
    ("value", "allowed"), [("", True), ("aé 1_.:/=+-@ 漢\u00a0", True), ("a\nb", False), ("a&b", False), ("😀", False)]
)
def test_a_pattern_with_classes_of_java_s_means_the_same(value: str, allowed: bool) -> None:
    tag = {"Key": "k", "Value": value}
    if allowed:
        validate("CreateTrainingJob", {**job_request("x"), "Tags": [tag]})
    else:
        with pytest.raises(ApiError, match=r"tags\.1\.member\.value"):
            validate("CreateTrainingJob", {**job_request("x"), "Tags": [tag]})


# Requests that no operation may choke on

VALUES = [
    None,
    0,
    -1,
    1e308,
    True,
    "",
    "x",
    "\0",
    "\ud800",
    "../..",
    [],
    {},
    [None],
    [[]],
    {"x": None},
    [{}],
    "9" * 5000,
]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_no_value_of_any_member_is_an_internal_error(daemon: Daemon, operation: str, name: str) -> None:
    good = {
        **job_request(name, "true"),
        **model("x"),
        **config("x", "x"),
        "ModelName": "x",
        "EndpointName": "no-such-endpoint",
        "ResourceArn": ARN + "model/no-such-model",
        "Tags": [],
        "TagKeys": ["x"],
        "DesiredWeightsAndCapacities": [{"VariantName": "x"}],
    }
    shape = MODEL.operation_model(operation).input_shape
    required = {member: good[member] for member in shape.required_members}
    for number, (member, value) in enumerate((m, v) for m in shape.members for v in VALUES):
        if operation.startswith("Create"):
            required[shape.required_members[0]] = f"{operation}-{number}"
        status, answer = daemon.call(operation, {**required, member: value})
        assert status in (200, 400), (member, value, answer)
        if status == 400:
            assert answer["__type"] in ("ValidationException", "SerializationException", "ResourceInUse"), answer


def paths(shape: Shape, depth: int = 4) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every member of a shape."""
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
    """Return a request with another value at one place; what leads there is made."""
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
        for value in VALUES:
            try:
                request = validate("CreateTrainingJob", with_value(good, path, value))
                check_training_job(request, rooms.storage, rooms.settings, "namespace")
                accepted += 1
            except ApiError as error:
                assert error.code in ("ValidationException", "SerializationException")
    assert accepted > 0


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


def test_members_that_the_model_does_not_know_are_ignored(daemon: Daemon, name: str) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    request = {**job_request(name), "Unknown": deep}
    request["ResourceConfig"]["More"] = deep
    assert daemon.call("CreateTrainingJob", request)[0] == 200
    daemon.finished(name)
    assert "More" not in daemon.call("DescribeTrainingJob", {"TrainingJobName": name})[1]["ResourceConfig"]


# Errors


def refusal(function: Callable[..., Any], **request: Any) -> tuple[str, str]:
    """Return code and message of the error that a client sees."""
    with pytest.raises(ClientError) as caught:
        function(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 10**400])
def test_a_number_that_no_integer_of_aws_holds_is_a_serialization_error(daemon: Daemon, name: str, number: int) -> None:
    condition = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": number}
    request = {**job_request(name), "EnableManagedSpotTraining": True, "StoppingCondition": condition}
    assert daemon.call("CreateTrainingJob", request)[1]["__type"] == "SerializationException"
    assert daemon.call("DescribeTrainingJob", {"TrainingJobName": name})[1]["__type"] == "ValidationException"


def test_all_faults_of_a_request_are_listed_at_once() -> None:
    request = {**job_request("a_b"), "RoleArn": "nobody", "StoppingCondition": {"MaxRuntimeInSeconds": 0}}
    del request["OutputDataConfig"]
    with pytest.raises(ApiError) as caught:
        validate("CreateTrainingJob", request)
    assert caught.value.code == "ValidationException"
    message = caught.value.message
    assert message.startswith("5 validation errors detected: Value null at 'outputDataConfig' failed to satisfy ")
    assert "Value 'a_b' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular expr" in message
    assert "Value 'nobody' at 'roleArn' failed to satisfy constraint: Member must have length greater than" in message
    assert "Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: Member must" in message


@pytest.mark.parametrize(
    ("member", "value", "fault"),
    [
        ("TrainingJobName", "x" * 64, "Member must have length less than or equal to 63"),
        ("TrainingJobName", "a\n", "Member must satisfy regular expression pattern"),
        ("ResourceConfig", {"InstanceType": "ml.fast"}, "Member must satisfy enum value set: [ml.m4.xlarge"),
        ("ResourceConfig", {"InstanceCount": -1}, "at 'resourceConfig.instanceCount' failed"),
        ("InputDataConfig", [{}], "Value null at 'inputDataConfig.1.member.channelName'"),
        ("Environment", {"1 x": "y"}, "at 'environment.key' failed"),
        ("HyperParameters", {"x": "y" * 2501}, "Member must have length less than or equal to 2500"),
        ("OutputDataConfig", {"S3OutputPath": "s3://a\ud800"}, "at 'outputDataConfig.s3OutputPath' failed to satisfy"),
        ("HyperParameters", {"\ud800": "x"}, "at 'hyperParameters.key' failed to satisfy"),
        ("Tags", [{"Key": "a", "Value": "\udfff"}], "Member must be text that UTF-8 can encode"),
    ],
)
def test_a_value_that_the_model_forbids_is_named(member: str, value: object, fault: str) -> None:
    with pytest.raises(ApiError) as caught:
        validate("CreateTrainingJob", {**job_request("x"), member: value})
    assert fault in caught.value.message


def test_a_role_that_is_not_there_or_of_another_account_is_refused(daemon: Daemon, name: str) -> None:
    missing = {**job_request(name), "RoleArn": ROLE.replace("LocalMode", "NoSuch")}
    code, message = refusal(daemon.sagemaker.create_training_job, **missing)
    assert code == "ValidationException"
    assert message.startswith(f"Could not assume role {missing['RoleArn']}. Please ensure that the role exists")
    foreign = {**job_request(name), "RoleArn": "arn:aws:iam::111122223333:role/Mine"}
    assert refusal(daemon.sagemaker.create_training_job, **foreign)[0] == "AccessDeniedException"


def test_a_role_that_trusts_sagemaker_is_accepted_and_another_is_not(daemon: Daemon, name: str) -> None:
    for service in ("sagemaker", "lambda"):
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        daemon.client("iam").create_role(RoleName=f"for-{service}", Path="/a/b/", AssumeRolePolicyDocument=policy)
    arn = "arn:aws:iam::123456789012:role/a/b/for-"
    daemon.sagemaker.create_training_job(**{**job_request(name), "RoleArn": f"{arn}sagemaker"})
    refused = {**job_request(name), "RoleArn": f"{arn}lambda"}
    assert "Could not assume role" in refusal(daemon.sagemaker.create_training_job, **refused)[1]


def test_an_algorithm_that_does_not_checkpoint_may_wait_an_hour(daemon: Daemon, name: str) -> None:
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


def test_a_job_name_in_use_is_refused(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**job_request(name))
    code, message = refusal(daemon.sagemaker.create_training_job, **job_request(name))
    assert code == "ResourceInUse"
    assert message.startswith("Job name must be unique within an AWS account and region, and a training job with this")
    daemon.finished(name)


@pytest.mark.parametrize("kind", ["TrainingJob", "Model", "EndpointConfig", "Endpoint"])
@pytest.mark.parametrize("verb", ["describe", "delete"])
def test_an_unknown_resource_is_a_validation_exception(daemon: Daemon, kind: str, verb: str) -> None:
    words = re.sub("(?<!^)([A-Z])", r"_\1", kind).lower()
    verb = "stop" if (kind, verb) == ("TrainingJob", "delete") else verb
    code, message = refusal(getattr(daemon.sagemaker, f"{verb}_{words}"), **{f"{kind}Name": "unknown"})
    assert code == "ValidationException"
    assert message == "Requested resource not found." or re.fullmatch(
        'Could not find [a-z ]+ "arn:aws:sagemaker:us-east-1:123456789012:[a-z-]+/unknown".', message
    )


def test_a_job_that_is_over_cannot_be_stopped(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**job_request(name))
    daemon.finished(name)
    code, message = refusal(daemon.sagemaker.stop_training_job, TrainingJobName=name)
    assert code == "ValidationException"
    assert message == "The request was rejected because the training job is in status Completed."


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
def test_a_job_that_makes_no_sense_is_refused(daemon: Daemon, name: str, members: dict[str, Any], message: str) -> None:
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
def test_what_local_mode_does_not_do_is_refused_by_name(
    daemon: Daemon, name: str, members: dict[str, Any], feature: str
) -> None:
    code, message = refusal(daemon.sagemaker.create_training_job, **{**job_request(name), **members})
    assert code == "ValidationException"
    assert message == f"localmode does not support {feature}. AWS would accept it."


def test_what_is_off_is_accepted(daemon: Daemon, name: str) -> None:
    members = {"EnableNetworkIsolation": False, "RemoteDebugConfig": {"EnableRemoteDebug": False}}
    daemon.sagemaker.create_training_job(**job_request(name), **members)
    assert daemon.finished(name)["TrainingJobStatus"] == "Completed"


# Describe and List


def test_times_and_money_of_a_spot_job(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_training_job(**spot_request(name))
    job = daemon.finished(name)
    assert job["TrainingStartTime"] >= job["CreationTime"]
    assert job["TrainingEndTime"] == job["SecondaryStatusTransitions"][-1]["EndTime"]
    assert 0 < job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"] == 1
    assert job["EnableManagedSpotTraining"]
    assert [transition["Status"] for transition in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]


def test_what_is_accepted_without_effect_comes_back(daemon: Daemon, name: str) -> None:
    members: dict[str, Any] = {
        "DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/debug"},
        "ExperimentConfig": {"ExperimentName": "mine"},
        "InfraCheckConfig": {"EnableInfraCheck": True},
        "ProfilerConfig": {"DisableProfiler": True},
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
    }
    daemon.sagemaker.create_training_job(**job_request(name), **members)
    job = daemon.finished(name)
    assert {member: job.get(member) for member in members} == members


@pytest.fixture(scope="module")
def three(daemon: Daemon) -> list[str]:
    """Names of three finished jobs, the second of which failed."""
    names = ["three-b", "three-a", "three-C"]
    for name, command in zip(names, ("true", "false", "true"), strict=True):
        daemon.sagemaker.create_training_job(**job_request(name, command))
        daemon.finished(name)
    return names


def listed(daemon: Daemon, **request: Any) -> list[str]:
    answer = daemon.sagemaker.list_training_jobs(NameContains="three-", **request)
    return [summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"]]


@pytest.mark.parametrize(
    ("request_", "order"),
    [
        ({}, [0, 1, 2]),
        ({"SortOrder": "Descending"}, [2, 1, 0]),
        ({"SortBy": "Name"}, [2, 1, 0]),
        ({"SortBy": "Name", "SortOrder": "Descending"}, [0, 1, 2]),
        ({"SortBy": "Status", "SortOrder": "Descending"}, [1, 0, 2]),
        ({"StatusEquals": "Failed"}, [1]),
        ({"StatusEquals": "Stopped"}, []),
        ({"MaxResults": 2}, [0, 1]),
        ({"MaxResults": 2, "StatusEquals": "Failed"}, [1]),
        ({"MaxResults": 1, "StatusEquals": "Failed"}, []),  # of the first one only
        ({"CreationTimeAfter": 4e9}, []),
        ({"CreationTimeBefore": 4e9, "LastModifiedTimeAfter": 0}, [0, 1, 2]),
        ({"LastModifiedTimeBefore": 1}, []),
        ({"WarmPoolStatusEquals": "Available"}, []),
        ({"TrainingPlanArnEquals": ARN + "training-plan/x"}, []),
    ],
    ids=str,
)
def test_jobs_are_filtered_and_sorted(
    daemon: Daemon, three: list[str], request_: dict[str, Any], order: list[int]
) -> None:
    assert listed(daemon, **request_) == [three[number] for number in order]


def test_a_paginator_gives_every_job_once(daemon: Daemon, three: list[str]) -> None:
    pages = daemon.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="THREE", PaginationConfig={"PageSize": 1}
    )
    assert [page["TrainingJobSummaries"][0]["TrainingJobName"] for page in pages] == three


def test_a_paginator_finds_a_status_on_pages_of_any_size(daemon: Daemon, three: list[str]) -> None:
    pages = daemon.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="three-", StatusEquals="Failed", PaginationConfig={"PageSize": 1}
    )
    assert [[job["TrainingJobName"] for job in page["TrainingJobSummaries"]] for page in pages] == [[], [three[1]], []]


def test_a_page_begins_where_the_last_one_ended_whatever_has_come_or_gone(daemon: Daemon, name: str) -> None:
    names = [f"{name[-40:].strip('-')}-{number}" for number in range(5)]
    for each in names:
        daemon.sagemaker.create_model(**model(each))
    for page in daemon.sagemaker.get_paginator("list_models").paginate(
        NameContains=names[0][:-1], PaginationConfig={"PageSize": 2}
    ):
        for found in page["Models"]:
            daemon.sagemaker.delete_model(ModelName=found["ModelName"])
            daemon.sagemaker.create_model(**model(found["ModelName"]))  # now the newest, before what is listed yet
            names.remove(found["ModelName"])
    assert names == []


@pytest.mark.parametrize("token", ["x", "-1", "9" * 5000, "٣", "e30=", "WzEsMl0=", "WyJ4IiwgIngiXQ=="])
def test_a_token_that_no_page_gave_is_refused(daemon: Daemon, token: str) -> None:
    assert daemon.call("ListTrainingJobs", {"NextToken": token})[1]["__type"] == "ValidationException"


@pytest.mark.parametrize("kind", ["model", "endpoint_config"])
def test_resources_are_listed_newest_first_in_pages(daemon: Daemon, kind: str) -> None:
    names = [f"listed-{number:02}" for number in range(12)]
    create, delete = (getattr(daemon.sagemaker, f"{verb}_{kind}") for verb in ("create", "delete"))
    member = "ModelName" if kind == "model" else "EndpointConfigName"
    daemon.sagemaker.create_model(**model("listed-model"))
    for each in names:
        create(**(model(each) if kind == "model" else config(each, "listed-model")))
    pages = list(daemon.sagemaker.get_paginator(f"list_{kind}s").paginate(NameContains="listed-0"))
    found = [entry[member] for page in pages for entry in page["Models" if kind == "model" else "EndpointConfigs"]]
    assert found == sorted(names[:10], reverse=True)
    for each in names:
        delete(**{member: each})
    daemon.sagemaker.delete_model(ModelName="listed-model")


# Models, endpoint configurations


def test_names_in_use_are_refused(daemon: Daemon, name: str) -> None:
    sagemaker = daemon.sagemaker
    sagemaker.create_model(**model(name))
    sagemaker.create_endpoint_config(**config(name, name))
    assert refusal(sagemaker.create_model, **model(name)) == (
        "ValidationException",
        f'Cannot create already existing model "arn:aws:sagemaker:us-east-1:123456789012:model/{name}".',
    )
    assert refusal(sagemaker.create_endpoint_config, **config(name, name))[0] == "ValidationException"


def test_a_configuration_of_an_unknown_model_and_an_endpoint_of_an_unknown_configuration_are_refused(
    daemon: Daemon,
) -> None:
    code, message = refusal(daemon.sagemaker.create_endpoint_config, **config("x", "no-such-model"))
    assert (code, "Could not find model" in message) == ("ValidationException", True)
    code, message = refusal(daemon.sagemaker.create_endpoint, EndpointName="x", EndpointConfigName="no-such-config")
    assert (code, "Could not find endpoint configuration" in message) == ("ValidationException", True)


def test_a_pipeline_of_containers_is_refused(daemon: Daemon, name: str) -> None:
    container = model(name)["PrimaryContainer"]
    request = {"ModelName": name, "Containers": [container, container], "ExecutionRoleArn": ROLE}
    assert "one container" in refusal(daemon.sagemaker.create_model, **request)[1]


def test_what_endpoints_do_not_do_is_refused_by_name(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_model(**model(name))
    for member, value in (
        ("AsyncInferenceConfig", {"OutputConfig": {}}),
        ("EnableNetworkIsolation", True),
        ("MetricsConfig", {"EnableEnhancedMetrics": True}),
        ("ShadowProductionVariants", config(name, name)["ProductionVariants"]),
    ):
        message = refusal(daemon.sagemaker.create_endpoint_config, **config(name, name), **{member: value})[1]
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
def test_what_variants_do_not_do_is_refused_by_name(daemon: Daemon, name: str, member: str, value: Any) -> None:
    daemon.sagemaker.create_model(**model(name))
    (variant,) = config(name, name)["ProductionVariants"]
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
def test_what_models_do_not_do_is_refused_by_name(
    daemon: Daemon, name: str, container: dict[str, Any], feature: str
) -> None:
    message = refusal(daemon.sagemaker.create_model, **model(name, **container))[1]
    assert message == f"localmode does not support {feature}. AWS would accept it."


def test_variants_need_names_of_their_own_and_instances(daemon: Daemon, name: str) -> None:
    daemon.sagemaker.create_model(**model(name))
    (variant,) = config(name, name)["ProductionVariants"]
    create = daemon.sagemaker.create_endpoint_config
    assert "of different names" in refusal(create, EndpointConfigName=name, ProductionVariants=[variant] * 2)[1]
    del variant["InitialInstanceCount"]
    message = refusal(create, EndpointConfigName=name, ProductionVariants=[variant])[1]
    assert message.startswith("Production variant all has no InitialInstanceCount; ")


def test_an_endpoint_that_is_not_there_or_has_failed_is_not_updated(daemon: Daemon, name: str) -> None:
    request = {"EndpointName": name, "EndpointConfigName": name}
    assert "Could not find endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    daemon.sagemaker.create_model(**model(name))
    daemon.sagemaker.create_endpoint_config(**config(name, name))
    daemon.sagemaker.create_endpoint(**request)
    failed(daemon, name)
    assert "Cannot update in-progress endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    capacities = [{"VariantName": "other", "DesiredWeight": 1}]
    message = refusal(
        daemon.sagemaker.update_endpoint_weights_and_capacities,
        EndpointName=name,
        DesiredWeightsAndCapacities=capacities,
    )[1]
    assert "has no production variant other" in message


# Tags


@pytest.fixture(scope="module")
def tagged(daemon: Daemon) -> dict[str, str]:
    """The ARN of a resource of each kind, created with the tag made=here."""
    tags, sagemaker = {"Tags": [{"Key": "made", "Value": "here"}]}, daemon.sagemaker
    return {
        "training-job": sagemaker.create_training_job(**job_request("tagged"), **tags)["TrainingJobArn"],
        "model": sagemaker.create_model(**model("tagged"), **tags)["ModelArn"],
        "endpoint-config": sagemaker.create_endpoint_config(**config("tagged", "tagged"), **tags)["EndpointConfigArn"],
        "endpoint": sagemaker.create_endpoint(EndpointName="tagged", EndpointConfigName="tagged", **tags)[
            "EndpointArn"
        ],
    }


KINDS = ["training-job", "model", "endpoint-config", "endpoint"]


def tags_of(daemon: Daemon, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in daemon.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_added_replaced_listed_and_deleted(daemon: Daemon, tagged: dict[str, str], kind: str) -> None:
    arn = tagged[kind]
    assert tags_of(daemon, arn) == {"made": "here"}
    new = [{"Key": "made", "Value": "there"}, {"Key": "team", "Value": "trees"}]
    assert daemon.sagemaker.add_tags(ResourceArn=arn, Tags=new)["Tags"] == new
    daemon.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["made", "no-such-tag"])
    assert tags_of(daemon, arn) == {"team": "trees"}
    daemon.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    daemon.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "made", "Value": "here"}])


def test_tags_outlive_the_daemon(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_model(**model("kept"), Tags=[{"Key": "made", "Value": "here"}])
    daemon.sagemaker.create_training_job(**job_request("kept"))
    daemon.finished("kept")
    daemon.sagemaker.add_tags(ResourceArn=f"{ARN}training-job/kept", Tags=[{"Key": "added", "Value": "later"}])
    daemon.kill()
    daemon.start()
    assert tags_of(daemon, f"{ARN}model/kept") == {"made": "here"}
    assert tags_of(daemon, f"{ARN}training-job/kept") == {"added": "later"}


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_tag_at_once_lose_no_tag(daemon: Daemon, tagged: dict[str, str], kind: str) -> None:
    keys = [f"at-once-{number}" for number in range(16)]
    bodies = [{"ResourceArn": tagged[kind], "Tags": [{"Key": key, "Value": ""}]} for key in keys]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: daemon.call("AddTags", body), bodies))
    assert {status for status, _ in answers} == {200}
    assert set(keys) < tags_of(daemon, tagged[kind]).keys()
    daemon.sagemaker.delete_tags(ResourceArn=tagged[kind], TagKeys=keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "b", "a"], "Duplicate tag keys: a"),
        (["aws:x"], "Tag keys that begin with aws: are reserved: aws:x"),
        ([f"k{number}" for number in range(50)], "at most 50 tags, not 51"),
    ],
)
def test_tags_that_no_resource_may_have_are_refused(
    daemon: Daemon, tagged: dict[str, str], keys: list[str], message: str
) -> None:
    tags = [{"Key": key, "Value": ""} for key in keys]
    assert message in refusal(daemon.sagemaker.add_tags, ResourceArn=tagged["model"], Tags=tags)[1]
    assert tags_of(daemon, tagged["model"]) == {"made": "here"}


@pytest.mark.parametrize(
    ("arn", "message"),
    [
        (ARN + "model/nobody", "Could not find model"),
        ("arn:aws:sagemaker:eu-west-1:123456789012:model/tagged", "Could not find model"),
        (ARN + "domain/d-1", 'not of "domain": arn'),
    ],
)
def test_an_arn_that_is_not_there_has_no_tags(daemon: Daemon, tagged: dict[str, str], arn: str, message: str) -> None:
    code, text = refusal(daemon.sagemaker.list_tags, ResourceArn=arn)
    assert (code, message in text) == ("ValidationException", True)


# IAM and STS, as the SDK asks them


def test_the_sdk_s_questions_about_its_role_are_answered(daemon: Daemon) -> None:
    arn = daemon.client("sts").get_caller_identity()["Arn"]
    assert arn == "arn:aws:sts::123456789012:assumed-role/LocalModeExecutionRole/localmode"
    assert daemon.client("iam").get_role(RoleName="LocalModeExecutionRole")["Role"]["Arn"] == ROLE
    answer = daemon.client("iam").simulate_principal_policy(
        PolicySourceArn=ROLE, ActionNames=["s3:GetObject", "a<&b"], ResourceArns=["*"]
    )
    results = [(result["EvalActionName"], result["EvalDecision"]) for result in answer["EvaluationResults"]]
    assert results == [("s3:GetObject", "allowed"), ("a<&b", "allowed")]


# Where two meet


def test_of_clients_that_create_the_same_job_at_once_one_succeeds(daemon: Daemon, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(daemon.call, "CreateTrainingJob", job_request(name)) for _ in range(8)]
    answers = [call.result() for call in calls]
    assert sorted(status for status, _ in answers) == [200] + [400] * 7
    assert {answer["__type"] for status, answer in answers if status == 400} == {"ResourceInUse"}
    daemon.finished(name)


def test_of_clients_that_create_the_same_model_at_once_one_succeeds(daemon: Daemon, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(daemon.call, "CreateModel", model(name)) for _ in range(8)]
    assert sorted(call.result()[0] for call in calls) == [200] + [400] * 7


def test_a_job_is_never_seen_half_created(
    rooms_by_runner: Callable[[str], Rooms], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds it in the register before it has begun waits for its first status."""
    rooms, start = rooms_by_runner("rewrite"), TrainingJob.start
    registered, looked = threading.Event(), threading.Event()

    def look() -> int:
        registered.wait(10)
        job = rooms.jobs.get(name)
        assert job is not None
        with job.changed:
            looked.set()
            return len(job.record.transitions)

    def begin_late(job: TrainingJob) -> None:
        registered.set()
        looked.wait(0.3)
        start(job)

    monkeypatch.setattr(TrainingJob, "start", begin_late)
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(look)
        ended(rooms.create(job_request(name)))
    assert seen.result() >= 1


def test_a_job_that_the_disk_refuses_is_not_accepted(
    rooms_by_runner: Callable[[str], Rooms], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rooms = rooms_by_runner("rewrite")
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr(rooms.jobs._journal, "save", save)
        rooms.jobs.create(name, job_request(name))
    assert rooms.jobs.get(name) is None
    assert rooms.run(job_request(name)).status == "Completed"


def test_stopping_and_interrupting_at_once_ends_in_stopped(
    daemon: Daemon, name: str, pipe: Pipe, tmp_path: Path
) -> None:
    daemon.sagemaker.create_training_job(**spot_request(name, *SHELL, f"echo up > {pipe}; sleep 600; true"))
    pipe.line()
    headers = {"X-Localmode-Key": daemon.state["secret_key"]}
    body = json.dumps({"training_job_name": name}).encode()
    with ThreadPoolExecutor(2) as pool:
        interrupted = pool.submit(daemon.request, "POST", "/_localmode/interrupt", body, headers)
        stopped = pool.submit(daemon.call, "StopTrainingJob", {"TrainingJobName": name})
    assert stopped.result()[0] == 200
    assert interrupted.result()[0] in (200, 400)
    assert daemon.finished(name)["SecondaryStatus"] == "Stopped"
