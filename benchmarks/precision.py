"""Is bfloat16 safe? The same pairs stylised in both formats, judged in float32.

    python benchmarks/precision.py --size 256 --out results/

For every pair the energies that are left, in the space of VGG-19 (`common.Judge`), with features in
bfloat16 over those with features in float32; and, for scale, how much they move when the float32
run starts from a content with a little noise: by default a quarter of a grey level, and
``--noise 1e-6`` tells what is left to chance by the optimiser alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

import torch
from backbones import PAIRS, stylise
from common import Judge, machine, picture
from convnd_tasks.options import StyleOptions


def main() -> None:
    """Stylise all pairs three times, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=StyleOptions.steps)
    parser.add_argument("--backbone", default=StyleOptions.backbone)
    parser.add_argument("--noise", type=float, default=1 / (4 * 255), help="deviation, of [0, 1]")
    parser.add_argument("--pair", nargs=2, action="append", help="files instead of built-in pairs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    exact = StyleOptions(
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
        found = [
            judge(stylise(options, values, style)[0])
            for options, values in ((exact, content), (rough, content), (exact, content + noise))
        ]
        (style_32, content_32), (style_16, content_16), (style_n, content_n) = found
        row = {
            "style": style_16 / style_32,
            "content": content_16 / content_32,
            "style_with_noise": style_n / style_32,
            "content_with_noise": content_n / content_32,
        }
        title = " x ".join(Path(name).stem for name in names)
        rows[title] = row
        print(title, json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    summary = {
        f"{name}_{kind}": choose(row[name] for row in rows.values())
        for name in ("style", "content", "style_with_noise", "content_with_noise")
        for kind, choose in (("median", statistics.median), ("worst", _worst))
    }
    print(json.dumps({name: round(value, 4) for name, value in summary.items()}))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine(), "size": args.size, "steps": args.steps, "noise": args.noise}
        report |= {"rows": rows, **summary}
        (args.out / "precision.json").write_text(json.dumps(report, indent=2))


def _worst(ratios: Iterable[float]) -> float:
    return max(ratios, key=lambda ratio: abs(ratio - 1))


if __name__ == "__main__":
    main()
