"""docs/localmode.md says what the code does: operations, members, settings, commands and tested clients."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.model import ListShape, Shape, StructureShape

import localmode
from localmode.api.registry import OPERATIONS
from localmode.core import settings
from localmode.core.aws import service_model
from localmode.core.errors import unsupported
from localmode.core.runners import MAX_HOSTS, RUNNERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "localmode.md"
REFERENCE = PAGE.read_text()


def table(header: str) -> list[list[str]]:
    """Return the cells of the rows of the table that begins with `header`."""
    rows = REFERENCE[REFERENCE.index(header) :].splitlines()[2:]
    end = next(number for number, row in enumerate([*rows, ""]) if not row.startswith("|"))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[:end]]


def names_in(text: str) -> set[str]:
    """Return what stands in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def test_the_table_of_operations_is_the_registry() -> None:
    listed = [cells[0] for cells in table("| operation |")]
    assert sorted(listed) == sorted([*OPERATIONS, "InvokeEndpoint", "S3", "IAM, STS, CloudWatch Logs"])


def test_the_table_of_settings_names_every_variable_that_is_read_and_its_default() -> None:
    assert settings.__file__ is not None
    read = set(re.findall(r"LOCALMODE_[A-Z_]+", Path(settings.__file__).read_text()))
    rows = {cells[0].strip("`"): cells[1].strip("`") for cells in table("| variable |")}
    assert rows.keys() == read
    defaults = settings.from_environment(Path("home"), {})
    assert rows["LOCALMODE_RUNNER"] == defaults.runner
    assert float(rows["LOCALMODE_GRACE_SECONDS"]) == defaults.grace_seconds
    assert float(rows["LOCALMODE_SPOT_DISCOUNT"]) == defaults.spot_discount
    assert defaults.docker_options == () and rows["LOCALMODE_DOCKER_OPTIONS"] == ""


def test_the_table_of_runners_names_them_all() -> None:
    assert {cells[0].strip("`") for cells in table("| runner |")} == set(RUNNERS)


def test_the_number_of_instances_is_the_code_s() -> None:
    assert f"`InstanceCount` of 2 to {MAX_HOSTS}" in REFERENCE


def test_the_message_of_a_refusal_is_quoted_as_it_is() -> None:
    assert f"`{unsupported('X')}`" in REFERENCE


def members(shape: Shape, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of all members of a shape, at any depth."""
    if isinstance(shape, ListShape):
        yield from members(shape.member, seen)
    elif isinstance(shape, StructureShape) and shape.name not in seen:
        for name, member in shape.members.items():
            yield name
            yield from members(member, seen | {shape.name})


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "CreateModel", "CreateEndpointConfig"])
def test_members_without_effect_are_members_of_the_request(operation: str) -> None:
    (cell,) = (cells[1] for cells in table("| where |") if cells[0] == operation)
    documented = names_in(cell)
    assert documented
    assert documented <= set(members(service_model().operation_model(operation).input_shape))


def test_the_table_of_commands_is_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from localmode import cli

    with pytest.raises(SystemExit):
        cli.main(["--help"])
    offered = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    documented = {cells[0].strip("`").split()[3] for cells in table("| command |")}
    assert documented == offered - {"serve"}  # `start` runs it


def test_every_function_of_the_python_interface_that_is_shown_exists() -> None:
    shown = set(re.findall(r"localmode\.(\w+)\(", REFERENCE))
    assert {"start", "interrupt", "set_spot_capacity", "stop"} <= shown <= set(localmode.__all__)


@pytest.mark.parametrize(
    ("pins", "package", "name"),
    [
        ("requirements.txt", "sagemaker", "SDK v3"),
        ("requirements-clients.txt", "sagemaker", "SDK v2"),
        ("requirements-clients.txt", "awscli", "the AWS command line"),
    ],
)
def test_the_tested_clients_are_those_that_are_installed(pins: str, package: str, name: str) -> None:
    (version,) = re.findall(rf"{name} (\d+\.\d+)", REFERENCE)
    assert f"{package}=={version}." in (ROOT / pins).read_text()


def test_every_link_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", REFERENCE) if "://" not in target]
    headings = re.findall(r"^## (.+)$", REFERENCE, re.MULTILINE)
    anchors = {"#" + re.sub("[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert len(targets) >= len(headings)
    broken = [target for target in targets if target not in anchors and not (PAGE.parent / target).exists()]
    assert broken == []


def test_every_section_is_in_the_table_of_contents() -> None:
    headings = re.findall(r"^## (.+)$", REFERENCE, re.MULTILINE)
    assert re.findall(r"^- \[(.+)\]\(#", REFERENCE, re.MULTILINE) == headings


def test_every_script_and_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in re.findall(r"\bmake ([a-z-]+)", REFERENCE) if f"\n{name}:" not in makefile] == []
    assert [name for name in re.findall(r"containers/\w+\.sh", REFERENCE) if not (ROOT / name).exists()] == []
