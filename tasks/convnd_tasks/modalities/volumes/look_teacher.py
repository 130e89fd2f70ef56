"""What a network for a look learns from: scans, and how the transfer of the look changes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.feedforward.look_net import LookNet
from convnd.grid import Grid
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.look import Look
from convnd_tasks.modalities.volumes.look_change import LookChange
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.noise_change import change_noise, white_noise
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.paired import Pair
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import TissueMap

__all__ = ["LookExample", "LookLoss", "LookTeacher", "middle_box"]

_MOST_VOXELS = 1 << 21
"""Voxels of the middle of a scan that is learnt from."""

_LEAST_VALID = 0.2  # share of a crop's voxels that are not padding
_LEAST_CHANGE = 1e-4  # of the scale; smaller changes are not learnt
_PARTS = ("sharpness", "removed", "added")


@dataclass(frozen=True)
class LookExample:
    """A scan, and the parts of its change; fields of ``(D, H, W)`` in units of the scale.

    Args:
        scan: values.
        valid: 1, and 0 for padding.
        noise: white noise that the added noise was made of.
        parts: the change of the sharpness, the removed and the added noise, by name of the field in
            `convnd.feedforward.look_net.LookChannels`.
        paired: whether the style is another image of the scan.
        spacing: mm along each axis.
        style: standard deviation of the style's noise by tissue, in the style's unit.
    """

    scan: Tensor
    valid: Tensor
    noise: Tensor
    parts: Mapping[str, Tensor]
    paired: bool
    spacing: tuple[float, ...]
    style: Mapping[int, float]


class LookTeacher(LookTransfer):
    """A transfer of a look that keeps how it changed its scan.

    Args:
        scan: the scan.
        style: the style.
        options: options of the transfer.
    """

    def __init__(self, scan: Grid, style: Grid, options: VolumeOptions) -> None:
        inputs = TransferInputs(content=scan, styles=[style], names=["scan", "style"])
        super().__init__(inputs, options)
        self.unit = self._units.unit
        self._made: tuple[LookChange, float] | None = None
        self._pairs: list[Pair | None] = []

    def example(self, scale: float, looks: dict[float, list[Look]]) -> LookExample:
        """Change the scan's first frame, and describe the change.

        Args:
            scale: value, in the style's unit, that is 1 in the fields of examples.
            looks: looks of the style that were measured already, by resolution in mm; is filled.

        Raises:
            NumericalError: a safety figure is outside its limits at every strength.
        """
        self._known_looks = looks
        for _ in self.run(state=None, group=None, on_message=None):
            pass
        assert self._made is not None
        change, strength = self._made
        shape, seed = change.scan.values.shape, self._options.seed
        (factor,) = self._units.factors
        unit = factor * scale
        if change.changes:
            drawn = white_noise(shape, change.changes, seed)
            noise = drawn[tuple(slice(0, extent) for extent in shape)]
        else:
            noise = torch.zeros(shape)
        removed = strength * self._removed(change)
        return LookExample(
            scan=change.scan.values / unit,
            valid=change.scan.valid.float(),
            noise=noise,
            parts={
                "sharpness": strength * (change.expected - change.scan.values) / unit,
                "removed": removed / unit,
                "added": (strength * change.noise - removed) / unit,
            },
            paired=None not in self._pairs,
            spacing=change.scan.spacing,
            style={n: target.deviation / factor for n, target in change.targets.items()},
        )

    def _open_styles(self) -> list[Look]:
        if self._resolution not in self._known_looks or self._units.factors != [1.0]:
            looks = super()._open_styles()
            if self._units.factors != [1.0]:
                return looks
            self._known_looks[self._resolution] = looks
        return self._known_looks[self._resolution]

    def _find_pairs(self, scan: Scan, note: Callable[[str], None]) -> list[Pair | None]:
        self._pairs = super()._find_pairs(scan, note)
        return self._pairs

    def _find_safe_result(
        self, change: LookChange, frame: int
    ) -> tuple[Tensor, float, Sequence[SafetyFigure]]:
        result, strength, figures = super()._find_safe_result(change, frame)
        if frame == 0:
            self._made = change, strength
        return result, strength, figures

    def _removed(self, change: LookChange) -> Tensor:
        """The part of a change that removes noise, ``(D, H, W)``."""
        if not any(bool(part.removed.any()) for part in change.changes.values()):
            return torch.zeros_like(change.noise)
        alone = {
            tissue: dataclasses.replace(part, added=torch.zeros_like(part.added))
            for tissue, part in change.changes.items()
        }
        scan = change.scan.with_values(change.expected)
        tissues = TissueMap(scan, change.scheme, self._resolution)
        return change_noise(scan, tissues, alone, self._resolution, self._options.seed)


class LookLoss:
    r"""The loss of a network for a look on crops of examples.

    .. math:: L = \sum_p \frac{\lVert w\,(c_p - t_p) \rVert^2}{\lVert w \rVert^2 \sigma_p^2}

    where :math:`c_p` are the parts of the change that the network makes, :math:`t_p` those of the
    example, :math:`\sigma_p^2` their mean square over all examples, and :math:`w` is 1 in valid
    voxels that see no cut border of the crop. The network gets the white noise of which the
    example's noise was made, so noise is learnt voxel by voxel, as its filters. A part that no
    example has is not learnt.

    Args:
        network: the network.
        examples: the examples.
        crop: voxels of a crop along each axis; shorter axes stay whole.
    """

    def __init__(self, network: LookNet, examples: Sequence[LookExample], crop: int) -> None:
        self._network, self._examples, self._crop = network, examples, crop
        count = sum(float(example.valid.sum()) for example in examples)
        energies = {
            name: sum(float(e.parts[name].square().sum()) for e in examples) / max(1.0, count)
            for name in _PARTS
        }
        self.energies = {n: one for n, one in energies.items() if one > _LEAST_CHANGE**2}

    def backward(
        self, generator: torch.Generator, weight: float
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Add the gradient of one crop's loss to that of the weights.

        Args:
            generator: source of the example and of the place of the crop.
            weight: weight of the crop's loss.

        Returns:
            The changed crop ``(1, 1, *S)``, and the terms of the loss by name.
        """
        example, crop, inner = self._draw(generator)
        fields = [field[crop][None, None] for field in (example.scan, example.valid, example.noise)]
        made = self._network.channels(*fields)
        valid = fields[1][inner]
        losses = {}
        for name, energy in self.energies.items():
            miss = getattr(made, name)[inner] - example.parts[name][crop][None, None][inner]
            losses[name] = (valid * miss.square()).sum() / valid.sum().clamp(min=1) / energy
        torch.stack(list(losses.values())).sum().mul(weight).backward()
        change = torch.stack([getattr(made, name).detach() for name in _PARTS]).sum(0)
        return fields[0] + fields[1] * change, {
            n: float(loss.detach()) for n, loss in losses.items()
        }

    def _draw(
        self, generator: torch.Generator
    ) -> tuple[LookExample, tuple[slice, ...], tuple[slice, ...]]:
        """Draw an example, a crop with enough valid voxels, and the part of it that is judged."""

        def number(count: int) -> int:
            return int(torch.randint(count, (1,), generator=generator))

        example = self._examples[number(len(self._examples))]
        shape, halo = example.scan.shape, self._network.shape.receptive_field.size[0] // 2
        for _ in range(20):
            sides = [min(self._crop, extent) for extent in shape]
            starts = [number(extent - n + 1) for n, extent in zip(sides, shape, strict=True)]
            crop = tuple(slice(a, a + n) for a, n in zip(starts, sides, strict=True))
            if float(example.valid[crop].mean()) >= _LEAST_VALID:
                break
        inner = tuple(
            slice(0 if a == 0 else halo, n if a + n == extent else n - halo)
            for a, n, extent in zip(starts, sides, shape, strict=True)
        )
        return example, crop, (slice(None), slice(None), *inner)


def middle_box(grid: Grid) -> Grid:
    """Cut out the middle of a scan, with all slices of a flat one."""
    shape, kept = grid.shape, list(grid.shape)
    while math.prod(kept) > _MOST_VOXELS:
        longest = max(range(len(kept)), key=kept.__getitem__)
        kept[longest] = max(1, kept[longest] - 8)
    from convnd import io

    box = [slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(shape, kept, strict=True)]
    return grid if kept == list(shape) else io.crop(grid, box)
