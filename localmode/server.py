"""The loopback HTTP front: who may come in, and who answers.

    X-Amz-Target: SageMaker.*         -> api.py
    POST /endpoints/NAME/invocations  -> invoke.py
    S3                                -> storage.py
    IAM, STS, CloudWatch Logs         -> moto, behind services.py
    /_localmode/COMMAND               -> the daemon itself

The daemon runs code, so nobody else may reach it: it listens on 127.0.0.1, wants the access key of its state
directory and a Host header that is its own, and answers no other origin.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from localmode.api import SageMaker
from localmode.invoke import Invoker
from localmode.services import SERVICES, Services
from localmode.settings import LocalModeError
from localmode.shapes import ApiError
from localmode.storage import Storage

_log = logging.getLogger(__name__)
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/[^/,\s]+/([a-z0-9.-]+)/aws4_request")
_INVOCATION = re.compile(r"/endpoints/([^/]+)/invocations")
_MAX_JSON_BYTES = 25 << 20
_FORWARDED = {  # what a model server is told of an invocation: the client's own words
    "CONTENT_TYPE": "Content-Type",
    "HTTP_ACCEPT": "Accept",
    "HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": "X-Amzn-SageMaker-Custom-Attributes",
}
_UNSUPPORTED_OF_INVOKE = {
    "HTTP_X_AMZN_SAGEMAKER_TARGET_MODEL": "TargetModel",
    "HTTP_X_AMZN_SAGEMAKER_TARGET_CONTAINER_HOSTNAME": "TargetContainerHostname",
    "HTTP_X_AMZN_SAGEMAKER_ENABLE_EXPLANATIONS": "EnableExplanations",
    "HTTP_X_AMZN_SAGEMAKER_INFERENCE_COMPONENT": "InferenceComponentName",
    "HTTP_X_AMZN_SAGEMAKER_SESSION_ID": "SessionId",
}
KEY_HEADER = "X-Localmode-Key"

Command = Callable[[dict[str, Any]], dict[str, Any]]


class Application:
    """The WSGI application of the daemon."""

    def __init__(
        self,
        port: int,
        access_key: str,
        sagemaker: SageMaker,
        storage: Storage,
        services: Services,
        commands: dict[str, Command],
        shut_down: Callable[[], None],
    ) -> None:
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._access_key = access_key
        self._sagemaker = sagemaker
        self._invoker = Invoker(sagemaker.settings, sagemaker.endpoints)
        self._storage = storage
        self._services = services
        self._commands = commands
        self._shut_down = shut_down

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request; whatever happens, the client gets an answer."""
        service = ""
        try:
            service = self._admit(environ)
            response = self._answer(service, environ)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            failure = _failure(error, environ)
            response = _error(service, failure)
        return response(environ, start_response)

    def _admit(self, environ: dict[str, Any]) -> str:
        """Return the service that a request is signed for; raise ApiError for one that may not come in."""
        if environ.get("HTTP_HOST") not in self._hosts:
            raise ApiError("AccessDenied", "localmode answers only under its own loopback address", 403)
        key, service = _key_and_service(environ)
        if not secrets.compare_digest(key.encode(), self._access_key.encode()):
            raise ApiError(
                "InvalidClientTokenId",
                "the request does not carry localmode's access key; `python -m localmode env` shows it",
                403,
            )
        return service

    def _answer(self, service: str, environ: dict[str, Any]) -> Response:
        path = environ.get("PATH_INFO", "")
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if service == "localmode":
            return self._command(path, environ)
        if service == "s3":
            return self._storage.handle(environ)
        if service in SERVICES:
            return self._services.handle(service, environ)
        if service == "sagemaker" and target.startswith("SageMaker."):
            return _json(self._sagemaker.call(target.partition(".")[2], _read_json(environ)))
        if service == "sagemaker" and (match := _INVOCATION.fullmatch(path)):
            return self._invoke(match[1], environ)
        raise ApiError("UnknownOperationException", f"localmode does not implement {service}:{target or path}")

    def _command(self, path: str, environ: dict[str, Any]) -> Response:
        name = path.removeprefix("/_localmode/")
        if name == "stop":
            response = _json({})
            response.call_on_close(self._shut_down)  # not before whoever asked for it has the answer
            return response
        command = self._commands.get(name)
        if command is None:
            raise ApiError("UnknownOperationException", f"localmode has no command {path}")
        request = _read_json(environ)
        if not isinstance(request, dict):
            raise ApiError("SerializationException", "The request is not a JSON object")
        return _json(command(request))

    def _invoke(self, name: str, environ: dict[str, Any]) -> Response:
        for header, member in _UNSUPPORTED_OF_INVOKE.items():
            if header in environ:
                raise ApiError("ValidationError", f"localmode does not do this: {member}. On AWS it would be accepted.")
        headers = {header: environ[key] for key, header in _FORWARDED.items() if environ.get(key)}
        target = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_VARIANT", "")
        variant, answer = self._invoker.invoke(name, _read(environ), headers, target)
        response = Response(answer.body, content_type=answer.content_type)
        response.headers["x-Amzn-Invoked-Production-Variant"] = variant
        return response


def _key_and_service(environ: dict[str, Any]) -> tuple[str, str]:
    """Return the access key that a request carries, and the service that it is signed for."""
    if key := environ.get("HTTP_X_LOCALMODE_KEY"):
        return key, "localmode"
    signature = environ.get("HTTP_AUTHORIZATION", "")
    if not signature:  # a presigned URL
        query = Request(environ).args
        if key := query.get("AWSAccessKeyId"):  # of signature version 2, boto3's default in us-east-1
            return key, "s3"
        signature = "Credential=" + query.get("X-Amz-Credential", "")
    match = _CREDENTIAL.search(signature)
    return (match[1], match[2]) if match else ("", "")


class _Handler(WSGIRequestHandler):
    """Puts into the daemon's log only what went wrong."""

    def make_environ(self) -> dict[str, Any]:
        """Keep the headers as they came: WSGI drops those with an underscore, which S3's metadata may have."""
        return {**super().make_environ(), "localmode.headers": list(self.headers.items())}

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code) >= "500":
            super().log_request(code, size)


def bind(port: int) -> socket.socket:
    """Listen on 127.0.0.1, on `port` or, if that is 0 or taken, on a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def serve_on(listener: socket.socket, application: Application) -> BaseWSGIServer:
    """Return the server for a listening socket."""
    host, port = listener.getsockname()
    return make_server(host, port, application, True, request_handler=_Handler, fd=listener.fileno())


def _read(environ: dict[str, Any]) -> bytes:
    body = get_input_stream(environ).read(_MAX_JSON_BYTES + 1)
    if len(body) > _MAX_JSON_BYTES:
        raise ApiError("RequestEntityTooLarge", f"the request is larger than {_MAX_JSON_BYTES} bytes", 413)
    return body


def _read_json(environ: dict[str, Any]) -> Any:
    try:
        return json.loads(_read(environ) or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", f"the request is not JSON: {error}") from error


def _failure(error: Exception, environ: dict[str, Any]) -> ApiError:
    """Return what the client is told of an error; what it cannot help goes to the log as well."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LocalModeError):
        return ApiError("LocalModeError", str(error))
    if isinstance(error, HTTPException):  # werkzeug's: the body is shorter than it says
        return ApiError("BadRequest", error.description or "", error.code or 400)
    if isinstance(error, OSError) and error.errno is None:  # werkzeug's: it is not in the chunks that it announces
        return ApiError("BadRequest", f"the body cannot be read: {error}")
    _log.error("%s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"), exc_info=error)
    if isinstance(error, OSError):
        return ApiError("InternalError", f"localmode could not write its state: {error}", 500)
    return ApiError("InternalFailure", "an unexpected error; see localmode's log", 500)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(document)
    return Response(body, status=status, content_type="application/x-amz-json-1.1")


def _error(service: str, error: ApiError) -> Response:
    """Return an error in the protocol of the service."""
    if service in ("s3", "iam", "sts"):
        body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        document = body if service == "s3" else f"<ErrorResponse>{body}</ErrorResponse>"
        return Response(document, status=error.status, content_type="application/xml")
    response = _json({"__type": error.code, "message": error.message, **error.members}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response
