"""Locks by key, so that a change of one resource does not wait for the disk of another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _SharedLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0  # threads that hold the lock or wait for it


class KeyedLocks:
    """One lock for each key; it exists only while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # guards the dictionary and the counts; nothing blocks while it is held
        self._locks: dict[tuple[str, ...], _SharedLock] = {}

    def __len__(self) -> int:
        """Return the number of keys whose locks are held or wanted."""
        return len(self._locks)

    @contextmanager
    def hold(self, *key: str) -> Iterator[None]:
        """Hold the lock of a key, which a thread must not take twice; other keys' locks stay free."""
        with self._mutex:
            shared = self._locks.setdefault(key, _SharedLock())
            shared.users += 1
        try:
            with shared.lock:
                yield
        finally:
            with self._mutex:
                shared.users -= 1
                if shared.users == 0:
                    del self._locks[key]
