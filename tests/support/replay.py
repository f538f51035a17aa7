"""A pytest plugin: nbval compares the stored outputs with the outputs of a finished run of the course.

    python -m pytest -p replay --replay build notebooks

nbval itself would run each notebook a second time. Here its kernel returns the outputs of the executed copy; nbval
compares them as usual.
"""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbval.plugin import IPyNbFile


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--replay", type=Path, help="the directory with the executed copies")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return Replayed.from_parent(parent, path=file_path) if file_path.suffix == ".ipynb" else None


class Replayed(IPyNbFile):
    def setup(self) -> None:
        self.kernel = ExecutedCopy(self.config.option.replay / self.path.name)
        self.setup_sanitize_files()


class ExecutedCopy:
    """Has the interface of nbval's RunningKernel, and returns the outputs of an executed copy cell by cell."""

    def __init__(self, path: Path) -> None:
        self._cells = [
            cell
            for cell in nbformat.read(path, 4).cells
            if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
        ]
        self._messages: list[dict[str, Any]] = []

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None:
        assert not self._cells, f"{len(self._cells)} cells of the run are not in the notebook"

    def await_reply(self, message_id: str, timeout: float) -> None:
        pass

    def execute_cell_input(self, source: str, allow_stdin: bool) -> str:
        cell = self._cells.pop(0)
        assert cell.source == source, "the run is of another notebook"
        self._messages = [_message(output.output_type, output) for output in cell.outputs]
        self._messages.append(_message("status", {"execution_state": "idle"}))
        return "the only one"

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        return self._messages.pop(0)


def _message(kind: str, content: Any) -> dict[str, Any]:
    return {"msg_type": kind, "content": content, "parent_header": {"msg_id": "the only one"}}
