"""The HTTP server of a model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import Target


def test_it_answers_pings_and_knows_no_other_path(container: Target) -> None:
    assert container.ask("GET", "/ping").status == 200
    assert container.ask("GET", "/elsewhere").status == container.ask("POST", "/elsewhere", "{}").status == 404


def test_clients_at_once_get_each_its_own_answer(own_url: str) -> None:
    def ask(number: int) -> Any:
        return Target(own_url, "/invocations")({"instances": [2.0 * number]}).json["predictions"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == [[10.0 + number] for number in range(64)]


def test_nobody_without_its_secret_gets_an_answer(own_url: str) -> None:
    url = own_url.rpartition("/")[0]
    assert Target(url, "/invocations")({"instances": [2.0]}).status == 404
    assert Target(f"{url}/wrong", "/invocations")({"instances": [2.0]}).status == 404
    assert Target(url, "").ask("GET", "/ping").status == 404


def test_an_archive_without_a_numbered_saved_model_says_so(serve: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="no numbered SavedModel"):
        serve(tmp_path)
