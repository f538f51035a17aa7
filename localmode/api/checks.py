"""Checks that several operations share: members that localmode does not support, roles and tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from localmode.core.aws import ACCOUNT_ID, Request, Tags
from localmode.core.errors import ApiError, unsupported

_MAX_TAGS = 50  # https://docs.aws.amazon.com/general/latest/gr/aws_tagging.html


def refusal(feature: str) -> ApiError:
    """Return the error for a feature that localmode does not support; no such feature is silently ignored."""
    return ApiError("ValidationException", unsupported(feature))


def refuse(paths: Iterable[str], structure: Request, where: str = "") -> None:
    """Raise ApiError if a member at one of these dotted paths is set and is neither false nor empty."""
    for path in paths:
        if _member_at(path, structure):
            raise refusal(f"{path}{where}")


def _member_at(path: str, structure: Request) -> Any:
    value: Any = structure
    for member in path.split("."):
        value = value.get(member) if isinstance(value, dict) else None
    return value


def check_role(arn: str, trusts_sagemaker: Callable[[str], bool]) -> None:
    """Raise ApiError for a role that SageMaker could not assume in this account."""
    if arn.split(":")[4] != ACCOUNT_ID:
        raise ApiError("AccessDeniedException", "Cross-account pass role is not allowed.")
    if not trusts_sagemaker(arn.rpartition("/")[2]):
        raise ApiError(
            "ValidationException",
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role.",
        )


def check_tags(request: Request) -> Tags:
    """Return a request's tags; raise ApiError for tags that SageMaker would not attach to a resource."""
    tags: Tags = request.get("Tags", [])
    keys = [tag["Key"] for tag in tags]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise ApiError("ValidationException", f"Duplicate tag keys: {', '.join(sorted(repeated))}")
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise ApiError("ValidationException", f"Tag keys that begin with aws: are reserved: {', '.join(reserved)}")
    if len(tags) > _MAX_TAGS:
        raise ApiError("ResourceLimitExceeded", f"A resource has at most {_MAX_TAGS} tags, not {len(tags)}.")
    return tags
