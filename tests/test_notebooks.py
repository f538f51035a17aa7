"""The notebooks, as a reader runs them: in order, in local mode, and in the mode for AWS."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))


def shell(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCALMODE_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**clean, "LOCALMODE_HOME": str(home), **environment},
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "state"
    yield directory
    shell("-m", "localmode", "stop", home=directory)


@pytest.fixture
def without_localmode(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH from which every Python process learns that there is no localmode."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text("import sys\nsys.modules['localmode'] = None\n")
    return directory


def course(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    output = ROOT / "build" / "test" / home.parent.name  # kept, to look at after a failure
    return shell("notebooks/course.py", "--output", str(output), *arguments, home=home, **environment)


@pytest.mark.slow
def test_the_course_runs_leaves_no_daemon_and_goes_on_from_what_it_left_on_disk(home: Path) -> None:
    whole = course(home=home)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "No daemon runs" in shell("-m", "localmode", "status", home=home).stderr
    again = course("--only", "04", home=home)
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.slow
def test_the_cells_for_aws_need_nothing_but_the_environment(home: Path, without_localmode: Path) -> None:
    exports = shell("-m", "localmode", "env", home=home).stdout
    lines = [line.removeprefix("export ").partition("=") for line in exports.splitlines() if line.startswith("export")]
    environment = {name: value.strip("'") for name, _, value in lines}
    run = course("-p", "mode", "aws", home=home, PYTHONPATH=str(without_localmode), **environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("final_weights_sha256=") >= 3


def test_the_guard_against_localmode_in_aws_mode_guards(home: Path, without_localmode: Path) -> None:
    run = course("--only", "04", home=home, PYTHONPATH=str(without_localmode))
    assert run.returncode == 1
    assert "import of localmode halted" in run.stderr


def test_a_parameter_that_no_notebook_has_is_refused(home: Path) -> None:
    run = course("-p", "epoch", "3", home=home)
    assert run.returncode == 2
    assert "no notebook has a parameter epoch; there are batch_size, " in run.stderr


def test_a_notebook_says_which_one_must_run_before_it(home: Path) -> None:
    run = course("--only", "02", home=home)
    assert run.returncode == 1
    assert "run 01_train_locally.ipynb first" in run.stderr


def test_committed_notebooks_are_normalized_and_hold_outputs_without_errors() -> None:
    check = shell("notebooks/normalize.py", "--check", home=ROOT / ".localmode")
    assert check.returncode == 0, check.stdout
    for path in NOTEBOOKS:
        outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
        assert len(outputs) >= 5
        assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
        assert str(ROOT) not in path.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_but_the_first_local_cell_touches_localmode(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell for cell in cells if "import localmode" in cell] == [
        'if mode == "local":\n    import localmode\n\n    localmode.start()'
    ]
    for cell in cells:
        for line in cell.splitlines():
            if "localmode." in line and "start()" not in line:
                assert cell.index('if mode == "local":') < cell.index(line)
