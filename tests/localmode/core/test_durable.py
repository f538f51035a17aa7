"""Atomic replacement of files, and journals."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localmode.core.durable import Journal, replace_atomically
from localmode.core.errors import LocalModeError


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replace_atomically(path, tmp_path) as file:
        file.write(b"new")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_readers_see_all_of_the_old_or_all_of_the_new_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    journal.save("job", {"text": "0" * 50_000})
    done = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(json.loads((tmp_path / "j" / "job.json").read_bytes())["text"])

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(look)
        for number in range(1, 30):
            journal.save("job", {"text": str(number % 10) * 50_000})
        done.set()
        reader.result()
    assert all(text == text[0] * 50_000 for text in seen)


def test_a_journal_loads_what_was_saved_and_not_deleted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    for name in ("a", "b"):
        journal.save(name, {"name": name})
    journal.delete("a")
    assert Journal(tmp_path / "j", tmp_path).load(dict) == {"b": {"name": "b"}}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff", "null"])
def test_the_error_for_a_damaged_journal_names_the_file(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path / "j", tmp_path)
    (tmp_path / "j" / "job.json").write_text(content, encoding="latin-1")
    with pytest.raises(LocalModeError, match=r"job\.json is damaged"):
        journal.load(dict)
