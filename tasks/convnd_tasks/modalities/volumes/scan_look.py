"""`convnd.ScanLook`: the noise of other scans as an augmentation of training data."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convnd import io
from convnd.errors import InputFileError, ShapeError, UsageError
from convnd.grid import Grid
from convnd_tasks.modalities.augmentation import Data, StyleAugmentation
from convnd_tasks.modalities.tensors import as_tensor
from convnd_tasks.modalities.volumes.inputs import check_tissue
from convnd_tasks.modalities.volumes.look import Look, tissue_scheme
from convnd_tasks.modalities.volumes.noise_change import NoiseChange, change_noise, noise_changes
from convnd_tasks.modalities.volumes.noise_power import NoisePower, measure_noise
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme
from convnd_tasks.modalities.volumes.units import level_ratio, scan_unit

__all__ = ["ScanLook"]


class ScanLook(StyleAugmentation[Scan]):
    """An augmentation that adds noise to volumes until they are as noisy as another scan.

    The noise of the styles is measured once. A call draws a style and a strength, measures the
    noise of the volume in each tissue, and adds the missing noise with the style's spectrum. A
    volume that is as noisy as the style does not change. Means of tissues, padding and missing
    values do not change. Values do not fall below -1024 HU, or below 0 in volumes without negative
    values. `ScanLook` does not remove noise or change sharpness; `convnd.stylize` does both.

    Objects are plain callables for a pipeline of MONAI or, inside ``torchio.Lambda``, of TorchIO.
    They draw from torch's global generator, which data loaders seed differently in each worker.

    Args:
        styles: one scan or several, of the modality of the volumes: paths, `convnd.Grid`, tensors
            or arrays of three spatial axes.
        spacing: mm along the three axes of volumes, and of styles that are tensors or arrays; None
            reads the ``affine`` of MONAI's tensors.
        modality: "ct" for values in HU, "mr", "other", or "auto" to decide by the values.
        strength: strength of the added noise from 0 to 1, or a range from which it is drawn
            uniformly; 1 adds all missing noise.
        probability: probability that a call changes its volume.
        keys: names of the entries of a dictionary to change; empty if calls get volumes.

    Raises:
        InputFileError: a style cannot be read, is not a volume, or has no flat tissue or constant
            regions only.
        UsageError: a number is out of range.

    >>> import torch
    >>> bodies = torch.zeros(2, 32, 32, 32)
    >>> bodies[:, 8:24] = 100.0
    >>> noisy = bodies[:1] + 9 * torch.randn(1, 32, 32, 32)
    >>> look = ScanLook(noisy, spacing=(1, 1, 1), modality="mr", strength=1.0)
    >>> louder = look(bodies + torch.randn(2, 32, 32, 32))
    >>> tuple(louder.shape), bool(louder[:, 10:22].std() > 5)
    ((2, 32, 32, 32), True)
    """

    def __init__(
        self,
        styles: Data | Sequence[Data],
        *,
        spacing: Sequence[float] | None = None,
        modality: str = "auto",
        strength: float | tuple[float, float] = (0.0, 1.0),
        probability: float = 1.0,
        keys: Sequence[str] = (),
    ) -> None:
        if modality not in ("auto", "ct", "mr", "other"):
            raise UsageError(
                f"ScanLook: expected ct, mr, other or auto as modality, got {modality}"
            )
        self.spacing = None if spacing is None else _checked_spacing(spacing)
        self.modality = modality
        super().__init__(styles, strength=strength, probability=probability, keys=keys)
        self._noises: dict[tuple[int, float], Mapping[int, NoisePower]] = {}
        self._changes: dict[tuple[object, ...], dict[int, NoiseChange]] = {}
        if self.spacing is not None:
            for number in range(len(self._styles)):
                self._noise(number, self._resolution(number, self.spacing))

    def apply(self, data: Any, style: int = 0, strength: float = 1.0) -> Any:
        """Return a copy of a volume with noise of a given style and strength.

        Args:
            data: ``(I, J, K)``, ``(C, I, J, K)`` or ``(B, C, I, J, K)``, a tensor or an array.
            style: index of the style.
            strength: from 0 to 1.

        Raises:
            ShapeError: the volume has another number of axes.
            UsageError: the spacing is unknown; or there is no such style or strength.
        """
        values = self._check(data, style, strength)
        if not 3 <= values.ndim <= 5:
            expected, got = "(I, J, K), (C, I, J, K) or (B, C, I, J, K)", tuple(values.shape)
            remedy = "give volumes of three spatial axes"
            raise ShapeError("ScanLook", expected=expected, got=got, remedy=remedy)
        grid = self._as_grid(values)
        axes, frames = Orientation(grid), range(grid.values.shape[1])
        added = [self._added(Scan.from_grid(grid, frame), style, strength) for frame in frames]
        change = axes.from_canonical(torch.stack(added)[None]).view(values.shape).to(values.device)
        result = values + change.to(values.dtype if values.is_floating_point() else torch.float32)
        return result if isinstance(data, Tensor) else result.numpy()

    def _added(self, scan: Scan, style: int, strength: float) -> Tensor:
        """The noise ``(D, H, W)`` to add to a frame."""
        none = torch.zeros_like(scan.values)
        if strength == 0 or not bool(scan.valid.any()):
            return none
        resolution = self._resolution(style, scan.spacing)
        scheme = tissue_scheme(scan, self._unit_of(scan))
        tissues = TissueMap(scan, scheme, resolution)
        own = measure_noise(scan, tissues, resolution, bands=False)
        factor = 1.0 if scheme.unit else level_ratio(scan, self._styles[style])
        changes: dict[int, NoiseChange] = {}
        for sources in _same_filters(self._filters(style, scan, resolution, scheme)):
            source = next(iter(sources.values()))
            deviation = factor * source.style
            before = min((own[tissue].deviation for tissue in sources if tissue in own), default=0)
            if deviation > before:
                weight = factor * strength * math.sqrt(1 - (before / deviation) ** 2)
                lacking = dataclasses.replace(
                    source, added=source.added * weight, scan=before, style=deviation
                )
                changes |= dict.fromkeys(sources, lacking)
        if not changes:
            return none
        seed = int(torch.randint(2**62, ()))
        # The lowest value that a scan can have: -1024 in HU, 0 in magnitude images.
        low = float(scan.values[scan.valid].min())
        low = min(-1024.0, low) if scheme.unit else 0.0 if low >= 0 else -math.inf
        change = change_noise(scan, tissues, changes, resolution, seed, (low, math.inf))
        return torch.where(scan.valid, change, 0.0)

    def _filters(
        self, style: int, scan: Scan, resolution: float, scheme: TissueScheme
    ) -> dict[int, NoiseChange]:
        """The filters that turn white noise into the style's noise, by tissue of the scan."""
        key = (style, scan.spacing, scan.values.shape, resolution, len(scheme.names))
        if key not in self._changes:
            targets = self._noise(style, resolution)
            none = {tissue: power.scaled(0.0) for tissue, power in targets.items()}
            added = {tissue: power.bands for tissue, power in targets.items()}
            self._changes[key] = noise_changes(none, added, targets, scheme, scan, resolution)
        return self._changes[key]

    def _noise(self, style: int, resolution: float) -> Mapping[int, NoisePower]:
        """The noise of a style by tissue, measured once for each resolution in mm."""
        key = (style, resolution)
        if key not in self._noises:
            scan = self._styles[style]
            self._noises[key] = Look(scan, self._unit_of(scan), resolution).noise
            if not self._noises[key]:
                raise InputFileError(
                    "ScanLook",
                    expected="a style with a flat tissue of 400 voxels",
                    got="none",
                    remedy="give a larger style",
                )
        return self._noises[key]

    def _resolution(self, style: int, spacing: Sequence[float]) -> float:
        return max(min(spacing), min(self._styles[style].spacing))

    def _unit_of(self, scan: Scan) -> str:
        return scan_unit(Grid(values=scan.values[None, None]), self.modality)

    def _open(self, style: Any) -> Scan:
        if isinstance(style, str | os.PathLike):
            style = io.read(style)
        if not isinstance(style, Grid):
            style = self._as_grid(as_tensor(style, "ScanLook"))
        if style.ndim != 3:
            raise InputFileError(
                "ScanLook", expected="styles of three axes", got=style.ndim, remedy="give volumes"
            )
        check_tissue(style, "ScanLook")
        return Scan.first(style.with_values(style.values.float()))

    def _as_grid(self, values: Tensor) -> Grid:
        """A volume, perhaps with an ``affine``, as a float32 grid with a channel for each frame."""
        affine = getattr(values, "affine", None)  # of MONAI's MetaTensor
        plain = values.detach().as_subclass(Tensor).float().cpu()
        plain = plain.reshape(1, -1, *plain.shape[-3:])
        if self.spacing is not None:
            return Grid(values=plain, spacing=self.spacing, units=("mm",) * 3)
        if affine is None:
            expected = "a spacing, since the volume has no affine"
            remedy = "for example spacing=(1, 1, 1)"
            raise UsageError("ScanLook", expected=expected, got="none", remedy=remedy)
        matrix = torch.as_tensor(affine, dtype=torch.float64).as_subclass(Tensor)
        steps, header = tuple(matrix[:3, :3].norm(dim=0).tolist()), {"affine": matrix.numpy()}
        return Grid(values=plain, spacing=steps, units=("mm",) * 3, header=header)


def _checked_spacing(spacing: Sequence[float]) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing)
    if len(steps) != 3 or not all(0 < step < math.inf for step in steps):
        raise UsageError(
            "ScanLook", expected="a spacing of three numbers above 0", got=spacing, remedy="in mm"
        )
    return steps


def _same_filters(changes: Mapping[int, NoiseChange]) -> list[dict[int, NoiseChange]]:
    """Group the tissues that get the same noise."""
    groups: dict[int, dict[int, NoiseChange]] = {}
    for tissue, change in changes.items():
        groups.setdefault(change.added.data_ptr(), {})[tissue] = change
    return list(groups.values())
