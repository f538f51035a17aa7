"""The notebooks as they are committed and as a reader first sees them."""

import ast
import io
import re
import statistics
import tokenize
from pathlib import Path
from typing import Any

import nbformat
import pytest

from workshop import ROOT
from workshop.publish import NOTEBOOKS, normalize

IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)|<img\b[^>]*>")  # Markdown or HTML
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"/(home|Users|root|tmp|var/folders|work|usr|opt/conda)/\w|[A-Z]:\\\\?Users|site-packages")
WARNING = re.compile(r"\w*Warning\b(?!s)|\bDEPRECATED\b|Traceback \(most recent")

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "") -> list[Any]:
    return [cell for cell in nbformat.read(path, 4).cells if kind in ("", cell.cell_type)]


def prose(path: Path) -> list[str]:
    return [FENCED.sub("", cell.source) for cell in cells(path, "markdown")]


def headings(path: Path, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", "\n".join(prose(path)), re.MULTILINE)


def pictures(path: Path) -> list[tuple[str, str]]:
    """The alternative text and the source of each picture."""
    found = []
    for match in IMAGE.finditer("\n".join(prose(path))):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', match[0]))
        found.append((match[1], match[2]) if match[2] else (attributes.get("alt", ""), attributes["src"]))
    return found


def words(markdown: str) -> int:
    """The number of words to read, without tables and pictures."""
    lines = [line for line in IMAGE.sub("", markdown).splitlines() if not line.startswith("|")]
    return len(re.sub(r"\]\([^)]*\)|</?\w+>", " ", " ".join(lines)).split())


def lines_of_code(source: str) -> int:
    """The number of lines with code; a closing bracket alone does not count."""
    return sum(1 for line in source.splitlines() if re.search(r"\w", line))


def shows(statement: ast.stmt) -> bool:
    """Whether a statement always shows something, unlike one in a function or below an `if`."""
    if isinstance(statement, ast.For | ast.While | ast.With):
        return any(map(shows, statement.body))
    return isinstance(statement, ast.Expr) and bool(re.match(r"(print|figures\.\w+)\(", ast.unparse(statement)))


def output_texts(path: Path) -> list[str]:
    outputs = [output for cell in cells(path, "code") for output in cell.outputs]
    return [
        text
        for output in outputs
        for text in (output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/")))
    ]


def test_it_has_one_title_and_three_to_eight_sections(path: Path) -> None:
    assert len(headings(path, 1)) == 1
    assert 3 <= len(headings(path, 2)) <= 8, headings(path, 2)


def test_it_has_20_to_40_cells_and_at_least_as_much_prose_as_code(path: Path) -> None:
    assert 20 <= len(cells(path)) <= 40
    assert len(cells(path, "markdown")) >= len(cells(path, "code"))


def test_a_prose_cell_has_at_most_120_words(path: Path) -> None:
    assert [(words(text), text[:60]) for text in prose(path) if words(text) > 120] == []


def test_code_cells_are_short(path: Path) -> None:
    counts = sorted(lines_of_code(cell.source) for cell in cells(path, "code"))
    assert statistics.median(counts) <= 4, counts
    assert statistics.quantiles(counts, n=10, method="inclusive")[-1] <= 12, counts
    assert counts[-1] <= 20, counts


def test_no_cell_installs_anything_or_runs_a_shell(path: Path) -> None:
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*[!%]|\bpip3? install\b|get_ipython", cell.source, re.MULTILINE), cell.source


def test_it_begins_with_aims_time_and_cost(path: Path) -> None:
    first = cells(path)[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert len(re.findall(r"^- ", first.source, re.MULTILINE)) >= 2
    assert "**Time**" in first.source and "**Cost on AWS**" in first.source


def test_it_ends_with_a_recap_exercises_and_a_link_to_another_notebook(path: Path) -> None:
    sections = re.split(r"^## ", "\n\n".join(prose(path)), flags=re.MULTILINE)
    end = "## ".join(sections[-2:])
    assert len(re.findall(r"^- ", end, re.MULTILINE)) >= 2, "no recap"
    exercises = re.findall(r"(?:^|\s)\*{0,2}(?:\((\d)\)|(\d)\.)\s", end, re.MULTILINE)
    assert 2 <= len({number for pair in exercises for number in pair if number}) <= 3, exercises
    others = {other.name for other in NOTEBOOKS} - {path.name}
    assert others.intersection(LINK.findall(cells(path)[-1].source))


def test_its_parameters_are_at_most_eight_literals_with_comments(path: Path) -> None:
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assignments = ast.parse(tagged[0].source).body
    assert 1 <= len(assignments) <= 8
    tokens = tokenize.generate_tokens(io.StringIO(tagged[0].source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for statement in assignments:
        assert isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant), ast.unparse(statement)
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        assert commented.intersection(lines), ast.unparse(statement)


def test_parameters_of_one_name_have_one_default(path: Path) -> None:
    def defaults(notebook: Path) -> dict[str, Any]:
        (cell,) = (cell for cell in cells(notebook, "code") if "parameters" in cell.metadata.get("tags", []))
        return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}

    own, first = defaults(path), defaults(NOTEBOOKS[0])
    shared = own.keys() & first.keys() - {"batch_size"}  # of a training step there, of a request here
    assert {"mode", "dataset_name", "prefix"} <= shared
    assert {name: own[name] for name in shared} == {name: first[name] for name in shared}


def test_it_is_smaller_than_300_kb(path: Path) -> None:
    assert path.stat().st_size <= 300_000


def test_its_outputs_contain_no_error_warning_or_machine_path(path: Path) -> None:
    outputs = [output for cell in cells(path, "code") for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    found = [text for text in output_texts(path) if MACHINE_PATH.search(text) or WARNING.search(text)]
    assert found == []
    assert str(ROOT) not in path.read_text()


def test_a_cell_that_prints_or_draws_has_a_stored_output(path: Path) -> None:
    for cell in cells(path, "code"):
        assert cell.outputs or not any(map(shows, ast.parse(cell.source).body)), cell.source
    assert sum(1 for cell in cells(path, "code") if cell.outputs) >= 5


def test_its_links_and_pictures_are_there(path: Path) -> None:
    targets = [match for text in prose(path) for match in LINK.findall(text)]
    targets += [source for _, source in pictures(path)]
    local = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert len(local) >= 1
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_every_picture_has_an_alternative_text(path: Path) -> None:
    assert [source for text, source in pictures(path) if len(text.split()) < 5] == []


def test_it_is_normalised(path: Path) -> None:
    assert path.read_text() == normalize.normalized(path), "run notebooks/normalize.py"


def test_only_local_mode_uses_localmode(path: Path) -> None:
    sources = [cell.source for cell in cells(path, "code")]
    assert [source for source in sources if "import localmode" in source] == [
        'if mode == "local":\n    import localmode\n\n    localmode.start()'
    ]
    for source in sources:
        for line in source.splitlines():
            if "localmode." in line and "start()" not in line:
                assert source.index('if mode == "local":') < source.index(line)
