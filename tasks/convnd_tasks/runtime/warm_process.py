"""A process that loads libraries while this one loads torch, and then computes with them.

Some libraries take seconds to load. Two processes load at the same time on two cores; two threads
do not, since Python runs one of them at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

from convnd.threads import count_allowed_cores

__all__ = ["call_warm", "start_warm_process"]

Result = TypeVar("Result")


class _WarmProcess(NamedTuple):
    """A process, its parent, and the parent's end of the pipe to it."""

    process: BaseProcess
    parent: int
    pipe: Connection


_warm: _WarmProcess | None = None


def start_warm_process(modules: Sequence[str]) -> None:
    """Start a process that loads modules and then waits for calls of `call_warm`.

    It is a copy of this process, so it has to start before torch and its threads are there. It is
    not started on one core, on systems other than Linux, and beside other threads. It ends with
    this process.

    Args:
        modules: names of the modules; one that cannot be imported is left out.
    """
    global _warm
    is_safe = "torch" not in sys.modules and threading.active_count() == 1
    if not modules or not is_safe or sys.platform != "linux" or count_allowed_cores() < 2:
        return
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(ours, theirs, modules), daemon=True)
    process.start()
    theirs.close()
    _warm = _WarmProcess(process, os.getpid(), ours)


def call_warm(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in the process of `start_warm_process`, or here if there is none.

    Args:
        function: a function of a module that does not need torch; it is found by its name.
        args: its arguments, which are sent through a pipe, as the result is.

    Returns:
        The result.

    Raises:
        Exception: what the function raises.

    >>> call_warm(pow, 2, 3)
    8
    """
    global _warm
    if _warm is not None and _warm.parent == os.getpid():  # a fork would mix its messages in
        try:
            _warm.pipe.send((function, args))
            result, error = _warm.pipe.recv()
        except (EOFError, OSError):  # something ended it: the call is made here
            _warm = None
        else:
            if error is not None:
                raise error
            value: Result = result
            return value
    return function(*args)


def _serve(parent: Connection, pipe: Connection, modules: Sequence[str]) -> None:
    """Load modules, and answer calls until the other end of the pipe is closed."""
    parent.close()  # else the end of the parent would not close the pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, args = pipe.recv()
            try:
                answer: tuple[Any, Exception | None] = function(*args), None
            except Exception as error:
                answer = None, error
            pipe.send(answer)
