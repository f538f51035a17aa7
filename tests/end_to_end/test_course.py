"""The course as `make run` runs it. Most tests share one run in local mode with the defaults."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import nbformat
import pytest

from tests.support.browser import chromium, screenshot
from tests.support.course import course, kept, shell
from workshop.publish import NOTEBOOKS

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
pytestmark = pytest.mark.timeout(900)  # seconds; the first test waits for the run of the course
IGNORED = {"nbval-ignore-output", "nbval-skip"}


@dataclass(frozen=True)
class Run:
    process: CompletedProcess[str]
    home: Path
    build: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home, build = tmp_path_factory.mktemp("course") / "state", kept("course")
    yield Run(course(home=home, output=build), home, build)
    shell("-m", "localmode", "stop", home=home)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    shell("-m", "localmode", "stop", home=tmp_path / "state")


def code_cells(path: Path) -> list[Any]:
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]


@pytest.mark.slow
def test_all_notebooks_run_with_their_defaults_and_leave_no_daemon(run: Run) -> None:
    assert run.process.returncode == 0, run.process.stdout + run.process.stderr
    assert "No daemon runs" in shell("-m", "localmode", "status", home=run.home).stderr


def test_every_stored_output_is_that_of_the_run(run: Run) -> None:
    options = ["-q", "--color=no", "-o", "addopts=", "-p", "no:cacheprovider"]
    replay = ["-p", "tests.support.replay", "--replay", str(run.build), "--nbval-sanitize-with", str(SANITIZE)]
    comparison = shell("-m", "pytest", *replay, *options, "notebooks", home=run.home)
    assert comparison.returncode == 0, comparison.stdout + comparison.stderr
    assert f"{sum(len(code_cells(path)) for path in NOTEBOOKS)} passed" in comparison.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_with_output_has_a_stored_one_and_most_are_compared(run: Run, path: Path) -> None:
    stored, executed = code_cells(path), code_cells(run.build / path.name)
    shown = [cell for cell, copy in zip(stored, executed, strict=True) if copy.outputs]
    assert [cell.source for cell in shown if not cell.outputs] == []
    compared = [cell for cell in shown if not IGNORED.intersection(cell.metadata.get("tags", []))]
    assert len(compared) >= max(5, len(shown) * 2 / 3), f"{len(compared)} of {len(shown)}"


def test_a_notebook_runs_again_on_the_state_that_the_others_left(run: Run, tmp_path: Path) -> None:
    again = course("--only", "04", home=run.home, output=tmp_path / "again")
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_show_the_run_and_load_nothing_else(run: Run, scheme: str) -> None:
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto((run.build / "index.html").as_uri())
        assert page.locator("table").first.get_by_text("completed").count() == len(NOTEBOOKS)
        jobs = page.locator("table").last.inner_text()
        assert re.search(r"\tCompleted\ton demand\t0\t\d+ s\t\d+ s\t\t0\.9\d", jobs)
        assert re.search(r"\tCompleted\tSpot\t[1-9]\t\d+ s\t\d+ s\t\d+ %\t", jobs)
        page.screenshot(path=screenshot(f"index-{scheme}.png"), full_page=True)
        assert (brightness(page, "backgroundColor") > brightness(page, "color")) == (scheme == "light")
        page.locator("table a").first.click()
        for path in NOTEBOOKS:
            pictures = page.locator("img").evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 0)")
            assert pictures and all(pictures), path.name
            assert page.locator("h1").count() == 1
            page.screenshot(path=screenshot(f"{path.stem}-{scheme}.png"), full_page=True)
            if path != NOTEBOOKS[-1]:
                page.get_by_role("link", name="next", exact=True).click()
    assert [url for url in asked if not url.startswith(("data:", run.build.as_uri()))] == []
    assert complaints == []


def brightness(page: Any, property_: str) -> int:
    colour = page.evaluate(f"getComputedStyle(document.body).{property_}")
    return sum(int(number) for number in re.findall(r"\d+", colour)[:3])


def test_a_parameter_that_no_notebook_has_is_refused(home: Path) -> None:
    run = course("-p", "epoch", "3", home=home, output=kept("refused"))
    assert run.returncode == 2
    assert "no notebook has a parameter epoch; there are batch_size, " in run.stderr


def test_a_notebook_names_the_one_that_must_run_before_it_and_its_copy_is_kept(home: Path) -> None:
    build = kept("too-early")
    run = course("--only", "02", home=home, output=build)
    assert run.returncode == 1
    assert "run 01_train_locally.ipynb first" in run.stderr
    outputs = [output for cell in code_cells(build / "02_train_on_demand.ipynb") for output in cell.outputs]
    assert "run 01_train_locally.ipynb first" in "".join(o.evalue for o in outputs if o.output_type == "error")
    assert '<span class="bad">failed</span>' in (build / "index.html").read_text()
    shutil.rmtree(build)
