"""Networks for the look of scans: known answers on boxes that were not in the training.

A network is trained on one box of CT and one of MR, mirrored and with a known change of its look,
as `scan_boxes` makes it: noise of a kernel, a blur, and a sharpening. Then it changes boxes of
other people, whose correct result is the same known change. Beside it stands the transfer of the
style itself. Every row has the figures of `scan_boxes`, by code that changes no scan.

    python -m benchmarks.performance.scan_box_files scans boxes
    python -m benchmarks.performance.look_networks boxes --json look_networks.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.geometry import value_unit
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.network_look import NetworkLookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import canonical_array
from convnd_tasks.pipeline.train_api import train

from benchmarks.measurement import Table, add_json_option, machine, write_results
from benchmarks.performance.scan_boxes import judge
from benchmarks.performance.scan_truths import known_truth, plane_last, volume_grid
from convnd import io
from convnd.errors import ConvndError
from convnd.feedforward.network_file import read_network

KINDS = ("coloured", "blur", "sharp")

TRAININGS = {
    "Q01-chest": ("N02-chest", "Q02-chest", "P13-chest", "R02-chest", "H04-chest"),
    "P03-T1": ("N08-T1", "N09-T1", "Q05-T1-average", "H14-T1", "R12-gadolinium"),
}
"""The box that a network is trained on, and boxes of other people."""

COLUMNS = (
    *("spectrum left", "edges", "mean", "bone", "thin", "largest", "Dice 2", "Dice 3"),
    *("background", "range"),
)


def main() -> None:
    """Run the benchmark and print a line of JSON for every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("boxes", type=Path, help="folder of the boxes")
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of " + ", ".join(KINDS))
    parser.add_argument("--steps", type=int, default=250, help="steps of each training")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write networks and results")
    parser.add_argument("--conditions", default="", help="conditions of the measurement, as text")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    trainings: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        keep = arguments.keep or Path(temporary)
        keep.mkdir(parents=True, exist_ok=True)
        for learnt, held_out in TRAININGS.items():
            for kind in arguments.kinds.split(","):
                network = keep / f"{learnt}-{kind}.safetensors"
                trainings.append(_train(arguments, learnt, kind, network))
                print(json.dumps(trainings[-1]), flush=True)
                for box in held_out:
                    for way in ("network", "style itself"):
                        rows.append(_run(arguments.boxes, box, learnt, kind, way, network))
                        print(json.dumps(rows[-1]), flush=True)
    write_results(
        arguments.json,
        "Networks for the look of scans",
        [Table(rows=rows), Table(rows=trainings, caption="Trainings; seconds of processor time.")],
        section="Volumes",
        conditions=arguments.conditions,
        summary=(
            "Boxes of other people than that of the training. spectrum left: distance of the noise "
            "spectrum to the truth's, in % of the content's distance; edges: % by which the slope "
            "of edges misses the truth; mean, bone: largest change of the mean of a tissue, in HU "
            "or %; thin: contrast of thin structures over that of the truth; largest: largest "
            "change of a voxel in deviations of the noise; background, range: voxels that changed "
            "in the padding, and that left the scan's range."
        ),
        target=(
            "spectrum left at most 20, edges within 15, mean at most 2, thin 0.9 to 1.1, largest "
            "at most 6, Dice at least 0.98, background and range 0"
        ),
    )


def _load(folder: Path, name: str) -> tuple[Any, tuple[float, ...], str]:
    grid = io.read(folder / f"{name}.nii.gz")
    content, spacing = plane_last(*canonical_array(grid))
    content = np.ascontiguousarray(np.nan_to_num(content, nan=float(np.nanmin(content))))
    return content, spacing, value_unit(grid)


def _style(folder: Path, name: str, kind: str) -> Any:
    content, spacing, unit = _load(folder, name)
    return volume_grid(known_truth(content, spacing, kind, unit)[..., ::-1], spacing, unit)


def _train(arguments: argparse.Namespace, name: str, kind: str, network: Path) -> dict[str, Any]:
    """Train a network, and describe the training."""
    folder: Path = arguments.boxes
    losses: list[float] = []
    start = time.process_time()
    train(
        _style(folder, name, kind),
        data=[volume_grid(*_load(folder, name))],
        out=network,
        overwrite=True,
        steps=arguments.steps,
        preview_every=0,
        on_progress=lambda progress: losses.append(progress.loss),
    )
    return {
        "trained on": name,
        "look": kind,
        "steps": len(losses),
        "seconds": round(time.process_time() - start, 1),
        "loss": round(sum(losses[-50:]) / 50, 4),
        "kB": network.stat().st_size // 1000,
    }


def _run(folder: Path, box: str, learnt: str, kind: str, way: str, network: Path) -> dict[str, Any]:
    """The figures of one box."""
    content, spacing, unit = _load(folder, box)
    truth = known_truth(content, spacing, kind, unit)
    expected = content if kind == "coloured" else truth
    grid = volume_grid(content, spacing, unit)
    row: dict[str, Any] = {"box": box, "look": kind, "by": way}
    start = time.process_time()
    try:
        transfer: LookTransfer
        if way == "network":
            trained = read_network(network)
            inputs = TransferInputs(
                content=grid, styles=trained.styles, names=["scan", network.name]
            )
            transfer = NetworkLookTransfer(inputs, VolumeOptions(), trained)
        else:
            style = _style(folder, learnt, kind)
            inputs = TransferInputs(content=grid, styles=[style], names=["scan", "style"])
            transfer = LookTransfer(inputs, VolumeOptions())
        *_, last = transfer.run(state=None, group=None, on_message=None)
    except ConvndError as error:
        return {**row, "outcome": f"{type(error).__name__}: {error}"}
    row["seconds"] = round(time.process_time() - start, 1)
    result = transfer.result(last)
    assert result is not None
    values = canonical_array(result)[0]
    figures = judge(kind, content, spacing, values, unit, truth, expected, truth, spacing)
    row |= {name: figures[name] for name in COLUMNS if name in figures}
    row |= {"strength": transfer.record["safe_strength"], "outcome": "done"}
    row["sharpness"] = transfer.record["sharpness"]
    return row


if __name__ == "__main__":
    main()
