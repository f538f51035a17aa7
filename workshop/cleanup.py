"""Delete what the course leaves on AWS and would go on costing money.

    cleanup.delete_what_costs("spot-workshop")
    cleanup.list_what_remains("spot-workshop", bucket)

Resources are found by the prefix of their names, whichever run created them.
"""

import time
from typing import Any

import boto3
from botocore.exceptions import ClientError

_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")


def endpoints(prefix: str) -> list[str]:
    """Return the endpoints whose names begin with the prefix and a hyphen, except those being deleted."""
    found = _all("list_endpoints", "Endpoints", "EndpointName", prefix)
    return [one["EndpointName"] for one in found if one["EndpointStatus"] != "Deleting"]


def unfinished_jobs(prefix: str) -> list[str]:
    """Return the running training jobs whose names begin with the prefix and a hyphen."""
    found = _all("list_training_jobs", "TrainingJobSummaries", "TrainingJobName", prefix, StatusEquals="InProgress")
    return [one["TrainingJobName"] for one in found]


def delete_what_costs(prefix: str) -> None:
    """Stop the training jobs and delete the endpoints whose names begin with the prefix; print each.

    If AWS refuses one, continue with the others, then raise its ClientError unless it has gone meanwhile.
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
        print("nothing to delete: no endpoint exists and no training job runs")
    for name in [*endpoints(prefix), *unfinished_jobs(prefix)] if refused else []:
        if name in refused:  # it still exists, so the refusal was not for being too late
            raise refused[name]


def list_what_remains(prefix: str, bucket: str) -> None:
    """Print what is left and costs little or nothing: endpoint configurations, models, objects in S3, and logs."""
    configs = _all("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", prefix)
    models = _all("list_models", "Models", "ModelName", prefix)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
    print(f"remaining: {len(configs)} endpoint configurations, {len(models)} models,")
    print(f"           {len(sizes)} objects of {sum(sizes) / 1e6:.1f} MB under s3://{bucket}/{prefix}*,")
    print(f"           logs under /aws/sagemaker/TrainingJobs and /aws/sagemaker/Endpoints/{prefix}-*")


def _wait_until_settled(endpoint_name: str, poll_seconds: float = 1) -> None:
    """Wait while an endpoint is being created or updated, since AWS does not delete it then."""
    sagemaker, last = boto3.client("sagemaker"), ""
    while (status := sagemaker.describe_endpoint(EndpointName=endpoint_name)["EndpointStatus"]) in _IN_PROGRESS:
        if status != last:
            print(f"waiting: endpoint {endpoint_name} is {status}")
        last = status
        time.sleep(poll_seconds)


def _all(operation: str, key: str, name: str, prefix: str, **request: Any) -> list[dict[str, Any]]:
    """Return the entries of a List operation whose names begin with the prefix and a hyphen."""
    pages = boto3.client("sagemaker").get_paginator(operation).paginate(NameContains=f"{prefix}-", **request)
    return [one for page in pages for one in page[key] if one[name].startswith(f"{prefix}-")]
