"""Graceful interruption: a signal ends a job after the current step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from convnd.errors import STOP_SIGNALS, StopSignal

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup

__all__ = ["GracefulInterrupt"]


class GracefulInterrupt:
    """Delays signals until the current step ends, so that all processes of a job stop at one step.

    Args:
        group: the processes that share the job; None is this one alone.
        waits: whether a single process finishes its step, too; otherwise it stops at once.
    """

    def __init__(self, group: ProcessGroup | None = None, *, waits: bool = False) -> None:
        self.group = group
        self._alone = group is None or group.size == 1
        self._waits = waits or not self._alone
        self._received: int | None = None

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Catch signals in this block: the first waits for the step, the second stops at once.

        One of several processes always finishes its step, because the others wait for its part.
        """
        if not self._waits or threading.current_thread() is not threading.main_thread():
            yield
            return

        def receive(number: int, _frame: FrameType | None) -> None:
            if self._received is None:
                self._received = number
            elif self._alone:
                raise StopSignal(number)

        handlers = [signal.signal(number, receive) for number in STOP_SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(STOP_SIGNALS, handlers, strict=True):
                signal.signal(number, handler)

    def received(self) -> int:
        """Return the signal that a process of the group received, or 0.

        Every process of the group has to call this method.
        """
        number = self._received or 0
        # A signal reaches each process at another moment.
        return number if self.group is None else self.group.all_reduce_max(number)
