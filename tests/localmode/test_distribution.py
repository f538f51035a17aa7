"""The distribution `localmode`: built, installed without the workshop and without TensorFlow, and used from there.

The tests install from the package index or from uv's cache; without both, they fail and show what uv says.
"""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "localmode/README.md").read_text(), re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMPORT_EVERYTHING = """
import importlib, pkgutil, localmode
for module in pkgutil.walk_packages(localmode.__path__, "localmode."):
    if not module.name.startswith("localmode.modelserver.") and module.name != "localmode.__main__":
        importlib.import_module(module.name)
print(localmode.__file__)
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command that succeeds, without the paths of this environment; return its standard output."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "AWS_"))
    }
    process = subprocess.run(command, cwd=cwd, env=inherited | variables, capture_output=True, text=True)
    assert process.returncode == 0, f"{' '.join(map(str, command))}\n{process.stdout}{process.stderr}"
    return process.stdout


@dataclass(frozen=True)
class Installed:
    """An environment with localmode and a directory to work in."""

    bin: Path
    directory: Path

    def run(self, *command: str) -> str:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        home = str(self.directory / "home")
        return run(self.bin / command[0], *command[1:], cwd=self.directory, PATH=path, LOCALMODE_HOME=home)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", directory, ROOT / "localmode", cwd=directory)
    return directory


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel in an environment of its own, with the dependencies that it declares and nothing else."""
    directory = tmp_path_factory.mktemp("elsewhere")
    python = directory / "env/bin/python"
    run(UV, "venv", "--quiet", "--python", sys.executable, directory / "env", cwd=directory)
    constraint = ("--constraint", ROOT / "requirements.lock")
    run(UV, "pip", "install", "--quiet", "--python", python, *constraint, *built.glob("*.whl"), cwd=directory)
    environment = Installed(python.parent, directory)
    yield environment
    environment.run("localmode", "stop")


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    [wheel], [source] = built.glob("*.whl"), built.glob("*.tar.gz")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "localmode").rglob("*.py")}
    assert names == {*modules, "localmode/py.typed"}
    with tarfile.open(source) as archive:
        assert {Path(name).name for name in archive.getnames()} >= {"pyproject.toml", "README.md", "LICENSE"}


def test_the_licence_is_that_of_the_repository() -> None:
    assert (ROOT / "localmode/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_nothing_in_it_names_the_makefile_or_a_file_of_the_workshop() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = "|".join(phony.group(1).split())
    elsewhere = r"\b(notebooks|source_dir|workshop|containers|docs|tests|images)/\w|\bsource_dir\b|\bworkshop\b"
    named = re.compile(rf"\bmake ({targets})\b|`make\b|Makefile|{elsewhere}|\.venv")
    own = re.compile(r"localmode/cluster/containers/")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "localmode").rglob("*"))
        if path.suffix in (".py", ".md", ".toml")
        for line in path.read_text().splitlines()
        if named.search(own.sub("", line))
    ]
    assert found == []


def test_every_module_but_the_model_server_imports_with_the_declared_dependencies(installed: Installed) -> None:
    assert str(installed.directory / "env") in installed.run("python", "-c", IMPORT_EVERYTHING)
    packages = installed.run("python", "-c", "import importlib.metadata as m; print(*m.packages_distributions())")
    assert not {"tensorflow", "keras", "numpy", "sagemaker"}.intersection(packages.split())


def test_the_first_example_of_the_readme_trains_there(installed: Installed) -> None:
    assert "first/output/model.tar.gz" in installed.run("python", "-c", EXAMPLES[0])
    assert str(installed.directory / "home") in installed.run("localmode", "status")


def test_the_second_example_of_the_readme_is_a_test_that_passes(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(EXAMPLES[1])
    (tmp_path / "pytest.ini").touch()
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'temporary'}")
    output = run(sys.executable, "-m", "pytest", *options, cwd=tmp_path)
    assert "1 passed" in output


def test_its_types_reach_those_who_use_it(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("import localmode\n\nlocalmode.interrupt(5)\n")
    python = ("--python-executable", str(installed.bin / "python"), "--config-file=", "--cache-dir", str(tmp_path))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *python, "user.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert 'Argument 1 to "interrupt" has incompatible type "int"; expected "str"' in checked.stdout, checked.stderr
