"""Code that runs first in every Python process of the course in AWS mode: see test_aws.py.

It prevents the import of localmode, and records every operation of boto3 in the file RECORD_OPERATIONS.
"""

import json
import os
import sys
from typing import Any

import botocore.session

sys.modules["localmode"] = None  # type: ignore[assignment]
_initialize = botocore.session.Session.__init__


def _initialize_and_record(self: Any, *arguments: Any, **options: Any) -> None:
    _initialize(self, *arguments, **options)
    self.register("provide-client-params", _record)
    if "REDIRECT_STS" in os.environ:  # the SDK gives STS requests an explicit address
        self.register("request-created.sts", _redirect)


def _record(params: Any, model: Any, **_: Any) -> None:
    texts = {name: value for name, value in params.items() if isinstance(value, str) and name != "Body"}
    if "Tags" in params:
        texts["Tags"] = "given"
    line = {"operation": f"{model.service_model.endpoint_prefix}:{model.name}", **texts}
    with open(os.environ["RECORD_OPERATIONS"], "a") as record:  # noqa: PTH123 - every process would import pathlib
        record.write(json.dumps(line) + "\n")


def _redirect(request: Any, **_: Any) -> None:
    request.url = os.environ["AWS_ENDPOINT_URL"] + "/"


botocore.session.Session.__init__ = _initialize_and_record
