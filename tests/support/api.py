"""Requests for models and endpoint configurations, odd values for any member, and errors."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.local import BUCKET, ROLE, Daemon

ARN = "arn:aws:sagemaker:us-east-1:123456789012:"
ODD_VALUES: list[Any] = [
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


def model_request(name: str, **container: Any) -> dict[str, Any]:
    container = {"Image": "none", "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz", **container}
    return {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": ROLE}


def config_request(name: str, model_name: str) -> dict[str, Any]:
    variant = {"VariantName": "all", "ModelName": model_name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {"EndpointConfigName": name, "ProductionVariants": [variant]}


def wait_until_failed(daemon: Daemon, name: str) -> None:
    with pytest.raises(Exception, match="terminal failure state"):
        daemon.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 0.05})


def refusal(function: Callable[..., Any], **request: Any) -> tuple[str, str]:
    """Return code and message of the error that a client sees."""
    with pytest.raises(ClientError) as caught:
        function(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]
