"""The errors of endpoints and their model servers."""

from __future__ import annotations


class ModelServerError(Exception):
    """A model cannot be served; the message becomes part of the endpoint's FailureReason."""


class Unavailable(Exception):
    """No server can take the request now; the message says why."""


class Retired(Unavailable):
    """The fleet takes no more requests, because another one replaces it or the endpoint is being deleted."""


class UnknownVariant(Exception):
    """The endpoint has no production variant for the request; the message says which ones there are."""
