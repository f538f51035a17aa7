"""The answers of IAM and STS that localmode gives itself, as botocore parses them."""

from typing import Any

from botocore.parsers import create_parser
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from localmode.core.aws import service_model
from localmode.services.identity import caller_identity, simulate_principal_policy


def parsed(response: Response, service: str, operation: str) -> dict[str, Any]:
    shape = service_model(service).operation_model(operation).output_shape
    raw = {"status_code": response.status_code, "headers": dict(response.headers), "body": response.data}
    return dict(create_parser("query").parse(raw, shape))


def simulated(**parameters: str) -> list[tuple[str, str, str]]:
    """Return action, resource and decision of each result."""
    form = {name.replace("_", "."): value for name, value in parameters.items()}
    request = Request(EnvironBuilder(method="POST", data=form).get_environ())
    answer = parsed(simulate_principal_policy(request), "iam", "SimulatePrincipalPolicy")
    assert answer["IsTruncated"] is False
    members = ("EvalActionName", "EvalResourceName", "EvalDecision")
    results = [tuple(result[member] for member in members) for result in answer["EvaluationResults"]]
    return [(str(action), str(resource), str(decision)) for action, resource, decision in results]


def test_the_caller_has_the_execution_role() -> None:
    answer = parsed(caller_identity(), "sts", "GetCallerIdentity")
    assert answer["Arn"] == "arn:aws:sts::123456789012:assumed-role/LocalModeExecutionRole/localmode"
    assert answer["Account"] == "123456789012"


def test_every_action_on_every_resource_is_allowed() -> None:
    results = simulated(
        ActionNames_member_1="s3:GetObject",
        ActionNames_member_2="s3:PutObject",
        ResourceArns_member_1="arn:1",
        ResourceArns_member_2="arn:2",
    )
    actions = ("s3:GetObject", "s3:PutObject")
    assert results == [(action, resource, "allowed") for action in actions for resource in ("arn:1", "arn:2")]


def test_without_resources_actions_are_simulated_on_all() -> None:
    assert simulated(ActionNames_member_1="s3:GetObject") == [("s3:GetObject", "*", "allowed")]


def test_names_are_escaped() -> None:
    assert simulated(ActionNames_member_1="a<&b", ResourceArns_member_1="<c>") == [("a<&b", "<c>", "allowed")]
