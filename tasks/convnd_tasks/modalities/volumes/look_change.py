"""The planned change of one frame of a scan, and its description for users."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnd_tasks.modalities.volumes.look import Scan
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.noise_covariance import NoiseCovariance, power_spectrum
from convnd_tasks.modalities.volumes.sharpness import Filter
from convnd_tasks.modalities.volumes.tissues import WHOLE, Scheme

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LookChange"]


@dataclass(frozen=True)
class LookChange:
    """The planned change of one frame.

    Args:
        scan: the frame.
        expected: values ``(D, H, W)`` of the frame with its new sharpness and its own noise.
        filters: filters that change the sharpness, by axis.
        noise: values ``(D, H, W)`` to add to ``expected``, which change its noise.
        changes: filters that change the noise, by tissue.
        scheme: tissues of the scan.
        before: measured noise of ``expected``, by tissue.
        targets: noise that the result should have, by tissue.
    """

    scan: Scan
    expected: Tensor
    filters: Mapping[int, Filter]
    noise: Tensor
    changes: Mapping[int, NoiseChange]
    scheme: Scheme
    before: Mapping[int, NoiseCovariance]
    targets: Mapping[int, NoiseCovariance]

    def distance(self, noise: Mapping[int, NoiseCovariance]) -> float:
        """The share of the noise power that is at another frequency than that of the targets."""
        distances = []
        for tissue, covariance in self.targets.items():
            own, target = power_spectrum(noise[tissue].values), power_spectrum(covariance.values)
            distances.append(float((own - target).abs().sum() / target.sum().clamp(min=1e-30)))
        return sum(distances) / len(distances) if distances else 0.0

    def noises(self, noise: Mapping[int, NoiseCovariance]) -> list[tuple[str, float, float, float]]:
        """The standard deviations of the noise of each tissue: before, after, and the style's.

        Args:
            noise: of the result, by tissue.
        """
        rows = []
        for tissue, name in enumerate(self.scheme.names):
            if tissue in self.before:
                style = self.changes[tissue].style if tissue in self.changes else math.nan
                rows.append((name, self.before[tissue].deviation, noise[tissue].deviation, style))
        if self.scheme.uniform:
            name = "the scan as a whole" if self.scheme is WHOLE else "all tissues"
            rows = [(name, *row[1:]) for row in rows[:1]]
        return rows

    def sharpness(self) -> str:
        """The change of the sharpness in words, "" where no filter changes it."""
        axes: dict[str, list[str]] = {}
        for axis, along in sorted(self.filters.items()):
            words = f"{'blurred' if along.amount < 0 else 'sharpened'} by {abs(along.amount):.2g}"
            axes.setdefault(words, []).append(("head", "front", "right")[axis])
        return ", ".join(f"{words} towards {' and '.join(names)}" for words, names in axes.items())
