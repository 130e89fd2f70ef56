"""bfloat16 against float32 on signals: remaining style and content energy, in float32.

    python -m benchmarks.experiments.precision_signals --mitbih scipy/misc/ecg.dat

Leads of pydicom's recording get the style of MIT-BIH 208 in both precisions and, for scale, in
float32 from a content with 1 µV of noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.prepare import prepare

from benchmarks.measurement import add_json_option, write_results
from benchmarks.performance.known_answer_signals import clean_rhythm, grid, other_recording
from convnd.optimize import evaluate_whole
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer


def main() -> None:
    """Print ratios to float32, for each lead and over all leads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mitbih", type=Path, required=True, help="scipy 1.11.4's ecg.dat")
    parser.add_argument("--leads", default="I,II,V1,V2,V4,V5")
    add_json_option(parser)
    args = parser.parse_args()
    style = other_recording(args.mitbih, 20, 20)
    rng = np.random.default_rng(0)
    exact = SignalOptions(size=0, precision="float32")
    rough = dataclasses.replace(exact, precision="bfloat16")
    rows, leads = [], []
    for lead, content in clean_rhythm(tuple(args.leads.split(","))).items():
        inputs = TransferInputs(
            content=grid(content, lead), styles=[grid(style, lead)], names=("A", "B")
        )
        judge = StyleTransfer(exact, spatial_dims=1, in_channels=1)
        clean = prepare(inputs, exact)
        assert clean.content is not None
        parts = []
        for options, noise in ((exact, 0.0), (rough, 0.0), (exact, 1e-3)):
            noisy_content = grid(content + noise * rng.normal(size=len(content)), lead)
            ready = prepare(dataclasses.replace(inputs, content=noisy_content), options)
            work = StyleTransfer(options, spatial_dims=1, in_channels=1)
            *_, final = work.run(TransferProblem(ready.content, ready.styles, same_grid=True))
            objective = judge.objective(clean.content, clean.styles, [1.0])
            parts.append(evaluate_whole(objective, final.values).parts)
        row = {
            f"{name}{suffix}": changed[name] / parts[0][name]
            for suffix, changed in zip(("", "_with_noise"), parts[1:], strict=True)
            for name in ("style", "content", "spectrum")
        }
        rows.append(row)
        leads.append(lead)
        print(lead, json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    print(
        "median", json.dumps({n: round(statistics.median(r[n] for r in rows), 4) for n in rows[0]})
    )
    named_rows = [{"lead": lead, **row} for lead, row in zip(leads, rows, strict=True)]
    write_results(args.json, "bfloat16 against float32, signals", named_rows)


if __name__ == "__main__":
    main()
