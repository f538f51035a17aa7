"""Models and endpoint configurations: names in use, unknown names, and changes at the same time."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localmode.api.resources import Resources
from localmode.core.errors import ApiError
from localmode.core.settings import Settings
from tests.support.api import config_request, model_request, refusal
from tests.support.gate import SlowJournal
from tests.support.local import SOON, Daemon


@pytest.mark.parametrize("kind", ["TrainingJob", "Model", "EndpointConfig", "Endpoint"])
@pytest.mark.parametrize("verb", ["describe", "delete"])
def test_an_unknown_resource_is_a_validation_exception(daemon: Daemon, kind: str, verb: str) -> None:
    words = re.sub("(?<!^)([A-Z])", r"_\1", kind).lower()
    verb = "stop" if (kind, verb) == ("TrainingJob", "delete") else verb
    code, message = refusal(getattr(daemon.sagemaker, f"{verb}_{words}"), **{f"{kind}Name": "unknown"})
    assert code == "ValidationException"
    assert message == "Requested resource not found." or re.fullmatch(
        'Could not find [a-z ]+ "arn:aws:sagemaker:us-east-1:123456789012:[a-z-]+/unknown".', message
    )


def test_a_name_in_use_is_refused(daemon: Daemon, name: str) -> None:
    sagemaker = daemon.sagemaker
    sagemaker.create_model(**model_request(name))
    sagemaker.create_endpoint_config(**config_request(name, name))
    assert refusal(sagemaker.create_model, **model_request(name)) == (
        "ValidationException",
        f'Cannot create already existing model "arn:aws:sagemaker:us-east-1:123456789012:model/{name}".',
    )
    assert refusal(sagemaker.create_endpoint_config, **config_request(name, name))[0] == "ValidationException"


def test_one_of_simultaneous_creations_of_a_model_succeeds(daemon: Daemon, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(daemon.call, "CreateModel", model_request(name)) for _ in range(8)]
    assert sorted(call.result()[0] for call in calls) == [200] + [400] * 7


CHANGES: dict[str, Callable[[Resources], object]] = {
    "add": lambda models: models.add("slow", {"ModelName": "slow"}),
    "tag": lambda models: models.tags("kept", lambda tags: [*tags, {"Key": "team", "Value": "trees"}]),
    "delete": lambda models: models.delete("kept"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_change_does_not_wait_until_another_resource_is_on_disk(tmp_path: Path, change: str) -> None:
    journal = SlowJournal(tmp_path, "")
    models = Resources(journal, Settings(tmp_path), "model", "model", "Model")
    models.add("kept", {"ModelName": "kept"})
    journal.slow = "slow" if change == "add" else "kept"
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(CHANGES[change], models)
        journal.gate.arrived()
        try:
            pool.submit(models.add, "quick", {"ModelName": "quick"}).result(SOON)
            assert {model["ModelName"] for model in models.all()} == {"kept", "quick"}
            assert models.tags("kept") == []
        finally:
            journal.gate.opened.set()
        slow.result(SOON)


def test_the_second_of_two_resources_with_one_name_waits_and_is_refused(tmp_path: Path) -> None:
    journal = SlowJournal(tmp_path, "one")
    models = Resources(journal, Settings(tmp_path), "model", "model", "Model")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(models.add, "one", {"ModelName": "one"})
        journal.gate.arrived()
        second = pool.submit(models.add, "one", {"ModelName": "one"})
        with pytest.raises(ApiError, match="Could not find"):
            models.get("one")  # it is not on disk yet
        journal.gate.opened.set()
        assert first.result(SOON) == models.get("one")["ModelArn"]
        with pytest.raises(ApiError, match="already existing"):
            second.result(SOON)
