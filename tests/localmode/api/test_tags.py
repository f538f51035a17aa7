"""Tags of all kinds of resources."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import ARN, config_request, model_request, refusal
from tests.support.local import Daemon, job_request


@pytest.fixture(scope="module")
def tagged(daemon: Daemon) -> dict[str, str]:
    """The ARN of a resource of each kind, created with the tag made=here."""
    tags, sagemaker = {"Tags": [{"Key": "made", "Value": "here"}]}, daemon.sagemaker
    config = config_request("tagged", "tagged")
    return {
        "training-job": sagemaker.create_training_job(**job_request("tagged"), **tags)["TrainingJobArn"],
        "model": sagemaker.create_model(**model_request("tagged"), **tags)["ModelArn"],
        "endpoint-config": sagemaker.create_endpoint_config(**config, **tags)["EndpointConfigArn"],
        "endpoint": sagemaker.create_endpoint(EndpointName="tagged", EndpointConfigName="tagged", **tags)[
            "EndpointArn"
        ],
    }


KINDS = ["training-job", "model", "endpoint-config", "endpoint"]


def tags_of(daemon: Daemon, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in daemon.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_added_replaced_listed_and_deleted(daemon: Daemon, tagged: dict[str, str], kind: str) -> None:
    arn = tagged[kind]
    assert tags_of(daemon, arn) == {"made": "here"}
    new = [{"Key": "made", "Value": "there"}, {"Key": "team", "Value": "trees"}]
    assert daemon.sagemaker.add_tags(ResourceArn=arn, Tags=new)["Tags"] == new
    daemon.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["made", "no-such-tag"])
    assert tags_of(daemon, arn) == {"team": "trees"}
    daemon.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    daemon.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "made", "Value": "here"}])


def test_tags_survive_a_restart(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    daemon.sagemaker.create_model(**model_request("kept"), Tags=[{"Key": "made", "Value": "here"}])
    daemon.sagemaker.create_training_job(**job_request("kept"))
    daemon.finished("kept")
    daemon.sagemaker.add_tags(ResourceArn=f"{ARN}training-job/kept", Tags=[{"Key": "added", "Value": "later"}])
    daemon.kill()
    daemon.start()
    assert tags_of(daemon, f"{ARN}model/kept") == {"made": "here"}
    assert tags_of(daemon, f"{ARN}training-job/kept") == {"added": "later"}


@pytest.mark.parametrize("kind", KINDS)
def test_concurrent_tagging_loses_no_tag(daemon: Daemon, tagged: dict[str, str], kind: str) -> None:
    keys = [f"at-once-{number}" for number in range(16)]
    bodies = [{"ResourceArn": tagged[kind], "Tags": [{"Key": key, "Value": ""}]} for key in keys]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: daemon.call("AddTags", body), bodies))
    assert {status for status, _ in answers} == {200}
    assert set(keys) < tags_of(daemon, tagged[kind]).keys()
    daemon.sagemaker.delete_tags(ResourceArn=tagged[kind], TagKeys=keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "b", "a"], "Duplicate tag keys: a"),
        (["aws:x"], "Tag keys that begin with aws: are reserved: aws:x"),
        ([f"k{number}" for number in range(50)], "at most 50 tags, not 51"),
    ],
)
def test_invalid_tags_are_refused(daemon: Daemon, tagged: dict[str, str], keys: list[str], message: str) -> None:
    tags = [{"Key": key, "Value": ""} for key in keys]
    assert message in refusal(daemon.sagemaker.add_tags, ResourceArn=tagged["model"], Tags=tags)[1]
    assert tags_of(daemon, tagged["model"]) == {"made": "here"}


@pytest.mark.parametrize(
    ("arn", "message"),
    [
        (ARN + "model/nobody", "Could not find model"),
        ("arn:aws:sagemaker:eu-west-1:123456789012:model/tagged", "Could not find model"),
        (ARN + "domain/d-1", 'not of "domain": arn'),
    ],
)
def test_tags_of_an_unknown_arn_are_refused(daemon: Daemon, tagged: dict[str, str], arn: str, message: str) -> None:
    code, text = refusal(daemon.sagemaker.list_tags, ResourceArn=arn)
    assert (code, message in text) == ("ValidationException", True)
