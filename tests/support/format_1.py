"""Write a state directory in format 1, which has no version file."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.local import BUCKET, ROLE

CREATED = 1700000000.5
MODIFIED = 1700000000014898999  # nanoseconds
GROUP = "/aws/sagemaker/TrainingJobs"
ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ARCHIVE = f"s3://{BUCKET}/data/none.tar.gz"


def write_home(home: Path) -> None:
    """Write a state directory with a finished and a waiting job, a model, a failed endpoint, objects and logs."""
    home.mkdir(mode=0o700)
    (home / "daemon.lock").touch()
    (home / "no-spot-capacity").touch()
    for kind, name, document in documents():
        write(home / kind / f"{name}.json", json.dumps(document, indent=1))
    write(home / "changes.jsonl", "".join(json.dumps(change) + "\n" for change in changes()))
    event = {"timestamp": int(CREATED * 1000), "message": "said"}
    write(home / "logs" / "training" / f"{quote(stream(), safe='')}.jsonl", json.dumps(event) + "\n")
    write_objects(home / "s3")


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_objects(root: Path) -> None:
    """Write two buckets and an object with metadata; its sidecar has the modification time of its file."""
    for bucket, described in ((BUCKET, {}), ("another-bucket", {"region": "us-east-1"})):
        (root / bucket).mkdir(parents=True)
        write(root / ".buckets" / f"{bucket}.json", json.dumps({"created": CREATED, "documents": described}))
    write(root / BUCKET / "data" / "a b", "kept")
    os.utime(root / BUCKET / "data" / "a b", ns=(MODIFIED, MODIFIED))
    record = {
        "size": 4,
        "modified": MODIFIED,
        "headers": {"content-type": "text/x", "x-amz-meta-who": "me"},
        "tags": {},
        "etag": "4d8b6084f3d167b76cac66a22a91be02",
        "crc32": "+yhqBg==",
    }
    sidecar = root / ".about" / BUCKET / f"{sha256(b'data/a b').hexdigest()}.json"
    write(sidecar, json.dumps({"key": "data/a b", "records": [record]}))


def stream() -> str:
    return f"done/algo-1-{int(CREATED)}"


def documents() -> list[tuple[str, str, dict[str, Any]]]:
    """Return the journals' documents: directory, name, content."""
    variant = {"VariantName": "v", "ModelName": "net", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    model = {
        "EnableNetworkIsolation": False,
        "ModelName": "net",
        "PrimaryContainer": {"Image": "none", "ModelDataUrl": ARCHIVE},
        "ExecutionRoleArn": ROLE,
        "Tags": [{"Key": "a", "Value": "b"}],
        "ModelArn": f"{ARN}:model/net",
        "CreationTime": CREATED,
    }
    config = {
        "EndpointConfigName": "conf",
        "ProductionVariants": [variant],
        "Tags": [],
        "EndpointConfigArn": f"{ARN}:endpoint-config/conf",
        "CreationTime": CREATED,
    }
    return [
        ("jobs", "done", done()),
        ("jobs", "waiting", waiting()),
        ("models", "net", model),
        ("endpoint-configs", "conf", config),
        ("endpoints", "failed", endpoint()),
    ]


def endpoint() -> dict[str, Any]:
    variant = {
        "VariantName": "v",
        "Image": "none",
        "ModelDataUrl": ARCHIVE,
        "Environment": {},
        "Weight": 1.0,
        "InstanceCount": 1,
        "Routing": "RANDOM",
        "StartupSeconds": 480.0,
    }
    return {
        "EndpointName": "failed",
        "EndpointArn": f"{ARN}:endpoint/failed",
        "EndpointConfigName": "conf",
        "CreationTime": CREATED,
        "LastModifiedTime": CREATED,
        "Variants": [variant],
        "Tags": [],
        "EndpointStatus": "Failed",
        "Generation": "0a419c71870d5258",
        "FailureReason": "The primary container for production variant v cannot serve the model",
    }


def job(name: str, condition: dict[str, int], **members: Any) -> dict[str, Any]:
    algorithm = {"TrainingImage": "none", "TrainingInputMode": "File", "ContainerEntrypoint": ["true"]}
    request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": condition,
    }
    return {
        "name": name,
        "arn": f"{ARN}:training-job/{name}",
        "request": request | members.pop("request", {}),
        "created": CREATED,
        "stop_reason": "",
        "failure_reason": "",
        "metrics": {},
        "modified": CREATED + 1,
        "launch_after": 0.0,
        "retries": 0,
        **members,
    }


def done() -> dict[str, Any]:
    times = [CREATED + second / 10 for second in range(5)]
    transitions = [
        {"Status": status, "StartTime": start, "StatusMessage": status, "EndTime": end}
        for status, start, end in zip(
            ("Starting", "Downloading", "Training", "Uploading", "Completed"),
            times,
            [*times[1:], times[-1]],
            strict=True,
        )
    ]
    return job(
        "done",
        {"MaxRuntimeInSeconds": 600},
        status="Completed",
        secondary_status="Completed",
        transitions=transitions,
        attempts=[{"downloading": times[1], "training": times[2], "ended": times[4]}],
        model_artifacts=f"s3://{BUCKET}/out/done/output/model.tar.gz",
    )


def waiting() -> dict[str, Any]:
    """A Spot job that waits for capacity."""
    message = "Insufficient capacity error from EC2 while launching instances, retrying!"
    checkpoints = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/waiting"}}
    return job(
        "waiting",
        {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 2_000_000_000},  # the file is older than the test
        request={"EnableManagedSpotTraining": True, **checkpoints},
        status="InProgress",
        secondary_status="Starting",
        transitions=[{"Status": "Starting", "StartTime": CREATED, "StatusMessage": message}],
        attempts=[],
        model_artifacts="",
    )


def changes() -> list[dict[str, Any]]:
    """Return the changes of IAM and CloudWatch Logs: the execution role, a role and the log groups."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signature = "AWS4-HMAC-SHA256 Credential=localmode/20260101/us-east-1/logs/aws4_request"

    def role(name: str, seed: int) -> dict[str, Any]:
        body = f"Version=2010-05-08&Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument=%7B%7D"
        fixed = {"service": "iam", "method": "POST", "query": "", "headers": form}
        return {**fixed, "body": body, "when": CREATED, "seed": seed}

    def logs(operation: str, **request: str) -> dict[str, Any]:
        headers = {
            "Authorization": f"{signature}, SignedHeaders=host, Signature=0",
            "X-Amz-Target": f"Logs_20140328.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        fixed = {"service": "logs", "method": "POST", "query": "", "headers": headers}
        return {**fixed, "body": json.dumps(request), "when": CREATED, "seed": 1}

    return [
        role("LocalModeExecutionRole", 5544510377989511128),
        role("mine", 17240999454761906716),
        logs("CreateLogGroup", logGroupName="group"),
        logs("CreateLogGroup", logGroupName=GROUP),
        logs("CreateLogStream", logGroupName=GROUP, logStreamName=stream()),
    ]
