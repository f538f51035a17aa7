"""WSGI middleware of the daemon, one task per class: request IDs, error responses, host check, authentication."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.exceptions import HTTPException

from localmode.core.errors import ApiError, LocalModeError
from localmode.http.request import Environ, control_key, read_body, service_of, signature_claim
from localmode.http.responses import error_response
from localmode.http.sigv4 import verify

_log = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class RequestIds:
    """Gives each response an ID of its own, in the header that the clients of its service read."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        name = "x-amz-request-id" if service_of(environ) == "s3" else "x-amzn-RequestId"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if not any(header.lower() == name.lower() for header, _ in headers):
                headers = [*headers, (name, str(uuid.uuid4()))]
            return start_response(status, headers, *error)

        return self._application(environ, start)


class ErrorResponses:
    """Turns every exception into an error response in the protocol of the service."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, whatever happens inside."""
        try:
            return self._application(environ, start_response)
        except Exception as error:  # noqa: BLE001 - _api_error logs what is unexpected
            return error_response(service_of(environ), _api_error(error, environ))(environ, start_response)


class HostCheck:
    """Refuses requests with another Host header than the server's own addresses.

    A web page could otherwise reach the server under a name of its own that resolves to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, application: Application, port: int) -> None:
        self._application = application
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on; raise ApiError for another host."""
        if environ.get("HTTP_HOST") not in self._hosts:
            raise ApiError("AccessDenied", "localmode answers only under its own loopback address", 403)
        return self._application(environ, start_response)


class Authentication:
    """Refuses requests that are not signed with the keys of the state directory.

    localmode's own commands carry the secret key itself.
    """

    def __init__(self, application: Application, access_key: str, secret_key: str) -> None:
        self._application = application
        self._access_key, self._secret_key = access_key, secret_key

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on; raise ApiError for one without the keys, or with a signature that is not valid."""
        key = control_key(environ)
        if key is not None:
            _compare(key, self._secret_key)
        else:
            claim = signature_claim(environ)
            _compare(claim.key, self._access_key)
            # The signature of an S3 request is over the hash in a header; S3 checks the body against it.
            verify(claim, self._secret_key, environ, b"" if claim.service == "s3" else read_body(environ))
        return self._application(environ, start_response)


def _compare(key: str, expected: str) -> None:
    if not secrets.compare_digest(key.encode(), expected.encode()):
        message = "the request does not carry localmode's access key; `python -m localmode env` shows it"
        raise ApiError("InvalidClientTokenId", message, 403)


def _api_error(error: Exception, environ: Environ) -> ApiError:
    """Return the error for the client; log those that the client did not cause."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LocalModeError):
        return ApiError("LocalModeError", str(error))
    if isinstance(error, HTTPException):  # werkzeug's: the body is shorter than its Content-Length
        return ApiError("BadRequest", error.description or "", error.code or 400)
    if isinstance(error, OSError) and error.errno is None:  # werkzeug's: the chunks of the body are not valid
        return ApiError("BadRequest", f"the body cannot be read: {error}")
    _log.error("%s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"), exc_info=error)
    if isinstance(error, OSError):
        return ApiError("InternalError", f"localmode could not write its state: {error}", 500)
    return ApiError("InternalFailure", "an unexpected error; see localmode's log", 500)
