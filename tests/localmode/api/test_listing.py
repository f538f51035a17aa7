"""The List operations: filters, order and pages."""

from typing import Any

import pytest

from tests.support.api import ARN, config_request, model_request
from tests.support.local import Daemon, job_request


@pytest.fixture(scope="module")
def three(daemon: Daemon) -> list[str]:
    """Names of three finished jobs; the second one failed."""
    names = ["three-b", "three-a", "three-C"]
    for name, command in zip(names, ("true", "false", "true"), strict=True):
        daemon.sagemaker.create_training_job(**job_request(name, command))
        daemon.finished(name)
    return names


def listed(daemon: Daemon, **request: Any) -> list[str]:
    answer = daemon.sagemaker.list_training_jobs(NameContains="three-", **request)
    return [summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"]]


@pytest.mark.parametrize(
    ("request_", "order"),
    [
        ({}, [0, 1, 2]),
        ({"SortOrder": "Descending"}, [2, 1, 0]),
        ({"SortBy": "Name"}, [2, 1, 0]),
        ({"SortBy": "Name", "SortOrder": "Descending"}, [0, 1, 2]),
        ({"SortBy": "Status", "SortOrder": "Descending"}, [1, 0, 2]),
        ({"StatusEquals": "Failed"}, [1]),
        ({"StatusEquals": "Stopped"}, []),
        ({"MaxResults": 2}, [0, 1]),
        ({"MaxResults": 2, "StatusEquals": "Failed"}, [1]),
        ({"MaxResults": 1, "StatusEquals": "Failed"}, []),  # of the first one only
        ({"CreationTimeAfter": 4e9}, []),
        ({"CreationTimeBefore": 4e9, "LastModifiedTimeAfter": 0}, [0, 1, 2]),
        ({"LastModifiedTimeBefore": 1}, []),
        ({"WarmPoolStatusEquals": "Available"}, []),
        ({"TrainingPlanArnEquals": ARN + "training-plan/x"}, []),
    ],
    ids=str,
)
def test_jobs_are_filtered_and_sorted(
    daemon: Daemon, three: list[str], request_: dict[str, Any], order: list[int]
) -> None:
    assert listed(daemon, **request_) == [three[number] for number in order]


def test_a_paginator_returns_every_job_once(daemon: Daemon, three: list[str]) -> None:
    pages = daemon.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="THREE", PaginationConfig={"PageSize": 1}
    )
    assert [page["TrainingJobSummaries"][0]["TrainingJobName"] for page in pages] == three


def test_a_paginator_finds_a_status_on_pages_of_any_size(daemon: Daemon, three: list[str]) -> None:
    pages = daemon.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="three-", StatusEquals="Failed", PaginationConfig={"PageSize": 1}
    )
    assert [[job["TrainingJobName"] for job in page["TrainingJobSummaries"]] for page in pages] == [[], [three[1]], []]


def test_a_page_begins_where_the_last_one_ended_despite_creations_and_deletions(daemon: Daemon, name: str) -> None:
    names = [f"{name[-40:].strip('-')}-{number}" for number in range(5)]
    for each in names:
        daemon.sagemaker.create_model(**model_request(each))
    for page in daemon.sagemaker.get_paginator("list_models").paginate(
        NameContains=names[0][:-1], PaginationConfig={"PageSize": 2}
    ):
        for found in page["Models"]:
            daemon.sagemaker.delete_model(ModelName=found["ModelName"])
            daemon.sagemaker.create_model(**model_request(found["ModelName"]))  # the newest now
            names.remove(found["ModelName"])
    assert names == []


@pytest.mark.parametrize("token", ["x", "-1", "9" * 5000, "٣", "e30=", "WzEsMl0=", "WyJ4IiwgIngiXQ=="])
def test_a_token_that_no_page_contained_is_refused(daemon: Daemon, token: str) -> None:
    assert daemon.call("ListTrainingJobs", {"NextToken": token})[1]["__type"] == "ValidationException"


@pytest.mark.parametrize("kind", ["model", "endpoint_config"])
def test_resources_are_listed_newest_first_in_pages(daemon: Daemon, kind: str) -> None:
    names = [f"listed-{number:02}" for number in range(12)]
    create, delete = (getattr(daemon.sagemaker, f"{verb}_{kind}") for verb in ("create", "delete"))
    member = "ModelName" if kind == "model" else "EndpointConfigName"
    daemon.sagemaker.create_model(**model_request("listed-model"))
    for each in names:
        create(**(model_request(each) if kind == "model" else config_request(each, "listed-model")))
    pages = list(daemon.sagemaker.get_paginator(f"list_{kind}s").paginate(NameContains="listed-0"))
    found = [entry[member] for page in pages for entry in page["Models" if kind == "model" else "EndpointConfigs"]]
    assert found == sorted(names[:10], reverse=True)
    for each in names:
        delete(**{member: each})
    daemon.sagemaker.delete_model(ModelName="listed-model")
