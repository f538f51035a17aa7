"""The table of operations: what performs each, and which parameters it supports."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from localmode.core.aws import ACCOUNT_ID
from localmode.s3.wire.body import Body
from localmode.s3.wire.headers import Parameters

_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z0-9])")
OWNER = {"ID": f"{ACCOUNT_ID:0>64}", "DisplayName": "localmode"}


class Result(NamedTuple):
    """The answer of an operation: members of its output by the model's names, other headers, the bytes of an object."""

    members: Parameters = {}
    status: int = 200
    headers: dict[str, str] = {}
    file: IO[bytes] | None = None
    span: tuple[int, int] = (0, 0)  # where the bytes to send begin and end in the file


Perform = Callable[[Parameters, Body], Result]
Operations = dict[str, tuple[Perform, set[str]]]  # by name: the function and the parameters that it supports


def operations_of(group: Any) -> Operations:
    """Return the operations of an object that lists them in PARAMETERS and has a method for each."""
    return {name: (getattr(group, _CAPITAL.sub("_", name).lower()), known) for name, known in group.PARAMETERS.items()}
