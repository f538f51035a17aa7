"""Chromium for the tests that look at pages as a reader does."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from workshop import ROOT

SCREENSHOTS = ROOT / "build" / "test"  # kept, to look at
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A browser by itself asks its maker's hosts for updates, and is refused a sandbox to root.
SWITCHES = ["--disable-background-networking", "--disable-component-update", "--disable-quic", "--no-first-run"]


def executable() -> str:
    """The system's browser; without one the test is skipped with a word on what is missing, and in CI fails."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None and find_spec("playwright") and find_spec("jupyterlab"):
        return found
    missing = "playwright or jupyterlab is not there; `make browser` installs them"
    if found is None:
        missing = f"no browser on the PATH ({', '.join(NAMES)}); on Debian: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def screenshot(name: str) -> Path:
    """Where a screenshot goes."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / name


@contextmanager
def chromium() -> Iterator["Browser"]:  # noqa: F821
    """A headless Chromium."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES, chromium_sandbox=os.getuid() != 0)
        try:
            yield browser
        finally:
            browser.close()
