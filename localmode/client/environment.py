"""The environment variables that direct AWS clients, and localmode's own commands, to a daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from localmode.client.commands import running_state
from localmode.core.settings import Settings

_SDK_DEFAULTS = "sagemaker-config.yaml"
_MISLEADING = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


def environment(home: Path) -> dict[str, str]:
    """Return the variables by which AWS clients and localmode find the daemon; raise LocalModeError if none runs."""
    state = running_state(home)
    bypass = [part for name in ("NO_PROXY", "no_proxy") for part in os.environ.get(name, "").split(",") if part]
    no_proxy = ",".join(dict.fromkeys([*bypass, "127.0.0.1"]))
    return {
        "LOCALMODE_HOME": str(home),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{state['port']}",
        "AWS_ACCESS_KEY_ID": state["access_key"],
        "AWS_SECRET_ACCESS_KEY": state["secret_key"],
        "AWS_DEFAULT_REGION": state["region"],
        "AWS_REGION": state["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(home / _SDK_DEFAULTS),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,  # takes precedence if both are set
    }


def misleading() -> list[str]:
    """Return the names of variables that would direct AWS clients away from the daemon."""
    of_services = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]
    return [*_MISLEADING, *sorted(of_services)]


def use_daemon(home: Path) -> None:
    """Direct the AWS clients that this process makes from now on to the daemon; raise LocalModeError if none runs."""
    os.environ.update(environment(home))
    for name in misleading():
        os.environ.pop(name, None)
    import boto3  # takes 0.1 s, which the command line saves

    boto3.setup_default_session()
    # The SDK passes STS a URL of its own, which takes precedence over AWS_ENDPOINT_URL.
    boto3.DEFAULT_SESSION.events.register("request-created.sts", _redirect)


def _redirect(request: Any, **_: Any) -> None:
    request.url = os.environ["AWS_ENDPOINT_URL"] + "/"


def write_sdk_defaults(settings: Settings) -> None:
    """Write the defaults file of the SageMaker SDK: bucket, roles, no telemetry.

    https://sagemaker.readthedocs.io/en/stable/overview.html#configuring-and-using-defaults-with-the-sagemaker-python-sdk
    """
    (settings.home / _SDK_DEFAULTS).write_text(
        "SchemaVersion: '1.0'\n"
        "SageMaker:\n"
        "  PythonSDK:\n"
        "    Modules:\n"
        "      TelemetryOptOut: true\n"
        "      Session:\n"
        f"        DefaultS3Bucket: {settings.default_bucket}\n"
        "  TrainingJob:\n"
        f"    RoleArn: {settings.role_arn}\n"
        "  Model:\n"
        f"    ExecutionRoleArn: {settings.role_arn}\n"
    )
