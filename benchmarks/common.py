"""Shared by several benchmarks: alternating timings, peak memory, sample pictures and a judge."""

from __future__ import annotations

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from convnd_tasks import samples
from convnd_tasks.runtime.plots import encode, new_figure
from torch import Tensor

from convnd import io
from convnd.backbones import VGG, Backbone, load
from convnd.nn import resize_nd
from convnd.stats import gram_matrix

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

Network = Callable[[], Backbone]
Try = dict[str, float]
"""A candidate of `experiments/networks.py`, made when it is needed; figures of one transfer."""


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each candidate by a clock, taken in turns after one warm-up each."""
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios turn by turn, so that a slow drift of the machine does not matter."""
    return statistics.median(a / b for a, b in zip(seconds, baseline, strict=True))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # There getrusage includes the process that started this one.
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_ratios(
    rows: Mapping[str, Mapping[str, float]], path: str | Path, *, target: float | None = None
) -> None:
    """Draws the ratios as bars into a PNG; needs matplotlib.

    Args:
        rows: for every case the ratio of each kind.
        path: the PNG.
        target: ratio to reach; a second dashed line, beside the one at 1.
    """
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
    thick = 0.8 / len(kinds)
    figure, axes = new_figure(7, 1 + 0.3 * len(rows) * max(1.0, len(kinds) / 2))
    axis = axes[0, 0]
    for number, kind in enumerate(kinds):
        places = [place + number * thick for place in range(len(rows))]
        axis.barh(places, [row.get(kind, 0.0) for row in rows.values()], thick, label=kind)
    axis.set_yticks([place + 0.4 - thick / 2 for place in range(len(rows))], list(rows))
    axis.invert_yaxis()
    axis.axvline(1, color="#555555", linewidth=0.8)
    if target is not None:
        axis.axvline(target, color="#555555", linewidth=0.8, linestyle="--")
        axis.annotate(
            f"target {target:g}",
            (target, 1),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
        )
    axis.set_xlabel("ratio")
    if len(kinds) > 1:
        figure.legend(loc="outside right upper")
    Path(path).write_bytes(encode(figure))


def random_weights(net: VGG, seed: int) -> VGG:
    """The network with random weights (He et al., 2015) and without projections."""
    plan = dataclasses.replace(net.plan, projections={})
    generator = torch.Generator().manual_seed(seed)
    drawn = VGG(
        plan, spatial_dims=net.spatial_dims, in_channels=net.in_channels, generator=generator
    )
    drawn.mean.copy_(net.mean)
    return drawn.eval()


def picture(name: str, size: int, *, role: str) -> Tensor:
    """A file, or a built-in sample, as ``(1, 3, H, W)`` with its longest side ``size``."""
    if Path(name).exists():
        values = io.read(name).values
    else:
        make = samples.content if role == "content" else samples.style
        values = make(name, spatial_dims=2, size=size).values
    ratio = size / max(values.shape[2:])
    extent = [round(length * ratio) for length in values.shape[2:]]
    return resize_nd(values, extent, mode="linear", antialias=True)


class Judge:
    """Style and content energy of a result in the feature space of the original VGG-19.

    The judge does not depend on the network that made the result. Both energies are relative: the
    squared distance to the target over the target's own energy. Style compares Gram matrices per
    position, as a mean over relu1_1 … relu5_1; content compares relu4_2. Results are clamped to
    ``[0, 1]`` first, as they are when saved.
    """

    def __init__(self, content: Tensor, style: Tensor) -> None:
        self.net = load("vgg19", layers=[*STYLE_LAYERS, CONTENT_LAYER])
        with torch.no_grad():
            self.content = self.net(content, [CONTENT_LAYER])[CONTENT_LAYER]
            self.grams = self._grams(self.net(style, STYLE_LAYERS))

    @staticmethod
    def _grams(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: gram_matrix(values) / values[0, 0].numel()
            for name, values in features.items()
            if name in STYLE_LAYERS
        }

    def __call__(self, result: Tensor) -> tuple[float, float]:
        """Style and content energy of ``(1, 3, H, W)``."""
        with torch.no_grad():
            features = self.net(result.clamp(0, 1), [*STYLE_LAYERS, CONTENT_LAYER])
            grams = self._grams(features)
            styles = [
                ((grams[name] - self.grams[name]).square().sum() / self.grams[name].square().sum())
                for name in STYLE_LAYERS
            ]
            difference = features[CONTENT_LAYER] - self.content
            content = difference.square().sum() / self.content.square().sum()
        return float(sum(styles)) / len(styles), float(content)
