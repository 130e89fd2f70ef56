"""Work of the next frame while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["prefetch"]

T = TypeVar("T")

_DONE = object()
_PATIENCE = 2.0
"""Seconds that one who stops early waits for the item in the making; then it is left alone."""


def prefetch(make: Callable[[], Iterator[T]], depth: int = 1) -> Iterator[T]:
    """The items of an iterator that runs in a thread of its own, so many items ahead.

    What it raises is raised here, where its item would have come. When the caller stops early, the
    iterator is closed after the item that it is at, for which nobody waits longer than two seconds.

    Args:
        make: gives the iterator, in that thread.
        depth: items that wait at most.

    >>> list(prefetch(lambda: iter(range(4))))
    [0, 1, 2, 3]
    """
    waiting: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        iterator = None
        try:
            iterator = make()
            for item in iterator:
                put(item)
                if stop.is_set():
                    break
            put(_DONE)
        except BaseException as error:
            put(_DONE, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        # On a machine that others use as well, evaluations took ten times as long once this thread
        # had ended: OpenMP's threads wait by spinning unless there are more of them than cores.
        stop.wait()

    thread = threading.Thread(target=work, name="convnd-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _DONE:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(_PATIENCE)
