"""Validation against botocore's model."""

from typing import Any

import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape

from localmode.api.registry import OPERATIONS
from localmode.api.validation import compiled, validate
from localmode.core.errors import ApiError
from tests.support.local import Daemon, job_request
from tests.support.shapes import MODEL


def parts(shape: Shape) -> list[Shape]:
    if isinstance(shape, StructureShape):
        return list(shape.members.values())
    if isinstance(shape, ListShape):
        return [shape.member]
    return [shape.key, shape.value] if isinstance(shape, MapShape) else []


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_pattern_of_a_supported_operation_compiles_in_python(operation: str) -> None:
    def walk(shape: Shape, seen: frozenset[str]) -> None:
        compiled(shape.metadata.get("pattern", ""))
        for part in parts(shape):
            if part.name not in seen:
                walk(part, seen | {part.name})

    walk(MODEL.operation_model(operation).input_shape, frozenset())


@pytest.mark.parametrize(
    ("value", "allowed"), [("", True), ("aé 1_.:/=+-@ 漢\u00a0", True), ("a\nb", False), ("a&b", False), ("😀", False)]
)
def test_character_classes_of_java_match_the_same_characters(value: str, allowed: bool) -> None:
    tag = {"Key": "k", "Value": value}
    if allowed:
        validate("CreateTrainingJob", {**job_request("x"), "Tags": [tag]})
    else:
        with pytest.raises(ApiError, match=r"tags\.1\.member\.value"):
            validate("CreateTrainingJob", {**job_request("x"), "Tags": [tag]})


def test_unknown_members_are_ignored(daemon: Daemon, name: str) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    request = {**job_request(name), "Unknown": deep}
    request["ResourceConfig"]["More"] = deep
    assert daemon.call("CreateTrainingJob", request)[0] == 200
    daemon.finished(name)
    assert "More" not in daemon.call("DescribeTrainingJob", {"TrainingJobName": name})[1]["ResourceConfig"]


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 10**400])
def test_a_number_out_of_range_for_its_type_is_a_serialization_error(daemon: Daemon, name: str, number: int) -> None:
    condition = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": number}
    request = {**job_request(name), "EnableManagedSpotTraining": True, "StoppingCondition": condition}
    assert daemon.call("CreateTrainingJob", request)[1]["__type"] == "SerializationException"
    assert daemon.call("DescribeTrainingJob", {"TrainingJobName": name})[1]["__type"] == "ValidationException"


def test_all_violations_of_a_request_are_listed_at_once() -> None:
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
def test_the_error_for_an_invalid_value_names_member_and_constraint(member: str, value: object, fault: str) -> None:
    with pytest.raises(ApiError) as caught:
        validate("CreateTrainingJob", {**job_request("x"), member: value})
    assert fault in caught.value.message
