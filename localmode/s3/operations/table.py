"""TODO: localmode/s3/operations/table.py"""

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
    """What an operation answers: members of its output by the model's names, other headers, an object's bytes."""

    members: Parameters = {}
    status: int = 200
    headers: dict[str, str] = {}
    file: IO[bytes] | None = None
    span: tuple[int, int] = (0, 0)  # the bytes of the file that are meant


Perform = Callable[[Parameters, Body], Result]
Operations = dict[str, tuple[Perform, set[str]]]  # what performs an operation, and the parameters that it knows


def operations_of(room: Any) -> Operations:
    """Return the operations of a class that names them in PARAMETERS, and has a method for each."""
    return {name: (getattr(room, _CAPITAL.sub("_", name).lower()), known) for name, known in room.PARAMETERS.items()}
