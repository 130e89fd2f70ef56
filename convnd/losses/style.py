"""The style loss: squared distance to a statistic of the style's features."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.losses.base import (
    LossModule,
    Window,
    check_normalization,
    expand_target,
    relative_distance,
    tile_offset,
    tile_shape,
)
from convnd.nn.transforms import apply_function, full_precision, is_transformed
from convnd.stats import (
    STATISTICS,
    GuidedStatistic,
    ProjectedStatistic,
    Statistic,
    Sums,
    is_additive,
    overlap_of,
    tile_sums,
)

__all__ = ["StyleLoss"]


class StyleLoss(LossModule):
    r"""Squared distance to a statistic of the style.

    For the Gram matrix :math:`G = \sum_p a_p a_p^T` over ``P`` positions (in the lecture notes
    ``P = n_h n_w``) and ``n_c`` channels, with :math:`D = G(S) - G(G)`:

    ============== ============================================== ===============================
    normalization  value                                          source
    ============== ============================================== ===============================
    ``"lecture"``  :math:`\lVert D\rVert_F^2 / (2 P n_c)`         lecture notes, no. 5
    ``"gatys"``    :math:`\lVert D\rVert_F^2 / (4 P^2 n_c^2)`     Gatys et al. (2016), eq. 4
    ``"mean"``     mean of :math:`(D/P)^2` over its entries       mean squared error
    ``"balanced"`` :math:`\lVert D/P\rVert^2 / \lVert G(S)/P_S\rVert^2`  this package
    ============== ============================================== ===============================

    A style of another size than the result counts as if it had as many positions: its sums are
    multiplied by ``P / P_S``, which leaves the printed formulas as they are for equal sizes. The
    printed formulas are summed over a batch, the other two averaged.
    Statistics other than the Gram matrix are compared per position, by ``"mean"`` or
    ``"balanced"``.

    Args:
        target: sums of the style's features by the same statistic (`convnd.stats.blend` joins
            several styles), of one style for each item of a batch, or of one for all.
        layer: the layer of the features.
        statistic: one of `convnd.stats.STATISTICS`, or a statistic itself.
        normalization: one of `NORMALIZATIONS`.
        guide: weights of the positions of the layer, see `convnd.stats.GuidedStatistic`; the target
            then has to be that of a region. None is 1 everywhere.
        projection: linear map ``(C', C)`` from the raw features that the loss receives to the
            features of the target, see `convnd.backbones.Backbone.projection`. The statistic then
            has to be `convnd.stats.LinearlyMappable`.

    Raises:
        UnknownNameError: no such statistic or normalization.
        UsageError: ``"lecture"`` or ``"gatys"`` with another statistic than the Gram matrix.

    >>> import torch
    >>> target = STATISTICS["gram"].sums(torch.tensor([[[1.0, 1.0]]]))
    >>> loss = StyleLoss(target, layer="relu1_1", normalization="lecture")
    >>> loss.value(loss.sums(torch.tensor([[[3.0, 1.0]]]))).item()  # (10 - 2)² / (2·2·1)
    16.0
    """

    target: Tensor

    def __init__(
        self,
        target: Sums,
        *,
        layer: str,
        statistic: str | Statistic = "gram",
        normalization: str = "balanced",
        projection: Tensor | None = None,
        guide: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.raw = projection is not None
        self.linear = False
        self.normalization = check_normalization(normalization)
        self.statistic: Statistic = (
            STATISTICS[statistic] if isinstance(statistic, str) else statistic
        )
        self.overlap = overlap_of(self.statistic)
        if projection is not None:
            self.statistic = ProjectedStatistic(self.statistic, projection)
        if guide is not None:
            self.statistic = GuidedStatistic(self.statistic, guide)
        if statistic != "gram" and normalization in ("lecture", "gatys"):
            raise UsageError(
                "StyleLoss",
                expected=f"the statistic gram with normalization {normalization}, which defines "
                "it for Gram matrices only",
                got=f"{statistic!r}",
                remedy="use balanced or mean",
            )
        summary = self.statistic.summary(target).detach()
        if isinstance(self.statistic, GuidedStatistic) and not bool(self.statistic.present.all()):
            summary = _without_absent(summary, self.statistic.present)
        self.register_buffer("target", summary)
        self._measure_target()

    @property
    def additive(self) -> bool:
        """Whether sums of tiles add up, if each tile has its `overlap`."""
        return is_additive(self.statistic)

    def in_region(self, guide: Tensor) -> StyleLoss:
        """Return the loss of a region, with the same target; this loss has no guide.

        Args:
            guide: weights of the positions of the layer, not 0 everywhere.
        """
        loss = copy.copy(self)
        loss._modules = dict(self._modules)  # the copy of a module shares the table of its parts
        loss.statistic = GuidedStatistic(self.statistic, guide)
        return loss

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the sums of the statistic over a tile."""
        shape, offset = tile_shape(features, window), tile_offset(features, window)
        return tile_sums(self.statistic, features, shape, offset)

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ShapeError: the statistic and the target have different shapes.
        """
        with full_precision(sums.total):
            summary = self.statistic.summary(sums)
        # In a wider number format the difference would have no more digits: the summary is rounded.
        target = self.target.to(summary)
        target = expand_target("StyleLoss", target, summary.shape, self.layer)
        dtype = torch.promote_types(summary.dtype, self.target.dtype)
        squared_distance = _squared_distance(summary, target, dtype)
        if self.normalization in ("balanced", "mean"):
            return relative_distance(
                squared_distance,
                self.normalization,
                energy=self._energy * (len(summary) / len(self.target)),
                count=summary.numel(),
            )
        channels = self.target.shape[1]
        # D is a sum over positions, the difference here a mean: the square brings P² back.
        if self.normalization == "lecture":
            return squared_distance * sums.count / (2 * channels)
        return squared_distance / (4 * channels**2)

    def _measure_target(self) -> None:
        self._energy = float(self.target.square().sum())


def _without_absent(target: Tensor, present: Tensor) -> Tensor:
    """Return a target of zeros, the statistic of nothing, for items outside of a region."""
    shares = present.to(target).view(-1, *[1] * (target.ndim - 1))
    return target * shares


def _squared_distance(summary: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the squared distance as a scalar of a number format."""
    if is_transformed():
        return (summary - target).square().sum().to(dtype)
    squared_distance: Tensor = apply_function(_SquaredDistance, summary, target, dtype)
    return squared_distance


class _SquaredDistance(torch.autograd.Function):
    """Squared distance to a constant. Its backward pass makes no matrix; torch's makes three."""

    @staticmethod
    def forward(ctx: Any, summary: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
        # The difference alone would have no graph, and second derivatives would lack a term.
        ctx.save_for_backward(summary, target)
        ctx.difference = summary - target
        norms: Tensor = torch.linalg.vector_norm(ctx.difference.flatten(0, -2), dim=-1)
        return norms.to(dtype).square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        summary, target = ctx.saved_tensors
        factor = (2 * gradients[0]).to(summary.dtype)
        if torch.is_grad_enabled():  # the graph of this pass is needed
            return (summary - target) * factor, None, None
        difference, ctx.difference = ctx.difference, None
        if difference is None:  # a second pass over the same graph
            difference = summary - target
        return difference.mul_(factor), None, None
