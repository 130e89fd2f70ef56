"""Changes of a transfer that runs: other weights, strengths and styles from a step on.

Every term of the objective is a function of sums (`convnd.losses.Objective`). Its weights, the
blend of several styles, and the strength are factors of these sums. After a change the sums of a
size are therefore weighted anew, and the network sees neither content nor styles again; only a
style that has changed itself is measured. The optimisation goes on from its values, with what it
knows of the curvature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from convnd.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.losses import ContentLoss
    from convnd.stats import Sums
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.problem import TransferProblem

__all__ = [
    "LIVE_OPTIONS",
    "Adjust",
    "Adjustment",
    "TargetMemory",
    "check_adjustment",
    "live_options",
]

LIVE_OPTIONS = (
    *("content_weight", "style_weight", "style_weights", "tv_weight", "affine_weight"),
    "style_scale",
)
"""Options that may change while a transfer runs; the strength is one of the problem."""

AnyOptions = TypeVar("AnyOptions", bound="TransferOptions")


class Adjustment(NamedTuple):
    """What a transfer continues with.

    Args:
        problem: inputs with the same content, size and number of styles; the styles themselves and
            the strength may be others.
        options: options, of which the `LIVE_OPTIONS` count.
    """

    problem: TransferProblem
    options: TransferOptions


Adjust = Callable[[int], Adjustment | None]
"""Is asked after the step with a number; None changes nothing."""


def live_options(options: AnyOptions, source: TransferOptions) -> AnyOptions:
    """Return options with the `LIVE_OPTIONS` of others.

    Args:
        options: the options.
        source: the options whose live ones are taken.

    >>> from convnd.transfer.options import TransferOptions
    >>> live_options(TransferOptions(steps=3), TransferOptions(steps=9, tv_weight=2)).tv_weight
    2
    """
    return replace(options, **{name: getattr(source, name) for name in LIVE_OPTIONS})


def check_adjustment(before: TransferProblem, after: Adjustment) -> None:
    """Check that a transfer can continue with another problem and other options.

    Args:
        before: the problem so far.
        after: what it continues with.

    Raises:
        UsageError: content, size or number of styles have changed, or the weights do not fit.
    """
    problem = after.problem
    same = (
        tuple(before.size) == tuple(problem.size)
        and same_values(before.content, problem.content)
        and len(before.styles) == len(problem.styles)
    )
    if not same:
        raise UsageError(
            "adjustment",
            expected="the same content, size and number of styles",
            got="others",
            remedy="start a new transfer",
        )
    after.options.check_style_weights(len(problem.styles))


def same_values(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors have the same values; None equals None alone."""
    import torch  # a page checks changes without it

    if one is None or other is None:
        return one is other
    return one is other or (one.shape == other.shape and torch.equal(one, other))


@dataclass
class TargetMemory:
    """The features and statistics that were computed for one phase.

    Attributes:
        content: the losses of the content; None before they are made.
        styles: each style, the share of it that was read, and its statistics by layer.
    """

    content: list[ContentLoss] | None = None
    styles: list[tuple[Tensor, Tensor | None, dict[str, Sums]]] = field(default_factory=list)

    def style_sums(
        self, style: Tensor, share: Tensor | None, compute: Callable[[], dict[str, Sums]]
    ) -> dict[str, Sums]:
        """Return the statistics of a style, which are computed once.

        Args:
            style: ``(1, C, *S)``.
            share: the part that is read, ``(1, 1, *S)``; None is all of it.
            compute: computes the statistics.
        """
        for known, known_share, sums in self.styles:
            if same_values(known, style) and same_values(known_share, share):
                return sums
        sums = compute()
        self.styles.append((style, share, sums))
        return sums
