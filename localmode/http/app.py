"""The WSGI application of the daemon: middleware around a table of routes.

    X-Amz-Target: SageMaker.*         localmode.api
    POST /endpoints/NAME/invocations  localmode.hosting
    S3                                localmode.s3
    IAM, STS, CloudWatch Logs         localmode.services
    POST /_localmode/COMMAND          the daemon's own commands

The daemon runs code. It therefore listens on 127.0.0.1 only, requires a signature with the secret key of its state
directory and a Host header with its own address, and sends no CORS headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from werkzeug.wrappers import Response

from localmode.api.registry import SageMaker
from localmode.hosting.runtime import Invoker
from localmode.http.commands import Command, CommandHandler
from localmode.http.invocations import InvocationHandler
from localmode.http.middleware import Application, Authentication, ErrorResponses, HostCheck, RequestIds
from localmode.http.request import CONTROL, Environ, read_json
from localmode.http.responses import json_response
from localmode.http.routes import Handler, Route, Router
from localmode.s3.app import S3Application
from localmode.services.backend import SERVICES, Services

_SAGEMAKER = re.compile(r"SageMaker\.(.*)", re.DOTALL)
_INVOCATION = re.compile(r"/endpoints/([^/]+)/invocations")
_PATH = re.compile("(.*)", re.DOTALL)


def make_application(port: int, access_key: str, secret_key: str, routes: Sequence[Route]) -> Application:
    """Return the WSGI application for a server on `port` of 127.0.0.1 with these keys."""
    authenticated = Authentication(Router(routes), access_key, secret_key)
    return RequestIds(ErrorResponses(HostCheck(authenticated, port)))


def service_routes(sagemaker: SageMaker, s3: S3Application, services: Services) -> list[Route]:
    """Return the routes of the AWS services."""
    invocations = InvocationHandler(Invoker(sagemaker.settings, sagemaker.endpoints))

    def call_sagemaker(environ: Environ, operation: str) -> Response:
        return json_response(sagemaker.call(operation, read_json(environ)))

    return [
        Route("sagemaker", call_sagemaker, target=_SAGEMAKER),
        Route("sagemaker", invocations, path=_INVOCATION),
        Route("s3", s3.handle),
        *(Route(service, _moto(services, service)) for service in SERVICES),
    ]


def command_route(commands: dict[str, Command], shut_down: Callable[[], None]) -> Route:
    """Return the route of localmode's own commands; `shut_down` is called when `stop` has been answered."""
    return Route(CONTROL, CommandHandler(commands, shut_down), path=_PATH)


def _moto(services: Services, service: str) -> Handler:
    def handle(environ: dict[str, Any]) -> Response:
        return services.handle(service, environ)

    return handle
