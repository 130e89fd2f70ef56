r"""The noise texture of slices, and the tissue of each pixel.

Where noise is transferred, the network sees the noise texture alone,
:math:`\tanh((x - G_\sigma x) / (6 s))`: the difference to a Gaussian blur, relative to the standard
deviation ``s`` of the style's noise in the same tissue. The hyperbolic tangent bends edges down to
a few times that deviation.

The blurred values tell tissues apart where they are flat; slopes and all other values form a class
called the rest. The noise of soft tissue is a few HU, that of lungs three times as much, and edges
are hundreds of HU: in one common statistic the edges would outweigh everything. For the same reason
flat and slightly sloping places of a tissue are separate classes: sloping places contain more
structure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from convnd.optimize import ProcessGroup

__all__ = ["NoiseTexture", "blur"]

_BEND = 6.0  # standard deviations at which edges begin to be bent
_MEDIAN = 1.4826  # standard deviation of Gaussian noise over the median of its absolute values
_SMALLEST = 1e-5


class NoiseTexture:
    """Separates the noise texture of slices from the anatomy, and labels their pixels.

    Args:
        pixel: side of a pixel in mm.
        sigma_mm: standard deviation in mm of the Gaussian that separates texture from anatomy.
        tissues: lowest and highest blurred value of each tissue; none treats all pixels alike.
        slope_limits: rising changes of the blurred values over one sigma. Each limit is the end of
            a class of every tissue; pixels above the last limit belong to no tissue.

    Attributes:
        sigma: standard deviation of the Gaussian in pixels.
        classes_per_tissue: number of slope limits.
        n_classes: number of classes of all tissues. The label ``n_classes`` is the rest.

    >>> texture = NoiseTexture(1.0, 2.0, [(0.4, 0.6)], [0.1])
    >>> slices = torch.full((1, 1, 16, 16), 0.5)
    >>> texture.label(texture.blur(slices)).unique().tolist()
    [0]
    """

    def __init__(
        self,
        pixel: float,
        sigma_mm: float,
        tissues: Sequence[tuple[float, float]] = (),
        slope_limits: Sequence[float] = (math.inf,),
    ) -> None:
        self.pixel = pixel
        self.sigma = max(1.0, sigma_mm / pixel)
        self._tissues = tuple(tissues)
        self._slope_limits = tuple(slope_limits)
        self.classes_per_tissue = len(self._slope_limits)
        self.n_classes = len(self._tissues) * self.classes_per_tissue
        self._deviations: tuple[float, ...] = ()

    def fit(self, pictures: Sequence[Tensor]) -> None:
        """Measure the deviation of the noise in each class of the styles ``(n, 1, H, W)``."""
        self._deviations = self.measure_deviations(pictures)

    def measure_deviations(
        self, pictures: Iterable[Tensor], group: ProcessGroup | None = None
    ) -> tuple[float, ...]:
        """Standard deviation of the noise texture in each class, and last in the rest.

        Args:
            pictures: slices ``(n, 1, H, W)``.
            group: processes that hold some of the slices each; None is this one alone.

        The deviation in a tissue comes from the median of absolute values, which the few edges in
        it do not change; that of the rest, which is edges and air, from the mean of squares.
        """
        texture, labels = [], []
        for slices in pictures:
            blurred = self.blur(slices)
            numbers = self.label(blurred)
            texture.append((slices - blurred).abs().flatten())
            labels.append(torch.zeros_like(slices) if numbers is None else numbers)
        values, classes = torch.cat(texture), torch.cat([part.flatten() for part in labels])
        *tissues, rest = [values[classes == number] for number in range(self.n_classes + 1)]
        group = ProcessGroup() if group is None else group
        deviations = [_MEDIAN * _median(part, group) for part in tissues]
        (count,) = group.all_reduce_ints(rest.numel())
        squares = group.all_reduce(rest.square().sum()) / max(1, count)
        deviations.append(float(squares.sqrt()))
        return tuple(max(deviation, _SMALLEST) for deviation in deviations)

    def blur(self, slices: Tensor) -> Tensor:
        """Apply the Gaussian to both axes of ``(n, 1, H, W)``, with edges repeated."""
        return blur(slices, self.sigma)

    def label(self, blurred: Tensor) -> Tensor | None:
        """Class of each pixel, tissue by tissue, the rest last; None without tissues.

        Args:
            blurred: slices as `blur` returns them.
        """
        if not self._tissues:
            return None
        slope = self.slope(blurred)
        steepness = sum((slope > limit).to(torch.uint8) for limit in self._slope_limits)
        assert isinstance(steepness, Tensor)
        labels = torch.full_like(steepness, self.n_classes)
        for number, (low, high) in enumerate(self._tissues):
            inside = (blurred >= low) & (blurred <= high) & (steepness < self.classes_per_tissue)
            labels = torch.where(inside, number * self.classes_per_tissue + steepness, labels)
        return labels

    def slope(self, blurred: Tensor) -> Tensor:
        """Change of the blurred values over one sigma."""
        return self.sigma * torch.hypot(*torch.gradient(blurred, dim=(2, 3)))

    def normalize(self, slices: Tensor, blurred: Tensor, labels: Tensor | None) -> Tensor:
        """The noise texture relative to the deviation of its class, bent into ``[-1, 1]``."""
        return torch.tanh((slices - blurred) / (_BEND * _lookup(self._deviations, labels)))

    def step_scale(self, labels: Tensor) -> Tensor:
        """Length of an optimization step in each pixel: the deviation of the noise in its class.

        Edges move as far as the noisiest tissue, and the length changes smoothly from one tissue
        to the next; otherwise the borders between tissues would appear in the result.
        """
        *tissues, rest = self._deviations
        scale = _lookup((*tissues, min(rest, max(tissues))), labels)
        return blur(scale.log(), 2.0).exp()


def blur(slices: Tensor, sigma: float) -> Tensor:
    """Apply a Gaussian to both axes of ``(n, 1, H, W)``, with edges repeated.

    Args:
        slices: any number of pictures.
        sigma: standard deviation in pixels.
    """
    # As products of matrices: a convolution of one channel takes five times as long.
    rows, columns = (_gaussian_matrix(extent, sigma).to(slices) for extent in slices.shape[2:])
    return rows @ (slices @ columns.mT)


def _lookup(deviations: Sequence[float], labels: Tensor | None) -> Tensor:
    table = torch.tensor(deviations)
    return table[0] if labels is None else table.to(labels.device)[labels.int()]


def _median(values: Tensor, group: ProcessGroup) -> float:
    """The lower median of numbers of at least 0, some of them in each process; 0 of none."""
    (count,) = group.all_reduce_ints(values.numel())
    if not count:
        return 0.0
    if group.size == 1:
        return float(values.median())
    bits = values.float().view(torch.int32)  # these integers have the order of the numbers
    low, high = 0, 2**31 - 1
    while low < high:
        middle = (low + high) // 2
        (below,) = group.all_reduce_ints(int((bits <= middle).sum()))
        low, high = (low, middle) if below > (count - 1) // 2 else (middle + 1, high)
    return float(torch.tensor(low, dtype=torch.int32).view(torch.float32))


@lru_cache(maxsize=16)
def _gaussian_matrix(extent: int, sigma: float) -> Tensor:
    """The matrix ``(extent, extent)`` of a Gaussian filter that repeats the edges."""
    reach = min(math.ceil(3 * sigma), extent - 1)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel = kernel / kernel.sum()
    columns = (torch.arange(extent)[:, None] + offsets).clamp(0, extent - 1)
    return torch.zeros(extent, extent, dtype=torch.float64).scatter_add_(
        1, columns, kernel.expand(extent, -1)
    )
