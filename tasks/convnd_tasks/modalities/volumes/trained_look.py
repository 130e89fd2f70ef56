"""What the file of a network for a look says about the scans that it was trained on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from convnd.errors import InputFileError
from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD, UNIT_NAMES
from convnd_tasks.modalities.volumes.orientation import DIRECTIONS

__all__ = ["RECORD", "TrainedLook"]

RECORD = "convnd:look"
"""Entry of a network's record that holds a `TrainedLook`."""

_TOLD, _REFUSED = 1.1, 2.0
"""Ratio of voxel sides to those of the training from which a message says so, and from which a scan
is refused."""


@dataclass(frozen=True, kw_only=True)
class TrainedLook:
    """The scans that a network for a look was trained on.

    Args:
        unit: "HU", or "" for other units.
        scale: value, in the style's unit, that is 1 for the network.
        spacing: shortest and longest voxel side in mm, by axis towards head, front and right.
        noise: standard deviation of the style's noise by tissue, in the style's unit.
        sharpness: whether the network changes the sharpness.
    """

    unit: str
    scale: float
    spacing: tuple[tuple[float, float], ...]
    noise: Mapping[int, float]
    sharpness: bool

    def text(self) -> str:
        """This as text for the record of a network."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, record: Mapping[str, str]) -> TrainedLook:
        """Read the record of a network.

        Raises:
            InputFileError: it holds no such text.

        >>> look = TrainedLook(
        ...     unit="HU", scale=400.0, spacing=((5, 5), (0.6, 0.8), (0.6, 0.8)), noise={3: 20.0},
        ...     sharpness=True,
        ... )
        >>> TrainedLook.of({RECORD: look.text()}) == look
        True
        """
        try:
            fields = json.loads(record[RECORD])
            spacing = tuple((float(low), float(high)) for low, high in fields["spacing"])
            noise = {int(tissue): float(value) for tissue, value in fields["noise"].items()}
            numbers = [float(fields["scale"]), *(side for pair in spacing for side in pair)]
            positive = all(0 < number < math.inf for number in numbers)
            if not positive or len(spacing) != 3 or fields["unit"] not in (HOUNSFIELD, ""):
                raise ValueError
            if not all(0 <= value < math.inf for value in noise.values()):
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputFileError(
                "network",
                expected="unit, voxel sides and noise of the scans that it was trained on",
                got="none that can be read",
                remedy="train it again",
            ) from error
        return cls(
            unit=fields["unit"],
            scale=numbers[0],
            spacing=spacing,
            noise=noise,
            sharpness=bool(fields["sharpness"]),
        )

    def check_unit(self, unit: str) -> None:
        """Check that a scan has the unit of the training.

        Raises:
            InputFileError: it has another one.
        """
        if unit != self.unit:
            raise InputFileError(
                "scan",
                expected=f"{UNIT_NAMES[self.unit]}, which the network was trained on",
                got=UNIT_NAMES[unit],
                remedy="train a network for such scans, or use --modality if this is wrong",
            )

    def compare_spacing(self, spacing: tuple[float, ...]) -> str:
        """Compare the voxel sides of a scan with those of the training.

        Args:
            spacing: mm along each axis, towards head, front and right.

        Returns:
            A message if they differ, else "".

        Raises:
            InputFileError: they differ by more than a factor of 2.
        """
        ratios = [
            max(side / high, low / side)
            for side, (low, high) in zip(spacing, self.spacing, strict=True)
        ]
        worst = max(range(3), key=ratios.__getitem__)
        if ratios[worst] <= _TOLD:
            return ""
        low, high = (f"{side:.3g}" for side in self.spacing[worst])
        trained = low if low == high else f"{low} to {high}"
        expected = f"voxels of {trained} mm towards {DIRECTIONS[worst]}"
        if ratios[worst] > _REFUSED:
            raise InputFileError(
                "scan",
                expected=f"{expected}, which the network was trained on",
                got=f"{spacing[worst]:.3g} mm",
                remedy="train a network for such voxels, or resample the scan",
            )
        return (
            f"network: trained on {expected}, this scan has {spacing[worst]:.3g} mm; its filters "
            "act over as many voxels, not mm"
        )
