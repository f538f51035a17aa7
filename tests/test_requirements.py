"""The pins in the requirements files, the lock files that belong to them, and how `make upgrade` moves both."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / ".ci"))
import drift  # noqa: E402

FILES = sorted(ROOT.glob("requirements*.txt"))
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PROJECTS = [ROOT / "pyproject.toml", ROOT / "localmode/pyproject.toml"]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]


def requirements(path: Path) -> list[Requirement]:
    lines = [line.partition(" #")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-e "))]


def of_project(path: Path) -> list[Requirement]:
    project = tomllib.loads(path.read_text())["project"]
    lines = sum(project.get("optional-dependencies", {}).values(), project["dependencies"])
    return [Requirement(line) for line in lines if "{root:uri}" not in line]


def missing(required: list[Requirement], lock: list[Requirement]) -> list[str]:
    """Return the requirements that a lock file does not meet on each supported Python and platform."""
    found = []
    for python in PYTHONS:
        for system, machine in PLATFORMS:
            here: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]
            here |= {"python_version": python, "python_full_version": f"{python}.9"}
            here |= {"sys_platform": system, "platform_machine": machine, "os_name": "posix"}
            locked = {
                canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
                for pin in lock
                if pin.marker is None or pin.marker.evaluate(here)
            }
            for requirement in required:
                if requirement.marker is None or requirement.marker.evaluate(here):
                    version = locked.get(canonicalize_name(requirement.name))
                    if version is None or not requirement.specifier.contains(version):
                        found.append(f"{requirement} on Python {python}, {system}, {machine}: {version}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned_exactly_and_says_what_uses_it(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-e "))]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.,\[\]-]+==[\d.]+( ;[^#]+)?\s+# .+", line), line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_lock_file_has_every_pin(path: Path) -> None:
    assert missing(requirements(path), requirements(drift.lock_of(path))) == [], "run `make lock`"


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_the_lock_file_meets_what_the_distributions_declare(path: Path) -> None:
    assert missing(of_project(path), requirements(ROOT / "requirements.lock")) == [], "run `make lock`"


def test_a_pin_that_was_changed_alone_is_noticed() -> None:
    lock = [Requirement("a==1.2"), Requirement("b==2.0 ; python_version < '3.12'")]
    assert missing([Requirement("a==1.2")], lock) == []
    assert len(missing([Requirement("a==1.3")], lock)) == 9
    assert len(missing([Requirement("b==2.0")], lock)) == 6
    assert len(missing([Requirement("new==1 ; sys_platform == 'darwin'")], lock)) == 3


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_names_no_host_and_no_directory(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[\w.]+( ; [\w .'!=<>()]+)?", line), line
        assert "/" not in line


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    for path in PROJECTS:
        assert tomllib.loads(path.read_text())["project"]["requires-python"] == ">=3.11,<3.14"
    for name in ("ci", "drift"):
        assert f"python: {list(PYTHONS)}".replace("'", '"') in (ROOT / f".github/workflows/{name}.yml").read_text()
    assert "(3, 11) <= v <= (3, 13)" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_upgrade_takes_newer_releases_of_everything(path: Path) -> None:
    text = path.read_text()
    loose = drift.loosened(text)
    assert text.count("==") - text.count(' == "') == len(re.findall(r">=[\d.]+,<\d", loose))
    assert drift.pinned(loose, drift.lock_of(path).read_text()) == text


def test_an_upgrade_keeps_tensorflow_within_the_version_that_sagemaker_has_images_of() -> None:
    assert drift.loosened("tensorflow-cpu==2.21.0 ; x\nmoto[s3,iam]==5.2.5\n") == (
        "tensorflow-cpu>=2.21.0,<2.22 ; x\nmoto[s3,iam]>=5.2.5,<6\n"
    )


def test_an_upgrade_pins_no_requirement_of_which_the_lock_file_has_two_versions() -> None:
    lock = "scipy==1.17.1 ; python_full_version < '3.12'\nscipy==1.18.1 ; python_full_version >= '3.12'\n"
    with pytest.raises(ValueError, match="2 versions of scipy"):
        drift.pinned("scipy>=1.17,<2  # x\n", lock)
