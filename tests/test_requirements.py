"""The pins, and what the weekly run makes of them."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
import drift  # noqa: E402

FILES = sorted(ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned_exactly_with_a_word_on_who_uses_it(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-e "))]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.,\[\]-]+==[\d.]+( ;[^#]+)?\s+# .+", line), line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_weekly_run_takes_newer_releases_of_everything(path: Path) -> None:
    text = path.read_text()
    assert text.count("==") - text.count(' == "') == len(re.findall(r">=[\d.]+,<\d", drift.loosened(text)))
    assert f" {path.name}" in (ROOT / ".github/workflows/drift.yml").read_text()


def test_tensorflow_stays_within_the_version_that_sagemaker_has_images_of() -> None:
    assert drift.loosened("tensorflow-cpu==2.19.1 ; x\nmoto[s3,iam]==5.2.5\n") == (
        "tensorflow-cpu>=2.19.1,<2.20 ; x\nmoto[s3,iam]>=5.2.5,<6\n"
    )
