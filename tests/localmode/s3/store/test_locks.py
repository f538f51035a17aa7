"""Locks by key."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from localmode.s3.store.locks import KeyedLocks
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


def test_a_lock_is_released_after_an_error() -> None:
    locks = KeyedLocks()
    with pytest.raises(OSError, match="full"), locks.hold("key"):
        raise OSError("full")
    assert len(locks) == 0
    with locks.hold("key"):
        assert len(locks) == 1
