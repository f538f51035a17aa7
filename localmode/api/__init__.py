"""The operations of the SageMaker API; importing this package registers them all."""

from localmode.api import endpoints, models, tags, training_jobs
from localmode.api.registry import OPERATIONS, SageMaker

__all__ = ["OPERATIONS", "SageMaker", "endpoints", "models", "tags", "training_jobs"]
