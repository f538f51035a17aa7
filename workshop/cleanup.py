"""What the course leaves behind on AWS: found by the prefix of its names, whichever run has left it. Plain boto3.

cleanup.delete_what_costs("spot-workshop")
cleanup.list_what_remains("spot-workshop", bucket)
"""

import time
from typing import Any

import boto3
from botocore.exceptions import ClientError

_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")


def endpoints(prefix: str) -> list[str]:
    """Return the names of the endpoints that begin with the prefix and a hyphen, those being deleted left out."""
    found = _all("list_endpoints", "Endpoints", "EndpointName", prefix)
    return [one["EndpointName"] for one in found if one["EndpointStatus"] != "Deleting"]


def unfinished_jobs(prefix: str) -> list[str]:
    """Return the names of the training jobs that begin with the prefix and a hyphen, and still run."""
    found = _all("list_training_jobs", "TrainingJobSummaries", "TrainingJobName", prefix, StatusEquals="InProgress")
    return [one["TrainingJobName"] for one in found]


def delete_what_costs(prefix: str) -> None:
    """Stop the training jobs and delete the endpoints whose names begin with the prefix, and say so.

    Raises ClientError, after all others, for one that is refused and still there.
    """
    sagemaker = boto3.client("sagemaker")
    running, jobs = endpoints(prefix), unfinished_jobs(prefix)
    refused: dict[str, ClientError] = {}
    for name in jobs:
        try:
            sagemaker.stop_training_job(TrainingJobName=name)
            print(f"stopped: training job {name}")
        except ClientError as error:
            refused[name] = error
    for name in running:
        try:
            _wait_until_settled(name)
            sagemaker.delete_endpoint(EndpointName=name)
            print(f"deleted: endpoint {name}")
        except ClientError as error:
            refused[name] = error
    if not running and not jobs:
        print("nothing was left that costs money by the hour")
    for name in [*endpoints(prefix), *unfinished_jobs(prefix)] if refused else []:
        if name in refused:  # and not since it was over, or deleted by another process, when its turn came
            raise refused[name]


def list_what_remains(prefix: str, bucket: str) -> None:
    """Print what is left and costs nothing or next to it: endpoint configurations, models, objects in S3, and logs."""
    configs = _all("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", prefix)
    models = _all("list_models", "Models", "ModelName", prefix)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
    print(f"remaining: {len(configs)} endpoint configurations, {len(models)} models,")
    print(f"           {len(sizes)} objects of {sum(sizes) / 1e6:.1f} MB under s3://{bucket}/{prefix}*,")
    print(f"           logs under /aws/sagemaker/TrainingJobs and /aws/sagemaker/Endpoints/{prefix}-*")


def _wait_until_settled(endpoint_name: str, poll_seconds: float = 1) -> None:
    """Wait while an endpoint is being created or updated: until that is over it cannot be deleted."""
    sagemaker, last = boto3.client("sagemaker"), ""
    while (status := sagemaker.describe_endpoint(EndpointName=endpoint_name)["EndpointStatus"]) in _IN_PROGRESS:
        if status != last:
            print(f"waiting: endpoint {endpoint_name} is {status}")
        last = status
        time.sleep(poll_seconds)


def _all(operation: str, key: str, name: str, prefix: str, **request: Any) -> list[dict[str, Any]]:
    """Return what a List operation of SageMaker says of the names that begin with the prefix and a hyphen."""
    pages = boto3.client("sagemaker").get_paginator(operation).paginate(NameContains=f"{prefix}-", **request)
    return [one for page in pages for one in page[key] if one[name].startswith(f"{prefix}-")]
