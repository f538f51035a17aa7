"""Make a thread wait at a chosen place until the test lets it go on."""

import threading
from pathlib import Path
from typing import Any

from localmode.core.durable import Journal
from tests.support.local import SOON


class Gate:
    """Makes each thread that calls `wait` wait until the test sets `opened`."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def wait(self) -> None:
        """Wait until the test opens the gate."""
        self.reached.release()
        assert self.opened.wait(SOON)

    def arrived(self) -> None:
        """Return as soon as a thread waits at the gate."""
        assert self.reached.acquire(timeout=SOON)


class SlowJournal(Journal):
    """A journal whose changes to the document `slow` wait at a gate."""

    def __init__(self, directory: Path, slow: str) -> None:
        super().__init__(directory, directory)
        self.slow, self.gate = slow, Gate()

    def save(self, name: str, document: dict[str, Any]) -> None:
        if name == self.slow:
            self.gate.wait()
        super().save(name, document)

    def delete(self, name: str) -> None:
        if name == self.slow:
            self.gate.wait()
        super().delete(name)
