"""Fixtures for the tests of S3."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localmode.s3.store.objects import ObjectStore
from tests.support.local import Daemon
from tests.support.s3 import Client


@pytest.fixture
def s3(daemon: Daemon) -> Client:
    return daemon.s3


@pytest.fixture
def bucket(s3: Client, name: str) -> Iterator[str]:
    """A bucket that only this test uses."""
    own = name.lower()[:60].strip("-")
    s3.create_bucket(Bucket=own)
    yield own
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=own):
        for entry in page.get("Contents", []):
            s3.delete_object(Bucket=own, Key=entry["Key"])
    s3.delete_bucket(Bucket=own)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ObjectStore]:
    files = ObjectStore(tmp_path / "s3")
    files.create_bucket("abc")
    yield files
