"""The operations on tags, which every kind of resource has."""

from __future__ import annotations

from collections.abc import Callable

from localmode.api.registry import SageMaker, operation
from localmode.api.resources import check_tags
from localmode.core.aws import Request, Tags
from localmode.core.errors import ApiError


@operation
def add_tags(sagemaker: SageMaker, request: Request) -> Request:
    """Add tags to a resource; those whose keys it has get the new values."""
    added = {tag["Key"]: tag for tag in check_tags(request)}

    def change(tags: Tags) -> Tags:
        return check_tags({"Tags": list(({tag["Key"]: tag for tag in tags} | added).values())})

    return {"Tags": _tags(sagemaker, request["ResourceArn"], change)}


@operation
def list_tags(sagemaker: SageMaker, request: Request) -> Request:
    """List the tags of a resource; they always fit on one page."""
    if "NextToken" in request:
        raise ApiError("ValidationException", f"Invalid NextToken {request['NextToken']!r}")
    return {"Tags": _tags(sagemaker, request["ResourceArn"])}


@operation
def delete_tags(sagemaker: SageMaker, request: Request) -> Request:
    """Take tags from a resource; keys that it does not have are no error."""
    gone = set(request["TagKeys"])
    _tags(sagemaker, request["ResourceArn"], lambda tags: [tag for tag in tags if tag["Key"] not in gone])
    return {}


def _tags(sagemaker: SageMaker, arn: str, change: Callable[[Tags], Tags] | None = None) -> Tags:
    """Return the tags of a resource, after a change to them if one is given; raise ApiError for an unknown one."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    registers = {
        "training-job": sagemaker.jobs.tags,
        "model": sagemaker.models.tags,
        "endpoint-config": sagemaker.configs.tags,
        "endpoint": sagemaker.endpoints.tags,
    }
    if kind not in registers:
        raise ApiError("ValidationException", f'localmode keeps no tags of a "{kind}": {arn}')
    tags = registers[kind](name, change) if arn == sagemaker.settings.arn(kind, name) else None
    if tags is None:
        raise ApiError("ValidationException", f'Could not find {kind} "{arn}".')
    return tags
