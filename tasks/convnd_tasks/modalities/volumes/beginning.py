r"""Where the walk of the *texture* look begins: the content, with the noise that its tissues lack.

Features multiply: downhill from a smooth scan, what there is of structure is made stronger first,
and even tissue last. From white noise through a filter (a spot noise; Galerne et al. 2011, "Random
phase textures") the walk begins near the style everywhere. The filter is

.. math:: |K(f)|^2 \propto \max(0, P_{style}(f) - P_{content}(f))

of grain in the flatter half of a tissue, and the noise of a class of it has the variance that the
content's grain lacks there. What is left to the features is its look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.optimize import ProcessGroup
from convnd_tasks.modalities.volumes.grain import Grain, blur

__all__ = ["LackingNoise"]

_SIDE = 14.0  # mm along each side of the regions whose spectrum is taken
_PIXELS = (8, 32)  # of a side, at least and at most
_MOSTLY = 0.95  # share of a region that is of its tissue
_FEWEST = 4  # regions that a spectrum is told from
_OF_A_SLICE = 64  # regions, at most
_BORDER = 2.0  # pixels, sigma over which a class's noise begins


@dataclass(frozen=True)
class LackingNoise:
    """The noise that a content lacks beside a style.

    Args:
        grain: of slices of this pixel size.
        kernels: of each tissue what makes noise of white noise, ``(side, side)`` of energy 1; None
            where there are too few flat regions to tell.
        deviations: of the noise in each class.
    """

    grain: Grain
    kernels: tuple[Tensor | None, ...]
    deviations: tuple[float, ...]

    @classmethod
    def between(
        cls,
        grain: Grain,
        content: Sequence[Tensor],
        styles: Sequence[Tensor],
        weights: Sequence[float],
        group: ProcessGroup | None = None,
    ) -> LackingNoise:
        """As told by slices.

        Args:
            grain: as above, with tissues.
            content: slabs of slices ``(n, 1, H, W)``.
            styles: slices ``(n, 1, H, W)`` of each.
            weights: one for each style.
            group: processes that have a share of the content's slices each, in their order; None
                is this one alone.
        """
        group = ProcessGroup() if group is None else group
        side = min(max(round(_SIDE / grain.pixel), _PIXELS[0]), _PIXELS[1])
        has = _spectra(grain, content, side, group)
        wanted = [_spectra(grain, [each], side, ProcessGroup()) for each in styles]
        kernels: list[Tensor | None] = []
        for number, power in enumerate(has):
            mean, total = torch.zeros(side, side), 0.0
            for weight, spectra in zip(weights, wanted, strict=True):
                found = spectra[number]
                if found is not None:
                    mean, total = mean.to(found) + weight * found, total + weight
            if power is None or not total:
                kernels.append(None)
                continue
            lacking = (mean / total - power).clamp_min(0).sqrt()
            kernel = torch.fft.fftshift(torch.fft.ifft2(lacking).real)
            energy = float(kernel.square().sum())
            kernels.append(kernel / math.sqrt(energy) if energy > 0 else None)
        there = [grain.deviations([each]) for each in styles]
        pairs = zip(grain.deviations(content, group), *there, strict=True)
        share = [weight / sum(weights) for weight in weights]
        deviations = tuple(
            math.sqrt(max(0.0, sum(w * d**2 for w, d in zip(share, others, strict=True)) - own**2))
            for own, *others in pairs
        )
        return cls(grain, tuple(kernels), deviations)

    def drawn(
        self, slices: Tensor, generator: torch.Generator, *, before: int = 0, behind: int = 0
    ) -> Tensor:
        """Noise for the places of ``(n, 1, H, W)``; none where there is no tissue.

        Args:
            slices: of the content.
            generator: draws it.
            before: how many slices before these are drawn for as well; another process has them.
            behind: likewise.
        """
        tissues = self.grain.tissues(self.grain.blurred(slices))
        noise = torch.zeros_like(slices)
        for number, kernel in enumerate(self.kernels):
            if kernel is None or tissues is None:
                continue
            classes = self.grain.classes
            scale = torch.zeros_like(slices)
            for each in range(number * classes, (number + 1) * classes):
                scale[tissues == each] = self.deviations[each]
            extents = (extent + len(kernel) - 1 for extent in slices.shape[2:])
            count = before + len(slices) + behind
            white = torch.randn((count, 1, *extents), generator=generator)
            if not len(slices):
                continue
            white = white[before : before + len(slices)].to(slices)
            shaped = torch.nn.functional.conv2d(white, kernel[None, None])
            noise += blur(scale, _BORDER) * shaped
        return noise


def _spectra(
    grain: Grain, slabs: Sequence[Tensor], side: int, group: ProcessGroup
) -> list[Tensor | None]:
    """Power of the grain ``(side, side)`` in flat regions of each tissue, as `torch.fft.fft2`'s."""
    count = grain.many // grain.classes
    found: list[list[Tensor]] = [[] for _ in range(count)]
    slopes: list[list[Tensor]] = [[] for _ in range(count)]
    step = side // 2
    for slices in (each for slab in slabs for each in torch.split(slab, 1)):
        blurred = grain.blurred(slices)
        tissues = grain.tissues(blurred)
        if tissues is None or min(slices.shape[2:]) < side:
            continue
        slope = torch.nn.functional.avg_pool2d(grain.slope(blurred), side, step)[0, 0]
        regions = (slices - blurred)[0, 0].unfold(0, side, step).unfold(1, side, step)
        for number in range(count):
            inside = (tissues // grain.classes == number).to(slices.dtype)
            share = torch.nn.functional.avg_pool2d(inside, side, step)[0, 0]
            rows, columns = (share >= _MOSTLY).nonzero(as_tuple=True)
            some = slice(None, None, -(-len(rows) // _OF_A_SLICE) or None)
            found[number].append(regions[rows[some], columns[some]])
            slopes[number].append(slope[rows[some], columns[some]])
    taper = torch.hann_window(side + 2, periodic=False)[1:-1]
    taper = torch.outer(taper, taper)
    spectra: list[Tensor | None] = []
    for each, level in zip(found, slopes, strict=True):
        if not each:
            spectra.append(None)
            continue
        own = torch.cat(level)
        everywhere, first = group.all_gather(own)
        many = len(everywhere)
        if many < _FEWEST:
            spectra.append(None)
            continue
        flat = everywhere.argsort(stable=True)[: max(_FEWEST, many // 2)]
        parts = torch.cat(each)[flat[(flat >= first) & (flat < first + len(own))] - first]
        power = parts.new_zeros(side, side)
        if len(parts):  # torch has no transform of nothing
            power = torch.fft.fft2(parts * taper.to(parts)).abs().square().sum(0)
        spectra.append(group.all_reduce(power) / len(flat))
    return spectra
