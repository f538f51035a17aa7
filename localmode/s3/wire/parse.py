"""Parse requests in S3's REST-XML protocol according to botocore's model.

https://smithy.io/2.0/aws/protocols/aws-restxml-protocol.html
"""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from botocore.model import ListShape, OperationModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from localmode.core.aws import service_model
from localmode.core.errors import ApiError
from localmode.core.wsgi import headers_in

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\r\ufffe\uffff]")


class Route(NamedTuple):
    """An operation, and the query parameters and headers by which its requests are recognized."""

    operation: OperationModel
    query: dict[str, str | None]
    headers: frozenset[str]


class Target(NamedTuple):
    """The path and the query of a request."""

    bucket: str
    key: str
    query: dict[str, str]


def target_of(environ: dict[str, Any]) -> Target:
    """Split a request's path into bucket and key."""
    path = environ["PATH_INFO"].encode("latin-1").decode(errors="surrogateescape")
    bucket, _, key = path.removeprefix("/").partition("/")
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, errors="surrogateescape"))
    if any("\ud800" <= letter <= "\udfff" for text in (bucket, key, *query, *query.values()) for letter in text):
        raise ApiError("InvalidURI", "Couldn't parse the specified URI: it is not UTF-8.")
    return Target(bucket, key, query)


@functools.cache
def _routes() -> dict[tuple[str, int], list[Route]]:
    """Return the operations of the model by method and by depth of the path (0: service, 1: bucket, 2: object)."""
    routes: dict[tuple[str, int], list[Route]] = {}
    model = service_model("s3")
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, static = operation.http["requestUri"].partition("?")
        query: dict[str, str | None] = {key: value or None for key, value in parse_qsl(static, keep_blank_values=True)}
        headers = set()
        shape = operation.input_shape
        for member in shape.required_members if shape else ():
            serialization = shape.members[member].serialization
            if serialization.get("location") == "querystring":
                query[serialization["name"]] = None
            elif serialization.get("location") == "header":
                headers.add(_header(serialization["name"]))
        if path in ("/", "/{Bucket}", "/{Bucket}/{Key+}"):
            depth = 0 if path == "/" else path.count("/")
            key = (operation.http["method"], depth)
            routes.setdefault(key, []).append(Route(operation, query, frozenset(headers)))
    return routes


def operation_of(environ: dict[str, Any], target: Target) -> OperationModel:
    """Return the operation of a request; raise ApiError if none matches. An empty header counts as absent."""
    depth = 2 if target.key else 1 if target.bucket else 0
    meant = [
        route
        for route in _routes().get((environ["REQUEST_METHOD"], depth), [])
        if all(name in target.query and value in (None, target.query[name]) for name, value in route.query.items())
        and all(environ.get(name) for name in route.headers)
    ]
    if not meant:
        raise ApiError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    return max(meant, key=lambda route: len(route.query) + len(route.headers)).operation


def parameters_of(operation: OperationModel, environ: dict[str, Any], target: Target) -> dict[str, Any]:
    """Return the parameters in path, query and headers by the model's names; raise ApiError for an invalid value."""
    found: dict[str, Any] = {}
    shape = operation.input_shape
    for name, member in shape.members.items() if shape else ():
        place = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if place == "uri":
            found[name] = getattr(target, name.lower())
        elif place == "querystring" and wire in target.query:
            found[name] = _value(member, target.query[wire], wire)
        elif place == "header" and environ.get(_header(wire)):
            found[name] = _value(member, _text(environ[_header(wire)]), wire)
        elif place == "headers":
            found[name] = {
                key.removeprefix(wire): _text(value) for key, value in headers_in(environ) if key.startswith(wire)
            }
    return found


def payload_of(operation: OperationModel) -> Shape | None:
    """Return the shape of the XML document (or text) in the body of an operation's requests, or None."""
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape else None
    member = shape.members[payload] if payload else None
    return None if member is None or member.type_name == "blob" else member


def document_in(body: bytes, shape: Shape) -> Any:
    """Return the content of an XML document by the model's names; raise ApiError if it does not have this shape."""
    try:
        text = body.decode()
        if "<!DOCTYPE" in text:  # no document of S3 has one, and its entities could expand without bound
            raise ValueError("it has a document type declaration")
        return _read(shape, ElementTree.fromstring(text))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        message = "The XML you provided was not well-formed or did not validate against our published schema"
        raise ApiError("MalformedXML", f"{message} ({error})") from error


def _read(shape: Shape, element: ElementTree.Element) -> Any:
    if isinstance(shape, StructureShape):
        children: dict[str, list[ElementTree.Element]] = {}
        for child in element:
            children.setdefault(child.tag.rpartition("}")[2], []).append(child)
        found: dict[str, Any] = {}
        for name, member in shape.members.items():
            elements = children.get(wire_name(name, member), [])
            if elements and isinstance(member, ListShape) and member.serialization.get("flattened"):
                found[name] = [_read(member.member, item) for item in elements]
            elif elements:
                found[name] = _read(member, elements[0])
            elif name in shape.required_members:
                raise ValueError(f"{name} is missing")
        return found
    if isinstance(shape, ListShape):
        return [_read(shape.member, item) for item in element]
    return _value(shape, element.text or "", element.tag.rpartition("}")[2])


def wire_name(name: str, member: Shape) -> str:
    """Return the name of a structure's member in XML."""
    if isinstance(member, ListShape) and member.serialization.get("flattened"):
        return str(member.serialization.get("name") or member.member.serialization.get("name", name))
    return str(member.serialization.get("name", name))


def _value(shape: Shape, text: str, wire: str) -> Any:
    """Convert a scalar; raise ApiError if it is invalid."""
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if shape.type_name == "timestamp":
            return parse_timestamp(text).astimezone(UTC).timestamp()  # raises also if the year in UTC is not 1 to 9999
    except (ValueError, LookupError, OverflowError, RuntimeError) as error:  # parse_timestamp raises the last
        raise ApiError("InvalidArgument", f"{wire}: {text[:100]!r} is not a {shape.type_name}") from error
    allowed = shape.metadata.get("enum")
    if allowed and text not in allowed and shape.name != "BucketLocationConstraint":
        raise ApiError("InvalidArgument", f"{wire}: {text[:100]!r} is not one of {', '.join(allowed)}")
    return text


def _header(name: str) -> str:
    """Return the name of a header in WSGI."""
    wsgi = name.upper().replace("-", "_")
    return wsgi if wsgi in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{wsgi}"


def _text(value: str) -> str:
    return value.encode("latin-1").decode(errors="replace")
