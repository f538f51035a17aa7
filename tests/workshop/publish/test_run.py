from pathlib import Path

import nbformat
import pytest

from workshop.publish import NOTEBOOKS, run


def test_a_notebook_without_parameters_is_refused(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)
    nbformat.write(notebook, tmp_path / "01.ipynb")
    with pytest.raises(run.ParameterError, match=r"01\.ipynb has no cell tagged `parameters`"):
        run.check({}, [tmp_path / "01.ipynb"])


def test_only_without_a_matching_notebook_is_refused_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "09"])
    assert "no notebook to run; there are 01_train_locally.ipynb, 02" in capsys.readouterr().err
