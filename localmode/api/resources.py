"""TODO: localmode/api/resources.py"""

from __future__ import annotations

from localmode.core.aws import Request, Tags
from localmode.core.errors import ApiError

_MAX_TAGS = 50  # https://docs.aws.amazon.com/general/latest/gr/aws_tagging.html


def check_tags(request: Request) -> Tags:
    """Return a request's tags; raise ApiError for those that SageMaker would not attach to a resource."""
    tags: Tags = request.get("Tags", [])
    keys = [tag["Key"] for tag in tags]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ApiError("ValidationException", f"Duplicate tag keys: {', '.join(sorted(twice))}")
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise ApiError("ValidationException", f"Tag keys that begin with aws: are reserved: {', '.join(reserved)}")
    if len(tags) > _MAX_TAGS:
        raise ApiError("ResourceLimitExceeded", f"A resource has at most {_MAX_TAGS} tags, not {len(tags)}.")
    return tags
