"""What a notebook needs on AWS and costs there, in one place, before anything is created. Plain boto3.

    preflight.require("spot training job", "ml.m5.xlarge", max_seconds=3600)

Every question is a request that changes nothing. What the account does not let one ask is "unknown", and only
what is known to be missing stops the notebook.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

# The one place for the version of TensorFlow's images: the newest for which there are both kinds.
FRAMEWORK_VERSION = "2.19"
PY_VERSION = "py312"  # the training images name their Python, the inference images do not

USAGES = ("access", "storage", "training job", "spot training job", "endpoint")  # three as Service Quotas names them

# USD for an hour of one instance, On-Demand, us-east-1: https://aws.amazon.com/sagemaker/ai/pricing/, November 2026.
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
    """The answer to one question; `outcome` is "ok", "missing" or "unknown"."""

    what: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Caller:
    """Who runs the notebook: the account, its partition ("aws", "aws-cn"), the ARN of a user or a role."""

    account: str
    partition: str
    arn: str

    @property
    def kind(self) -> str:
        """What the ARN names: "user", "role", "root", "federated-user"."""
        return self.arn.split(":", 5)[5].partition("/")[0]

    @property
    def name(self) -> str:
        """The name of the user or the role, without its path."""
        return self.arn.rpartition("/")[2]


def require(
    usage: str, instance_type: str = "", role: str = "", max_seconds: int = 0, prefix: str = "spot-workshop"
) -> None:
    """Print what `check` finds; end the notebook with one line, SystemExit, if something is missing."""
    findings = list(check(usage, instance_type, role, max_seconds, prefix))
    for finding in findings:
        print(f"{finding.what:<13}{finding.outcome:<9}{finding.detail}")
    missing = [finding.what for finding in findings if finding.outcome == "missing"]
    if missing:
        raise SystemExit(f"Nothing has been created yet, because something is missing: {', '.join(missing)}.")


def check(
    usage: str, instance_type: str = "", role: str = "", max_seconds: int = 0, prefix: str = "spot-workshop"
) -> Iterator[Finding]:
    """Yield what is there, missing or unknown for one kind of use.

    Args:
        usage: one of USAGES; "access" needs a Region and credentials, "storage" S3, and nothing else.
        instance_type: of the one instance that will run at a time.
        role: ARN of the execution role; empty for the role that the caller works under.
        max_seconds: the sum of the MaxRuntimeInSeconds of the jobs, for what they can cost at most.
        prefix: with which all names begin that the notebook gives.
    """
    if usage not in USAGES:
        raise ValueError(f"unknown usage {usage!r}: choose one of {', '.join(USAGES)}")
    region = boto3.Session().region_name
    yield (
        Finding("Region", "ok", region)
        if region
        else Finding("Region", "missing", "set AWS_REGION, or a default with `aws configure`")
    )
    caller = _caller() if region else Finding("credentials", "unknown", "a Region comes first")
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
    if _is_lacking(bucket := default_bucket(caller, str(region))):
        actions[f"arn:{caller.partition}:s3:::{bucket}"].append("s3:CreateBucket")
    yield _asked("permissions", lambda: _permissions(caller, actions))
    if usage != "storage":
        yield _asked("quota", lambda: _quota(f"{instance_type} for {usage} usage"))
        yield _image(usage, instance_type, str(region))
    yield _cost(usage, instance_type, max_seconds)


def needed(usage: str, caller: Caller, region: str, role: str, prefix: str) -> dict[str, list[str]]:
    """Return the ARNs of what the notebook will work on, each with the actions that it calls there.

    What only an account without a default bucket needs, `check` adds.
    """
    if usage == "access":
        return {}
    partition, account = caller.partition, caller.account
    bucket = f"arn:{partition}:s3:::{default_bucket(caller, region)}"
    sagemaker = f"arn:{partition}:sagemaker:{region}:{account}"
    group = f"arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs:log-stream:{prefix}"
    actions = {
        bucket: ["s3:ListBucket"],
        f"{bucket}/{prefix}/any": ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"],
    }
    if usage == "storage":
        return actions
    if role:
        actions[role] = ["iam:PassRole"]
    if usage == "endpoint":
        kinds = {"model": "Model", "endpoint-config": "EndpointConfig", "endpoint": "Endpoint"}
        for resource, name in kinds.items():
            actions[f"{sagemaker}:{resource}/{prefix}-any"] = [
                *(f"sagemaker:{verb}{name}" for verb in ("Create", "Describe", "Delete")),
                "sagemaker:AddTags",
            ]
        actions[f"{sagemaker}:endpoint/{prefix}-any"].append("sagemaker:InvokeEndpoint")
        actions[f"{sagemaker}:training-job/{prefix}-any"] = [
            "sagemaker:DescribeTrainingJob",
            "sagemaker:StopTrainingJob",
        ]
        lists = ("Endpoints", "EndpointConfigs", "Models", "TrainingJobs")
        actions["*"] = [f"sagemaker:List{kind}" for kind in lists]
        return actions
    return actions | {
        f"{sagemaker}:training-job/{prefix}-any": [
            *(f"sagemaker:{verb}TrainingJob" for verb in ("Create", "Describe", "Stop")),
            "sagemaker:AddTags",
        ],
        "*": ["sagemaker:ListTrainingJobs"],
        group: ["logs:DescribeLogStreams", "logs:GetLogEvents"],
    }


def default_bucket(caller: Caller, region: str) -> str:
    """Return the name that the SDK's Session.default_bucket() gives the bucket which it makes."""
    return f"sagemaker-{region}-{caller.account}"


def _asked(what: str, question: Callable[[], Finding]) -> Finding:
    """Return the answer, or say that it could not be had."""
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
        return Finding("credentials", "missing", "none found: run `aws configure`, or work in SageMaker Studio")
    except ClientError as error:
        return Finding("credentials", "missing", f"refused: {error.response['Error']['Message']}")
    except BotoCoreError as error:
        return Finding("credentials", "missing", " ".join(str(error).split()))
    arn = identity["Arn"]
    partition = arn.split(":")[1]
    if ":assumed-role/" in arn:  # a session's ARN lacks the path of its role, which only IAM knows
        name = arn.split("/")[1]
        arn = f"arn:{partition}:iam::{identity['Account']}:role/{name}"
        found = _asked("role", lambda: Finding("role", "ok", _iam_role(name)["Arn"]))
        arn = found.detail if found.outcome == "ok" else arn
    return Caller(identity["Account"], partition, arn)


def _iam_role(name: str) -> dict[str, Any]:
    return dict(boto3.client("iam").get_role(RoleName=name)["Role"])


def _role(arn: str, caller: Caller) -> Finding:
    if not arn:
        return Finding("role", "missing", f"you are {caller.kind} {caller.name}: give `role` an execution role's ARN")
    if ":role/" not in arn:
        return Finding("role", "missing", f"{arn} is not the ARN of a role")
    name = arn.rpartition("/")[2]
    try:
        trusted = _trusted_services(_iam_role(name)["AssumeRolePolicyDocument"])
    except boto3.client("iam").exceptions.NoSuchEntityException:
        return Finding("role", "missing", f"there is no role {name}")
    if "sagemaker.amazonaws.com" not in trusted:
        return Finding("role", "missing", f"{name} does not let sagemaker.amazonaws.com assume it (trust policy)")
    return Finding("role", "ok", name)


def _trusted_services(policy: dict[str, Any]) -> set[str]:
    services: set[str] = set()
    for statement in policy.get("Statement", []):
        principal = statement.get("Principal", {})
        named = principal.get("Service", []) if isinstance(principal, dict) else []
        services.update([named] if isinstance(named, str) else named)
    return services


def _is_lacking(bucket: str) -> bool:
    """Tell whether there is no such bucket; one that may not be asked for is taken to be there."""
    try:
        boto3.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "404")
    except BotoCoreError:
        return False
    return False


def _permissions(caller: Caller, actions: dict[str, list[str]]) -> Finding:
    if caller.kind == "root":
        return Finding("permissions", "ok", "all, as the root user; a role would be wiser")
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


def _image(usage: str, instance_type: str, region: str) -> Finding:
    from sagemaker.core import image_uris  # only here: it takes seconds, and where nothing runs it is not needed

    inference, training = {"image_scope": "inference"}, {"image_scope": "training", "py_version": PY_VERSION}
    scope = inference if usage == "endpoint" else training
    try:
        image = image_uris.retrieve(
            "tensorflow", region, version=FRAMEWORK_VERSION, instance_type=instance_type, **scope
        )
    except (ValueError, KeyError) as error:
        return Finding("image", "missing", " ".join(str(error).split()))
    return Finding("image", "ok", image.partition("/")[2])


def _cost(usage: str, instance_type: str, max_seconds: int) -> Finding:
    if usage == "storage":
        return Finding("cost", "ok", "below 0.01 USD: a few requests and megabytes in S3")
    price = PRICES.get(instance_type)
    if price is None:
        return Finding(
            "cost", "unknown", f"no price of {instance_type} here: https://aws.amazon.com/sagemaker/ai/pricing/"
        )
    rate = f"{price:.3f} USD an hour (us-east-1, November 2026)"
    if usage == "endpoint":
        return Finding("cost", "ok", f"{24 * price:.2f} USD a day until it is deleted, {rate}")
    return Finding("cost", "ok", f"at most {price * max_seconds / 3600:.2f} USD, {max_seconds:,} s at {rate}")
