r"""What of a slice is grain, and of which tissue.

The network of the *texture* look sees the grain alone, :math:`\tanh((x - G_\sigma x) / (6 s))`:
what a Gaussian leaves, in units of the noise ``s`` of its tissue in the style, edges bent down to
no more than a few times that. Tissues are told by the blurred values where these are flat; slopes
and everything else are the rest. The noise of soft tissue is a few HU, that of lungs three times as
much and edges hundreds: in one statistic edges would be all there is. Of a tissue, what is flat and
what slopes a little are classes apart for the same reason: there is more structure in the latter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from convnd.nn import resize_nd
from convnd.optimize import ProcessGroup

__all__ = ["Grain", "View", "blur", "square_pixels"]

_LOOKS_SAME = 1.05  # ratio of pixel sides that counts as square
SHORTEST = 16
"""Pixels along the shorter side of a slice, at least."""

_BEND = 6.0  # deviations at which edges begin to be bent
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
        flat: rising changes of the blurred values over one sigma: up to the last of them a pixel is
            of a tissue, and each is the end of a class of it.

    >>> grain = Grain(1.0, 2.0, [(0.4, 0.6)], [0.1])
    >>> slices = torch.full((1, 1, 16, 16), 0.5)
    >>> grain.tissues(grain.blurred(slices)).unique().tolist()
    [0]
    """

    def __init__(
        self,
        pixel: float,
        fine: float,
        tissues: Sequence[tuple[float, float]] = (),
        flat: Sequence[float] = (math.inf,),
    ) -> None:
        self.pixel = pixel
        self.sigma = max(1.0, fine / pixel)
        self._ranges = tuple(tissues)
        self._flat = tuple(flat)
        self.classes = len(self._flat)
        self.many = len(self._ranges) * self.classes
        self._deviations: tuple[float, ...] = ()

    def measure(self, pictures: Sequence[Tensor]) -> None:
        """Learn the deviation of the grain in each class from styles ``(n, 1, H, W)``."""
        self._deviations = self.deviations(pictures)

    def deviations(
        self, pictures: Iterable[Tensor], group: ProcessGroup | None = None
    ) -> tuple[float, ...]:
        """Of the grain in each class, the rest last.

        Args:
            pictures: slices ``(n, 1, H, W)``.
            group: processes that have a share of them each; None is this one alone.

        Of a tissue's by the median of absolute values, which knows nothing of the few edges that it
        holds; of the rest, which is edges and air, by the mean of squares.
        """
        grain, tissues = [], []
        for each in pictures:
            blurred = self.blurred(each)
            numbers = self.tissues(blurred)
            grain.append((each - blurred).abs().flatten())
            tissues.append(torch.zeros_like(each) if numbers is None else numbers)
        values, places = torch.cat(grain), torch.cat([each.flatten() for each in tissues])
        *named, rest = [values[places == number] for number in range(self.many + 1)]
        group = ProcessGroup() if group is None else group
        found = [_MEDIAN * _median(part, group) for part in named]
        (count,) = group.all_reduce_ints(rest.numel())
        squares = group.all_reduce(rest.square().sum()) / max(1, count)
        found.append(float(squares.sqrt()))
        return tuple(max(each, _SMALLEST) for each in found)

    def blurred(self, slices: Tensor) -> Tensor:
        """A Gaussian over both axes of ``(n, 1, H, W)``, edges repeated."""
        return blur(slices, self.sigma)

    def tissues(self, blurred: Tensor) -> Tensor | None:
        """Number of each pixel's class, tissue by tissue, the rest last; None where all are one.

        Args:
            blurred: slices as `blurred` gives them.
        """
        if not self._ranges:
            return None
        slope = self.slope(blurred)
        kind = sum((slope > limit).to(torch.uint8) for limit in self._flat)
        assert isinstance(kind, Tensor)
        found = torch.full_like(kind, self.many)
        for number, (low, high) in enumerate(self._ranges):
            inside = (blurred >= low) & (blurred <= high) & (kind < self.classes)
            found = torch.where(inside, number * self.classes + kind, found)
        return found

    def slope(self, blurred: Tensor) -> Tensor:
        """Change of the blurred values over one sigma."""
        return self.sigma * torch.hypot(*torch.gradient(blurred, dim=(2, 3)))

    def seen(self, slices: Tensor, blurred: Tensor, tissues: Tensor | None) -> Tensor:
        """The grain in units of its tissue's own, bent into ``[-1, 1]``."""
        return torch.tanh((slices - blurred) / (_BEND * self._scale(self._deviations, tissues)))

    def stride(self, tissues: Tensor) -> Tensor:
        """How far a step goes in each pixel of several tissues: as far as its noise.

        Edges go as far as the noisiest tissue, and tissues change over gently; otherwise borders
        between them would be drawn into the result.
        """
        *named, rest = self._deviations
        scale = self._scale((*named, min(rest, max(named))), tissues)
        return blur(scale.log(), 2.0).exp()

    @staticmethod
    def _scale(deviations: Sequence[float], tissues: Tensor | None) -> Tensor:
        table = torch.tensor(deviations)
        table = table if tissues is None else table.to(tissues.device)
        return table[0] if tissues is None else table[tissues.int()]


def blur(slices: Tensor, sigma: float) -> Tensor:
    """A Gaussian over both axes of ``(n, 1, H, W)``, sigma in pixels, edges repeated."""
    # As products of matrices: a convolution of one channel takes five times as long.
    rows, columns = (_smoothing(extent, sigma).to(slices) for extent in slices.shape[2:])
    return rows @ (slices @ columns.mT)


def _median(values: Tensor, group: ProcessGroup) -> float:
    """The lower median of numbers of at least 0 that processes have a share of each; 0 of none."""
    (count,) = group.all_reduce_ints(values.numel())
    if not count:
        return 0.0
    if group.size == 1:
        return float(values.median())
    bits = values.float().view(torch.int32)  # which have the order of the numbers
    low, high = 0, 2**31 - 1
    while low < high:
        middle = (low + high) // 2
        (below,) = group.all_reduce_ints(int((bits <= middle).sum()))
        low, high = (low, middle) if below > (count - 1) // 2 else (middle + 1, high)
    return float(torch.tensor(low, dtype=torch.int32).view(torch.float32))


@lru_cache(maxsize=16)
def _smoothing(extent: int, sigma: float) -> Tensor:
    """The matrix ``(extent, extent)`` of a Gaussian whose ends are repeated."""
    reach = min(math.ceil(3 * sigma), extent - 1)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel = kernel / kernel.sum()
    places = (torch.arange(extent)[:, None] + offsets).clamp(0, extent - 1)
    return torch.zeros(extent, extent, dtype=torch.float64).scatter_add_(
        1, places, kernel.expand(extent, -1)
    )
