r"""What of a slice is grain, and of which tissue.

The network of the *texture* look sees the grain alone, :math:`\tanh((x - G_\sigma x) / (3 s))`:
what a Gaussian leaves, in units of the noise ``s`` of its tissue in the style, edges bent down to
no more than a few times that. Tissues are told by the blurred values where these are flat; slopes
and everything else are one more tissue. The noise of soft tissue is a few HU, that of lungs three
times as much and edges hundreds: in one statistic edges would be all there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn import resize_nd

__all__ = ["Grain", "View", "square_pixels"]

_LOOKS_SAME = 1.05  # ratio of pixel sides that counts as square
SHORTEST = 16
"""Pixels along the shorter side of a slice, at least."""

_BEND = 3.0  # deviations at which edges begin to be bent
_MEDIAN = 1.4826  # deviation of Gaussian noise over the median of its absolute values
_SMALLEST = 1e-5


@dataclass(frozen=True)
class View:
    """The slices across one axis, their pixels square.

    Args:
        axis: the axis they are stacked along, 0 to 2.
        size: rows and columns of a slice.
        pixel: side of a pixel in mm.
    """

    axis: int
    size: tuple[int, int]
    pixel: float

    def slices(self, values: Tensor, window: slice | None = None) -> Tensor:
        """Slices ``(n, 1, *size)`` of a volume ``(1, 1, *S)``."""
        part = values[0, 0].movedim(self.axis, 0)
        part = part if window is None else part[window]
        return resize_nd(part[:, None], self.size, mode="linear", antialias=True)


def square_pixels(shape: Sequence[int], spacing: Sequence[float]) -> list[View]:
    """The views of a volume whose slices are large enough to look at, those of finest pixels first.

    Args:
        shape: extent along three axes.
        spacing: mm along each.

    >>> for view in square_pixels((48, 512, 512), (5.0, 0.6, 0.6)):
    ...     print(view)
    View(axis=0, size=(512, 512), pixel=0.6)
    View(axis=1, size=(48, 61), pixel=5.0)
    View(axis=2, size=(48, 61), pixel=5.0)
    """
    views = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        pixel = max(spacing[other] for other in others)
        size = [
            shape[other]
            if pixel / spacing[other] < _LOOKS_SAME
            else max(1, round(shape[other] * spacing[other] / pixel))
            for other in others
        ]
        if min(size) >= SHORTEST:
            views.append(View(axis, (size[0], size[1]), pixel))
    return sorted(views, key=lambda view: (view.pixel, view.axis))


class Grain:
    """The grain in slices of one pixel size.

    Args:
        pixel: side of a pixel in mm.
        fine: sigma in mm that tells grain from anatomy.
        tissues: lowest and highest blurred value of each; none is one tissue for all.
        flat: change of the blurred values over one sigma up to which a pixel is of a tissue.

    >>> grain = Grain(1.0, 2.0, [(0.4, 0.6)], 0.1)
    >>> slices = torch.full((1, 1, 16, 16), 0.5)
    >>> [share.mean().item() for share in grain.tissues(slices)]
    [1.0, 0.0]
    """

    def __init__(
        self,
        pixel: float,
        fine: float,
        tissues: Sequence[tuple[float, float]] = (),
        flat: float = math.inf,
    ) -> None:
        self.sigma = max(1.0, fine / pixel)
        self._ranges = tuple(tissues)
        self._flat = flat
        self._deviations: tuple[float, ...] = ()

    def measure(self, pictures: Sequence[Tensor]) -> None:
        """Learn the deviation of each tissue's grain from styles ``(n, 1, H, W)``.

        Of a tissue by the median of absolute values, which knows nothing of the few edges that it
        holds; of the rest, which is edges and air, by the mean of squares.
        """
        grain = torch.cat([(each - self.blurred(each)).abs().flatten() for each in pictures])
        shares = [self.tissues(each) for each in pictures]
        *named, rest = [
            grain[torch.cat([part.flatten() for part in same]) > 0]
            for same in zip(*shares, strict=True)
        ] or [grain]
        found = [_MEDIAN * float(part.median()) if part.numel() else 0.0 for part in named]
        found.append(float(rest.square().mean().sqrt()) if rest.numel() else 0.0)
        self._deviations = tuple(max(each, _SMALLEST) for each in found)

    def blurred(self, slices: Tensor) -> Tensor:
        """A Gaussian over both axes of ``(n, 1, H, W)``, edges repeated."""
        return _blur(slices, self.sigma)

    def tissues(self, slices: Tensor) -> list[Tensor]:
        """Share of each tissue in each pixel, the rest last; none where there is only one."""
        if not self._ranges:
            return []
        told = self.blurred(slices)
        across, down = torch.gradient(told, dim=(2, 3))
        flat = self.sigma * torch.hypot(across, down) <= self._flat
        shares = [((told >= low) & (told <= high) & flat).float() for low, high in self._ranges]
        return [*shares, 1 - torch.stack(shares).amax(0)]

    def seen(self, slices: Tensor, tissues: Sequence[Tensor]) -> Tensor:
        """The grain in units of its tissue's own, bent into ``[-1, 1]``."""
        scale = self._scale(self._deviations, tissues)
        return torch.tanh((slices - self.blurred(slices)) / (_BEND * scale))

    def stride(self, tissues: Sequence[Tensor]) -> Tensor:
        """How far a step goes in each pixel of several tissues: as far as its noise.

        Edges go as far as the noisiest tissue, and tissues change over gently; otherwise borders
        between them would be drawn into the result.
        """
        *named, rest = self._deviations
        scale = self._scale((*named, min(rest, max(named))), tissues)
        return _blur(scale.log(), 2.0).exp()

    @staticmethod
    def _scale(deviations: Sequence[float], tissues: Sequence[Tensor]) -> Tensor:
        if not tissues:
            return torch.tensor(deviations[0])
        parts = [each * share for each, share in zip(deviations, tissues, strict=True)]
        return torch.stack(parts).amax(0)


def _blur(slices: Tensor, sigma: float) -> Tensor:
    reach = min(math.ceil(3 * sigma), *(extent - 1 for extent in slices.shape[2:]))
    kernel = torch.arange(-reach, reach + 1, device=slices.device, dtype=slices.dtype)
    kernel = torch.exp(-0.5 * (kernel / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(slices, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
