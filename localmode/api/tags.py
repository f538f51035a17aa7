"""The operations on tags: of training jobs, models, endpoint configurations and endpoints."""

from __future__ import annotations

from collections.abc import Callable

from localmode.api.checks import check_tags
from localmode.api.registry import SageMaker, operation
from localmode.core.aws import Request, Tags
from localmode.core.errors import ApiError


@operation
def add_tags(sagemaker: SageMaker, request: Request) -> Request:
    """Add tags to a resource; a tag whose key it has already gets the new value."""
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
    """Remove tags from a resource; keys that it does not have are ignored."""
    removed = set(request["TagKeys"])
    _tags(sagemaker, request["ResourceArn"], lambda tags: [tag for tag in tags if tag["Key"] not in removed])
    return {}


def _tags(sagemaker: SageMaker, arn: str, change: Callable[[Tags], Tags] | None = None) -> Tags:
    """Return the tags of a resource, after `change` has been applied to them; raise ApiError for an unknown one."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    tags_of = {
        "training-job": sagemaker.jobs.tags,
        "model": sagemaker.models.tags,
        "endpoint-config": sagemaker.configs.tags,
        "endpoint": sagemaker.endpoints.tags,
    }
    if kind not in tags_of:
        message = f'localmode supports tags of {", ".join(tags_of)}, not of "{kind}": {arn}'
        raise ApiError("ValidationException", message)
    tags = tags_of[kind](name, change) if arn == sagemaker.settings.arn(kind, name) else None
    if tags is None:
        raise ApiError("ValidationException", f'Could not find {kind} "{arn}".')
    return tags
