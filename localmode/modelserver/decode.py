"""JSON to tensors, as TensorFlow Serving reads it.

https://www.tensorflow.org/tfx/serving/api_rest; the errors and their messages are those of
tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
_NAMES = {"float32": "float", "float64": "double", "object": "string"}  # NumPy's types in TensorFlow's errors
_REAL = {
    "float32": (float(np.finfo(np.float32).max), 2**24 - 1),
    "float64": (float(np.finfo(np.float64).max), 2**53 - 1),
}
_INTEGERS = {  # the accepted range, which is wider than the type if TensorFlow Serving parses it as 32 bits
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), (-(2**31), 2**31 - 1)),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


class RequestError(Exception):
    """A request that cannot be answered; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def from_instances(instances: Any, inputs: Mapping[str, str], exact: bool) -> Arrays:
    """Read the row format: one element for each instance, all of one shape, stacked along a first dimension.

    `inputs` maps the names of the signature's inputs to NumPy's names of their types (`object` for strings).
    `exact` means that there is no `true` or `false` among the numbers. Raises RequestError.
    """
    if not isinstance(instances, list):
        raise RequestError(f"JSON Value: {_text(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise RequestError("No values in 'instances' array")
    named = _is_object(instances[0])
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise RequestError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if exact and not named:
        ((name, kind),) = inputs.items()
        if (array := _quickly(instances, kind)) is not None:
            return {name: array}
    rows: dict[str, list[Array]] = {}
    for number, element in enumerate(instances):
        for name, value in _members(element, number, inputs, named).items():
            key = f" key: {name}" if named else ""
            try:
                array = _dense(value, _kind(name, inputs))
                _check_same(array, rows.setdefault(name, []))
            except RequestError as error:
                raise RequestError(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: INVALID_ARGUMENT: {error}"
                ) from error
            rows[name].append(array)
        if named and element.keys() != inputs.keys():
            raise RequestError(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_text(element)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
    return {name: np.stack(arrays) for name, arrays in rows.items()}


def from_inputs(value: Any, inputs: Mapping[str, str], exact: bool) -> Arrays:
    """Read the column format: one tensor for each input, or the only input's tensor alone. Raises RequestError."""
    if not _is_object(value):
        if len(inputs) > 1:
            raise RequestError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = dict.fromkeys(inputs, value)
    arrays = {}
    for name, kind in inputs.items():
        if name not in value:
            raise RequestError(f"Missing named input: {name} in 'inputs' object.")
        quick = _quickly(value[name], kind) if exact else None
        arrays[name] = _dense(value[name], kind) if quick is None else quick
    return arrays


def _is_object(value: Any) -> bool:
    """Whether a JSON value is an object of named tensors, rather than a tensor."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def _members(element: Any, number: int, inputs: Mapping[str, str], named: bool) -> dict[str, Any]:
    if named and not _is_object(element):
        raise RequestError(f"Expecting object but got list at item {number} of input list")
    if not named and _is_object(element):
        raise RequestError(f"Expecting value/list but got object at item {number} of input list")
    return dict(element) if named else dict.fromkeys(inputs, element)


def _kind(name: str, inputs: Mapping[str, str]) -> str:
    if name not in inputs:
        raise RequestError(f"JSON object: does not have named input: {name}")
    return inputs[name]


def _check_same(array: Array, before: list[Array]) -> None:
    if before and before[0].size != array.size:
        raise RequestError(f"Expecting tensor size: {before[0].size} but got: {array.size}")
    if before and before[0].shape != array.shape:
        shapes = ["[" + ",".join(map(str, each.shape)) + "]" for each in (before[0], array)]
        raise RequestError(f"Expecting shape {shapes[0]} but got: {shapes[1]}")


def _quickly(value: Any, kind: str) -> Array | None:
    """Convert numbers with NumPy; return None for values that `_dense` must convert one by one."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # ragged lists, huge integers
        return None
    if kind in _REAL and array.dtype.kind in "iuf":
        _, largest_integer = _REAL[kind]
        finite = array[np.isfinite(array)]
        peak = np.abs(finite).max(initial=0)
        fits = peak <= largest_integer
    elif kind in _INTEGERS and array.dtype.kind in "iu":
        limits = np.iinfo(kind)
        fits = bool(array.size) and limits.min <= array.min() and array.max() <= limits.max
    else:
        return None
    return array.astype(kind) if fits else None


def _dense(value: Any, kind: str) -> Array:
    """Read a nested list of values or a single value; raise RequestError if it does not fit the type."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    values: list[Any] = []
    _fill(value, tuple(shape), 0, kind, values)
    try:
        flat = np.array(values, dtype=kind)
    except OverflowError as error:  # an integer that fits 32 bits but not its type
        raise RequestError(f"{error} ({_NAMES.get(kind, kind)})") from error
    return flat.reshape(shape)


def _fill(value: Any, shape: tuple[int, ...], level: int, kind: str, values: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise RequestError(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}"
            )
        values.append(_converted(value, kind))
        return
    if level >= len(shape):
        raise RequestError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise RequestError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, shape, level + 1, kind, values)


def _converted(value: Any, kind: str) -> Any:
    """Convert a JSON value for a tensor of this type."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if kind == "object" and isinstance(value, str):
        return value.encode()
    if kind == "object" and isinstance(value, dict):
        return _from_base64(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in _REAL and (is_integer or isinstance(value, float)):
        largest, largest_integer = _REAL[kind]
        if abs(value) > (largest_integer if is_integer else largest) and abs(value) != float("inf"):
            raise RequestError(
                f"Cannot convert JSON value: {_text(value)} to {_NAMES[kind]} without loss of precision."
            )
        return value
    if is_integer and kind in _INTEGERS and _INTEGERS[kind][0] <= value <= _INTEGERS[kind][1]:
        return value
    if kind not in _INTEGERS and kind not in _REAL and kind not in ("bool", "object"):
        raise RequestError(f"Conversion of JSON Value: {_text(value)} to type: {kind}", 501)
    raise RequestError(
        f"JSON Value: {_text(value)} Type: {_json_type(value)} is not of expected type: {_NAMES.get(kind, kind)}"
    )


def _from_base64(value: dict[str, Any]) -> bytes:
    if _is_object(value):
        raise RequestError(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError("Unable to base64 decode") from error


def _json_type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "True", False: "False", None: "Null"}[value]
    names: dict[type, str] = {str: "String", dict: "Object", list: "Array"}
    return names.get(type(value), "Number")


def _text(value: Any) -> str:
    return json.dumps(value)[:300]
