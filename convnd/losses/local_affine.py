"""The local affine loss: a result that is locally an affine map of the content's colours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.losses.base import (
    INPUT,
    LossModule,
    Window,
    expand_target,
    tile_index,
    tile_offset,
    tile_shape,
)
from convnd.nn.pad import wrapped_crop
from convnd.stats import Sums

__all__ = ["LocalAffineLoss", "default_radius"]

_MIN_POSITIONS = 9
"""Positions of a window of the default radius, at least: the 3×3 pixels of Levin et al. (2008)."""

_POSITIONS_PER_PARAMETER = 2
"""Positions of a window for each parameter of a fit to all channels; with fewer the fit would be
exact for noise, and the loss would hold nothing."""


class LocalAffineLoss(LossModule):
    r"""Distance of a field from local affine maps of the content.

    In every window :math:`k` of the grid, a ridge regression explains each channel of the field
    :math:`p` by the channels of the content :math:`I`:

    .. math:: E(p) = \sum_k \min_{a_k, b_k} \sum_{i \in k} \big(p_i - a_k \cdot I_i - b_k\big)^2
              + \varepsilon \lVert a_k \rVert^2

    This is :math:`p^T L p` with the matting Laplacian :math:`L` of the content (Levin et al., 2008,
    "A closed-form solution to natural image matting"), summed over channels. Luan et al. (2017,
    "Deep photo style transfer", eq. 2) add it so that a photograph stays a photograph: colours may
    change, edges stay straight, and no texture appears that the content does not have.

    No matrix is built. With window means written as bars and :math:`n` positions in a window, the
    minimum is :math:`n\,(\overline{p^2} - \bar p^2 - c^T (\Sigma + \varepsilon/n)^{-1} c)` with the
    covariance :math:`\Sigma` of the content and the covariance :math:`c` of content and field,
    both of which are sums over windows (He et al., 2013, "Guided image filtering"). A window
    belongs to the tile of its first position, so that sums add up over tiles that see the `overlap`
    positions after them.

    The value is :math:`E(p)` divided by the content's own variance in its windows: 0 for every
    affine map of the content, and about 1 for a field that is as rough as the content and has
    nothing to do with it.

    Args:
        guide: values of the content ``(B, C, *S)``, or ``(1, C, *S)`` for every item of a batch. If
            windows have too few positions to fit all channels, each channel is explained by itself.
        radius: a window is ``2 radius + 1`` positions wide along each axis, or as wide as a shorter
            axis; None is `default_radius`.
        ridge: :math:`\varepsilon` for values that span about 1.
        periodic: whether content and field are one period of a field, so that windows at the end go
            on with the first positions.

    Raises:
        UsageError: ``radius`` is less than 1, or ``ridge`` is not above 0.

    >>> content = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> loss = LocalAffineLoss(content)
    >>> darker, inverted = 0.5 * content, 1 - content
    >>> [round(loss.value(loss.sums(x)).item(), 3) for x in (darker, inverted, content.flip(3))]
    [0.0, 0.0, 0.644]
    """

    layer = INPUT
    additive = True
    linear = False
    guide: Tensor

    def __init__(
        self,
        guide: Tensor,
        *,
        radius: int | None = None,
        ridge: float = 1e-7,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        radius = default_radius(guide.shape[2:]) if radius is None else radius
        if radius < 1 or not 0 < ridge < math.inf:
            raise UsageError(
                "LocalAffineLoss",
                expected="radius >= 1 and ridge > 0",
                got=f"radius {radius} and ridge {ridge:g}",
                remedy="leave both out",
            )
        self.overlap = 2 * radius
        self.widths = [min(2 * radius + 1, extent) for extent in guide.shape[2:]]
        self._positions = math.prod(self.widths)
        channels = guide.shape[1]
        self.joint = self._positions >= _POSITIONS_PER_PARAMETER * (channels + 1)
        self._size, guide = tuple(guide.shape[2:]), guide.detach()
        if periodic:
            guide = wrapped_crop(guide, [slice(0, n + self.overlap) for n in self._size])
        self._ridge = ridge
        self.register_buffer("guide", guide)
        self._measure_target()

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the sum of the residuals over the windows that begin in a tile, a scalar.

        Raises:
            ShapeError: field and content have different shapes.
        """
        extents, count = tile_shape(features, window), math.prod(tile_shape(features, window))
        offset, visible = tile_offset(features, window), features.shape[2:]
        guide = self.guide
        if window is not None:
            guide = guide[tile_index(_slices(offset, visible))]
        target = expand_target("LocalAffineLoss", guide, features.shape, self.layer)
        # The windows that begin in the tile, and the positions that they cover.
        starts = [
            min(extent, limit - width + 1)
            for extent, limit, width in zip(extents, visible, self.widths, strict=True)
        ]
        if min(starts) < 1:  # the last tile of an axis may be shorter than a window
            return Sums(features.sum() * 0.0, count)
        covered = [n + width - 1 for n, width in zip(starts, self.widths, strict=True)]
        crop = tile_index(_slices([0] * len(covered), covered))
        field = _wide(features[crop])
        covariance = self._covariance(_wide(target[crop]).to(field.device), field)
        mean = self._mean(field)
        variance = self._mean(field * field) - mean * mean
        inverse = self._inverse.to(field.device)
        for axis, (first, n) in enumerate(zip(offset, starts, strict=True)):
            inverse = inverse.narrow(inverse.ndim - len(starts) + axis, first, n)
        if self.joint:  # covariance (B, C, C', *S), inverse (B, C, C, *S)
            rows = [(row[:, :, None] * covariance).sum(1) for row in inverse.unbind(1)]
            explained = (covariance * torch.stack(rows, 1)).sum(1)
        else:
            explained = covariance * inverse * covariance
        total = self._positions * (variance - explained).sum()
        return Sums(total / (len(features) / max(1, len(guide))), count)

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar."""
        return sums.total / self._reference

    def _measure_target(self) -> None:
        covariance = self._covariance(_wide(self.guide), _wide(self.guide))
        # Sum over channels of the variance in every window, times the positions of a window.
        variances = covariance.diagonal(dim1=1, dim2=2).movedim(-1, 1) if self.joint else covariance
        variances = variances[tile_index([slice(n) for n in self._size])]
        reference = self._positions * float(variances.sum())
        self._reference = reference if reference > 0 else 1.0
        # In float64 whatever the module is cast to; a function of the guide.
        self._inverse = self._invert(covariance, self._ridge / self._positions)

    def _mean(self, values: Tensor) -> Tensor:
        """Average over all windows: ``(…, *S)`` to ``(…, *(S - width + 1))``."""
        first = values.ndim - len(self.widths)
        for axis, width in enumerate(self.widths, first):
            count = values.shape[axis] - width + 1
            parts = [values.narrow(axis, start, count) for start in range(width)]
            values = sum(parts[1:], start=parts[0])
        return values / self._positions

    def _covariance(self, guide: Tensor, field: Tensor) -> Tensor:
        """Covariances in all windows, ``(B, C, C', *S)``; of a channel with itself if separate."""
        if not self.joint:
            return self._mean(guide * field) - self._mean(guide) * self._mean(field)
        guide, field = guide[:, :, None], field[:, None]
        return self._mean(guide * field) - self._mean(guide) * self._mean(field)

    def _invert(self, covariance: Tensor, ridge: float) -> Tensor:
        """Invert the covariance plus the ridge in every window."""
        if not self.joint:
            return 1 / (covariance + ridge)
        channels = covariance.shape[1]
        inverse = covariance.clone()
        inverse.diagonal(dim1=1, dim2=2).add_(ridge)
        # The sweep operator on each channel in turn; the matrices are positive definite.
        for channel in range(channels):
            pivot = inverse[:, channel, channel].clone()
            row = inverse[:, channel].clone() / pivot[:, None]
            column = inverse[:, :, channel].clone()
            inverse -= column[:, :, None] * row[:, None]
            inverse[:, channel] = row
            inverse[:, :, channel] = -column / pivot[:, None]
            inverse[:, channel, channel] = 1 / pivot
        return inverse


def default_radius(size: Sequence[int]) -> int:
    """Return the smallest radius whose windows have at least 9 positions.

    Args:
        size: extent along each axis; axes of length 1 do not count.

    >>> default_radius((500,)), default_radius((64, 64)), default_radius((1, 64, 64))
    (4, 1, 1)
    """
    axes = max(1, sum(extent > 1 for extent in size))
    return next(
        radius for radius in itertools.count(1) if (2 * radius + 1) ** axes >= _MIN_POSITIONS
    )


def _slices(starts: Sequence[int], extents: Sequence[int]) -> list[slice]:
    return [slice(start, start + n) for start, n in zip(starts, extents, strict=True)]


def _wide(values: Tensor) -> Tensor:
    """Convert to float64: variances are small differences of large squares."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)
