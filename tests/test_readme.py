"""What the README says is what the code does."""

import re
from pathlib import Path

import pytest

from localmode import settings
from localmode.api import OPERATIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def first_cells(header: str) -> list[str]:
    """The first column of the table that begins with `header`."""
    rows = README[README.index(header) :].splitlines()[2:]
    table = rows[: next(number for number, row in enumerate(rows) if not row.startswith("|"))]
    return [row.split("|")[1].strip() for row in table]


def test_the_table_of_operations_is_the_code_s_own_register() -> None:
    listed = [cell for cell in first_cells("| operation |") if cell not in ("S3", "IAM, STS, CloudWatch Logs")]
    assert sorted(listed) == sorted([*OPERATIONS, "InvokeEndpoint"])


def test_the_table_of_settings_names_every_variable_that_is_read() -> None:
    read = set(re.findall(r"LOCALMODE_[A-Z_]+", (settings.__file__ and Path(settings.__file__).read_text()) or ""))
    assert {cell.strip("`") for cell in first_cells("| variable |")} == read


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/aws.md"])
def test_every_link_and_picture_is_there(page: str) -> None:
    path = ROOT / page
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()) if "://" not in target]
    assert len(targets) >= 2
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_is_there(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / page).read_text(), re.MULTILINE))
    assert {"run", "test"} & named
    assert [target for target in named if f"\n{target}:" not in makefile] == []


def test_the_two_commands_come_first() -> None:
    lines = README.splitlines()
    first = lines.index("```bash")
    assert first < 25
    assert [line.partition(" #")[0].strip() for line in lines[first + 1 : first + 3]] == ["make run", "make test"]
