"""Read the index from disk when the daemon starts."""

from __future__ import annotations

import shutil
from operator import itemgetter
from pathlib import Path

from localmode.core.durable import read_document
from localmode.s3.store.index import Bucket, Index, Objects
from localmode.s3.store.layout import Layout, hash_of
from localmode.s3.store.sidecar import Sidecar, Sidecars


def recover(layout: Layout) -> Index:
    """Return the index of what is on disk, and remove unfinished files; raise LocalModeError for a damaged document."""
    layout.root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(layout.scratch, ignore_errors=True)  # what a killed daemon had not acknowledged
    for directory in (layout.scratch, layout.configurations):
        directory.mkdir(exist_ok=True)
    directories = (path for path in layout.root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return Index({path.name: (_bucket(layout, path), _objects(layout, path)) for path in directories})


def _bucket(layout: Layout, directory: Path) -> Bucket:
    document = layout.configuration(directory.name)
    if not document.exists():
        return Bucket(directory.name, directory.stat().st_mtime)
    created, documents = read_document(document, itemgetter("created", "documents"))
    return Bucket(directory.name, created, documents)


def _objects(layout: Layout, directory: Path) -> Objects:
    objects, sidecars = Objects(), Sidecars(layout).read(directory.name)
    for path in directory.rglob("*"):
        if path.is_file():
            key = path.relative_to(directory).as_posix()
            objects.add(sidecars.get(hash_of(key), Sidecar(key, [])).describe(path))
    for path in layout.other(directory.name).glob("*"):
        if path.name in sidecars:
            objects.add(sidecars[path.name].describe(path))
    return objects
