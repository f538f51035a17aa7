"""Notebook 1 in JupyterLab, in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
import pytest

from tests.support.browser import chromium, executable, screenshot
from workshop import ROOT

pytestmark = pytest.mark.timeout(600)  # seconds
NOTEBOOK = "01_train_locally.ipynb"
# Whether the last code cell has run, or one has failed: its traceback has the MIME type of stderr.
OVER = """() => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(prompt => prompt.textContent);
    const failed = document.querySelector("[data-mime-type='application/vnd.jupyter.stderr']");
    return failed || /^\\[\\d+\\]/.test(prompts.at(-1));
}"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A copy of the notebooks, since JupyterLab saves what it runs, and the first one without outputs."""
    copy = tmp_path / "course"
    for name in ("notebooks", "images"):
        shutil.copytree(ROOT / name, copy / name)
    notebook = nbformat.read(copy / "notebooks" / NOTEBOOK, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, copy / "notebooks" / NOTEBOOK)
    return copy


@pytest.fixture
def lab(course: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab on the copy, without the settings of this user."""
    executable()
    jupyter = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    names = (*jupyter, "LOCALMODE_HOME", "WORKSHOP_BUILD")
    environment = {**os.environ, **{name: str(tmp_path / name) for name in names}}
    settings = tmp_path / "JUPYTER_CONFIG_DIR" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--ServerApp.token=known"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={course}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        log = list(until(r"http://127\.0\.0\.1:\d+/lab", server.stderr))
        rest = threading.Thread(target=server.stderr.read)  # keeps reading, or the server would block
        rest.start()
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/lab", log[-1])
            assert address, "JupyterLab did not start:\n" + "".join(log)
            yield address[0]
        finally:
            server.terminate()
            rest.join()
            stop = [sys.executable, "-m", "localmode", "stop"]
            subprocess.run(stop, env=environment, stdout=subprocess.DEVNULL, check=True)


def until(pattern: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the first one that matches the pattern."""
    for line in lines:
        yield line
        if re.search(pattern, line):
            return


@pytest.mark.slow
def test_the_first_notebook_runs_in_jupyterlab(lab: str, course: Path) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{lab}/tree/notebooks/{NOTEBOOK}?token=known")
        page.get_by_text("| Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(OVER, timeout=240_000)
        page.keyboard.press("Control+s")
        page.locator(".lm-TabBar-tab.jp-mod-current.jp-mod-dirty").wait_for(state="detached", timeout=60_000)
        page.locator(".jp-OutputArea img").last.scroll_into_view_if_needed()
        page.screenshot(path=screenshot("jupyterlab.png"))
    cells = [cell for cell in nbformat.read(course / "notebooks" / NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "identical weights" in "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def test_without_a_browser_the_tests_are_skipped_and_in_ci_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        executable()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        executable()
