r"""The initial values where noise is transferred: the content plus the noise that it lacks.

The features react to products of structures: from a smooth scan, descent first amplifies existing
structure and changes even tissue last. White noise through a filter (spot noise; Galerne et al.
2011, "Random phase textures: theory and synthesis") starts near the style everywhere. The filter is

.. math:: |K(f)|^2 \propto \max(0, P_{style}(f) - P_{content}(f))

with the power spectra of the noise texture in the flatter half of a tissue. The noise in each class
of the tissue gets the variance that the content lacks there. What remains for the features is the
look of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.optimize import ProcessGroup
from convnd_tasks.modalities.volumes.noise_texture import NoiseTexture, blur

__all__ = ["NoiseInitializer"]

_SIDE = 14.0  # mm along each side of the regions whose spectrum is measured
_PIXELS = (8, 32)  # smallest and largest side of a region
_MOSTLY = 0.95  # share of a region that must belong to its tissue
_FEWEST = 4  # smallest number of regions for a spectrum
_PER_SLICE = 64  # largest number of regions of a slice
_BORDER = 2.0  # pixels, sigma over which the noise of a class begins


@dataclass(frozen=True)
class NoiseInitializer:
    """The noise that a content lacks in comparison with styles.

    Args:
        texture: of slices of this pixel size, with tissues.
        kernels: for each tissue the filter ``(side, side)`` of energy 1 that turns white noise into
            the missing noise; None where there are too few flat regions to measure it.
        deviations: standard deviation of the missing noise in each class.
    """

    texture: NoiseTexture
    kernels: tuple[Tensor | None, ...]
    deviations: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        texture: NoiseTexture,
        content: Sequence[Tensor],
        styles: Sequence[Tensor],
        weights: Sequence[float],
        group: ProcessGroup | None = None,
    ) -> NoiseInitializer:
        """Measure the missing noise.

        Args:
            texture: see above.
            content: slabs of slices ``(n, 1, H, W)``.
            styles: slices ``(n, 1, H, W)`` of each style.
            weights: one for each style.
            group: processes that hold some of the content's slices each, in their order; None is
                this one alone.
        """
        group = ProcessGroup() if group is None else group
        side = min(max(round(_SIDE / texture.pixel), _PIXELS[0]), _PIXELS[1])
        content_power = _spectra(texture, content, side, group)
        style_power = [_spectra(texture, [style], side, ProcessGroup()) for style in styles]
        kernels: list[Tensor | None] = []
        for number, power in enumerate(content_power):
            mean, total = torch.zeros(side, side), 0.0
            for weight, spectra in zip(weights, style_power, strict=True):
                spectrum = spectra[number]
                if spectrum is not None:
                    mean, total = mean.to(spectrum) + weight * spectrum, total + weight
            if power is None or not total:
                kernels.append(None)
                continue
            amplitude = (mean / total - power).clamp_min(0).sqrt()
            kernel = torch.fft.fftshift(torch.fft.ifft2(amplitude).real)
            energy = float(kernel.square().sum())
            kernels.append(kernel / math.sqrt(energy) if energy > 0 else None)
        measured = [texture.measure_deviations([style]) for style in styles]
        classes = zip(texture.measure_deviations(content, group), *measured, strict=True)
        shares = [weight / sum(weights) for weight in weights]
        deviations = []
        for content_deviation, *others in classes:
            variance = sum(w * d**2 for w, d in zip(shares, others, strict=True))
            deviations.append(math.sqrt(max(0.0, variance - content_deviation**2)))
        return cls(texture, tuple(kernels), tuple(deviations))

    def sample(
        self, slices: Tensor, generator: torch.Generator, *, before: int = 0, after: int = 0
    ) -> Tensor:
        """Draw noise for slices ``(n, 1, H, W)``; it is 0 outside the tissues.

        Args:
            slices: of the content.
            generator: source of the noise.
            before: number of slices before these that another process draws.
            after: number of slices after these that another process draws.
        """
        labels = self.texture.label(self.texture.blur(slices))
        noise = torch.zeros_like(slices)
        for number, kernel in enumerate(self.kernels):
            if kernel is None or labels is None:
                continue
            per_tissue = self.texture.classes_per_tissue
            scale = torch.zeros_like(slices)
            for label in range(number * per_tissue, (number + 1) * per_tissue):
                scale[labels == label] = self.deviations[label]
            extents = (extent + len(kernel) - 1 for extent in slices.shape[2:])
            # Every process draws the numbers of all, so that they do not depend on the sharing.
            count = before + len(slices) + after
            white = torch.randn((count, 1, *extents), generator=generator)
            if not len(slices):
                continue
            white = white[before : before + len(slices)].to(slices)
            noise += blur(scale, _BORDER) * torch.nn.functional.conv2d(white, kernel[None, None])
        return noise


def _spectra(
    texture: NoiseTexture, slabs: Sequence[Tensor], side: int, group: ProcessGroup
) -> list[Tensor | None]:
    """Power ``(side, side)`` of the noise texture in flat regions of each tissue, as `fft2`'s."""
    regions, slopes = _tissue_regions(texture, slabs, side)
    taper = torch.hann_window(side + 2, periodic=False)[1:-1]
    taper = torch.outer(taper, taper)
    spectra: list[Tensor | None] = []
    for parts, levels in zip(regions, slopes, strict=True):
        if not parts:
            spectra.append(None)
            continue
        slope = torch.cat(levels)
        all_slopes, first = group.all_gather(slope)
        count = len(all_slopes)
        if count < _FEWEST:
            spectra.append(None)
            continue
        flat = all_slopes.argsort(stable=True)[: max(_FEWEST, count // 2)]
        flattest = torch.cat(parts)[flat[(flat >= first) & (flat < first + len(slope))] - first]
        power = flattest.new_zeros(side, side)
        if len(flattest):  # torch cannot transform an empty batch
            power = torch.fft.fft2(flattest * taper.to(flattest)).abs().square().sum(0)
        spectra.append(group.all_reduce(power) / len(flat))
    return spectra


def _tissue_regions(
    texture: NoiseTexture, slabs: Sequence[Tensor], side: int
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The noise texture in square regions of each tissue, and the mean slope in each region."""
    count = texture.n_classes // texture.classes_per_tissue
    regions: list[list[Tensor]] = [[] for _ in range(count)]
    slopes: list[list[Tensor]] = [[] for _ in range(count)]
    step = side // 2
    for slices in (part for slab in slabs for part in torch.split(slab, 1)):
        blurred = texture.blur(slices)
        labels = texture.label(blurred)
        if labels is None or min(slices.shape[2:]) < side:
            continue
        slope = torch.nn.functional.avg_pool2d(texture.slope(blurred), side, step)[0, 0]
        windows = (slices - blurred)[0, 0].unfold(0, side, step).unfold(1, side, step)
        for number in range(count):
            inside = (labels // texture.classes_per_tissue == number).to(slices.dtype)
            share = torch.nn.functional.avg_pool2d(inside, side, step)[0, 0]
            rows, columns = (share >= _MOSTLY).nonzero(as_tuple=True)
            thinned = slice(None, None, -(-len(rows) // _PER_SLICE) or None)
            regions[number].append(windows[rows[thinned], columns[thinned]])
            slopes[number].append(slope[rows[thinned], columns[thinned]])
    return regions, slopes
