"""The inputs of one style transfer, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from convnd.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.losses import Term

__all__ = ["TransferProblem"]


@dataclass(frozen=True, eq=False)
class TransferProblem:
    """What one transfer optimises, and what the result is compared with.

    Values are expected to span about ``[0, 1]``, as the backbones were trained.

    Args:
        content: ``(B, C, *S)``; None makes a texture out of the styles alone.
        styles: at least one ``(B, C, *S_i)``, of any size.
        size: samples of the result along each axis; empty is the content's.
        spacing: distance between samples of the result along each axis, for total variation; empty
            is 1 along every axis.
        init: ``(B, C, *S_0)``, the starting point instead of the one that the options name.
        same_grid: styles are sampled as the result is (in time or in millimetres), and keep that
            sampling at every scale, however many samples they have.
        feature_styles: one for each style, compared by features in its place; statistics of values
            keep to ``styles``.
        initial: changes the content, or the noise that a texture starts from, into the starting
            point, where the options name the content as such.
        extra_terms: makes further terms of the objective for a size.
        known_bandwidth: share of the result's frequencies, from 0 to its Nyquist frequency, that
            the styles contain.
        bounds: lowest and highest value of a result, which is cut there when it is written, see
            `convnd.optimize.evaluate_within`; None is none.

    Raises:
        UsageError: no style, or a texture without a size.

    >>> import torch
    >>> problem = TransferProblem(torch.zeros(1, 3, 8, 6), [torch.ones(1, 3, 9, 9)])
    >>> problem.size, problem.spacing, problem.spacing_at((4, 3))
    ((8, 6), (1.0, 1.0), [2.0, 2.0])
    """

    content: Tensor | None
    styles: Sequence[Tensor]
    _: KW_ONLY
    size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    init: Tensor | None = None
    same_grid: bool = False
    feature_styles: Sequence[Tensor] | None = None
    initial: Callable[[Tensor], Tensor] | None = None
    extra_terms: Callable[[tuple[int, ...]], Sequence[Term]] | None = None
    known_bandwidth: float = 1.0
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.styles:
            raise UsageError(
                "style transfer", expected="at least one style", got="none", remedy="give one"
            )
        if not self.size:
            if self.content is None:
                raise UsageError(
                    "texture", expected="a size", got="neither size nor content", remedy="give one"
                )
            object.__setattr__(self, "size", tuple(self.content.shape[2:]))
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * len(self.size))

    @property
    def compared_styles(self) -> Sequence[Tensor]:
        """The styles that are compared by features."""
        return self.styles if self.feature_styles is None else self.feature_styles

    @property
    def style_grid(self) -> tuple[int, ...] | None:
        """The result's full size where styles are sampled as it is; otherwise None."""
        return self.size if self.same_grid else None

    def spacing_at(self, size: Sequence[int]) -> list[float]:
        """Distance between samples along each axis where the result has another size."""
        return [
            step * whole / part
            for step, whole, part in zip(self.spacing, self.size, size, strict=True)
        ]

    def bandwidth_at(self, size: Sequence[int]) -> float:
        """`known_bandwidth` where the result has another size."""
        return min(1.0, self.known_bandwidth * self.size[0] / size[0])
