"""Is bfloat16 accurate enough? Pairs of pictures in both precisions, evaluated in float32.

    python -m benchmarks.experiments.precision --size 256 --json precision.json --plot precision.png

For every pair the script prints the remaining energies after a bfloat16 run over those after a
float32 run: the parts of the objective itself, evaluated in float32, and the energies of
`common.Judge`. For scale, it prints the same ratio for a float32 run whose content has a little
noise: a quarter of a grey level by default. ``--noise 1e-6`` shows the effect of chance.
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
from benchmarks.performance.compact_backbone import PAIRS, stylize
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer


def main() -> None:
    """Stylises all pairs three times and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=TransferOptions.steps)
    parser.add_argument("--backbone", default=TransferOptions.backbone)
    parser.add_argument("--noise", type=float, default=1 / (4 * 255), help="standard deviation")
    parser.add_argument("--pair", nargs=2, action="append", help="files instead of built-in pairs")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this PNG")
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

        def remaining(result: torch.Tensor) -> dict[str, float]:
            parts = evaluate_whole(objective, result).parts  # noqa: B023 - called at once
            named_rows = zip(("style_vgg19", "content_vgg19"), judge(result), strict=True)  # noqa: B023
            return {"style": parts["style"], "content": parts["content"], **dict(named_rows)}

        reference, rounded, noisy = (
            remaining(stylize(options, values, style)[0])
            for options, values in ((exact, content), (rough, content), (exact, content + noise))
        )
        row = {name: rounded[name] / reference[name] for name in reference}
        row |= {f"{name}_with_noise": noisy[name] / reference[name] for name in reference}
        title = " x ".join(Path(name).stem for name in names)
        rows[title] = row
        print(title, json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    summary = {
        f"{name}_{kind}": choose(row[name] for row in rows.values())
        for name in row
        for kind, choose in (("median", statistics.median), ("worst", _worst))
    }
    print(json.dumps({name: round(value, 4) for name, value in summary.items()}))
    named_rows = [{"pair": pair, **row} for pair, row in rows.items()]
    tables = [Table(rows=named_rows), Table(rows=[summary], caption="All pairs")]
    write_results(args.json, "bfloat16 against float32, pictures", tables)
    if args.plot:
        draw_ratios(rows, args.plot)


def _worst(ratios: Iterable[float]) -> float:
    return max(ratios, key=lambda ratio: abs(ratio - 1))


if __name__ == "__main__":
    main()
