"""The known answers of `networks.py` for volumes: real CT and MRI, in small boxes.

Content error: mean absolute change of the volume, blurred by 2 mm, over the range of the content
(0.5th to 99.5th percentile). Figures: the style energy in the feature space of the original VGG-19
(mean over relu1_1 … relu5_1 of relative Gram distances) of the slices across each axis, and the
distance of the noise power spectrum where there is flat tissue, each over that of the content.
``style`` is the mean over the three planes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convnd_tasks.modalities.value_range import value_range
from convnd_tasks.modalities.volumes.look import blend_noise
from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.similarity import anatomy_error
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from benchmarks.common import STYLE_LAYERS, Network, Try
from convnd import io
from convnd.backbones import Backbone, MultiPlanar, load
from convnd.stats import gram_matrix
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

START = 1.0
COLUMNS = ("style", "axis0", "axis1", "axis2", "nps", "error")
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two boxes of voxels in the scan's units, slice axis last, and their spacing in mm."""

    name: str
    content: Array
    style: Array
    spacing: tuple[float, float, float]


def extra_candidates() -> dict[str, Network]:
    """Candidates of this rank only; the first is the reference."""
    return {"compact, planes": lambda: MultiPlanar(load("compact", in_channels=1), spatial_dims=3)}


def pairs(data: Path, words: Sequence[str]) -> Iterator[Pair]:
    """Pairs from the scans in the source of pyradiomics, as ``NAME.nrrd``.

    CT grain: the content is every second slice, blurred by 1 mm; the style is the slices between.
    CT look and MRI look: one patient and scanner in the style of another.
    """
    lung2, lung1, brain1, brain2 = (
        io.read(data / f"{name}_image.nrrd") for name in ("lung2", "lung1", "brain1", "brain2")
    )

    def box(grid: object, i: int, j: int, k: slice) -> Array:
        values: Array = grid.values[0, 0, i : i + 48, j : j + 48, k].numpy()  # type: ignore[attr-defined]
        return np.ascontiguousarray(values)

    # Values of two MRI scans have no common unit.
    first, second = (box(brain, 100, 100, slice(4, 20)) for brain in (brain1, brain2))
    low, high = value_range(torch.from_numpy(first))
    bottom, top = value_range(torch.from_numpy(second))
    second = (second - bottom) / (top - bottom) * (high - low) + low

    even, odd = (box(lung2, 110, 230, slice(8 + n, 40 + n, 2)) for n in (0, 1))
    step = lung2.spacing[0]
    soft = np.round(ndimage.gaussian_filter(even, [1 / step, 1 / step, 0]))
    for pair in (
        Pair("CT grain", soft, odd, (step, step, 10.0)),
        Pair(
            "CT look",
            box(lung1, 130, 230, slice(12, 28)),
            box(lung2, 110, 230, slice(12, 28)),
            (step, step, 5.0),
        ),
        Pair(
            "MRI look",
            first,
            second,
            (brain1.spacing[0], brain1.spacing[1], brain1.spacing[2]),
        ),
    ):
        if not words or any(word in pair.name for word in words):
            yield pair


def figures(pair: Pair, network: Backbone, weight: float, args: argparse.Namespace) -> Try:
    """Runs a transfer with a content weight and measures it."""
    low, high = value_range(torch.from_numpy(pair.content))
    content, style = (
        torch.from_numpy((values - low) / (high - low))[None, None]
        for values in (pair.content, pair.style)
    )
    options = TransferOptions(
        backbone="compact",
        size=0,
        steps=args.steps,
        scales=1,
        content_weight=weight,
        precision="float32",
        inflation="multiplanar" if isinstance(network, MultiPlanar) else "mean",
    )
    work = StyleTransfer(options, spatial_dims=3, in_channels=1)
    work.backbone = network
    work.precision.apply(network)
    for progress in work.run(
        TransferProblem(content, [style], spacing=pair.spacing, same_grid=True)
    ):
        result = progress.values
    values = result[0, 0].numpy() * (high - low) + low
    error = anatomy_error(values, pair.content, pair.spacing) / (high - low)
    judge = _Judge.of(pair, content, style)
    styles = judge(result)
    shares = {f"axis{axis}": styles[axis] / judge.before[axis] for axis in range(3)}
    return {
        "error": error,
        "style": float(np.mean(list(shares.values()))),
        **shares,
        "nps": _noise_share(pair, values),
    }


class _Judge:
    """Style energy in the space of the original VGG-19, slice by slice, for each axis."""

    latest: tuple[Pair, _Judge] | None = None

    def __init__(self, content: Tensor, style: Tensor) -> None:
        self.net = load("vgg19", in_channels=1, layers=list(STYLE_LAYERS))
        self.targets = [self._grams(style, axis) for axis in range(3)]
        self.before = self(content)

    @classmethod
    def of(cls, pair: Pair, content: Tensor, style: Tensor) -> _Judge:
        """The judge of a pair; the class stores the latest one."""
        if cls.latest is None or cls.latest[0] is not pair:
            cls.latest = (pair, cls(content, style))
        return cls.latest[1]

    def _grams(self, volume: Tensor, axis: int) -> list[Tensor]:
        with torch.no_grad():
            features = self.net(volume[0].movedim(1 + axis, 0), STYLE_LAYERS)
        stacked = [features[name].movedim(0, 1)[None] for name in STYLE_LAYERS]
        return [gram_matrix(values) / values[0, 0].numel() for values in stacked]

    def __call__(self, volume: Tensor) -> list[float]:
        energies = []
        for axis, target in enumerate(self.targets):
            pairs = zip(self._grams(volume, axis), target, strict=True)
            shares = [float((a - b).square().sum() / b.square().sum()) for a, b in pairs]
            energies.append(sum(shares) / len(shares))
        return energies


def _noise_share(pair: Pair, result: NDArray[Any]) -> float:
    """Share of the distance of noise power spectra that is left; NaN without noise."""
    unit = "HU" if pair.content.min() < -500 else ""
    before, style = (
        MeasuredScan.measure(
            Scan.from_values(torch.from_numpy(values).float(), pair.spacing),
            unit,
            min(pair.spacing),
        )
        for values in (pair.content, pair.style)
    )
    after = before.changed(torch.from_numpy(result).float()).noise
    targets = blend_noise(before.noise, [style.noise], [1.0])
    shares = [
        after[tissue].distance(target) / before.noise[tissue].distance(target)
        for tissue, target in targets.items()
    ]
    return float(np.mean(shares)) if shares else float("nan")
