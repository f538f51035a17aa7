"""The runners: what a training job's container is made of on this machine."""

from __future__ import annotations

RUNNERS = ("auto", "namespace", "rewrite", "docker")

OPT_ML = "/opt/ml"
MAX_HOSTS = 4


def too_many(count: int, runner: str) -> str:
    """Return why a runner cannot run so many instances; nothing if it can."""
    if count > MAX_HOSTS:
        return f"localmode does not do this: an InstanceCount above {MAX_HOSTS}. On AWS it would be accepted."
    if count > 1 and runner == "rewrite":
        return (
            f"localmode does not do this with its rewrite runner: an InstanceCount of {count}. It takes the namespace "
            "or the docker runner (LOCALMODE_RUNNER, on Linux), where every host has a name and an address of its own."
        )
    return ""
