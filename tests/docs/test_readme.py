"""The README and the pages beside it: links, pictures, commands and length."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page: str) -> None:
    path = ROOT / page
    text = path.read_text()
    targets = [*re.findall(r"\]\(([^)#]+)[^)]*\)", text), *re.findall(r'(?:src|srcset)="([^"]+)"', text)]
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_and_module_that_is_named_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert [
        name for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE) if f"\n{name}:" not in makefile
    ] == []
    modules = [name.replace(".", "/") for name in re.findall(r"python -m (workshop[\w.]*)", text)]
    assert [name for name in modules if not (ROOT / f"{name}.py").exists()] == []
    assert [name for name in re.findall(r"\btests/[\w/.]+\w", text) if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_begins_with_the_two_commands_and_a_picture() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    first = lines.index("```bash")
    assert first < 25
    assert [line.partition(" #")[0].strip() for line in lines[first + 1 : first + 3]] == ["make run", "make test"]
    assert README.index("<picture>") < README.index("## ")


def test_the_files_that_the_readme_lists_are_those_of_the_repository() -> None:
    block = README[README.index("```text") :].split("```")[1]
    listed = {line.split()[0].strip("/") for line in block.splitlines()[1:] if line and not line.startswith(" ")}
    directories = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert listed == directories - {"build", "__pycache__"}
    named = re.findall(r"\w+\.md", block)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
