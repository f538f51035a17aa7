"""Requests measured against botocore's own service model, with the error messages of the real service.

botocore's client checks required members and types; patterns, enums, lengths and ranges only the service does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from localmode.core.aws import service_model
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

_JAVA_CLASSES = {  # of the patterns in the model that Python's `re` lacks
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{Alnum}": "a-zA-Z0-9",
}


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can say it, and no file, header or XML can hold it


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern of the model, which is written for Java, as one of Python's."""
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)


def validate(operation: str, request: Any) -> dict[str, Any]:
    """Return a request without what AWS ignores in it (null, and members that the operation's model does not know).

    Raises ApiError, worded as SageMaker words it, for a request that the model does not allow.
    """
    shape = service_model().operation_model(operation).input_shape
    if not isinstance(request, dict):
        raise ApiError("SerializationException", "The request is not a JSON object")
    faults = list(_faults(shape, request, ""))
    if faults:
        plural = "s" if len(faults) > 1 else ""
        raise ApiError("ValidationException", f"{len(faults)} validation error{plural} detected: {'; '.join(faults)}")
    return dict(_known(shape, request))


def _known(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape):
        members = {name: member for name, member in shape.members.items() if value.get(name) is not None}
        return {name: _known(member, value[name]) for name, member in members.items()}
    if isinstance(shape, ListShape):
        return [_known(shape.member, item) for item in value]
    return value


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    expected = _PYTHON_TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)):
        raise ApiError("SerializationException", f"{type(value).__name__} at '{path}' is not a {shape.type_name}")
    if shape.type_name in _BITS and not -(2 ** _BITS[shape.type_name]) <= value < 2 ** _BITS[shape.type_name]:
        raise ApiError("SerializationException", f"number at '{path}' is too large for {shape.type_name}")
    yield from _constraint_faults(shape, value, path)
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_member(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _faults(member, value[name], _member(path, name))
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{path}.key")
            yield from _faults(shape.value, item, f"{path}.{key}.member")


def _constraint_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    metadata = shape.metadata
    constraints = []
    if isinstance(value, str) and _LONE_SURROGATE.search(value):
        constraints.append("be text that UTF-8 can encode")
    if "enum" in metadata and value not in metadata["enum"]:
        constraints.append(f"satisfy enum value set: [{', '.join(metadata['enum'])}]")
    if "pattern" in metadata and isinstance(value, str) and not compiled(metadata["pattern"]).fullmatch(value):
        constraints.append(f"satisfy regular expression pattern: {metadata['pattern']}")
    size: float | None = None
    unit = ""
    if isinstance(value, (str, list, dict)) and not isinstance(shape, StructureShape):
        size, unit = len(value), "have length"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size, unit = value, "have value"
    if size is not None and "min" in metadata and size < metadata["min"]:
        constraints.append(f"{unit} greater than or equal to {metadata['min']}")
    if size is not None and "max" in metadata and size > metadata["max"]:
        constraints.append(f"{unit} less than or equal to {metadata['max']}")
    for constraint in constraints:
        yield f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


def _member(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name
