"""The route table: which handler answers a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Response

from localmode.core.errors import ApiError
from localmode.http.request import Environ, service_of

_ANY = re.compile(".*", re.DOTALL)

Handler = Callable[..., Response]


@dataclass(frozen=True)
class Route:
    """The requests to a service whose X-Amz-Target and path match; the handler gets the groups of both patterns."""

    service: str
    handler: Handler
    target: re.Pattern[str] = _ANY
    path: re.Pattern[str] = _ANY

    def match(self, service: str, target: str, path: str) -> tuple[str, ...] | None:
        """Return the arguments for the handler, None if the request is not for this route."""
        if service != self.service:
            return None
        by_target, by_path = self.target.fullmatch(target), self.path.fullmatch(path)
        if by_target is None or by_path is None:
            return None
        return (*by_target.groups(), *by_path.groups())


class Router:
    """A WSGI application that passes each request to the handler of the first route that matches."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request; raise ApiError if there is no route for it."""
        service = service_of(environ)
        target, path = environ.get("HTTP_X_AMZ_TARGET", ""), environ.get("PATH_INFO", "")
        for route in self._routes:
            arguments = route.match(service, target, path)
            if arguments is not None:
                return route.handler(environ, *arguments)(environ, start_response)
        raise ApiError("UnknownOperationException", f"localmode does not implement {service}:{target or path}")
