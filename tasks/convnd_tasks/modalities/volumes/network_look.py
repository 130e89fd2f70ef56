"""The transfer of a look by a network that was trained for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.feedforward.look_net import LookNet
from convnd.feedforward.network_shape import OUTPUT
from convnd.optimize.evaluation.tiles import write_tiles
from convnd.shapes import Tiling
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.look import measure_scan_noise, tissue_scheme
from convnd_tasks.modalities.volumes.look_change import LookChange
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.noise_change import (
    LARGEST_CHANGE,
    NoiseChange,
    subtract_means,
)
from convnd_tasks.modalities.volumes.noise_power import NoisePower
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import DIRECTIONS
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import edge_sharpness
from convnd_tasks.modalities.volumes.tissues import TissueMap
from convnd_tasks.modalities.volumes.trained_look import TrainedLook

if TYPE_CHECKING:
    from convnd.feedforward.network_file import StyleNetwork
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.volumes.look import Look

__all__ = ["NetworkLookTransfer", "apply_look_network"]

_CROP_VOXELS = 1 << 20
"""Most voxels of a tile with its halo; larger ones are no faster."""


@dataclass(frozen=True, kw_only=True)
class _NetworkChange(LookChange):
    """The change of one frame by a network.

    Args:
        added: ``(D, H, W)``; the part of ``noise`` that is added.
        sharpness: the change of the sharpness in words.
    """

    added: Tensor
    sharpness: str

    def with_noise(self, resolution: float, seed: int) -> LookChange:
        """See `LookChange.with_noise`; the network has made the noise."""
        del resolution, seed
        return self

    def without_removal(self) -> LookChange:
        """See `LookChange.without_removal`."""
        return dataclasses.replace(self, noise=self.added)

    def describe_sharpness(self) -> str:
        """See `LookChange.describe_sharpness`."""
        return self.sharpness if self.filters else ""


class NetworkLookTransfer(LookTransfer):
    """The transfer of a look that a network has learnt, with the limits and figures of any look.

    The network computes the change of the sharpness and of the noise. In each tissue, the noise
    that it adds is limited to what the style has more than the scan. Everything else, such as the
    strength, the safety figures and the range of values, is that of `LookTransfer`.

    Args:
        inputs: as for `LookTransfer`; the style is the one that the network's file holds.
        options: as for `LookTransfer`.
        trained: the network, with its record.

    Raises:
        InputFileError: the scan has another unit than those of the training, or voxels of very
            different size; or the file of the network does not tell.
        UsageError: there are regions with styles of their own.
    """

    def __init__(
        self, inputs: TransferInputs, options: VolumeOptions, trained: StyleNetwork
    ) -> None:
        if inputs.regions is not None:
            raise UsageError(
                "--regions",
                expected="a scan as style",
                got="a trained network",
                remedy="use --mask for a part of the scan",
            )
        assert isinstance(trained.network, LookNet)
        self._network, self._trained = trained.network, TrainedLook.of(trained.record)
        super().__init__(inputs, options)
        self._trained.check_unit(self._units.unit)
        message = self._trained.compare_spacing(self._axes.spacing)
        self.messages = (*self.messages, *([message] if message else []))

    def fingerprint(self) -> Sequence[object]:
        """See `Transfer.fingerprint`."""
        return [*super().fingerprint(), *self._network.state_dict().values()]

    def _open_styles(self) -> list[Look]:
        """No style is measured, since the network has learnt its look."""
        return []

    def _plan(self, scan: Scan, frame: int, note: Callable[[str], None]) -> Iterator[Progress]:
        """Compute the change of one frame by the network, and keep it."""
        del note
        unit = self._units.factors[0] * self._trained.scale
        generator = torch.Generator().manual_seed(self._options.seed + frame)
        noise = torch.randn(scan.values.shape, generator=generator)
        fields = torch.stack([scan.values / unit, scan.valid.to(noise), noise])[None]
        yield self._progress(1, scan.values)
        made = apply_look_network(self._network, fields)[0]
        del fields, noise
        yield self._progress(2, scan.values)
        self._change = change = self._limited(scan, unit, made)
        yield self._progress(3, scan.values, change.spectrum_distance(change.before))

    def _limited(self, scan: Scan, unit: float, made: Tensor) -> LookChange:
        """Limit the change that the network has made.

        Args:
            scan: the frame.
            unit: value that is 1 for the network.
            made: ``(3 + K, D, H, W)``, the result of `apply_look_network`.
        """
        scheme = tissue_scheme(scan, self._units.unit).without_structured()
        low, high = scan.values[scan.valid].aminmax()
        expected = scan.values
        if self._trained.sharpness:
            filtered = (scan.values + unit * made[0]).clamp(low, high)
            expected = torch.where(scan.valid, filtered, scan.values)
        sharp = scan.with_values(expected)
        tissues = TissueMap(sharp, scheme, self._resolution)
        before = measure_scan_noise(sharp, scheme, self._resolution)
        factor = self._units.factors[0]
        style = {n: factor * self._trained.noise[n] for n in before if n in self._trained.noise}
        changes, shares = self._noise_changes(tissues, before, style, unit, made[3:])
        # Label -1, of padding, is the last entry of both.
        numbers = tissues.labels.long()
        limits = [LARGEST_CHANGE * max(part.scan, part.style) for part in changes.values()]
        limit = made.new_tensor([*limits, 0.0])[numbers]
        room = torch.minimum(torch.minimum(expected - low, high - expected).clamp(min=0), limit)
        drawn = made[2] * made.new_tensor([*shares, 0.0])[numbers]
        added = subtract_means(drawn, sharp, tissues, self._resolution).clamp(-room, room)
        removed = (unit * made[1]).clamp(-limit, limit)
        targets = {
            n: before[n].scaled((style[n] / before[n].deviation) ** 2)
            for n in style
            if before[n].deviation > 0
        }
        filters, sharpness = self._describe_filter(scan, sharp)
        return _NetworkChange(
            scan=scan,
            expected=expected,
            filters=filters,
            noise=(added + removed).clamp(-limit, limit),
            changes=changes if style else {},
            scheme=scheme,
            before=before,
            targets=targets,
            coarse=True,
            paired=True,
            added=added,
            sharpness=sharpness,
        )

    def _noise_changes(
        self,
        tissues: TissueMap,
        before: Mapping[int, NoisePower],
        style: Mapping[int, float],
        unit: float,
        gains: Tensor,
    ) -> tuple[dict[int, NoiseChange], list[float]]:
        """Describe the added noise of every tissue, and limit it to what the style has more.

        A tissue whose noise is not known has that of the nearest one.

        Args:
            tissues: tissues of the scan.
            before: noise of the scan by tissue.
            style: standard deviation of the style's noise by tissue.
            unit: value that is 1 for the network.
            gains: ``(K, D, H, W)``; gains of the network's noises.

        Returns:
            The changes by tissue; the factor of the network's noise by tissue. All are 0 if no
            noise is known.
        """
        counted = tissues.labels.flatten().long() + 1
        names = tissues.scheme.names
        counts = torch.bincount(counted, minlength=len(names) + 1).clamp(min=1)
        sums = [torch.bincount(counted, gain.flatten(), len(names) + 1) for gain in gains]
        means = (torch.stack(sums) / counts)[:, 1:].to(gains)
        filters = unit * torch.einsum("kt,kzyx->tzyx", means, self._network.noises.weight[:, 0])
        none, changes, factors = torch.zeros_like(filters[0]), {}, []
        for tissue in range(len(names)):
            if not style:
                changes[tissue] = NoiseChange(none, none, 0.0, 0.0, 0.0)
                factors.append(0.0)
                continue
            nearest = min(style, key=lambda other: (other < tissue, abs(other - tissue)))
            own, aim = before[nearest].deviation, style[nearest]
            lacking = math.sqrt(max(0.0, aim**2 - own**2))
            made = float(filters[tissue].square().sum().sqrt())
            share = min(1.0, lacking / made) if made > 0 else 0.0
            changes[tissue] = NoiseChange(share * filters[tissue], none, 0.0, own, aim)
            factors.append(unit * share)
        return changes, factors

    def _describe_filter(self, scan: Scan, sharp: Scan) -> tuple[dict[int, float], str]:
        """The relative change of the sharpness of edges by axis, and in words."""
        if not self._trained.sharpness:
            return {}, ""
        first, last = (edge_sharpness(part.slabs(), self._resolution) for part in (scan, sharp))
        changes = {axis: last[axis] / first[axis] - 1 for axis in first if axis in last}
        words = [
            f"{abs(change):.0%} {'sharper' if change > 0 else 'softer'} towards {DIRECTIONS[axis]}"
            for axis, change in changes.items()
        ]
        return changes or {0: 0.0}, "edges " + ", ".join(words) if words else "by the network"


@torch.no_grad()
def apply_look_network(
    network: LookNet, fields: Tensor, *, crop_voxels: int = _CROP_VOXELS
) -> Tensor:
    """Apply a network to a scan, tile by tile; the result is that of the whole scan up to rounding.

    Args:
        network: the network.
        fields: ``(1, 3, *S)``: the scan, its valid voxels, and white noise.
        crop_voxels: most voxels of a tile with its halo.

    Returns:
        ``(1, 3 + K, *S)``: the parts of the change and K gains, see
        `convnd.feedforward.look_net.LookChannels`.
    """
    tiling = Tiling.choose(
        fields.shape[2:],
        network.shape.receptive_fields,
        lambda crop: math.prod(crop) <= crop_voxels,
    )

    def compute(crop: Tensor, origin: Sequence[int]) -> Tensor:
        del origin
        return torch.cat(network.channels(*crop.split(1, 1)), 1)

    result = fields.new_empty((1, 3 + network.shape.noises, *fields.shape[2:]))
    return write_tiles(compute, fields, tiling, OUTPUT, result)
