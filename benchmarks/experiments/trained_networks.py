"""Style energy of networks of ``convnd train``, against the optimiser at equal content energy.

Each network stylises the contents. Then the optimiser stylises them with the weight of the content
that leaves the same content energy, found by a search. Energies are those of the objective, in the
features of "compact", and those of ``convnd evaluate``, in the original VGG-19.

    convnd train waves --dim 2 --minutes 15 -o waves.safetensors
    python -m benchmarks.experiments.trained_networks waves.safetensors=waves --json FILE
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from convnd_tasks.modalities.images.options import ImageOptions
from torch import Tensor

import convnd
from benchmarks.common import picture
from benchmarks.experiments.schedules import find
from benchmarks.measurement import Table, add_json_option, write_results
from convnd import Grid, io
from convnd.feedforward.network_file import read_network
from convnd.optimize import evaluate_whole
from convnd.transfer.objective import TransferObjective

CONTENTS = ("coffee.png", "chelsea.png", "china.jpg", "motorcycle_left.png")
STYLE_WEIGHT = 6.0
TOLERANCE = 0.05  # of the content energy, relative
MOST_TRIES = 5


class Energies(NamedTuple):
    """Style and content energy, in the features of compact."""

    style: float
    content: float


@cache
def objective() -> TransferObjective:
    """The objective of a picture, with weights of 1."""
    options = ImageOptions(backbone="compact", style_weight=1.0, precision="float32")
    return TransferObjective(options, spatial_dims=2, in_channels=3)


def energies(content: Tensor, style: Tensor, result: Tensor) -> Energies:
    """The energies of a result ``(1, 3, H, W)``."""
    size = tuple(content.shape[2:])
    target = objective().resizer.style_at(style, size)
    parts = evaluate_whole(
        objective().objective(content, [target], [1.0, 1.0]), result.clamp(0, 1).contiguous()
    ).parts
    return Energies(parts["style"], parts["content"])


def match_content(content: Grid, style: Grid, aim: float) -> tuple[Tensor, float, float]:
    """Optimise with the content weight that leaves a content energy.

    Args:
        content: the content.
        style: the style.
        aim: the content energy.

    Returns:
        The result, the weight, and processor seconds of the last run.
    """
    low, high, weight = 1e-3, 1e3, 1.0
    best: tuple[float, Tensor, float, float] | None = None
    for _ in range(MOST_TRIES):
        start = time.process_time()
        result = convnd.stylize(
            content, style, size=0, style_weight=STYLE_WEIGHT, content_weight=weight
        ).values
        seconds = time.process_time() - start
        energy = energies(content.values, style.values, result).content
        miss = abs(math.log(energy / aim))
        if best is None or miss < best[0]:
            best = miss, result, weight, seconds
        if miss < TOLERANCE:
            break
        # The energy falls about as the root of the weight.
        low, high = (weight, high) if energy > aim else (low, weight)
        guess = weight * (energy / aim) ** 2
        weight = guess if low < guess < high else math.sqrt(low * high)
    assert best is not None
    return best[1:]


def judge(content: Grid, style: Grid, result: Tensor) -> dict[str, float]:
    """The energies of a result in both networks."""
    values = result.clamp(0, 1)
    compact = energies(content.values, style.values, values)
    measures = convnd.evaluate(content, Grid(values=values, channels=content.channels), style)
    return {
        "style": round(compact.style, 4),
        "content": round(compact.content, 3),
        "style, VGG-19": round(measures["style_energy"].value, 4),
        "content, VGG-19": round(measures["content_energy"].value, 3),
    }


def compare(network: Path, style_name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one network, two for each content."""
    rows = []
    style = open_picture(style_name, args.size, "style")
    trained = read_network(network).network
    for name in args.contents:
        content = open_picture(name, args.size, "content")
        start = time.process_time()
        with torch.no_grad():
            result = trained(content.values)
        seconds = time.process_time() - start
        measured = judge(content, style, result)
        optimised, weight, optimiser_seconds = match_content(content, style, measured["content"])
        for way, values, used in (
            ("network", result, seconds),
            (f"optimiser, content weight {weight:.2g}", optimised, optimiser_seconds),
        ):
            row = {"network": network.stem, "content image": name, "way": way}
            rows.append({**row, **judge(content, style, values), "CPU s": round(used, 2)})
            print(*rows[-1].values(), flush=True)
            if args.pictures is not None:
                args.pictures.mkdir(exist_ok=True)
                path = args.pictures / f"{network.stem}-{Path(name).stem}-{way.split(',')[0]}.png"
                picture_grid = Grid(values=values.clamp(0, 1), channels=content.channels)
                io.write(path, picture_grid, overwrite=True)
    return rows


def open_picture(name: str, size: int, role: str) -> Grid:
    """A picture of three channels at a size."""
    values = picture(find(name), size, role=role)[:, :3].expand(1, 3, -1, -1)
    return Grid(values=values.clamp(0, 1).contiguous(), channels=("R", "G", "B"))


def summarise(rows: list[dict[str, Any]], network: Path) -> dict[str, Any]:
    """The medians of one network, and how it was trained."""
    record = read_network(network).record
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    ratio = {
        key: round(statistics.median(one[key] / other[key] for one, other in pairs), 2)
        for key in ("style", "content", "style, VGG-19", "content, VGG-19")
    }
    return {
        "network": network.stem,
        "steps of training": int(record["convnd:steps_taken"]),
        "plan": ", ".join(
            f"{key} {value}"
            for key, value in json.loads(record["convnd:plan"]).items()
            if key in ("crop", "batch", "motion_weight")
        ),
        **{f"{key}: network / optimiser": value for key, value in ratio.items()},
    }


def main() -> None:
    """Compare networks with the optimiser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="FILE=STYLE")
    parser.add_argument("--contents", nargs="+", default=CONTENTS)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--pictures", type=Path, help="folder that receives the pictures")
    add_json_option(parser)
    args = parser.parse_args()
    summary, rows = [], []
    for word in args.networks:
        file, _, style = word.partition("=")
        part = compare(Path(file), style, args)
        summary.append(summarise(part, Path(file)))
        print(*summary[-1].values(), flush=True)
        rows += part
    write_results(
        args.json,
        "Trained networks and the optimiser",
        [Table(rows=summary, caption="Medians of the ratios"), Table(rows=rows)],
        section="Pictures",
        summary="The optimiser has the weight of the content that leaves the network's content "
        "energy in the features of compact.",
        conditions=f"{args.size} px, {torch.get_num_threads()} threads",
        target="style at most 1.5 times the optimiser's after 15 minutes of training on two cores",
    )


if __name__ == "__main__":
    main()
