"""Normalise the stored outputs of the notebooks: the form in which they are committed.

    python -m workshop.publish.normalize                 # the notebooks as they are
    python -m workshop.publish.normalize --from build    # with the outputs of a run of the course

This removes, or sets to a fixed value, what differs between runs and means nothing: execution times and counts,
details of the kernel, cell ids, time stamps in names.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from workshop import ROOT
from workshop.publish import NOTEBOOKS

_STAMPS = ((re.compile(r"\b20\d{12}\b"), "20260101000000"), (re.compile(r"\b20\d{6}-\d{6}\b"), "20260101-000000"))


def normalize(notebook: Any) -> Any:
    """Return a notebook (nbformat 4) in the committed form; this changes the argument."""
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = merge_streams([_normalize_output(output, count) for output in cell.outputs])
    return nbformat.from_dict(notebook)


def normalized(path: Path) -> str:
    """Return the text of a notebook file in the committed form."""
    return str(nbformat.writes(normalize(nbformat.read(path, as_version=4)))) + "\n"


def _normalize_output(output: Any, count: int) -> Any:
    if "execution_count" in output:
        output.execution_count = count
    if "text" in output:
        output.text = _stamped("".join(output.text))
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = _stamped("".join(content))
    return output


def merge_streams(outputs: list[Any]) -> list[Any]:
    """Join consecutive outputs of the same stream."""
    merged: list[Any] = []
    for output in outputs:
        if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _stamped(text: str) -> str:
    for pattern, value in _STAMPS:
        text = pattern.sub(value, text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Normalise all notebooks in place. With --check, change nothing and return 1 if one is not normalised."""
    parser = argparse.ArgumentParser(description="Normalise the stored outputs of the notebooks.")
    parser.add_argument("--from", dest="source", type=Path, default=ROOT / "notebooks", help="the directory to read")
    parser.add_argument("--check", action="store_true", help="only report; exit with 1 if one is not normalised")
    options = parser.parse_args(arguments)
    changed = []
    for path in NOTEBOOKS:
        text = normalized(options.source / path.name)
        if text != path.read_text():
            changed.append(path.name)
            if not options.check:
                path.write_text(text)
    print(
        "\n".join(f"{name}: {'not normalised' if options.check else 'normalised'}" for name in changed) or "unchanged"
    )
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
