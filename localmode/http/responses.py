"""JSON responses, and error responses in the protocol of each service."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from localmode.core.aws import XML_SERVICES
from localmode.core.errors import ApiError


def json_response(document: dict[str, Any], status: int = 200) -> Response:
    """Return a response of the AWS JSON protocol (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html)."""
    return Response(json.dumps(document), status=status, content_type="application/x-amz-json-1.1")


def error_response(service: str, error: ApiError) -> Response:
    """Return an error in the protocol of the service."""
    if service in XML_SERVICES:
        body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        if service != "s3":  # https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
            body = f"<ErrorResponse>{body}<RequestId>localmode</RequestId></ErrorResponse>"
        return Response(body, status=error.status, content_type="application/xml")
    response = json_response({"__type": error.code, "message": error.message, **error.members}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response
