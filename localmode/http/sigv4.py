"""Verify the signatures of requests: compute them with the secret key and compare.

The access key ID alone proves nothing: it is part of every presigned URL and of the logs of clients.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, HmacV1QueryAuth, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from localmode.core.aws import XML_SERVICES
from localmode.core.errors import ApiError
from localmode.core.wsgi import TARGET, as_text, headers_in
from localmode.http.claim import Claim

_SKEW_SECONDS = 15 * 60
_MAX_EXPIRES = 7 * 24 * 3600
_ORIGIN = "http://localhost/"  # for URLs whose origin is not signed


def verify(claim: Claim, secret_key: str, environ: dict[str, Any], body: bytes) -> None:
    """Raise ApiError if a request is not signed with the secret key, has expired or is not valid yet.

    `body` is the content that must be signed; for S3, the hash in a header takes its place.
    """
    _check_time(claim, time.time())
    if claim.version == 2:
        computed = _version_2(claim, secret_key, environ)
    else:
        computed = _version_4(claim, secret_key, environ, body)
    if not hmac.compare_digest(computed.encode(), claim.signature.encode()):
        raise _mismatch(claim)


def _check_time(claim: Claim, now: float) -> None:
    try:
        lasts = int("0" if claim.expires is None else claim.expires)
        signed = 0.0
        if claim.version == 4:
            signed = datetime.strptime(claim.timestamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC).timestamp()
            if not 0 <= lasts <= _MAX_EXPIRES:
                raise ValueError(f"X-Amz-Expires is from 0 to {_MAX_EXPIRES} seconds")
    except ValueError as error:
        raise ApiError("AccessDenied", f"The dates of the signature are not valid: {error}", 403) from error
    if claim.expires is None:
        if abs(now - signed) > _SKEW_SECONDS:
            code = "RequestTimeTooSkewed" if claim.service == "s3" else _mismatch(claim).code
            message = "The difference between the request time and the current time is too large."
            raise ApiError(code, message, 403)
    elif signed + lasts < now:
        raise ApiError("AccessDenied", "Request has expired", 403)
    elif signed > now + _SKEW_SECONDS:
        raise ApiError("AccessDenied", "Request is not yet valid", 403)


def _mismatch(claim: Claim) -> ApiError:
    return ApiError(
        "SignatureDoesNotMatch" if claim.service in XML_SERVICES else "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        403,
    )


def _version_4(claim: Claim, secret_key: str, environ: dict[str, Any], body: bytes) -> str:
    """Return the signature that a request should have; raise ApiError if a header that must be signed is not."""
    path, _, query = environ[TARGET].partition("?")
    left_out = "X-Amz-Signature" if claim.expires is not None else None
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    canonical = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in pairs if name != left_out)
    # AWS encodes paths again: clients differ in the characters that they send as %XX, but sign them in one way.
    url = f"{_ORIGIN}{quote(unquote_to_bytes(path.encode('latin-1').removeprefix(b'/')), safe='/-_.~')}?{canonical}"
    request = AWSRequest(environ["REQUEST_METHOD"], url)
    request.context["timestamp"] = claim.timestamp
    for name, value in headers_in(environ):
        if name in claim.signed_headers:
            request.headers[name] = as_text(value)
        elif name == "host" or name.startswith("x-amz-"):
            message = f"There were headers present in the request which were not signed: {name}"
            raise ApiError("AccessDenied", message, 403)
    said = environ.get("HTTP_X_AMZ_CONTENT_SHA256")
    request.context["payload"] = hashlib.sha256(body).hexdigest()
    if claim.service == "s3":
        request.context["payload"] = said or UNSIGNED_PAYLOAD
    elif said not in (None, request.context["payload"]):
        raise _mismatch(claim)
    signer = (_S3Signer if claim.service == "s3" else _Signer)(None, claim.service, claim.region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return hmac.new(
        _signing_key(secret_key, claim.timestamp[:8], claim.region, claim.service), text.encode(), "sha256"
    ).hexdigest()


class _Signer(SigV4Auth):  # type: ignore[misc]
    """Signs the headers and the payload hash that the claim names."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])


class _S3Signer(_Signer, S3SigV4Auth):  # type: ignore[misc]
    """The same for S3, which does not normalize paths."""


@functools.lru_cache(maxsize=64)
def _signing_key(secret_key: str, *scope: str) -> bytes:
    """Return the signing key of a date, region and service."""
    key = f"AWS4{secret_key}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _version_2(claim: Claim, secret_key: str, environ: dict[str, Any]) -> str:
    """Return the signature that a presigned URL should have."""
    url = urlsplit(_ORIGIN + environ[TARGET].removeprefix("/"))
    headers = HTTPHeaders()
    for name, value in headers_in(environ):
        headers[name] = as_text(value)
    for name, value in parse_qsl(url.query, keep_blank_values=True):  # S3 signs these as headers
        if name.lower().startswith("x-amz-") and name.lower() not in headers:
            headers[name.lower()] = value
    return str(
        _QuerySigner(Credentials(claim.key, secret_key), claim.expires).get_signature(
            environ["REQUEST_METHOD"], url, headers
        )
    )


class _QuerySigner(HmacV1QueryAuth):  # type: ignore[misc]
    """Signs the expiry time of the URL; botocore's class computes one from the current time."""

    def _get_date(self) -> str:
        return str(self._expires)


def _encoded(text: str) -> str:
    """Return a name or value of a query string as it is signed."""
    return quote(unquote_to_bytes(text.replace("+", " ").encode("latin-1")), safe="-_.~")
