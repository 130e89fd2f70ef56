"""Recovery from rejected steps: smaller learning rates, then float32."""

from __future__ import annotations

import math

from convnd.errors import NumericalError
from convnd.losses import Objective

__all__ = ["StepRecovery"]

_RETRIES = 8


class StepRecovery:
    """The retry policy for diverged steps.

    Each rejected step halves the learning rate. After eight rejections in a row the features are
    computed in float32 at the last learning rate that worked, and eight more are tried.

    Args:
        learning_rate: current learning rate.
        rejected_steps: number of rejected steps so far.
        exact: whether features are computed in float32 because of rejected steps.
    """

    def __init__(
        self, learning_rate: float, rejected_steps: int = 0, *, exact: bool = False
    ) -> None:
        self.learning_rate = self._first_rate = self._working_rate = learning_rate
        self.rejected_steps = rejected_steps
        self.exact = exact
        self._failures = 0
        self._reason = ""
        self._is_first_move = False
        self._notable = rejected_steps > 0
        self._reported = (self._notable, exact)

    def reject(self, objective: Objective, index: int, loss: float, *, started: bool) -> bool:
        """Reject a step: halve the learning rate, or switch the objective to float32.

        Args:
            objective: the objective, whose precision may change.
            index: number of the rejected step.
            loss: loss of the rejected step.
            started: whether a step was accepted before; a smaller step does not help otherwise.

        Returns:
            Whether the objective was switched to float32.

        Raises:
            NumericalError: both have been tried.
        """
        if not self._failures:
            self._reason = f"loss {loss:.4g} at step {index}"
            self._is_first_move = index == 1 and math.isfinite(loss)
        if not started or self._failures == _RETRIES:
            if self.exact or not objective.switch_to_float32():
                raise self.failure(index, loss)
            self.exact, self._failures, self.learning_rate = True, 0, self._working_rate
        else:
            self._failures += 1
            self.learning_rate /= 2
        self.rejected_steps += 1
        self._notable |= self.exact or not self._is_first_move or self.halvings_have_failed
        return self._failures == 0

    @property
    def halvings_have_failed(self) -> bool:
        """Whether half of the smaller learning rates of one step were rejected, too."""
        return self._failures > _RETRIES // 2

    def limit_rate(self, rate: float) -> None:
        """Lower the learning rate to this one, if it is larger."""
        self.learning_rate = min(self.learning_rate, rate)

    def accept(self, previous: int) -> str:
        """Accept a step.

        Args:
            previous: number of the step that it was made from.

        Returns:
            A line about the rejected steps before it, the first time that there are some and the
            first time in float32; otherwise "". It is "" for a first move that was merely too long,
            since its length is a guess.
        """
        self._failures, self._working_rate = 0, self.learning_rate
        reported, self._reported = self._reported, (self._notable, self.exact)
        if self._reported == reported:
            return ""
        size = self.learning_rate / self._first_rate
        smaller = f" with {size:.3g} of the learning rate" if size < 1 else ""
        exact = ", features in plain float32" if self.exact else ""
        return f"{self._reason} was rejected; continuing from step {previous}{smaller}{exact}"

    def failure(self, index: int, loss: float) -> NumericalError:
        """Return the error for a step that no retry has helped."""
        tried = [f"{self.rejected_steps} rejected steps"] if self.rejected_steps else []
        tried += ["features in plain float32"] if self.exact else []
        after = f" after {' and '.join(tried)}" if tried else ""
        return NumericalError(
            "minimize",
            expected="a finite loss that falls",
            got=f"{loss:g} at step {index}{after}",
            remedy="use a smaller learning rate or style weight, or check the input for "
            "values that are not finite",
        )
