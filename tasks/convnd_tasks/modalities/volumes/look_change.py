"""The planned change of one frame of a scan, and its description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.noise_covariance import NoiseCovariance
from convnd_tasks.modalities.volumes.noise_spectrum import power_spectrum
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import WHOLE, TissueScheme

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LookChange"]


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
    """

    scan: Scan
    expected: Tensor
    filters: Mapping[int, float]
    noise: Tensor
    changes: Mapping[int, NoiseChange]
    scheme: TissueScheme
    before: Mapping[int, NoiseCovariance]
    targets: Mapping[int, NoiseCovariance]

    def spectrum_distance(self, noise: Mapping[int, NoiseCovariance]) -> float:
        """The mean relative distance of noise spectra from those of the targets.

        Args:
            noise: noise by tissue, for every tissue with a target.
        """
        distances = []
        for tissue, covariance in self.targets.items():
            own, target = power_spectrum(noise[tissue].values), power_spectrum(covariance.values)
            distances.append(float((own - target).abs().sum() / target.sum().clamp(min=1e-30)))
        return sum(distances) / len(distances) if distances else 0.0

    def noise_table(
        self, noise: Mapping[int, NoiseCovariance]
    ) -> list[tuple[str, float, float, float]]:
        """The name of each tissue, and standard deviations of its noise.

        Args:
            noise: noise of the result, by tissue.

        Returns:
            Rows of name and deviations before, after and of the style, in units of the scan.
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

    def describe_sharpness(self) -> str:
        """The change of the sharpness in words, "" if no filter changes it."""
        axes: dict[str, list[str]] = {}
        for axis, amount in sorted(self.filters.items()):
            blur = f"blurred by {math.sqrt(max(0.0, -amount)):.2g}"
            words = blur if amount < 0 else f"sharpened by {amount:.2g}"
            axes.setdefault(words, []).append(("head", "front", "right")[axis])
        return ", ".join(f"{words} towards {' and '.join(names)}" for words, names in axes.items())
