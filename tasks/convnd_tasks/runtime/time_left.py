"""Estimation of the time left to a job, from the times of its last steps."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress

__all__ = ["TimeLeft", "duration"]

_WINDOW = 20
"""Steps whose time counts: enough to even out single ones, few enough to follow the machine."""

_FEWEST = 3
"""Steps of a scale after which its time replaces that of the scales before; in the last scale, one
is enough as soon as no more than these are left."""

_ENOUGH = 10
"""Steps after which an estimate is shown, however much their times differ."""

_LARGEST_SPREAD = 1.5
"""Ratio of the slower to the faster steps, up to which fewer than that make an estimate."""


class TimeLeft:
    r"""Estimates the time that is left from the steps so far.

    The time of a step has a fixed part and a part that grows with its work, which is samples times
    the cost of the network:

    .. math:: t = a + b w

    With :math:`n` evaluations and the work :math:`W` left, :math:`a n + b W` remains. Each scale to
    come evaluates its start, too. The steps of one scale do not tell both parts apart, so their
    ratio is `convnd.transfer.progress.Progress.fixed_share`. Some steps take longer once, such as
    the first frame of a video and the first use of a content; the median over the last steps is
    not misled by them.

    Attributes:
        is_reliable: whether the steps so far are enough to show the estimate to users.

    >>> left = TimeLeft()
    >>> for number in range(5):
    ...     left.add(number / 8, float(number), steps_left=8 - number)
    >>> left.seconds(4.0), left.is_reliable
    (4.0, True)
    """

    def __init__(self) -> None:
        self.is_reliable = False
        self._points: deque[tuple[float, float]] = deque(maxlen=_WINDOW + 1)
        self._scale = 0
        self._added = 0.0  # time of the last point
        self._left: float | None = None
        self._of_work = self._of_step = 0.0  # seconds for the whole work, and for each step beside

    def update(self, progress: Progress, now: float) -> None:
        """Take a step into account.

        Args:
            progress: the step.
            now: seconds of a monotonic clock.
        """
        self.add(
            progress.fraction_done,
            now,
            steps_left=progress.steps - progress.step,
            scale=progress.phase,
            scales_left=progress.phases - progress.phase,
            fixed_share=progress.fixed_share,
        )

    def add(
        self,
        fraction_done: float,
        now: float,
        *,
        steps_left: int = 0,
        scale: int = 1,
        scales_left: int = 0,
        fixed_share: float = 0.0,
    ) -> None:
        """Take a step into account, given by its figures.

        Args:
            fraction_done: share of the whole work that is done, in ``[0, 1]``.
            now: seconds of a monotonic clock.
            steps_left: number of steps to come.
            scale: number of the phase, which is one network at one size.
            scales_left: number of phases to come.
            fixed_share: share of the time of such a step that does not depend on its work.
        """
        is_first = scale != self._scale
        if is_first:
            self._scale = scale
            self._points.clear()
        elif self._points and fraction_done < self._points[-1][0]:
            self._points.clear()  # a scale has begun again
        elif self._points and fraction_done == self._points[-1][0]:
            return  # a step within a frame of a video
        if not is_first or self._left is None:  # the first step of a scale includes its setup
            self._points.append((fraction_done, now))
        steps = len(self._points) - 1
        is_short = scales_left == 0 and steps_left <= _FEWEST
        if steps >= (1 if self._left is None or is_short else _FEWEST):
            self._measure(steps, fixed_share)
        elif self._left is None:
            return
        left = steps_left + scales_left
        self._left = (1 - fraction_done) * self._of_work + left * self._of_step
        self._added = now

    def _measure(self, steps: int, fixed_share: float) -> None:
        """Measure the time of the work from the last steps of this scale."""
        # Seconds for the whole work, if all of it went as one step did.
        times = sorted(
            (end - start) / (end_share - start_share)
            for (start_share, start), (end_share, end) in itertools.pairwise(self._points)
        )
        time_of_all = statistics.median(times)
        step_time = time_of_all * (self._points[-1][0] - self._points[0][0]) / steps
        self._of_work = (1 - fixed_share) * time_of_all
        self._of_step = fixed_share * step_time
        faster, slower = times[steps // 4], times[-1 - steps // 4]
        agree = steps >= _FEWEST and slower <= _LARGEST_SPREAD * faster
        self.is_reliable |= agree or steps >= _ENOUGH

    def seconds(self, now: float) -> float | None:
        """Return the seconds that are left, or None before two steps.

        Args:
            now: seconds of the same clock.
        """
        return None if self._left is None else max(0.0, self._left - (now - self._added))


def duration(seconds: float) -> str:
    """Write a time in seconds as minutes and seconds, or as hours too.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
