"""Which IAM actions a notebook needs, on which resources.

docs/iam/workshop-policy.json grants them; tests compare both with what the notebooks call.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """The identity behind the credentials: account, partition ("aws", "aws-cn") and the ARN of a user or a role."""

    account: str
    partition: str
    arn: str

    @property
    def kind(self) -> str:
        """The kind of the identity: "user", "role", "root" or "federated-user"."""
        return self.arn.split(":", 5)[5].partition("/")[0]

    @property
    def name(self) -> str:
        """The name of the user or role, without its path."""
        return self.arn.rpartition("/")[2]


def default_bucket(caller: Caller, region: str) -> str:
    """Return the name of the bucket that the SDK's `Session.default_bucket()` creates."""
    return f"sagemaker-{region}-{caller.account}"


def needed(usage: str, caller: Caller, region: str, role: str, prefix: str) -> dict[str, list[str]]:
    """Return the actions of a notebook by the ARN of the resource.

    Args:
        usage: one of `preflight.USAGES`.
        role: ARN of the execution role, empty if it is not known.
        prefix: the beginning of all names that the notebook gives.
    """
    if usage == "access":
        return {}
    partition, account = caller.partition, caller.account
    bucket = f"arn:{partition}:s3:::{default_bucket(caller, region)}"
    sagemaker = f"arn:{partition}:sagemaker:{region}:{account}"
    actions = {
        bucket: ["s3:ListBucket"],
        f"{bucket}/{prefix}/any": ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"],
    }
    if usage == "storage":
        return actions
    if role:
        actions[role] = ["iam:PassRole"]
    if usage == "endpoint":
        return actions | _of_an_endpoint(sagemaker, prefix)
    group = f"arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs:log-stream:{prefix}"
    return actions | _of_a_training_job(sagemaker, group, prefix)


def _of_an_endpoint(sagemaker: str, prefix: str) -> dict[str, list[str]]:
    actions = {
        f"{sagemaker}:{resource}/{prefix}-any": [
            *(f"sagemaker:{verb}{name}" for verb in ("Create", "Describe", "Delete")),
            "sagemaker:AddTags",
        ]
        for resource, name in (("model", "Model"), ("endpoint-config", "EndpointConfig"), ("endpoint", "Endpoint"))
    }
    actions[f"{sagemaker}:endpoint/{prefix}-any"].append("sagemaker:InvokeEndpoint")
    job = ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"]
    lists = [f"sagemaker:List{kind}" for kind in ("Endpoints", "EndpointConfigs", "Models", "TrainingJobs")]
    return actions | {f"{sagemaker}:training-job/{prefix}-any": job, "*": lists}


def _of_a_training_job(sagemaker: str, log_group: str, prefix: str) -> dict[str, list[str]]:
    job = [f"sagemaker:{verb}TrainingJob" for verb in ("Create", "Describe", "Stop")]
    return {
        f"{sagemaker}:training-job/{prefix}-any": [*job, "sagemaker:AddTags"],
        "*": ["sagemaker:ListTrainingJobs"],
        log_group: ["logs:DescribeLogStreams", "logs:GetLogEvents"],
    }
