"""How often steps are drawn, so that pictures of them take little of the time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

__all__ = ["DrawingPace"]

_SHARE = 0.04
"""Largest share of the time that pictures of steps take."""

_SHORTEST = 0.1
"""Seconds between two pictures, at least."""


class DrawingPace:
    """Decides when the next picture is due: the first at once, others as their cost allows.

    All pictures together take at most a share of the time so far, so the few stages of a job whose
    loading took long are all drawn.

    Attributes:
        count: number of pictures.
    """

    def __init__(self) -> None:
        self.count = 0
        self._cost = self._spent = 0.0
        self._started = self._drawn_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether a picture may be drawn now."""
        now = time.monotonic()
        fits = self._spent + self._cost <= _SHARE * (now - self._started)
        return self.count == 0 or (fits and now - self._drawn_at > _SHORTEST)

    @property
    def share(self) -> float:
        """Share of the time that pictures took so far."""
        return self._spent / max(1e-9, time.monotonic() - self._started)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Measure the drawing of a picture in a ``with`` block."""
        began = time.monotonic()
        yield
        self.count += 1
        self._drawn_at = time.monotonic()
        self._cost = self._drawn_at - began
        self._spent += self._cost
