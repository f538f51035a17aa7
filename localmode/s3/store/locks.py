"""Locks by key, so that what concerns one object does not wait for what concerns another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _SharedLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0  # threads that hold it or wait for it


class KeyedLocks:
    """A lock for each key; it exists only while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, ...], _SharedLock] = {}

    def __len__(self) -> int:
        """Return how many keys have a lock at present."""
        return len(self._locks)

    @contextmanager
    def hold(self, *key: str) -> Iterator[None]:
        """Hold the lock of a key; the same thread must not take it twice."""
        with self._guard:
            shared = self._locks.setdefault(key, _SharedLock())
            shared.users += 1
        try:
            with shared.lock:
                yield
        finally:
            with self._guard:
                shared.users -= 1
                if shared.users == 0:
                    del self._locks[key]
