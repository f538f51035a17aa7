"""Start the daemon's threads, and log those that crash."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


def start_thread(
    name: str,
    target: Callable[[], None],
    consequence: str,
    on_crash: Callable[[Exception], None] | None = None,
) -> threading.Thread:
    """Start a daemon thread that runs `target`, and return it.

    If an exception escapes `target`, it is logged together with `consequence`, which says in a sentence what no
    longer happens or what happens instead; then `on_crash`, if given, is called with the exception.
    """

    def run() -> None:
        try:
            target()
        except Exception as error:  # noqa: BLE001 - it is logged here, with its traceback
            _log.exception("Thread %s crashed. %s", name, consequence)
            if on_crash is not None:
                on_crash(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
