"""The runners, which start the containers of training jobs on this machine, and their limits."""

from __future__ import annotations

from localmode.core.errors import unsupported

RUNNERS = ("auto", "namespace", "rewrite", "docker")

OPT_ML = "/opt/ml"
MAX_HOSTS = 4


def too_many(count: int, runner: str) -> str:
    """Return why a runner cannot run `count` instances, or an empty string if it can."""
    if count > MAX_HOSTS:
        return unsupported(f"an InstanceCount above {MAX_HOSTS}")
    if count > 1 and runner == "rewrite":
        return (
            f"localmode does not support an InstanceCount of {count} with its rewrite runner. Set LOCALMODE_RUNNER to "
            "namespace or docker (on Linux), which give every host a name and an address of its own."
        )
    return ""
