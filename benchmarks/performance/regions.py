"""Processor time of a step by number of regions.

    python -m benchmarks.performance.regions --json regions.json

Regions are vertical stripes of equal width with one style each. The steps without regions, and
with one, two and three of them, take turns; the shortest of each counts. How exact regions are in
tiles, `benchmarks.performance.region_exactness` measures.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from benchmarks.measurement import Table, add_json_option, write_results
from convnd.losses import Objective
from convnd.malloc import tune_malloc
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.regions import StyleRegion
from convnd.transfer.style_transfer import StyleTransfer

_COUNTS = (0, 1, 2, 3)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=512, help="side of the picture")
    parser.add_argument("--repeats", type=int, default=4, help="steps of each kind")
    add_json_option(parser)
    args = parser.parse_args()
    tune_malloc()
    steps = [step_times(name, args.size, args.repeats) for name in ("compact", "vgg19")]
    tables = [Table(rows=steps, caption="Time of a step relative to one without regions")]
    write_results(args.json, "Regions", tables, section="Pictures")


def objective(transfer: StyleTransfer, content: Tensor, count: int) -> Objective:
    """Make the objective with a number of regions; 0 is one style without a region."""
    extent = content.shape[2:]
    styles = [field(*extent, channels=content.shape[1], seed=1 + n) for n in range(max(1, count))]
    positions = torch.arange(extent[-1]).expand(1, 1, *extent)
    regions = [
        StyleRegion((positions * count // extent[-1] == number).float(), (number,))
        for number in range(count)
    ]
    return transfer.objective(content, styles, [1.0] * len(extent), regions=regions)


def field(*extent: int, channels: int, seed: int) -> Tensor:
    """Make uniform noise ``(1, channels, *extent)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, *extent, generator=generator)


def step_times(backbone: str, size: int, repeats: int) -> dict[str, object]:
    """Measure loss and gradient of a picture with each number of regions."""
    transfer = StyleTransfer(
        TransferOptions(backbone=backbone, size=0), spatial_dims=2, in_channels=3
    )
    content = field(size, size, channels=3, seed=0)
    objectives = [objective(transfer, content, count) for count in _COUNTS]
    best = [math.inf] * len(_COUNTS)
    for _ in range(repeats):
        for number, one in enumerate(objectives):
            before = time.process_time()
            evaluate_whole(one, content)
            best[number] = min(best[number], time.process_time() - before)
    ratios = [seconds / best[0] for seconds in best]
    named = {f"with {count}": ratio for count, ratio in zip(_COUNTS[1:], ratios[1:], strict=True)}
    print(
        f"{backbone} {size}x{size}: {best[0]:.2f} s of processor time without regions; times "
        + ", ".join(f"{ratio:.2f} {name}" for name, ratio in named.items())
    )
    return {"network": backbone, "size": size, "s": best[0], **named}


if __name__ == "__main__":
    main()
