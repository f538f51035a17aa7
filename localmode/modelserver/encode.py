"""Tensors to JSON, as TensorFlow Serving writes it (tensorflow_serving/util/json_tensor.cc)."""

from __future__ import annotations

import base64
import json
import math

import numpy as np

from localmode.modelserver.decode import Array, Arrays, RequestError

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def to_predictions(outputs: Arrays) -> str:
    """Write the row format: a list with one entry for each instance, an object if there are several outputs."""
    size = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise RequestError(f"Tensor name: {name} has no shape information ")
        if size not in (-1, len(array)):
            raise RequestError(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return f'{{"predictions": {_written(name, array)}}}'
    columns = {name: [_written(name, row) for row in array] for name, array in outputs.items()}
    rows = (_object({name: column[number] for name, column in columns.items()}) for number in range(size))
    return f'{{"predictions": [{", ".join(rows)}]}}'


def to_outputs(outputs: Arrays) -> str:
    """Write the column format: the only output's tensor, or an object of them."""
    written = {name: _written(name, array) for name, array in outputs.items()}
    return f'{{"outputs": {_object(written) if len(written) > 1 else next(iter(written.values()))}}}'


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}"


def _written(name: str, array: Array) -> str:
    """Write a tensor as JSON: nested lists, or a single value."""
    texts = _texts(name, array.reshape(-1))
    for axis in reversed(range(array.ndim)):
        size, count = array.shape[axis], math.prod(array.shape[:axis])
        texts = [f"[{', '.join(texts[start * size : (start + 1) * size])}]" for start in range(count)]
    return texts[0]


def _texts(name: str, flat: Array) -> list[str]:
    """Write each value of a flat tensor."""
    if flat.dtype.kind == "f":
        return _decimals(flat)
    if flat.dtype.kind in "iu":
        return [str(value) for value in flat.tolist()]
    if flat.dtype.kind == "b":
        return ["true" if value else "false" for value in flat.tolist()]
    if flat.dtype.kind == "O" and name.endswith("_bytes"):
        return [json.dumps({"b64": base64.b64encode(value).decode()}) for value in flat.tolist()]
    if flat.dtype.kind == "O":
        return [json.dumps(value.decode(errors="replace"), ensure_ascii=False) for value in flat.tolist()]
    raise RequestError(f"Failed to write JSON value for tensor type: {flat.dtype.name}")


def _decimals(flat: Array) -> list[str]:
    """Write floats with six digits, or with as many as are needed to read the same float back."""
    kind = flat.dtype if flat.dtype in (np.float32, np.float64) else np.dtype(np.float32)  # also half precision
    flat = flat.astype(kind)
    digits = 9 if kind == np.float32 else 17
    values = flat.tolist()
    texts = [f"{value:.6g}" for value in values]
    for index in np.flatnonzero(np.array(texts, dtype=kind) != flat):
        texts[index] = f"{values[index]:.{digits}g}"
    return [_NOT_FINITE.get(text) or (text if "." in text or "e" in text else text + ".0") for text in texts]
