"""Validate requests against botocore's service model, with the error messages of SageMaker.

botocore's clients check only required members and types; the service also checks patterns, enums, lengths and ranges.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from localmode.core.aws import Request, service_model
from localmode.core.errors import ApiError

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}
_BITS = {"integer": 31, "long": 63}  # without the sign

_JAVA_CLASSES = {  # character classes in the model's patterns that Python's `re` lacks
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{Alnum}": "a-zA-Z0-9",
}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can contain one; files, headers and XML cannot


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the model, which is written for Java."""
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)


def validate(operation: str, request: Any) -> Request:
    """Return a request without what AWS ignores in it: nulls, and members that the operation's model does not have.

    Raises ApiError, worded as SageMaker words it, for a request that the model does not allow.
    """
    shape = service_model().operation_model(operation).input_shape
    if not isinstance(request, dict):
        raise ApiError("SerializationException", "The request is not a JSON object")
    violations = list(_violations(shape, request, ""))
    if violations:
        count = f"{len(violations)} validation error{'s' if len(violations) > 1 else ''} detected"
        raise ApiError("ValidationException", f"{count}: {'; '.join(violations)}")
    return dict(_known(shape, request))


def _known(shape: Shape, value: Any) -> Any:
    """Return a value without nulls and without members that its shape does not have."""
    if isinstance(shape, StructureShape):
        members = {name: member for name, member in shape.members.items() if value.get(name) is not None}
        return {name: _known(member, value[name]) for name, member in members.items()}
    if isinstance(shape, ListShape):
        return [_known(shape.member, item) for item in value]
    return value


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Yield a message for each constraint that a value or a part of it violates; raise ApiError for a wrong type."""
    _check_type(shape, value, path)
    for constraint in _violated_constraints(shape, value):
        yield f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_member(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _violations(member, value[name], _member(path, name))
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _check_type(shape: Shape, value: Any, path: str) -> None:
    expected = _PYTHON_TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)):
        raise ApiError("SerializationException", f"{type(value).__name__} at '{path}' is not a {shape.type_name}")
    if shape.type_name in _BITS and not -(2 ** _BITS[shape.type_name]) <= value < 2 ** _BITS[shape.type_name]:
        raise ApiError("SerializationException", f"number at '{path}' is too large for {shape.type_name}")


def _violated_constraints(shape: Shape, value: Any) -> Iterator[str]:
    metadata = shape.metadata
    if isinstance(value, str) and _LONE_SURROGATE.search(value):
        yield "be text that UTF-8 can encode"
    if "enum" in metadata and value not in metadata["enum"]:
        yield f"satisfy enum value set: [{', '.join(metadata['enum'])}]"
    if "pattern" in metadata and isinstance(value, str) and not compiled(metadata["pattern"]).fullmatch(value):
        yield f"satisfy regular expression pattern: {metadata['pattern']}"
    if isinstance(shape, StructureShape) or isinstance(value, bool):
        return
    size, quantity = (value, "value") if isinstance(value, (int, float)) else (len(value), "length")
    if "min" in metadata and size < metadata["min"]:
        yield f"have {quantity} greater than or equal to {metadata['min']}"
    if "max" in metadata and size > metadata["max"]:
        yield f"have {quantity} less than or equal to {metadata['max']}"


def _member(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name
