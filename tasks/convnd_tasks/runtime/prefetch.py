"""Background iteration: prepare the next items in a thread while the current one is in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["prefetch"]

T = TypeVar("T")

_END = object()
_JOIN_TIMEOUT = 2.0
"""Seconds to wait for the thread when the caller stops early."""


def prefetch(make: Callable[[], Iterator[T]], depth: int = 1) -> Iterator[T]:
    """Iterate in a background thread, up to ``depth`` items ahead of the caller.

    An exception in the iterator is raised to the caller in place of the item. If the caller stops
    early, the thread closes the iterator after its current item; the caller waits at most two
    seconds for that.

    Args:
        make: called in the thread; returns the iterator.
        depth: number of items that are prepared ahead.

    >>> list(prefetch(lambda: iter(range(4))))
    [0, 1, 2, 3]
    """
    items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                items.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        iterator = None
        try:
            iterator = make()
            for item in iterator:
                put(item)
                if stop.is_set():
                    break
            put(_END)
        except BaseException as error:
            put(_END, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        # The thread stays until the caller is done. When it ended earlier on a shared machine,
        # evaluations took ten times as long: OpenMP threads spin unless they outnumber the cores.
        stop.wait()

    thread = threading.Thread(target=produce, name="convnd-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        thread.join(_JOIN_TIMEOUT)
