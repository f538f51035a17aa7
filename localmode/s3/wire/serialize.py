"""Serialize answers in S3's REST-XML protocol according to botocore's model."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from botocore.model import ListShape, OperationModel, Shape, StructureShape
from werkzeug.http import http_date
from werkzeug.wrappers import Response

from localmode.core.errors import ApiError
from localmode.s3.wire.parse import wire_name

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\r\ufffe\uffff]")
_ROOTS = {  # root elements whose names differ from the model
    "ListBuckets": "ListAllMyBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketTagging": "Tagging",
    "GetObjectTagging": "Tagging",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketVersioning": "VersioningConfiguration",
}


def answer(operation: OperationModel, result: dict[str, Any], status: int = 200) -> Response:
    """Return the answer of an operation with the members of its result."""
    shape = operation.output_shape
    response = Response(status=status)
    response.headers.pop("Content-Type", None)
    body: dict[str, Any] = {}
    for name, member in shape.members.items() if shape else ():
        value, place = result.get(name), member.serialization.get("location")
        if value is None:
            continue
        if place == "header":
            response.headers[member.serialization["name"]] = _latin(_written(member, value, header=True))
        elif place == "headers":
            for key, text in value.items():
                response.headers[member.serialization["name"] + key] = _latin(text)
        else:
            body[name] = value
    payload = shape.serialization.get("payload") if shape else None
    if payload and payload in body and shape.members[payload].type_name == "string":
        response.set_data(body[payload])
    elif operation.name == "GetBucketLocation":  # the only one whose root is the value
        _set_xml(response, "LocationConstraint", [_escaped(body["LocationConstraint"])])
    elif payload and payload in body:
        _set_xml(response, payload, _xml(shape.members[payload], body[payload]))
    elif shape and not payload and (body or operation.name in _ROOTS):
        _set_xml(response, _ROOTS.get(operation.name, shape.name.removesuffix("Output")), _xml(shape, body))
    return response


def on_the_wire(headers: dict[str, str]) -> dict[str, str]:
    """Return an object's headers as they are sent: in UTF-8, but metadata outside ASCII encoded by RFC 2047.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata
    """
    return {
        name: _encoded_word(value) if name.startswith("x-amz-meta-") else _latin(value)
        for name, value in headers.items()
    }


def error_answer(error: ApiError, bucket: str = "", key: str = "") -> Response:
    """Return the answer for an error."""
    members = {"Code": error.code, "Message": error.message, "BucketName": bucket, "Key": key, "RequestId": "localmode"}
    body = "".join(f"<{name}>{_escaped(text)}</{name}>" for name, text in members.items() if text)
    response = Response(status=error.status, content_type="application/xml")
    response.set_data(f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'.encode(errors="replace"))
    return response


def _set_xml(response: Response, root: str, parts: Iterable[str]) -> None:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">{"".join(parts)}</{root}>'
    response.set_data(text.encode())
    response.headers["Content-Type"] = "application/xml"


def _xml(shape: Shape, value: Any) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if value.get(name) is not None:
                wire = wire_name(name, member)
                flat = isinstance(member, ListShape) and member.serialization.get("flattened")
                for item in value[name] if flat else [value[name]]:
                    yield f"<{wire}>{''.join(_xml(member.member if flat else member, item))}</{wire}>"
    elif isinstance(shape, ListShape):
        wire = shape.member.serialization.get("name", "member")
        for item in value:
            yield f"<{wire}>{''.join(_xml(shape.member, item))}</{wire}>"
    else:
        yield _escaped(_written(shape, value))


def _written(shape: Shape, value: Any, header: bool = False) -> str:
    if shape.type_name == "timestamp":
        if header:
            return http_date(value)
        moment = datetime.fromtimestamp(value, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return str(value)


def _latin(text: str) -> str:
    """Return the text of a header in the form that WSGI requires."""
    return text.encode().decode("latin-1")


def _encoded_word(text: str) -> str:
    return text if text.isascii() else f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: f"&#{ord(match[0])};", escape(text))
