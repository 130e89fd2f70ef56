"""Is bfloat16 safe? The same pairs stylised in both formats, judged in float32.

    python -m benchmarks.experiments.precision --size 256 --json precision.json --plot precision.png

For every pair the energies that are left with features in bfloat16 over those with features in
float32: the objective's own parts, evaluated in float32, and those in the space of VGG-19
(`common.Judge`), which the run with another network has not made small. For scale, how much they
move when the float32 run starts from a content with a little noise: by default a quarter of a grey
level, and ``--noise 1e-6`` tells what is left to chance by the optimiser alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.common import Judge, draw_ratios, picture
from benchmarks.measurement import Table, add_json_option, write_results
from benchmarks.performance.compact_backbone import PAIRS, stylise
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer


def main() -> None:
    """Stylise all pairs three times, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=TransferOptions.steps)
    parser.add_argument("--backbone", default=TransferOptions.backbone)
    parser.add_argument("--noise", type=float, default=1 / (4 * 255), help="deviation, of [0, 1]")
    parser.add_argument("--pair", nargs=2, action="append", help="files instead of built-in pairs")
    parser.add_argument("--plot", type=Path, help="a PNG of the ratios")
    add_json_option(parser)
    args = parser.parse_args()
    exact = TransferOptions(
        size=args.size, steps=args.steps, backbone=args.backbone, precision="float32"
    )
    rough = dataclasses.replace(exact, precision="bfloat16")
    generator = torch.Generator().manual_seed(0)
    rows = {}
    for names in args.pair or PAIRS:
        content = picture(names[0], args.size, role="content")
        style = picture(names[1], args.size, role="style")
        noise = torch.randn(content.shape, generator=generator) * args.noise
        judge = Judge(content, style)
        transfer = StyleTransfer(exact, spatial_dims=2, in_channels=3)
        objective = transfer.objective(content, [style], [1.0, 1.0])

        def left(result: torch.Tensor) -> dict[str, float]:
            own = evaluate_whole(objective, result).parts  # noqa: B023 - called at once
            named = zip(("style_vgg19", "content_vgg19"), judge(result), strict=True)  # noqa: B023
            return {"style": own["style"], "content": own["content"], **dict(named)}

        same, other, noisy = (
            left(stylise(options, values, style)[0])
            for options, values in ((exact, content), (rough, content), (exact, content + noise))
        )
        row = {name: other[name] / same[name] for name in same}
        row |= {f"{name}_with_noise": noisy[name] / same[name] for name in same}
        title = " x ".join(Path(name).stem for name in names)
        rows[title] = row
        print(title, json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    summary = {
        f"{name}_{kind}": choose(row[name] for row in rows.values())
        for name in row
        for kind, choose in (("median", statistics.median), ("worst", _worst))
    }
    print(json.dumps({name: round(value, 4) for name, value in summary.items()}))
    named = [{"pair": pair, **row} for pair, row in rows.items()]
    tables = [Table(rows=named), Table(rows=[summary], caption="All pairs")]
    write_results(args.json, "bfloat16 against float32, pictures", tables)
    if args.plot:
        draw_ratios(rows, args.plot)


def _worst(ratios: Iterable[float]) -> float:
    return max(ratios, key=lambda ratio: abs(ratio - 1))


if __name__ == "__main__":
    main()
