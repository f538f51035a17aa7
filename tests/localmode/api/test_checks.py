"""The check of roles by CreateTrainingJob and CreateModel."""

import json

from tests.support.api import refusal
from tests.support.local import ROLE, Daemon, job_request


def test_a_missing_role_and_a_role_of_another_account_are_refused(daemon: Daemon, name: str) -> None:
    missing = {**job_request(name), "RoleArn": ROLE.replace("LocalMode", "NoSuch")}
    code, message = refusal(daemon.sagemaker.create_training_job, **missing)
    assert code == "ValidationException"
    assert message.startswith(f"Could not assume role {missing['RoleArn']}. Please ensure that the role exists")
    foreign = {**job_request(name), "RoleArn": "arn:aws:iam::111122223333:role/Mine"}
    assert refusal(daemon.sagemaker.create_training_job, **foreign)[0] == "AccessDeniedException"


def test_only_a_role_that_trusts_sagemaker_is_accepted(daemon: Daemon, name: str) -> None:
    for service in ("sagemaker", "lambda"):
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        daemon.client("iam").create_role(RoleName=f"for-{service}", Path="/a/b/", AssumeRolePolicyDocument=policy)
    arn = "arn:aws:iam::123456789012:role/a/b/for-"
    daemon.sagemaker.create_training_job(**{**job_request(name), "RoleArn": f"{arn}sagemaker"})
    refused = {**job_request(name), "RoleArn": f"{arn}lambda"}
    assert "Could not assume role" in refusal(daemon.sagemaker.create_training_job, **refused)[1]


def test_the_sdk_finds_its_role_and_permissions(daemon: Daemon) -> None:
    arn = daemon.client("sts").get_caller_identity()["Arn"]
    assert arn == "arn:aws:sts::123456789012:assumed-role/LocalModeExecutionRole/localmode"
    assert daemon.client("iam").get_role(RoleName="LocalModeExecutionRole")["Role"]["Arn"] == ROLE
    answer = daemon.client("iam").simulate_principal_policy(
        PolicySourceArn=ROLE, ActionNames=["s3:GetObject", "a<&b"], ResourceArns=["*"]
    )
    results = [(result["EvalActionName"], result["EvalDecision"]) for result in answer["EvaluationResults"]]
    assert results == [("s3:GetObject", "allowed"), ("a<&b", "allowed")]
