"""Parallel execution of Python functions in processes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

__all__ = ["parallel_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_PROCESSES = 8  # bounds the memory
_function: Callable[[Any], Any]  # set in each child process


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to items in as many processes as torch has threads, at most 8.

    The processes are forked and inherit the function, so it may be a closure. Each process has
    one torch thread. On systems other than Linux, and for a single item, the calls run in this
    process. The processes end when the function returns or raises, also on Ctrl-C; a
    `concurrent.futures.ProcessPoolExecutor` would wait for its running calls.

    Args:
        function: takes an item; item and result pass through a pipe and must be picklable.
        items: the items.

    Returns:
        The results, in the order of the items.

    >>> parallel_map(lambda x: 2 * x, [1, 2, 3])
    [2, 4, 6]
    """
    import torch

    processes = min(len(items), torch.get_num_threads(), _MAX_PROCESSES)
    if processes < 2 or sys.platform != "linux":
        return [function(item) for item in items]
    with ExitStack() as stack:
        with _signals_later() as handlers:
            pool = get_context("fork").Pool(processes, _initialize, (function, handlers))
            stack.enter_context(pool)
        return pool.map(_call, items, chunksize=1)


@contextmanager
def _signals_later() -> Iterator[set[Any]]:
    """Run the handlers of signals after this block, and give its former mask of signals.

    Python drops an exception that a handler raises while it forks. An exception while a pool is
    made leaves its processes running. A new process receives SIGTERM once its handler is set.
    """
    signals: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        if threading.current_thread() is threading.main_thread():  # no handler runs in others
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, lambda number, _: signals.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in signals:
            signal.raise_signal(late)


def _initialize(function: Callable[[Any], Any], mask: set[Any]) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    global _function
    _function = function
    torch.set_num_threads(1)


def _call(item: Any) -> Any:
    return _function(item)
