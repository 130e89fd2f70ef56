"""The planned change of one frame of a scan, and its description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.look import (
    Look,
    blend_filters,
    blend_noise,
    measure_scan_noise,
    moderate_noise,
    tissue_scheme,
)
from convnd_tasks.modalities.volumes.noise_change import NoiseChange, change_noise, noise_changes
from convnd_tasks.modalities.volumes.noise_power import NoisePower, lacking_power
from convnd_tasks.modalities.volumes.orientation import DIRECTIONS
from convnd_tasks.modalities.volumes.paired import Pair, added_noise
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import apply_filters
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme
from convnd_tasks.modalities.volumes.white_noise import lacking_white_noise

__all__ = ["LookChange", "plan_change"]


@dataclass(frozen=True)
class LookChange:
    """The planned change of one frame.

    Args:
        scan: the frame.
        expected: ``(D, H, W)``; the frame with its new sharpness, before its noise changes.
        filters: amounts of the filters that change the sharpness, by axis.
        noise: ``(D, H, W)``; the change of the noise, which is added to ``expected``.
        changes: filters that change the noise, by tissue.
        scheme: tissues of the scan.
        before: measured noise of ``expected``, by tissue.
        targets: noise that the result should have, by tissue.
        coarse: coarse noise of the styles could be told from anatomy.
        paired: all styles are other images of the scan, so noise may be removed, too.
    """

    scan: Scan
    expected: Tensor
    filters: Mapping[int, float]
    noise: Tensor
    changes: Mapping[int, NoiseChange]
    scheme: TissueScheme
    before: Mapping[int, NoisePower]
    targets: Mapping[int, NoisePower]
    coarse: bool
    paired: bool

    def with_noise(self, resolution: float, seed: int) -> LookChange:
        """The plan with the change of its noise.

        Args:
            resolution: mm, see `plan_change`.
            seed: seed of the added noise.
        """
        if not self.changes:
            return self
        scan = self.scan.with_values(self.expected)
        tissues = TissueMap(scan, self.scheme, resolution)
        noise = change_noise(scan, tissues, self.changes, resolution, seed)
        return dataclasses.replace(self, noise=noise)

    def applied(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The frame with a share of the change, before and after its noise changes.

        Args:
            weight: ``(D, H, W)``; share of the change of each voxel.
        """
        expected = self.scan.values + weight * (self.expected - self.scan.values)
        return expected, expected + weight * self.noise

    def without_removal(self) -> LookChange:
        """The plan with noise that is added only."""
        changes = {
            tissue: dataclasses.replace(part, removed=torch.zeros_like(part.removed))
            for tissue, part in self.changes.items()
        }
        return dataclasses.replace(self, changes=changes)

    def unchanged(self) -> LookChange:
        """A plan that changes nothing."""
        return dataclasses.replace(
            self,
            expected=self.scan.values,
            filters={},
            noise=torch.zeros_like(self.noise),
            changes={},
        )

    def spectrum_distance(self, noise: Mapping[int, NoisePower]) -> float:
        """The mean relative distance of noise spectra from those of the targets.

        Args:
            noise: noise by tissue, for every tissue with a target.
        """
        distances = [noise[tissue].distance(target) for tissue, target in self.targets.items()]
        return sum(distances) / len(distances) if distances else 0.0

    def describe_sharpness(self) -> str:
        """The change of the sharpness in words, "" if no filter changes it."""
        axes: dict[str, list[str]] = {}
        for axis, amount in sorted(self.filters.items()):
            blur = f"blurred by {math.sqrt(max(0.0, -amount)):.2g}"
            words = blur if amount < 0 else f"sharpened by {amount:.2g}"
            axes.setdefault(words, []).append(DIRECTIONS[axis])
        return ", ".join(f"{words} towards {' and '.join(names)}" for words, names in axes.items())


def plan_change(
    scan: Scan,
    looks: Sequence[Look],
    pairs: Sequence[Pair | None],
    weights: Sequence[float],
    resolution: float,
    unit: str,
    *,
    moderate: bool,
) -> LookChange:
    """Plan the change of a frame: its new sharpness, and the filters that change its noise.

    Args:
        scan: the frame.
        looks: look of each style.
        pairs: each style on the frame's voxels; None for those that show something else.
        weights: weight of each style.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        unit: "HU", or "" for other units.
        moderate: the noise changes moderately, see `moderate_noise`.
    """
    filters = blend_filters(pairs, weights)
    sharp = scan.with_values(apply_filters(scan, filters, resolution).values)
    scheme = tissue_scheme(scan, unit)
    if not all(pairs):  # in a pair anatomy cancels, so noise beside fine structures is known, too
        scheme = scheme.without_structured()
    before = measure_scan_noise(sharp, scheme, resolution)
    added: dict[int, Tensor] = {}
    noises: list[Mapping[int, NoisePower]] = []
    for look, pair, weight in zip(looks, pairs, weights, strict=True):
        if pair is None:
            noise = moderate_noise(before, look.noise, scheme) if moderate else look.noise
            power = _lacking_power(sharp, before, noise, None if moderate else look, scheme)
        else:
            own = sharp if len(looks) == 1 else apply_filters(scan, pair.filters, resolution)
            power = added_noise(pair.style.slabs(), own.slabs(), scheme, resolution)
            noise = {n: before[n].plus(part) for n, part in power.items() if n in before}
        noises.append(noise)
        for tissue in noise.keys() & before.keys():
            part = power[tissue] * (weight / sum(weights))
            added[tissue] = added.get(tissue, 0.0) + part
    targets = blend_noise(before, noises, weights)
    changes = noise_changes(before, added, targets, scheme, scan, resolution)
    none = torch.zeros_like(scan.values)
    paired = all(pairs)
    coarse = all(pair or look.phantom for look, pair in zip(looks, pairs, strict=True))
    return LookChange(
        scan, sharp.values, filters, none, changes, scheme, before, targets, coarse, paired
    )


def _lacking_power(
    scan: Scan,
    before: Mapping[int, NoisePower],
    noise: Mapping[int, NoisePower],
    look: Look | None,
    scheme: TissueScheme,
) -> dict[int, Tensor]:
    """The power ``(7,)`` of noise that a style of other anatomy has more than a scan, by tissue.

    Bands of frequency are compared for tissues with little anatomy, those of CT and of phantoms. In
    other scans only white noise can be told from anatomy.

    Args:
        scan: the scan.
        before: its noise by tissue.
        noise: noise of the style by tissue.
        look: look of the style; None for a built-in one, which is a phantom.
        scheme: tissues of the scan.
    """
    common = before.keys() & noise.keys()
    if look is None or look.phantom:
        # The noise of a phantom is known, so any difference counts.
        return {n: lacking_power(before[n].exact(), noise[n].exact(), 0.0) for n in common}
    other, resolution = tissue_scheme(look.scan, look.unit), look.resolution
    white = lacking_white_noise(scan, look.scan, scheme, other, resolution)
    if scheme.uniform:
        return {n: torch.full_like(before[n].bands, white.get(n, 0.0)) for n in common}
    return {n: lacking_power(before[n], noise[n], white.get(n, 0.0)) for n in common}
