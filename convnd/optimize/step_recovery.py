"""Steps that go wrong."""

from __future__ import annotations

from convnd.errors import NumericalError
from convnd.losses import Objective

__all__ = ["StepRecovery"]

_RETRIES = 8


class StepRecovery:
    """What is done about steps that go wrong, a bounded number of times; and what is said of it."""

    def __init__(self, rate: float, rejected_steps: int = 0, *, exact: bool = False) -> None:
        self.rate = self._first = self._good = rate
        self.rejected_steps = rejected_steps
        self.exact = exact
        self._failures = 0
        self._what = ""
        self._told = (rejected_steps > 0, exact)

    def reject(self, objective: Objective, index: int, loss: float, *, started: bool) -> bool:
        """Half the rate, or float32; whether it is the latter.

        Raises:
            NumericalError: both have been tried.
        """
        if not self._failures:
            self._what = f"loss {loss:.4g} at step {index}"
        if not started or self._failures == _RETRIES:
            if self.exact or not objective.exact():
                raise self.failure(index, loss)
            self.exact, self._failures, self.rate = True, 0, self._good
        else:
            self._failures += 1
            self.rate /= 2
        self.rejected_steps += 1
        return self._failures == 0

    def accept(self, since: int) -> str:
        """A step went well; the line for people, if they have not been told yet."""
        self._failures, self._good = 0, self.rate
        told, self._told = self._told, (self.rejected_steps > 0, self.exact)
        if self._told == told:
            return ""
        size = self.rate / self._first
        smaller = f" at {size:.3g} of the step" if size < 1 else ""
        wider = ", features in plain float32" if self.exact else ""
        return f"{self._what}, taken back; going on from step {since}{smaller}{wider}"

    def failure(self, index: int, loss: float) -> NumericalError:
        """The end of it."""
        tried = [f"{self.rejected_steps} steps taken back"] if self.rejected_steps else []
        tried += ["features in plain float32"] if self.exact else []
        after = f" after {' and '.join(tried)}" if tried else ""
        return NumericalError(
            f"minimize: expected a finite loss that falls, got {loss:g} at step {index}{after}; "
            "use a smaller learning rate or style weight, or check the input for values that are "
            "not finite"
        )
