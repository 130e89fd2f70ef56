"""The inputs of one style transfer, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from convnd.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.losses import Term
    from convnd.transfer.regions import StyleRegion

__all__ = ["TransferProblem"]


@dataclass(frozen=True, eq=False)
class TransferProblem:
    """The inputs of one transfer: content, styles, starting point and further terms.

    Values span about ``[0, 1]``, as in the training of the backbones.

    Args:
        content: ``(B, C, *S)``; None makes a texture out of the styles alone.
        styles: at least one ``(B, C, *S_i)``, of any size.
        size: samples of the result along each axis; empty is the content's.
        spacing: distance between samples of the result along each axis, for total variation; empty
            is 1 along every axis.
        init: starting point ``(B, C, *S_0)``; None is the one that the options name.
        same_grid: whether the samples of styles have the spacing of those of the result, in time or
            in millimetres. Styles then keep this spacing at every scale.
        feature_styles: ``(B, C, *S_i)`` for each style, whose features are compared in place of the
            style's; statistics of values are those of ``styles``. None is ``styles``.
        initial: turns the content, or the noise that a texture starts from, into the starting
            point, if the options name the content as starting point; None changes nothing.
        extra_terms: makes further terms of the objective for a size; None makes none.
        known_bandwidth: share of the result's frequencies, from 0 to its Nyquist frequency, that
            the styles contain.
        matches_detail: whether each finer size starts with detail of the power of the styles'
            instead of the content's own, see `convnd.transfer.random_phase.detail_change`.
        bounds: lowest and highest value of a result, which is cut there when it is written, see
            `convnd.optimize.evaluate_within`; None does not cut it.
        mask: share of the result that is used at each position, ``(1, 1, *S)``; the rest is the
            content. Statistics are those of this part. None is 1.
        strength: share of the way from the content's statistics to those of the styles that the
            targets lie at, from 0 to 1.
        regions: parts of the result with styles of their own; empty is one of all positions, or of
            those of the mask, with all styles.

    Raises:
        UsageError: there is no style, or neither a content nor a size.

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
    matches_detail: bool = False
    bounds: tuple[float, float] | None = None
    mask: Tensor | None = None
    strength: float = 1.0
    regions: Sequence[StyleRegion] = ()

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
        for region in self.regions:
            if max(region.styles) >= len(self.styles):
                raise UsageError(
                    region.name,
                    expected=f"styles among the {len(self.styles)} of the transfer",
                    got=region.styles,
                    remedy="add the style",
                )
        if self.mask is not None and not self.regions:
            from convnd.transfer.regions import StyleRegion

            everywhere = StyleRegion(self.mask, tuple(range(len(self.styles))), name="mask")
            object.__setattr__(self, "regions", (everywhere,))
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * len(self.size))

    @property
    def compared_styles(self) -> Sequence[Tensor]:
        """The styles whose features are compared."""
        return self.styles if self.feature_styles is None else self.feature_styles

    @property
    def style_grid(self) -> tuple[int, ...] | None:
        """The full size of the result, if styles have its spacing of samples; otherwise None."""
        return self.size if self.same_grid else None

    def spacing_at(self, size: Sequence[int]) -> list[float]:
        """Return the distance between samples along each axis for a result of some size.

        Args:
            size: samples along each axis.
        """
        return [
            step * whole / part
            for step, whole, part in zip(self.spacing, self.size, size, strict=True)
        ]

    def bandwidth_at(self, size: Sequence[int]) -> float:
        """Return the `known_bandwidth` for a result of some size.

        Args:
            size: samples along each axis.
        """
        return min(1.0, self.known_bandwidth * self.size[0] / size[0])
