"""Locks by key."""

import threading
from concurrent.futures import ThreadPoolExecutor

from localmode.core.locks import KeyedLocks
from tests.support.local import SOON


def test_the_lock_of_another_key_is_free() -> None:
    locks = KeyedLocks()
    with locks.hold("a"), ThreadPoolExecutor(1) as pool:

        def take() -> bool:
            with locks.hold("b"):
                return True

        assert pool.submit(take).result(SOON)


def test_threads_hold_the_lock_of_one_key_one_after_the_other() -> None:
    locks, inside, most = KeyedLocks(), threading.Semaphore(1), []

    def take(_: int) -> None:
        with locks.hold("a"):
            most.append(inside.acquire(blocking=False))
            inside.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(100)))
    assert most == [True] * 100


def test_a_lock_that_nobody_uses_is_dropped() -> None:
    locks = KeyedLocks()
    with locks.hold("a"), locks.hold("b"):
        assert len(locks) == 2
    assert len(locks) == 0


def test_an_exception_releases_the_lock() -> None:
    locks = KeyedLocks()
    for _ in range(2):
        try:
            with locks.hold("a"):
                raise LookupError
        except LookupError:
            pass
    assert len(locks) == 0
