"""Settings from the environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from localmode.core.settings import Settings, default_home, from_environment
from tests.support.local import Daemon

Make = Callable[..., Daemon]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("LOCALMODE_RUNNER", "podman"), ("LOCALMODE_GRACE_SECONDS", "-1"), ("LOCALMODE_SPOT_DISCOUNT", "nan")],
)
def test_an_invalid_setting_is_a_one_line_error(new_daemon: Make, setting: str, value: str) -> None:
    result = new_daemon(**{setting: value}).cli("start")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"localmode: {setting} is '{value}'")


def test_the_default_home_is_in_the_root_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALMODE_HOME", raising=False)
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "notebooks").mkdir()
    assert default_home(tmp_path / "project" / "notebooks") == tmp_path / "project" / ".localmode"
    monkeypatch.setenv("LOCALMODE_HOME", "/elsewhere")
    assert default_home(tmp_path) == Path("/elsewhere")


def test_settings_come_from_the_environment() -> None:
    environ = {"LOCALMODE_RUNNER": "rewrite", "LOCALMODE_GRACE_SECONDS": "2", "LOCALMODE_SPOT_DISCOUNT": "0.6"}
    assert from_environment(Path("/h"), environ) == Settings(Path("/h"), "rewrite", 2.0, 0.6, "us-east-1")
