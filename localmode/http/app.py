"""The loopback HTTP front: who may come in, and who answers.

    X-Amz-Target: SageMaker.*         -> api.py
    POST /endpoints/NAME/invocations  -> invoke.py
    S3                                -> storage.py
    IAM, STS, CloudWatch Logs         -> moto, behind services.py
    /_localmode/COMMAND               -> the daemon itself

The daemon runs code, so nobody else may reach it: it listens on 127.0.0.1, wants a signature with the secret key of
its state directory and a Host header that is its own, and answers no other origin.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from localmode.api.registry import SageMaker
from localmode.core.aws import XML_SERVICES
from localmode.core.errors import ApiError, LocalModeError, unsupported
from localmode.core.wsgi import readable
from localmode.hosting.runtime import Invoker
from localmode.http.sigv4 import Claim, claim_of, verify
from localmode.s3.app import S3Application
from localmode.services.backend import SERVICES, Services

_log = logging.getLogger(__name__)
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
        secret_key: str,
        sagemaker: SageMaker,
        s3: S3Application,
        services: Services,
        commands: dict[str, Command],
        shut_down: Callable[[], None],
    ) -> None:
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._access_key, self._secret_key = access_key, secret_key
        self._sagemaker = sagemaker
        self._invoker = Invoker(sagemaker.settings, sagemaker.endpoints)
        self._s3 = s3
        self._services = services
        self._commands = commands
        self._shut_down = shut_down

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request; whatever happens, the client gets an answer."""
        service = ""
        try:
            claim = claim_of(environ)
            service = "localmode" if "HTTP_X_LOCALMODE_KEY" in environ else claim.service
            self._admit(service, claim, environ)
            response = self._answer(service, environ)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            failure = _failure(error, environ)
            response = _error(service, failure)
        response.headers.setdefault("x-amz-request-id" if service == "s3" else "x-amzn-RequestId", str(uuid.uuid4()))
        return response(environ, start_response)

    def _admit(self, service: str, claim: Claim, environ: dict[str, Any]) -> None:
        """Raise ApiError for a request that may not come in."""
        if environ.get("HTTP_HOST") not in self._hosts:
            raise ApiError("AccessDenied", "localmode answers only under its own loopback address", 403)
        if service == "localmode":
            key, expected = environ.get("HTTP_X_LOCALMODE_KEY", ""), self._secret_key
        else:
            key, expected = claim.key, self._access_key
        if not secrets.compare_digest(key.encode(), expected.encode()):
            raise ApiError(
                "InvalidClientTokenId",
                "the request does not carry localmode's access key; `python -m localmode env` shows it",
                403,
            )
        if service != "localmode":
            verify(claim, self._secret_key, environ, b"" if service == "s3" else _read(environ))

    def _answer(self, service: str, environ: dict[str, Any]) -> Response:
        path = environ.get("PATH_INFO", "")
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if service == "localmode":
            return self._command(path, environ)
        if service == "s3":
            return self._s3.handle(environ)
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
                raise ApiError("ValidationError", unsupported(member))
        headers = {header: environ[key] for key, header in _FORWARDED.items() if environ.get(key)}
        target = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_VARIANT", "")
        variant, answer = self._invoker.invoke(name, _read(environ), headers, target)
        response = Response(answer.body, content_type=answer.content_type)
        response.headers["x-Amzn-Invoked-Production-Variant"] = variant
        return response


def _read(environ: dict[str, Any]) -> bytes:
    """Return the body of a request, which can then be read again."""
    body = get_input_stream(environ).read(_MAX_JSON_BYTES + 1)
    if len(body) > _MAX_JSON_BYTES:
        raise ApiError("RequestEntityTooLarge", f"the request is larger than {_MAX_JSON_BYTES} bytes", 413)
    environ |= readable(body)
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
    if service in XML_SERVICES:
        body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        if service != "s3":  # https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
            body = f"<ErrorResponse>{body}<RequestId>localmode</RequestId></ErrorResponse>"
        return Response(body, status=error.status, content_type="application/xml")
    response = _json({"__type": error.code, "message": error.message, **error.members}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response
