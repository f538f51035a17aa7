"""The errors that localmode raises for its users: one for the command line and Python, one for AWS clients."""

from __future__ import annotations

from typing import Any


class LocalModeError(Exception):
    """An error that the user can correct; the message says what is wrong, where, and what to do."""


class ApiError(Exception):
    """An error response for an AWS client: AWS's error code, a message, the HTTP status and further members."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.members = code, message, status, members


def unsupported(feature: str) -> str:
    """Return the message that refuses what AWS offers and localmode does not."""
    return f"localmode does not support {feature}. AWS would accept it."
