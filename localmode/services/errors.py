"""The errors of localmode's own calls to IAM and CloudWatch Logs."""

from __future__ import annotations

import re

_CODE = re.compile(r'<Code>(\w+)</Code>|"__type": *"(?:[^"#]*#)?(\w+)"')  # of the query protocol, of JSON


class ServiceError(RuntimeError):
    """IAM or CloudWatch Logs refused a call of localmode's own; `code` is AWS's error code."""

    def __init__(self, operation: str, status: str, body: str) -> None:
        super().__init__(f"{operation}: {status} {body[:300]}")
        found = _CODE.search(body)
        self.code = next(filter(None, found.groups()), "") if found else ""
