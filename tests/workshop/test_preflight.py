"""The checks before a notebook creates anything, against stubbed responses of AWS."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from workshop import containers, preflight

ROLE = "arn:aws:iam::111122223333:role/service-role/Training"
SESSION = {"Account": "111122223333", "UserId": "x", "Arn": "arn:aws:sts::111122223333:assumed-role/Training/me"}
USER = SESSION | {"Arn": "arn:aws:iam::111122223333:user/team/me"}
TRUST = '{"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}]}'
SPOT = "ml.m5.xlarge for spot training job usage"


class Account:
    """The clients of an account, with the responses of the test in the order of the requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        session = boto3.Session("id", "secret", region_name="eu-west-1")
        self.clients = {name: session.client(name) for name in ("sts", "iam", "s3", "service-quotas")}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        for stub in self.stubs.values():
            stub.activate()
        monkeypatch.setattr(boto3, "client", lambda name: self.clients[name])

    def answers(self, service: str, operation: str, answer: dict[str, Any], **expected: Any) -> None:
        self.stubs[service].add_response(operation, answer, expected or None)

    def refuses(self, service: str, operation: str, code: str = "AccessDenied") -> None:
        self.stubs[service].add_client_error(operation, code, "no")

    def is_role(self, trust: str = TRUST, asked: int = 2) -> None:
        role = {"Path": "/service-role/", "RoleName": "Training", "RoleId": "A" * 16, "Arn": ROLE}
        self.answers("sts", "get_caller_identity", SESSION)
        for _ in range(asked):  # for the ARN of the caller, and for the trust policy
            found = role | {"CreateDate": "2026-01-01", "AssumeRolePolicyDocument": trust}
            self.answers("iam", "get_role", {"Role": found}, RoleName="Training")

    def allows(self, *denied: str, calls: int = 6, bucket: bool = True) -> None:
        if bucket:
            self.answers("s3", "head_bucket", {}, Bucket="sagemaker-eu-west-1-111122223333")
        else:
            self.refuses("s3", "head_bucket", "404")
        for _ in range(calls):
            results = [{"EvalActionName": action, "EvalDecision": "implicitDeny"} for action in denied]
            self.answers("iam", "simulate_principal_policy", {"EvaluationResults": results})

    def quota(self, **values: float) -> None:
        quotas = [{"QuotaName": name, "Value": value} for name, value in values.items()]
        self.answers("service-quotas", "list_service_quotas", {"Quotas": quotas}, ServiceCode="sagemaker")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    account = Account(monkeypatch)
    yield account
    for stub in account.stubs.values():
        stub.assert_no_pending_responses()


def findings(usage: str = "spot training job", **arguments: Any) -> dict[str, tuple[str, str]]:
    found = preflight.check(usage, "ml.m5.xlarge", **arguments)
    return {finding.what: (finding.outcome, finding.detail) for finding in found if finding.what != "image"}


def test_a_complete_account_is_ok_and_the_cost_is_that_of_the_maximum_run_times(account: Account) -> None:
    account.is_role()
    account.allows(calls=6)
    account.quota(**{"ml.m5.xlarge for training job usage": 0, SPOT: 2})
    found = findings(max_seconds=7200)
    assert {outcome for outcome, _ in found.values()} == {"ok"}
    assert found["Region"] == ("ok", "eu-west-1")
    assert found["credentials"] == ("ok", "role Training of account 111122223333")
    assert found["quota"] == ("ok", f"{SPOT}: 2")
    assert found["cost"][1].startswith("at most 0.46 USD, 7,200 s at ")


def test_permissions_are_simulated_for_the_full_arn_of_the_role(account: Account) -> None:
    account.is_role()
    account.allows(calls=0)
    for _ in range(6):
        account.answers(
            "iam",
            "simulate_principal_policy",
            {"EvaluationResults": []},
            PolicySourceArn=ROLE,
            ActionNames=ANY,
            ResourceArns=ANY,
            ContextEntries=ANY,
        )
    account.quota(**{SPOT: 1})
    assert findings()["permissions"][0] == "ok"


def test_denied_actions_are_named(account: Account) -> None:
    account.is_role()
    account.allows("sagemaker:CreateTrainingJob", "iam:PassRole")
    account.quota(**{SPOT: 1})
    assert findings()["permissions"] == ("missing", "iam:PassRole, sagemaker:CreateTrainingJob")


def test_an_account_without_a_default_bucket_must_be_able_to_create_it(account: Account) -> None:
    account.is_role(asked=1)
    account.allows(calls=0, bucket=False)
    for actions in (["s3:ListBucket", "s3:CreateBucket"], ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"]):
        results = [{"EvalActionName": action, "EvalDecision": "explicitDeny"} for action in actions[1:2]]
        account.answers(
            "iam",
            "simulate_principal_policy",
            {"EvaluationResults": results},
            PolicySourceArn=ROLE,
            ActionNames=actions,
            ResourceArns=ANY,
            ContextEntries=ANY,
        )
    assert findings("storage")["permissions"] == ("missing", "s3:CreateBucket, s3:PutObject")


def test_a_quota_of_zero_is_missing(account: Account) -> None:
    account.is_role()
    account.allows()
    account.quota(**{SPOT: 0})
    assert findings()["quota"] == ("missing", f"{SPOT}: 0; ask for 1 in the Service Quotas console")


def test_a_refused_question_is_unknown_and_not_missing(account: Account) -> None:
    account.answers("sts", "get_caller_identity", SESSION)
    for _ in range(2):
        account.refuses("iam", "get_role")
    account.refuses("s3", "head_bucket", "403")
    account.refuses("iam", "simulate_principal_policy")
    account.refuses("service-quotas", "list_service_quotas", "UnknownOperationException")
    found = findings()
    assert [found[what][0] for what in ("role", "permissions", "quota")] == ["unknown"] * 3
    assert found["quota"][1] == "not answered (ListServiceQuotas: UnknownOperationException)"


def test_a_role_that_does_not_trust_sagemaker_is_missing(account: Account) -> None:
    account.is_role(trust=TRUST.replace("sagemaker", "ec2"))
    account.allows()
    account.quota(**{SPOT: 1})
    assert findings()["role"][0] == "missing"


def test_a_user_must_name_a_role(account: Account) -> None:
    account.answers("sts", "get_caller_identity", USER)
    account.allows(calls=5)
    account.quota(**{SPOT: 1})
    assert findings()["role"] == ("missing", "you are user me: set `role` to the ARN of an execution role")


def test_a_role_that_does_not_exist_is_missing(account: Account) -> None:
    account.answers("sts", "get_caller_identity", USER)
    account.refuses("iam", "get_role", "NoSuchEntity")
    account.allows()
    account.quota(**{SPOT: 1})
    assert findings(role=ROLE)["role"] == ("missing", "there is no role Training")


def test_refused_credentials_end_the_check(account: Account) -> None:
    account.refuses("sts", "get_caller_identity", "InvalidClientTokenId")
    assert list(findings()) == ["Region", "credentials"]


def test_a_missing_region_is_found_without_a_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert findings()["Region"] == ("missing", "set AWS_REGION, or a default with `aws configure`")


def test_the_notebook_ends_with_a_line_that_names_what_is_missing(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.is_role(asked=1)
    account.allows("s3:PutObject", calls=2)
    with pytest.raises(SystemExit, match=r"^Nothing has been created yet, .* missing: permissions\.$"):
        preflight.require("storage")
    assert "permissions  missing  s3:PutObject\n" in capsys.readouterr().out


def test_the_cost_of_an_endpoint_is_per_day(account: Account) -> None:
    account.is_role()
    account.allows(calls=8)
    account.quota(**{"ml.m5.xlarge for endpoint usage": 1})
    assert findings("endpoint")["cost"][1].startswith("5.52 USD a day until it is deleted")


@pytest.mark.parametrize(
    ("usage", "image"), [("training job", containers.TRAINING), ("endpoint", containers.INFERENCE)]
)
@pytest.mark.parametrize(("days", "outcome"), [(61, "ok"), (60, "warning"), (0, "warning"), (-1, "warning")])
def test_the_image_of_each_usage_has_the_date_of_its_last_patch_and_a_warning_before(
    account: Account, usage: str, image: containers.Image, days: int, outcome: str
) -> None:
    account.is_role()
    account.allows(calls=8 if usage == "endpoint" else 6)
    account.quota(**{f"ml.m5.xlarge for {usage} usage": 1})
    today = image.patched_until - timedelta(days=days)
    (found,) = [each for each in preflight.check(usage, "ml.m5.xlarge", today=today) if each.what == "image"]
    assert found.outcome == outcome
    assert found.detail.startswith(f"tensorflow-{image.scope}:{image.version}-cpu-py312, patched until 20")


def test_an_image_that_has_to_be_replaced_does_not_stop_the_notebook(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(containers, "current_date", lambda: date(2030, 1, 1))
    account.is_role()
    account.allows(calls=8)
    account.quota(**{"ml.m5.xlarge for endpoint usage": 1})
    preflight.require("endpoint", "ml.m5.xlarge")
    assert "image        warning  tensorflow-inference:" in capsys.readouterr().out


def test_access_checks_only_region_and_credentials(account: Account) -> None:
    account.answers("sts", "get_caller_identity", USER)
    assert list(findings("access")) == ["Region", "credentials"]


def test_an_unknown_usage_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown usage 'training'"):
        list(preflight.check("training"))
