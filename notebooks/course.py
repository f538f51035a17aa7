"""Run the notebooks of the course in order, as `make run` does.

    python notebooks/course.py                         # in local mode
    python notebooks/course.py -p mode aws             # in your AWS account
    python notebooks/course.py -p epochs 40 --only 01

Executed notebooks go to build/. A parameter goes to every notebook that has it; one that none has is refused.
"""

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

NOTEBOOKS = Path(__file__).parent
_OF_NO_INTEREST = re.compile(r"(Executing|Ending) (Cell|notebook)|(Input|Output) Notebook|Working directory")


class UnknownParameterError(ValueError):
    """A parameter that no notebook has; papermill itself would let it pass."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> float:
    """Run one notebook with those of the parameters that it has; return the seconds it took.

    Raises papermill's PapermillExecutionError when a cell fails; the executed copy is kept.
    """
    known = papermill.inspect_notebook(str(notebook))
    output.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters={name: value for name, value in parameters.items() if name in known},
        cwd=str(notebook.parent),
        log_output=True,
        progress_bar=False,
    )
    return time.monotonic() - began


def refuse_unknown(parameters: dict[str, Any], notebooks: list[Path]) -> None:
    """Raise UnknownParameterError for a parameter that none of the notebooks has."""
    known = {name for notebook in notebooks for name in papermill.inspect_notebook(str(notebook))}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise UnknownParameterError(
            f"no notebook has a parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the course; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the course in order.")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--only", default="", metavar="PREFIX", help="only the notebooks whose names begin so")
    parser.add_argument("--output", type=Path, default=NOTEBOOKS.parent / "build", help="where executed copies go")
    options = parser.parse_args(arguments)
    notebooks = sorted(NOTEBOOKS.glob(f"{options.only or '0'}*.ipynb"))
    parameters = {name: _value(text) for name, text in options.parameter}
    _show_outputs()
    try:
        refuse_unknown(parameters, notebooks)
        with _daemon_left_as_found() if parameters.get("mode") != "aws" else nullcontext():
            seconds = {path.stem: execute(path, options.output / path.name, parameters) for path in notebooks}
    except UnknownParameterError as error:
        parser.error(str(error))
    except PapermillExecutionError as error:
        print(f"\n{error}\nThe executed copy is in {options.output}", file=sys.stderr)
        return 1
    for stem, taken in seconds.items():
        print(f"{stem:<28}{taken:6.1f} s")
    print(f"{'together':<28}{sum(seconds.values()):6.1f} s   executed notebooks: {options.output}")
    return 0


@contextmanager
def _daemon_left_as_found() -> Iterator[None]:
    """Stop the daemon that the notebooks start, unless it was there before; its state stays on disk."""
    import localmode

    before = localmode.is_running()
    try:
        yield
    finally:
        if not before:
            localmode.stop()


def _show_outputs() -> None:
    """Print what the cells print, while they run."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.terminator = ""
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.addFilter(lambda record: record.name != "papermill" or not _OF_NO_INTEREST.match(record.getMessage()))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
