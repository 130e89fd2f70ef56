"""Parallel execution of Python functions in processes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
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
    with get_context("fork").Pool(processes, _initialize, (function,)) as pool:
        return pool.map(_call, items, chunksize=1)


def _initialize(function: Callable[[Any], Any]) -> None:
    import torch

    global _function
    _function = function
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call(item: Any) -> Any:
    return _function(item)
