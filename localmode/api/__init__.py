"""The operations of the SageMaker API; importing this package registers them all.

A request passes three checks: `validation` measures it against botocore's model of the operation, `checks` and
`training_job_checks` refuse contradictions, missing resources and what localmode does not support, and the operation
itself refuses what the state of the resource does not allow.
"""

from localmode.api import endpoints, models, tags, training_jobs
from localmode.api.registry import OPERATIONS, SageMaker

__all__ = ["OPERATIONS", "SageMaker", "endpoints", "models", "tags", "training_jobs"]
