"""Locks by key."""

import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from localmode.core.locks import KeyedLocks
from tests.support.local import SOON


@pytest.mark.parametrize(("key", "waits"), [(("b", "key"), True), (("b", "other"), False), (("b",), False)])
def test_only_holders_of_the_same_key_wait_for_each_other(key: tuple[str, ...], waits: bool) -> None:
    locks, began, entered = KeyedLocks(), Event(), Event()

    def hold() -> None:
        began.set()
        with locks.hold(*key):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with locks.hold("b", "key"):
            other = pool.submit(hold)
            assert began.wait(SOON)
            assert entered.wait(0.05 if waits else SOON) is not waits
        other.result(SOON)
    assert entered.is_set()
    assert len(locks) == 0


def test_only_one_thread_holds_the_lock_of_a_key() -> None:
    locks, inside, most = KeyedLocks(), threading.Semaphore(1), []

    def take(_: int) -> None:
        with locks.hold("a"):
            most.append(inside.acquire(blocking=False))
            inside.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(100)))
    assert most == [True] * 100


def test_unused_locks_are_dropped() -> None:
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
