"""Chromium for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from workshop import ROOT

SCREENSHOTS = ROOT / "build" / "test"  # they stay there
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without these a browser requests updates from its vendor.
SWITCHES = ["--disable-background-networking", "--disable-component-update", "--disable-quic", "--no-first-run"]


def executable() -> str:
    """The path of a browser. Without one the test is skipped, or fails in CI, and says what is missing."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None and find_spec("playwright") and find_spec("jupyterlab"):
        return found
    missing = "playwright or jupyterlab is not installed; run `make browser`"
    if found is None:
        missing = f"no browser on the PATH ({', '.join(NAMES)}); on Debian: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def screenshot(name: str) -> Path:
    """The path of a screenshot; its directory exists."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / name


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium, as Playwright's Browser."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES, chromium_sandbox=os.getuid() != 0)
        try:
            yield browser
        finally:
            browser.close()
