"""Run the notebooks of the course in order, as `make run` does.

    python -m workshop.publish.run                      # in local mode
    python -m workshop.publish.run -p mode aws          # in your AWS account
    python -m workshop.publish.run -p epochs 40 --only 01

The executed notebooks and pages to read go to build/; start with build/index.html. A parameter is passed to every
notebook that has it. The run is refused if no notebook has it.
"""

import argparse
import ast
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

from workshop import BUILD
from workshop.publish import NOTEBOOKS, pages

_PAPERMILL_PROGRESS = re.compile(r"(Executing|Ending) (Cell|notebook)|(Input|Output) Notebook|Working directory")


class ParameterError(ValueError):
    """Unknown parameters, a notebook without any, or no notebook to run. Papermill itself accepts all three."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Run one notebook with the parameters that it has, and write the executed copy.

    Raises papermill's PapermillExecutionError if a cell fails; the copy is written all the same.
    """
    known = papermill.inspect_notebook(str(notebook))
    output.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters={name: value for name, value in parameters.items() if name in known},
        cwd=str(notebook.parent),
        log_output=True,
        progress_bar=False,
    )


def check(parameters: dict[str, Any], notebooks: list[Path]) -> dict[str, Any]:
    """Return all parameters of a run, with the notebooks' defaults for those that are not given.

    Raises ParameterError if no notebook has one of them, if a notebook has no parameters, or if there is no notebook.
    """
    if not notebooks:
        raise ParameterError(f"no notebook to run; there are {', '.join(path.name for path in NOTEBOOKS)}")
    defaults: dict[str, Any] = {}
    for notebook in notebooks:
        own = papermill.inspect_notebook(str(notebook))
        if not own:
            raise ParameterError(f"{notebook.name} has no cell tagged `parameters` with assignments in it")
        defaults |= {name: ast.literal_eval(parameter["default"]) for name, parameter in own.items()}
    unknown = sorted(set(parameters) - set(defaults))
    if unknown:
        raise ParameterError(
            f"no notebook has a parameter {', '.join(unknown)}; there are {', '.join(sorted(defaults))}"
        )
    return {**defaults, **parameters}


def run(notebooks: list[Path], parameters: dict[str, Any], directory: Path) -> list[pages.Run]:
    """Run notebooks in order until one fails; return the result of each that ran."""
    runs: list[pages.Run] = []
    for notebook in notebooks:
        copy, began, failed = directory / notebook.name, time.monotonic(), False
        try:
            execute(notebook, copy, parameters)
        except PapermillExecutionError as error:
            print(f"\n{error}\nThe executed copy is {copy}", file=sys.stderr)
            failed = True
        runs.append(pages.Run(copy, time.monotonic() - began, failed))
        if failed:
            break
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Run the course; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the course in order.")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--only", default="", metavar="PREFIX", help="only notebooks with names that begin so")
    parser.add_argument("--output", type=Path, default=BUILD, help="where everything that the run writes goes")
    options = parser.parse_args(arguments)
    notebooks = [notebook for notebook in NOTEBOOKS if notebook.name.startswith(options.only)]
    parameters = {name: _value(text) for name, text in options.parameter}
    try:
        settings = check(parameters, notebooks)
    except ParameterError as error:
        parser.error(str(error))
    _show_outputs()
    output = options.output.absolute()
    os.environ["WORKSHOP_BUILD"] = str(output)  # read by `workshop` in the kernels
    began = datetime.now(UTC)
    with _localmode_as_before() if settings["mode"] == "local" else nullcontext():
        runs = run(notebooks, parameters, output)
        succeeded = not runs[-1].failed
        jobs = _training_jobs(began, settings) if succeeded else []
    index = pages.write(output, runs, jobs)
    for one in runs:
        print(f"{one.copy.stem:<28}{one.seconds:6.1f} s{'   failed' if one.failed else ''}")
    print(f"{'total':<28}{sum(one.seconds for one in runs):6.1f} s   to read: {index}")
    return 0 if succeeded else 1


def _training_jobs(since: datetime, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if settings["mode"] == "local":
        import localmode

        localmode.start()  # connects to the daemon that the notebooks started
    return pages.training_jobs(since, settings["prefix"])


@contextmanager
def _localmode_as_before() -> Iterator[None]:
    """Stop localmode afterwards, unless it was running before; its state stays on disk."""
    import localmode

    before = localmode.is_running()
    try:
        yield
    finally:
        if not before:
            localmode.stop()


def _show_outputs() -> None:
    """Print the outputs of the cells while they run."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.terminator = ""
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.addFilter(lambda record: record.name != "papermill" or not _PAPERMILL_PROGRESS.match(record.getMessage()))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
