"""The AWS account that localmode imitates, its execution role, and botocore's models of the services."""

from __future__ import annotations

import functools
from typing import Any

import botocore.session
from botocore.model import ServiceModel

ACCOUNT_ID = "123456789012"
ROLE_NAME = "LocalModeExecutionRole"
XML_SERVICES = ("s3", "iam", "sts")  # services whose errors are XML; all others answer JSON

Request = dict[str, Any]
Tags = list[dict[str, str]]


@functools.cache
def service_model(service: str = "sagemaker") -> ServiceModel:
    """Return botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)
