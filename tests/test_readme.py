"""What the README says is what the code does."""

import re
from pathlib import Path

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
    listed = [cell for cell in first_cells("| operation |") if not cell.startswith("S3,")]
    assert sorted(listed) == sorted([*OPERATIONS, "InvokeEndpoint"])


def test_the_table_of_settings_names_every_variable_that_is_read() -> None:
    read = set(re.findall(r"LOCALMODE_[A-Z_]+", (settings.__file__ and Path(settings.__file__).read_text()) or ""))
    assert {cell.strip("`") for cell in first_cells("| variable |")} == read


def test_every_link_and_picture_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 8
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_two_commands_come_first_and_are_targets_of_the_makefile() -> None:
    lines = README.splitlines()
    assert lines.index("```bash") < 25
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{command}:" in makefile
