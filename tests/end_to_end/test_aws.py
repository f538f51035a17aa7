"""The course in AWS mode, and its IAM permissions; the environment points AWS clients at localmode.

IAM actions and resources: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from moto.iam.access_control import IAMPolicy, PermissionResult

from tests.support.course import course, kept, shell
from workshop import ROOT
from workshop.publish import NOTEBOOKS

pytestmark = pytest.mark.timeout(900)  # seconds; the first tests wait for runs of the course
SITE = Path(__file__).parent / "site"
IAM = ROOT / "docs" / "iam"
RECORD = "operations.jsonl"
GRACE_SECONDS = "10"  # longer than the training, as the 120 seconds of AWS: without SIGTERM it continues
USER = "arn:aws:iam::123456789012:user/team/me"
SAGEMAKER = "arn:aws:sagemaker:us-east-1:123456789012"
LOG_GROUP = "arn:aws:logs:us-east-1:123456789012:log-group:{logGroupName}"
OBJECT, BUCKET = "arn:aws:s3:::{Bucket}/{Key}", "arn:aws:s3:::{Bucket}"
# Actions and resources of the operations that have another name than their action, or several resources.
# GetCallerIdentity needs no permission.
ACTIONS = {
    "s3:HeadObject": [("s3:GetObject", OBJECT)],
    "s3:GetObject": [("s3:GetObject", OBJECT)],
    "s3:PutObject": [("s3:PutObject", OBJECT)],
    "s3:DeleteObject": [("s3:DeleteObject", OBJECT)],
    "s3:HeadBucket": [("s3:ListBucket", BUCKET)],
    "s3:ListObjects": [("s3:ListBucket", BUCKET)],
    "s3:ListObjectsV2": [("s3:ListBucket", BUCKET)],
    "s3:ListBuckets": [("s3:ListAllMyBuckets", "*")],
    "s3:CreateBucket": [("s3:CreateBucket", BUCKET)],
    "logs:DescribeLogStreams": [("logs:DescribeLogStreams", LOG_GROUP + ":log-stream:")],
    "logs:GetLogEvents": [("logs:GetLogEvents", LOG_GROUP + ":log-stream:{logStreamName}")],
    "iam:GetRole": [("iam:GetRole", "arn:aws:iam::123456789012:role/{RoleName}")],
    "iam:SimulatePrincipalPolicy": [("iam:SimulatePrincipalPolicy", "{PolicySourceArn}")],
    "servicequotas:ListServiceQuotas": [("servicequotas:ListServiceQuotas", "*")],
    "runtime.sagemaker:InvokeEndpoint": [("sagemaker:InvokeEndpoint", SAGEMAKER + ":endpoint/{EndpointName}")],
    "sts:GetCallerIdentity": [],
}
PASSED = {"api.sagemaker:CreateTrainingJob": "RoleArn", "api.sagemaker:CreateModel": "ExecutionRoleArn"}


@dataclass(frozen=True)
class Recorded:
    process: CompletedProcess[str]
    build: Path

    def operations(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.build / RECORD).read_text().splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("aws") / "state"
    yield directory
    shell("-m", "localmode", "stop", home=directory)


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """The environment that points AWS clients at localmode, and in which localmode cannot be imported."""
    exports = shell("-m", "localmode", "env", home=home, LOCALMODE_GRACE_SECONDS=GRACE_SECONDS).stdout
    lines = [line.removeprefix("export ").partition("=") for line in exports.splitlines() if line.startswith("export")]
    return {name: value.strip("'") for name, _, value in lines} | {"PYTHONPATH": str(SITE)}


@pytest.fixture(scope="module")
def run(home: Path, environment: dict[str, str]) -> Recorded:
    build = kept("aws")
    settings = {**environment, "RECORD_OPERATIONS": str(build / RECORD)}
    return Recorded(course("-p", "mode", "aws", home=home, output=build, **settings), build)


@pytest.fixture(scope="module")
def unprepared(run: Recorded, home: Path, environment: dict[str, str]) -> Recorded:
    """Notebook 2 without the SDK's defaults file, so that the SDK asks AWS for role and bucket."""
    build = kept("aws-unprepared")
    settings = {name: value for name, value in environment.items() if name != "SAGEMAKER_USER_CONFIG_OVERRIDE"}
    settings |= {"RECORD_OPERATIONS": str(build / RECORD), "REDIRECT_STS": "yes"}
    process = course("-p", "mode", "aws", "--only", "02", home=home, output=build, **settings)
    elsewhere = {**settings, "AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-1"}
    first = "from sagemaker.core.helper.session_helper import Session; Session().default_bucket()"
    bucket = shell("-c", first, home=home, **elsewhere)  # in a Region in which the account has none yet
    assert bucket.returncode == 0, bucket.stderr
    return Recorded(process, build)


def permissions(call: dict[str, str]) -> list[tuple[str, str]]:
    """The actions that a call needs, each with the ARN of its resource."""
    operation = call["operation"]
    if operation in ACTIONS:
        tagged = [("s3:PutObjectTagging", OBJECT)] if "Tagging" in call else []
        return [(action, resource.format(**call)) for action, resource in [*ACTIONS[operation], *tagged]]
    service, _, name = operation.partition(":")
    assert service == "api.sagemaker", f"add {operation} to ACTIONS, with the IAM action and resource that it needs"
    if name.startswith("List"):
        return [(f"sagemaker:{name}", "*")]
    kind = re.sub("^(Create|Describe|Delete|Stop)", "", name)
    resource = f"{SAGEMAKER}:{re.sub('(?<=[a-z])(?=[A-Z])', '-', kind).lower()}/{call[f'{kind}Name']}"
    needed = [(f"sagemaker:{name}", resource)]
    if operation in PASSED:
        needed.append(("iam:PassRole", call[PASSED[operation]]))
    if name == "CreateEndpoint":
        needed.append((f"sagemaker:{name}", f"{SAGEMAKER}:endpoint-config/{call['EndpointConfigName']}"))
    if "Tags" in call:
        needed.append(("sagemaker:AddTags", resource))
    return needed


def allowed(policy: dict[str, object], action: str, resource: str) -> bool:
    answer = IAMPolicy({"policy_document": json.dumps(policy)}).is_action_permitted(action, resource)
    return bool(answer == PermissionResult.PERMITTED)


@pytest.mark.slow
def test_aws_mode_needs_only_the_environment(run: Recorded) -> None:
    assert run.process.returncode == 0, run.process.stdout + run.process.stderr
    assert run.process.stdout.count("final_weights_sha256=") >= 3
    assert sorted(path.name for path in run.build.glob("*.ipynb")) == [path.name for path in NOTEBOOKS]


def test_the_sdk_finds_role_and_bucket_without_its_defaults_file(unprepared: Recorded) -> None:
    process = unprepared.process
    assert process.returncode == 0, process.stdout + process.stderr
    asked = {call["operation"] for call in unprepared.operations()}
    assert {"sts:GetCallerIdentity", "s3:CreateBucket"} <= asked


def test_the_import_of_localmode_fails_in_these_tests(home: Path, tmp_path: Path) -> None:
    notebook, copy = str(NOTEBOOKS[0]), str(tmp_path / "copy.ipynb")
    run = shell(
        *("-m", "papermill", "--no-progress-bar", notebook, copy),
        home=home,
        PYTHONPATH=str(SITE),
        RECORD_OPERATIONS=os.devnull,
    )
    assert run.returncode == 1
    assert "import of localmode halted" in run.stderr


def test_the_policy_allows_exactly_what_the_notebooks_call(run: Recorded, unprepared: Recorded) -> None:
    policy = json.loads((IAM / "workshop-policy.json").read_text())
    calls = [*run.operations(), *unprepared.operations()]
    mine = [call for call in calls if call["operation"] == "iam:SimulatePrincipalPolicy"]
    calls += [{**call, "PolicySourceArn": USER} for call in mine]  # docs/aws.md attaches this policy to a user
    needed = {permission for call in calls for permission in permissions(call)}
    assert {action: resource for action, resource in needed if not allowed(policy, action, resource)} == {}
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                only = {**policy, "Statement": [{**statement, "Action": action, "Resource": resource}]}
                used = any(allowed(only, *permission) for permission in needed)
                assert used, f"no notebook needs {action} on {resource}"


def test_the_policies_have_wildcard_resources_only_where_iam_requires_them() -> None:
    open_to_all = re.compile(
        r"sagemaker:List\w+|s3:ListAllMyBuckets|ecr:GetAuthorizationToken|cloudwatch:PutMetricData|servicequotas:\w+"
    )  # IAM has no resource types for these
    for name in ("workshop-policy.json", "execution-role-policy.json"):
        for statement in json.loads((IAM / name).read_text())["Statement"]:
            assert statement["Effect"] == "Allow" and "*" not in "".join(statement["Action"])
            if "*" in statement["Resource"]:
                assert [action for action in statement["Action"] if not open_to_all.fullmatch(action)] == []
            if "iam:PassRole" in statement["Action"]:
                assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
