"""Which network is best for signals and volumes? Transfers with a known answer.

    python -m benchmarks.experiments.networks --dim 1 --data FOLDER --trained NAME=FILE ...
    python -m benchmarks.experiments.networks --dim 3 --data FOLDER --trained NAME=FILE ...

Candidates are

- the compact network for pictures, converted to the other rank in every way (`convert`);
- the compact network with random weights;
- its features on slices (3-D);
- networks trained by ``train_ranks.py``.

All run the same job and are compared at equal content error, which is measured without a network.
The first candidate runs with the default weights. For every other candidate the script searches the
content weight with the same content error, and interpolates every figure between the tries.
``networks_1d.py`` and ``networks_3d.py`` define errors and figures. The script prints a table in
Markdown; ``--json FILE`` stores every try.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Network, Try, random_weights
from benchmarks.measurement import add_json_option, write_results
from benchmarks.training.train_ranks import trained
from convnd.backbones import VGG, Backbone, load


def convert(how: str, spatial_dims: int) -> VGG:
    """The compact network for pictures, converted to another rank.

    Args:
        how: for 3-D "mean", "centre" or "acs"; for 1-D "sum" (the signal as a picture of
            stripes), "mean" (averaged kernels), "centre" (the middle rows of the kernels), or "acs"
            (every second channel sums the rows, the others the columns).
        spatial_dims: 1 or 3.
    """
    if spatial_dims > 2:
        return load("compact", spatial_dims=spatial_dims, in_channels=1, inflation=how)
    net = load("compact", spatial_dims=1, in_channels=1)
    flat = load("compact", spatial_dims=2, in_channels=1)
    for name in net.convolutions:
        weight = flat.get_parameter(f"convolutions.{name}.weight")
        rows, columns = weight.sum(2), weight.sum(3)
        if how == "mean":
            rows = rows / 3
        elif how == "centre":
            rows = weight[:, :, 1]
        elif how == "acs":
            rows = rows.clone()
            rows[1::2] = columns[1::2]
        net.get_parameter(f"convolutions.{name}.weight").data.copy_(rows)
    return net


def all_candidates(
    spatial_dims: int, files: Mapping[str, Path], seeds: Sequence[int]
) -> dict[str, Network]:
    """Factories of the candidates, by name."""
    candidates: dict[str, Network] = {}
    for how in ("sum", "mean", "centre", "acs") if spatial_dims == 1 else ("mean", "centre", "acs"):
        candidates[f"compact, {how}"] = lambda how=how: convert(how, spatial_dims)  # type: ignore[misc]
    for seed in seeds:
        candidates[f"random weights, seed {seed}"] = lambda seed=seed: random_weights(  # type: ignore[misc]
            load("compact", spatial_dims=spatial_dims, in_channels=1), seed
        )
    for name, path in files.items():
        candidates[name] = lambda path=path: trained(path)  # type: ignore[misc]
    return candidates


def match_content(
    run: Callable[[float], Try], aim: float, *, start: float, tries: int
) -> tuple[Try, list[Try]]:
    """Figures where the content error is ``aim``, interpolated between the tries.

    Args:
        run: a transfer with a content weight; returns its figures, among them ``error``.
        aim: content error to reach.
        start: first content weight.
        tries: number of transfers.

    Returns:
        The figures, with ``mismatch`` (log of the nearest try's error over the aim; nothing is
        extrapolated), and all tries.
    """
    results: list[Try] = []
    weight = start
    for _ in range(tries):
        results.append({"weight": weight, **run(weight)})
        ordered = sorted(results, key=lambda result: result["error"])
        above = [result for result in ordered if result["error"] > aim]
        below = [result for result in ordered if result["error"] <= aim]
        if above and below:  # between the two, on a straight line of logarithms
            a, b = below[-1], above[0]
            share = math.log(aim / a["error"]) / math.log(b["error"] / a["error"])
            weight = a["weight"] * (b["weight"] / a["weight"]) ** min(max(share, 0.1), 0.9)
        else:
            weight *= min(max((results[-1]["error"] / aim) ** 1.5, 0.02), 50)
    ordered = sorted(results, key=lambda result: result["error"])
    places = [math.log(result["error"]) for result in ordered]
    figures = {
        key: float(np.interp(math.log(aim), places, [result[key] for result in ordered]))
        for key in ordered[0]
    }
    nearest = min(places, key=lambda place: abs(place - math.log(aim)))
    figures["mismatch"] = nearest - math.log(aim)
    return figures, results


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table in Markdown: for each candidate the mean of each figure over all pairs."""
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    lines = [
        "| candidate | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        selection = [row for row in rows if row["candidate"] == name]
        cells = [f"{np.nanmean([row[key] for row in selection]):.3f}" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all candidates on all pairs of a rank."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dim", type=int, choices=(1, 3), required=True)
    add("--data", type=Path, required=True, help="folder of the recordings or scans")
    add("--trained", action="append", default=[], metavar="NAME=FILE")
    add("--seeds", default="0,1,2", help="seeds of random weights")
    add("--only", default="", help="words in names of further candidates")
    add("--pairs", default="", help="words in names of pairs")
    add("--steps", type=int, default=40)
    add("--tries", type=int, default=3, help="number of content weights to try")
    add("--value-statistics", default="", help="1-D: also these value statistics")
    add_json_option(parser)
    args = parser.parse_args()
    if args.dim == 1:
        from benchmarks.experiments import networks_1d as rank
    else:
        from benchmarks.experiments import networks_3d as rank  # type: ignore[no-redef]
    files = {
        name: Path(path) for name, _, path in (argument.partition("=") for argument in args.trained)
    }
    seeds = [int(seed) for seed in args.seeds.split(",") if seed]
    candidates = {**rank.extra_candidates(), **all_candidates(args.dim, files, seeds)}
    reference, *rest = candidates
    only = [word for word in args.only.split(",") if word]
    names = [reference, *(n for n in rest if not only or any(word in n for word in only))]
    rows: list[dict[str, Any]] = []
    for pair in rank.pairs(args.data, [word for word in args.pairs.split(",") if word]):
        aim = 1.0
        for name in names:
            network = candidates[name]()
            start = time.monotonic()

            def run(weight: float, network: Backbone = network, pair: Any = pair) -> Try:
                return rank.figures(pair, network, weight, args)

            tries = 1 if name == reference else args.tries
            figures, results = match_content(run, aim, start=rank.START, tries=tries)
            if name == reference:
                aim, figures["mismatch"] = figures["error"], 0.0
            row = {"pair": pair.name, "candidate": name, **figures, "tries": results}
            row["s"] = (time.monotonic() - start) / tries
            rows.append(row)
            summary = " ".join(f"{key} {row[key]:.3f}" for key in (*rank.COLUMNS, "mismatch", "s"))
            print(f"{pair.name}: {name}: {summary}", flush=True)
            title = f"Networks for {args.dim} {'axis' if args.dim == 1 else 'axes'}"
            write_results(args.json, title, rows)
    print()
    print(table(rows, rank.COLUMNS))


if __name__ == "__main__":
    main()
