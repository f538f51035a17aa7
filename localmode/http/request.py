"""What the middleware and the handlers read from a WSGI request."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wsgi import get_input_stream

from localmode.core.control import KEY_HEADER
from localmode.core.errors import ApiError
from localmode.core.wsgi import readable
from localmode.http.claim import Claim, claim_of

CONTROL = "localmode"  # the service of localmode's own commands
_MAX_BODY_BYTES = 25 << 20
_KEY_VARIABLE = "HTTP_" + KEY_HEADER.upper().replace("-", "_")
_CLAIM = "localmode.claim"

Environ = dict[str, Any]


def signature_claim(environ: Environ) -> Claim:
    """Return what the request states about its signature; not verified."""
    if _CLAIM not in environ:
        environ[_CLAIM] = claim_of(environ)
    claim: Claim = environ[_CLAIM]
    return claim


def control_key(environ: Environ) -> str | None:
    """Return the secret key that a request for one of localmode's own commands carries, None for other requests."""
    return environ.get(_KEY_VARIABLE)


def service_of(environ: Environ) -> str:
    """Return the service that a request is for; empty if it names none."""
    return CONTROL if control_key(environ) is not None else signature_claim(environ).service


def read_body(environ: Environ) -> bytes:
    """Return the body, which can be read again; raise ApiError if it is larger than any request except one to S3."""
    body = get_input_stream(environ).read(_MAX_BODY_BYTES + 1)
    if len(body) > _MAX_BODY_BYTES:
        raise ApiError("RequestEntityTooLarge", f"the request is larger than {_MAX_BODY_BYTES} bytes", 413)
    environ |= readable(body)
    return body


def read_json(environ: Environ) -> Any:
    """Return the JSON document in the body, an empty object for no body; raise ApiError if it is not JSON."""
    try:
        return json.loads(read_body(environ) or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", f"the request is not JSON: {error}") from error
