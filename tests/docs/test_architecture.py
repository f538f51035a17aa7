"""docs/architecture.md says what the code does: the packages and their imports, the locks, the threads."""

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "localmode"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
LOCKS = ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "KeyedLocks")
STARTERS = ("start_thread", "Thread", "Timer", "ThreadPoolExecutor")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(text: str) -> set[str]:
    """Return what stands in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of localmode by its name below the package."""
    for path in sorted(CODE.rglob("*.py")):
        name = ".".join(path.relative_to(CODE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    """Return the packages of localmode that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "localmode":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("localmode."):
            found.add(str(node.module).split(".")[1])
    return found


def packages() -> dict[str, set[str]]:
    """Return the packages (and single modules) of localmode, each with those that it imports."""
    found: dict[str, set[str]] = {}
    for name, tree in modules():
        package = name.split(".")[0]
        if package not in ("__init__", "__main__"):
            found.setdefault(package, set()).update(imported(tree) - {package})
    return found


def called(node: ast.expr) -> str:
    """Return the last part of a called name: `Lock` of `threading.Lock`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def locks() -> set[str]:
    """Return every lock of localmode: `package.module.Class.attribute`, or `package.module.NAME`."""
    found = set()
    for module, tree in modules():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        owners: list[tuple[str, Iterator[ast.AST]]] = [(module, iter(tree.body))]
        owners += [(f"{module}.{each.name}", ast.walk(each)) for each in classes]
        for prefix, nodes in owners:
            for node in nodes:
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call):
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    made = {called(each.func) for each in ast.walk(node.value) if isinstance(each, ast.Call)}
                    made |= {called(each) for each in node.value.args}
                    made |= {called(each.value) for each in node.value.keywords}
                    if made & set(LOCKS):
                        found.add(f"{prefix}.{target.attr if isinstance(target, ast.Attribute) else called(target)}")
    return found


def test_the_table_of_packages_names_all_of_them_with_their_imports() -> None:
    documented = {quoted(row[1]).pop(): quoted(row[3]) for row in rows("Packages")}
    assert documented == packages()


def test_the_floors_of_the_table_are_those_that_import_linter_enforces() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    enforced = [set(re.findall(r"\w+", layer)) for layer in layers if layer.strip()]
    documented: dict[int, set[str]] = {}
    for row in rows("Packages"):
        documented.setdefault(int(row[0]), set()).update(quoted(row[1]))
    assert [documented[floor] for floor in sorted(documented, reverse=True)] == enforced


def test_the_table_of_locks_names_all_of_them() -> None:
    assert {quoted(row[0]).pop() for row in rows("Locks")} == locks()


def test_every_module_that_starts_threads_is_in_the_table_of_threads() -> None:
    starting = {
        module
        for module, tree in modules()
        if any(isinstance(node, ast.expr) and called(node) in STARTERS for node in ast.walk(tree))
    }
    assert set().union(*(quoted(row[1]) for row in rows("Threads"))) == starting - {"core.threads"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(localmode/[\w/]+\.py|[\w/]+/\w+\.py)`", DOCUMENT))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists() or (CODE / path).exists()
