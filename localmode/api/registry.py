"""The registry of the supported operations of the SageMaker API, and the state that they work on.

A registered function takes a request that has passed `validation.validate` and returns a response that fits
botocore's output shape; it raises ApiError with SageMaker's error code. The table of operations in the
documentation is checked against this registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localmode.api.resources import Resources
from localmode.api.validation import validate
from localmode.core.aws import Request
from localmode.core.durable import Journal
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from localmode.hosting.registry import Endpoints
from localmode.s3.storage import Storage
from localmode.training.scheduler import TrainingJobs

Operation = Callable[["SageMaker", Request], Request]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    """Register a function under the name of its operation: create_model handles CreateModel."""
    OPERATIONS["".join(word.capitalize() for word in function.__name__.split("_"))] = function
    return function


class SageMaker:
    """The SageMaker service: its resources and its operations."""

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
        """Load models and endpoint configurations.

        `trusts_sagemaker` tells whether the role of a name exists and allows SageMaker to assume it.
        """
        self.settings = settings
        self.storage = storage
        self.jobs = jobs
        self.endpoints = endpoints
        self.trusts_sagemaker = trusts_sagemaker
        self.models = Resources(models, settings, "model", "model", "Model")
        self.configs = Resources(configs, settings, "endpoint-config", "endpoint configuration", "EndpointConfig")

    def call(self, name: str, request: Any) -> Request:
        """Validate a request and carry out the operation; raise ApiError where SageMaker answers with an error."""
        if name not in OPERATIONS:
            raise ApiError("UnknownOperationException", f"localmode does not implement sagemaker:{name}")
        return OPERATIONS[name](self, validate(name, request))
