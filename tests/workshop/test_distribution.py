"""The workshop installed by `pip install .`, without its checkout. It is not published."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT_EVERYTHING = """
import importlib, pkgutil, workshop
for module in pkgutil.walk_packages(workshop.__path__, "workshop."):
    importlib.import_module(module.name)
assert (workshop.SOURCE_DIR / "train.py").exists()
print(workshop.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    command = list(map(str, (uv, "build", "--quiet", "--wheel", "--out-dir", directory, ROOT)))
    built = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr  # without hatchling in uv's cache, the build needs the package index
    return next(directory.glob("*.whl"))


@pytest.mark.slow
def test_all_of_the_workshop_imports_from_its_wheel_and_finds_the_training_script(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-P", "-c", IMPORT_EVERYTHING]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    imported = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert imported.stdout == f"{tmp_path / 'workshop/__init__.py'}\n", imported.stderr


@pytest.mark.slow
def test_it_takes_localmode_from_its_checkout_and_cannot_be_uploaded(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert f"Requires-Dist: localmode[serving] @ {(ROOT / 'localmode').as_uri()}\n" in metadata
    assert "Classifier: Private :: Do Not Upload\n" in metadata
