"""Endpoints over a journal, with stand-ins for their model servers."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from localmode.core.durable import Journal
from localmode.core.settings import Settings
from localmode.hosting.provisioning import Hosting
from localmode.hosting.registry import Endpoints
from tests.support.hosting import StandInServers
from tests.support.local import BUCKET, Rooms
from tests.support.model_archives import SMALLEST

Make = Callable[[], Endpoints]


@pytest.fixture
def servers() -> StandInServers:
    return StandInServers()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "endpoints", tmp_path)


@pytest.fixture
def make(
    rooms_by_runner: Callable[[str], Rooms], journal: Journal, tmp_path: Path, servers: StandInServers, name: str
) -> Make:
    """Make endpoints over one journal and start them: the second time, as after a restart."""
    rooms = rooms_by_runner("rewrite")
    (tmp_path / "model").write_bytes(SMALLEST)
    rooms.storage.put_file(BUCKET, f"{name}/model", tmp_path / "model")
    settings = Settings(tmp_path)

    def make() -> Endpoints:
        generator = random.Random(7)
        hosting = Hosting(settings, rooms.storage, rooms.services, {}, generator, servers)
        endpoints = Endpoints(settings, hosting, journal)
        endpoints.start()
        return endpoints

    return make


@pytest.fixture
def endpoints(make: Make) -> Endpoints:
    return make()
