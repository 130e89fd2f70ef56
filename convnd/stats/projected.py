"""Statistics of linearly mapped features, computed from the features before the map."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from convnd.errors import UsageError
from convnd.nn.transforms import full_precision
from convnd.stats.base import Statistic, StatisticModule, Sums

__all__ = ["LinearlyMappable", "ProjectedStatistic"]


@runtime_checkable
class LinearlyMappable(Protocol):
    """A statistic that can apply a linear map of the channels to its sums."""

    def project_sums(self, sums: Sums, matrix: Tensor) -> Sums:
        """Compute the sums of ``matrix @ a`` from those of ``a``.

        Args:
            sums: sums of ``a``, which has ``C`` channels.
            matrix: ``(C', C)``.
        """
        ...


class ProjectedStatistic(StatisticModule):
    r"""A statistic of the mapped features :math:`W a`, computed from :math:`a`.

    Mapping the features costs ``C' C`` products for each position, and memory for the result.
    Mapping the sums instead, for example :math:`G(W a) = W G(a) W^T`, costs almost nothing.

    Args:
        statistic: a statistic that is `LinearlyMappable`.
        matrix: ``W``, ``(C', C)``.

    Raises:
        UsageError: ``statistic`` is not `LinearlyMappable`.

    >>> import torch
    >>> from convnd.stats import STATISTICS
    >>> projected = ProjectedStatistic(STATISTICS["gram"], torch.tensor([[1.0, 1.0]]))
    >>> projected.sums(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])).total  # 1² + 3²
    tensor([[[10.]]])
    """

    matrix: Tensor

    def __init__(self, statistic: Statistic, matrix: Tensor) -> None:
        super().__init__()
        if not isinstance(statistic, LinearlyMappable):
            raise UsageError(
                "ProjectedStatistic",
                expected="a statistic that follows a map of the channels",
                got=type(statistic).__name__,
                remedy="map the features",
            )
        self._statistic: Statistic = statistic
        self.register_buffer("matrix", matrix.detach())
        self.additive = statistic.additive

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the statistic of the mapped features."""
        sums = self._statistic.sums(features, weight=weight)
        with full_precision(features):
            mappable = cast("LinearlyMappable", self._statistic)
            return mappable.project_sums(sums, self.matrix)

    def summary(self, sums: Sums) -> Tensor:
        """Compute the statistic of the mapped features per position."""
        return self._statistic.summary(sums)
