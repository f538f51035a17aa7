"""A place where a thread waits until the test lets it go on."""

import threading

from tests.support.local import SOON


class Gate:
    """Holds up the threads that pass it, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def wait(self) -> None:
        """Pass the gate, in the thread that is to be held up."""
        self.reached.release()
        assert self.opened.wait(SOON)

    def arrived(self) -> None:
        """Wait, in the test, for a thread at the gate."""
        assert self.reached.acquire(timeout=SOON)
