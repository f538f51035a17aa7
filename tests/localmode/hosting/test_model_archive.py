"""Archives with code beside the model."""

import os
import zipfile
from pathlib import Path

import pytest

from localmode.core.archives import ArchiveError
from localmode.hosting.model_archive import prepare
from tests.support.model_archives import archive

PIP = {"PATH": os.defpath, "PIP_NO_INDEX": "1"}


def wheel(path: Path) -> Path:
    """Write a package `tiny` for pip to install."""
    with zipfile.ZipFile(path / "tiny-1.0-py3-none-any.whl", "w") as file:
        file.writestr("tiny.py", "number = 1")
        file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny-1.0.dist-info/RECORD", "")
    return path / "tiny-1.0-py3-none-any.whl"


def packed(tmp_path: Path, requirements: str) -> Path:
    """Return an archive with code and its requirements."""
    script = b"open('/opt/ml/model/code/x')"
    members = [("1/saved_model.pb", "", b"x"), ("code/inference.py", "", script)]
    content = archive(*members, ("code/requirements.txt", "", requirements.encode()))
    (tmp_path / "model.tar.gz").write_bytes(content)
    return tmp_path / "model.tar.gz"


def test_requirements_are_installed_beside_the_code_and_paths_are_replaced(tmp_path: Path) -> None:
    lines: list[str] = []
    prepare(packed(tmp_path, str(wheel(tmp_path))), tmp_path / "model", PIP, lines.extend)
    assert (tmp_path / "model/code/lib/tiny.py").read_text() == "number = 1"
    assert (tmp_path / "model/code/inference.py").read_text() == f"open('{tmp_path}/model/code/x')"
    assert any("Successfully installed tiny-1.0" in line for line in lines)


def test_requirements_that_cannot_be_installed_are_named_and_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="has a code/requirements.txt that cannot be installed: ERROR: .*nonesuch"):
        prepare(packed(tmp_path, "nonesuch"), tmp_path / "model", PIP, lambda _: None)
    assert not (tmp_path / "model").exists()
