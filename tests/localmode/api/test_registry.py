"""All operations: responses fit botocore's model, and no input causes an internal error."""

from typing import Any

import pytest

from localmode.api.registry import OPERATIONS
from tests.support.api import ARN, ODD_VALUES, config_request, model_request, wait_until_failed
from tests.support.local import BUCKET, Daemon, channel, job_request, spot_request
from tests.support.shapes import MODEL, Checked, faults

SHELL = ("/bin/bash", "-c")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"TrainingJobArn": 1}, "answer.TrainingJobArn is 1, not a string"),
        ({}, "answer.TrainingJobArn is missing"),
        ({"TrainingJobArn": "a", "More": 1}, "answer.More is unknown"),
    ],
)
def test_the_check_of_responses_finds_faults(answer: dict[str, Any], fault: str) -> None:
    assert list(faults(MODEL.operation_model("CreateTrainingJob").output_shape, answer)) == [fault]


@pytest.fixture
def call(daemon: Daemon) -> Checked:
    return Checked(daemon)


def test_every_response_fits_the_model(call: Checked, name: str) -> None:
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
    call("CreateModel", **model_request(name))
    call("DescribeModel", ModelName=name)
    call("ListModels")
    call("CreateEndpointConfig", **config_request(name, name))
    call("DescribeEndpointConfig", EndpointConfigName=name)
    call("ListEndpointConfigs")
    call("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
    call("DescribeEndpoint", EndpointName=name)
    wait_until_failed(call.daemon, name)
    call("DescribeEndpoint", EndpointName=name)
    call("ListEndpoints")
    call("DeleteEndpoint", EndpointName=name)
    call("DeleteEndpointConfig", EndpointConfigName=name)
    call("DeleteModel", ModelName=name)
    in_service = {"UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"}  # see test_endpoints.py
    assert call.operations == set(OPERATIONS) - in_service


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_no_value_of_any_member_is_an_internal_error(daemon: Daemon, operation: str, name: str) -> None:
    good = {
        **job_request(name, "true"),
        **model_request("x"),
        **config_request("x", "x"),
        "ModelName": "x",
        "EndpointName": "no-such-endpoint",
        "ResourceArn": ARN + "model/no-such-model",
        "Tags": [],
        "TagKeys": ["x"],
        "DesiredWeightsAndCapacities": [{"VariantName": "x"}],
    }
    shape = MODEL.operation_model(operation).input_shape
    required = {member: good[member] for member in shape.required_members}
    for number, (member, value) in enumerate((m, v) for m in shape.members for v in ODD_VALUES):
        if operation.startswith("Create"):
            required[shape.required_members[0]] = f"{operation}-{number}"
        status, answer = daemon.call(operation, {**required, member: value})
        assert status in (200, 400), (member, value, answer)
        if status == 400:
            assert answer["__type"] in ("ValidationException", "SerializationException", "ResourceInUse"), answer
