"""What a request states about its signature.

    Authorization: AWS4-HMAC-SHA256 ...        Signature Version 4
    ?X-Amz-Algorithm=AWS4-HMAC-SHA256&...      the same in a presigned URL
    ?AWSAccessKeyId=...&Expires=...            Signature Version 2, in a presigned URL of S3

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

_ALGORITHM = "AWS4-HMAC-SHA256"
_CREDENTIAL = re.compile(r"([^/\s]+)/(\d{8})/([^/\s]+)/([a-z0-9.-]+)/aws4_request")


class Claim(NamedTuple):
    """What a request states about its signature, not verified."""

    version: int = 0
    key: str = ""
    service: str = ""
    region: str = ""
    signature: str = ""
    timestamp: str = ""  # of Version 4
    expires: str | None = None  # of presigned URLs: seconds, in Version 2 since the epoch
    signed_headers: frozenset[str] = frozenset()  # of Version 4


def claim_of(environ: dict[str, Any]) -> Claim:
    """Return what a WSGI request states about its signature; an empty claim if it has no known signature."""
    if header := environ.get("HTTP_AUTHORIZATION"):
        algorithm, _, fields = header.partition(" ")
        given = dict(field.strip().partition("=")[::2] for field in fields.split(","))
        given |= {"Algorithm": algorithm, "Date": environ.get("HTTP_X_AMZ_DATE", "")}
        expires = None
    else:
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        if key := query.get("AWSAccessKeyId"):  # boto3's default in us-east-1
            return Claim(2, key, "s3", signature=query.get("Signature", ""), expires=query.get("Expires", ""))
        given = {name.removeprefix("X-Amz-"): value for name, value in query.items() if name.startswith("X-Amz-")}
        expires = given.get("Expires", "")
    credential = _CREDENTIAL.fullmatch(given.get("Credential", ""))
    if credential is None or given.get("Algorithm") != _ALGORITHM:
        return Claim()
    key, _, region, service = credential.groups()
    names = frozenset(given.get("SignedHeaders", "").lower().split(";"))
    return Claim(4, key, service, region, given.get("Signature", ""), given.get("Date", ""), expires, names)
