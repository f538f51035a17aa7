"""Check responses against botocore's model of SageMaker."""

from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from localmode.core.aws import service_model
from tests.support.local import Daemon

MODEL = service_model()
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "timestamp": (int, float),
    "double": (int, float),
}


def faults(shape: Shape, value: Any, path: str = "answer") -> Iterator[str]:
    """Yield the parts of a raw JSON response that do not fit its shape."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            yield f"{path} is not a structure"
            return
        yield from (f"{path}.{name} is unknown" for name in value.keys() - shape.members.keys())
        missing = {name for name in shape.required_members if name not in value}
        if value.get("TrainingJobStatus") not in (None, "Completed"):
            missing -= {"ModelArtifacts"}  # required by the model, but AWS omits it as long as there are no artifacts
        yield from (f"{path}.{name} is missing" for name in sorted(missing))
        for name in shape.members.keys() & value.keys():
            if value[name] == {}:
                yield f"{path}.{name} is empty, which SDK v3 cannot read"
            yield from faults(shape.members[name], value[name], f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value):
            yield from faults(shape.member, item, f"{path}[{number}]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from faults(shape.value, item, f"{path}[{key}]")
    elif not isinstance(value, TYPES.get(shape.type_name, object)) or (type(value) is bool) != (
        shape.type_name == "boolean"
    ):
        yield f"{path} is {value!r}, not a {shape.type_name}"
    elif "enum" in shape.metadata and value not in shape.metadata["enum"]:
        yield f"{path} is {value!r}, which is not in its enum"


class Checked:
    """Calls operations, checks every response, and records which operations were called."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.operations: set[str] = set()

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        status, answer = self.daemon.call(operation, request)
        assert status == 200, answer
        shape = MODEL.operation_model(operation).output_shape
        found = list(faults(shape, answer)) if shape is not None else [f"unexpected {name}" for name in answer]
        assert found == []
        self.operations.add(operation)
        return dict(answer)
