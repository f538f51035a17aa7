"""Check an AWS account before a notebook creates anything, and estimate the cost. Plain boto3.

    preflight.require("spot training job", "ml.m5.xlarge", max_seconds=3600)

All requests are read-only. A question that the account may not ask is answered "unknown"; the notebook stops only
for what is known to be missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from workshop import containers
from workshop.permissions import Caller, default_bucket, needed

USAGES = ("access", "storage", "training job", "spot training job", "endpoint")  # the last three as in Service Quotas

# USD per instance hour, On-Demand, us-east-1: https://aws.amazon.com/sagemaker/ai/pricing/, November 2026.
PRICES = {
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.g4dn.xlarge": 0.736,
}


@dataclass(frozen=True)
class Finding:
    """The answer to one question; `outcome` is "ok", "warning", "missing" or "unknown"."""

    what: str
    outcome: str
    detail: str


def require(
    usage: str, instance_type: str = "", role: str = "", max_seconds: int = 0, prefix: str = "spot-workshop"
) -> None:
    """Print the findings of `check`, and raise SystemExit if something is missing, which ends the notebook."""
    findings = list(check(usage, instance_type, role, max_seconds, prefix))
    for finding in findings:
        print(f"{finding.what:<13}{finding.outcome:<9}{finding.detail}")
    missing = [finding.what for finding in findings if finding.outcome == "missing"]
    if missing:
        raise SystemExit(f"Nothing has been created yet, because something is missing: {', '.join(missing)}.")


def check(
    usage: str,
    instance_type: str = "",
    role: str = "",
    max_seconds: int = 0,
    prefix: str = "spot-workshop",
    today: date | None = None,
) -> Iterator[Finding]:
    """Yield a finding for each requirement of one usage.

    Args:
        usage: one of USAGES; "access" needs only a Region and credentials, "storage" S3 as well.
        instance_type: the type of the instance; notebooks use one instance at a time.
        role: ARN of the execution role; empty for the role of the caller.
        max_seconds: the sum of MaxRuntimeInSeconds over all jobs, for the upper limit of the cost.
        prefix: the beginning of all names that the notebook gives.
        today: the date for which to check the image; by default the current one, in UTC.

    Raises:
        ValueError: the usage is unknown.
    """
    if usage not in USAGES:
        raise ValueError(f"unknown usage {usage!r}: choose one of {', '.join(USAGES)}")
    region = boto3.Session().region_name
    yield (
        Finding("Region", "ok", region)
        if region
        else Finding("Region", "missing", "set AWS_REGION, or a default with `aws configure`")
    )
    caller = _caller() if region else Finding("credentials", "unknown", "not checked without a Region")
    if isinstance(caller, Finding):
        yield caller
        return
    yield Finding("credentials", "ok", f"{caller.kind} {caller.name} of account {caller.account}")
    if usage == "access":
        return
    execution_role = role or (caller.arn if caller.kind == "role" else "")
    if usage != "storage":
        yield _asked("role", lambda: _role(execution_role, caller))
    actions = needed(usage, caller, str(region), execution_role, prefix)
    if _is_missing(bucket := default_bucket(caller, str(region))):
        actions[f"arn:{caller.partition}:s3:::{bucket}"].append("s3:CreateBucket")
    yield _asked("permissions", lambda: _permissions(caller, actions))
    if usage != "storage":
        yield _asked("quota", lambda: _quota(f"{instance_type} for {usage} usage"))
        image = containers.INFERENCE if usage == "endpoint" else containers.TRAINING
        yield _image(image, instance_type, str(region), today or containers.current_date())
    yield _cost(usage, instance_type, max_seconds)


def _asked(what: str, question: Callable[[], Finding]) -> Finding:
    """Return the answer, or "unknown" with the reason if AWS refuses the request."""
    try:
        return question()
    except ClientError as error:
        reason = f"{error.operation_name}: {error.response['Error']['Code']}"
    except BotoCoreError as error:
        reason = " ".join(str(error).split())
    return Finding(what, "unknown", f"not answered ({reason})")


def _caller() -> Caller | Finding:
    try:
        identity = boto3.client("sts").get_caller_identity()
    except (NoCredentialsError, NoRegionError):
        return Finding("credentials", "missing", "none found: run `aws configure`, or use SageMaker Studio")
    except ClientError as error:
        return Finding("credentials", "missing", f"refused: {error.response['Error']['Message']}")
    except BotoCoreError as error:
        return Finding("credentials", "missing", " ".join(str(error).split()))
    arn = identity["Arn"]
    partition = arn.split(":")[1]
    if ":assumed-role/" in arn:  # the ARN of a session lacks the path of its role: ask IAM
        name = arn.split("/")[1]
        arn = f"arn:{partition}:iam::{identity['Account']}:role/{name}"
        found = _asked("role", lambda: Finding("role", "ok", _iam_role(name)["Arn"]))
        arn = found.detail if found.outcome == "ok" else arn
    return Caller(identity["Account"], partition, arn)


def _iam_role(name: str) -> dict[str, Any]:
    return dict(boto3.client("iam").get_role(RoleName=name)["Role"])


def _role(arn: str, caller: Caller) -> Finding:
    if not arn:
        who = f"{caller.kind} {caller.name}"
        return Finding("role", "missing", f"you are {who}: set `role` to the ARN of an execution role")
    if ":role/" not in arn:
        return Finding("role", "missing", f"{arn} is not the ARN of a role")
    name = arn.rpartition("/")[2]
    try:
        trusted = _trusted_services(_iam_role(name)["AssumeRolePolicyDocument"])
    except boto3.client("iam").exceptions.NoSuchEntityException:
        return Finding("role", "missing", f"there is no role {name}")
    if "sagemaker.amazonaws.com" not in trusted:
        return Finding("role", "missing", f"the trust policy of {name} does not allow sagemaker.amazonaws.com")
    return Finding("role", "ok", name)


def _trusted_services(policy: dict[str, Any]) -> set[str]:
    services: set[str] = set()
    for statement in policy.get("Statement", []):
        principal = statement.get("Principal", {})
        named = principal.get("Service", []) if isinstance(principal, dict) else []
        services.update([named] if isinstance(named, str) else named)
    return services


def _is_missing(bucket: str) -> bool:
    """Return whether the bucket does not exist; one that the caller may not ask about is assumed to exist."""
    try:
        boto3.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "404")
    except BotoCoreError:
        return False
    return False


def _permissions(caller: Caller, actions: dict[str, list[str]]) -> Finding:
    if caller.kind == "root":
        return Finding("permissions", "ok", "all, as the root user; prefer a role")
    if caller.kind not in ("user", "role"):
        return Finding("permissions", "unknown", f"IAM does not simulate a {caller.kind}")
    iam = boto3.client("iam")
    service = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
    context = [{**service, "ContextKeyValues": ["sagemaker.amazonaws.com"]}]
    denied = []
    for resource, names in actions.items():
        answer = iam.simulate_principal_policy(
            PolicySourceArn=caller.arn, ActionNames=names, ResourceArns=[resource], ContextEntries=context
        )
        results = answer["EvaluationResults"]
        denied += [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
    if denied:
        return Finding("permissions", "missing", ", ".join(sorted(set(denied))))
    return Finding("permissions", "ok", f"{len({name for names in actions.values() for name in names})} actions")


def _quota(name: str) -> Finding:
    pages = boto3.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    found = [quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name]
    if not found:
        return Finding("quota", "unknown", f"no quota is called {name!r}")
    if found[0] < 1:
        return Finding("quota", "missing", f"{name}: {found[0]:.0f}; ask for 1 in the Service Quotas console")
    return Finding("quota", "ok", f"{name}: {found[0]:.0f}")


def _image(image: containers.Image, instance_type: str, region: str, today: date) -> Finding:
    try:
        name = image.uri(region, instance_type).partition("/")[2]
    except (ValueError, KeyError) as error:
        return Finding("image", "missing", " ".join(str(error).split()))
    detail = f"{name}, patched until {image.patched_until}"
    if warning := image.warning(today):
        return Finding("image", "warning", f"{detail} ({warning})")
    return Finding("image", "ok", detail)


def _cost(usage: str, instance_type: str, max_seconds: int) -> Finding:
    if usage == "storage":
        return Finding("cost", "ok", "below 0.01 USD: a few requests and megabytes in S3")
    price = PRICES.get(instance_type)
    if price is None:
        return Finding(
            "cost", "unknown", f"no price for {instance_type}: see https://aws.amazon.com/sagemaker/ai/pricing/"
        )
    rate = f"{price:.3f} USD an hour (us-east-1, November 2026)"
    if usage == "endpoint":
        return Finding("cost", "ok", f"{24 * price:.2f} USD a day until it is deleted, {rate}")
    return Finding("cost", "ok", f"at most {price * max_seconds / 3600:.2f} USD, {max_seconds:,} s at {rate}")
