import json
from fnmatch import fnmatchcase

import pytest

from workshop import ROOT, permissions, preflight

ROLE = "arn:aws:iam::111122223333:role/service-role/Training"


@pytest.mark.parametrize("usage", preflight.USAGES)
def test_every_action_that_is_checked_is_in_the_policy(usage: str) -> None:
    caller = permissions.Caller("111122223333", "aws", ROLE)
    policy = json.loads((ROOT / "docs/iam/workshop-policy.json").read_text())
    for resource, actions in permissions.needed(usage, caller, "eu-west-1", ROLE, "spot-workshop").items():
        for action in actions:
            allowing = [one["Resource"] for one in policy["Statement"] if action in one["Action"]]
            assert any(fnmatchcase(resource, pattern) for patterns in allowing for pattern in patterns), action
