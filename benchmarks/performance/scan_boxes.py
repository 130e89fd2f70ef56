"""Effect and harm of the transfer of a look, for known answers on boxes of scans.

A box is a scan or a part of one. Each box takes the look of styles for which the correct result is
known: the mirrored box with white noise, with noise of a kernel, with a blur of one voxel, and
sharpened. The upper half of its slices also takes the look of the lower half with white noise, with
noise of a kernel, and without: halves of a scan differ in their own noise, which a transfer adds,
too. Then the box takes the look of another scan, and that of the built-in style. `scan_figures`
measures every run without the code that changes scans.

`scan_box_files` cuts the boxes.

    python -m benchmarks.performance.scan_boxes chest.nii.gz=other.nii.gz head.nii.gz
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.geometry import value_unit
from convnd_tasks.modalities.volumes.inputs import default_style, open_style
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import canonical_array
from convnd_tasks.samples import MATCHING_STYLE

from benchmarks.common import peak_mib
from benchmarks.measurement import add_json_option, commit, machine
from benchmarks.performance import scan_figures as figures
from benchmarks.performance.scan_box_tables import former_rows, write_tables
from benchmarks.performance.scan_truths import known_truth, padding, plane_last, volume_grid
from convnd import io
from convnd.errors import ConvndError
from convnd.grid import Grid

OTHER_SLICES = ("slices", "slices-coloured")
NOISES = ("white", "coloured", *OTHER_SLICES)
KNOWN = (*NOISES, "blur", "sharp")
STYLES = (*KNOWN, "scan", "built-in")

_FEWEST_SLICES = 8
_BONE = 4  # number of the tissue in CT


@dataclass(frozen=True)
class Box:
    """A scan, and another scan whose look it takes."""

    name: str
    content: Grid
    style: Grid | None = None


def main() -> None:
    """Run the benchmark and print a line of JSON for every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="*", metavar="SCAN[=STYLE]", help="files of volumes")
    parser.add_argument("--styles", default=",".join(STYLES), help="some of " + ", ".join(STYLES))
    parser.add_argument(
        "--lines", nargs="*", default=[], type=Path, metavar="FILE", help="add rows of earlier runs"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write content, style, result")
    parser.add_argument(
        "--development",
        default="D,H",
        metavar="PREFIX,...",
        help="boxes that were seen during development have names that begin so",
    )
    parser.add_argument("--conditions", default="", help="conditions of the measurement, as text")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    rows = former_rows(arguments.lines)
    for box in _boxes(arguments.scans):
        for name in arguments.styles.split(","):
            row = run(box, name, arguments.keep)
            if row:
                row["commit"] = commit()
                rows.append(row)
                print(json.dumps(row), flush=True)
    write_tables(
        rows, arguments.json, development=arguments.development, conditions=arguments.conditions
    )


def _boxes(names: list[str]) -> Iterator[Box]:
    for name in names:
        path, _, style = name.partition("=")
        label = Path(path).name.partition(".")[0]
        yield Box(label, io.read(path), io.read(style) if style else None)


def run(box: Box, name: str, keep: Path | None = None) -> dict[str, Any]:
    """The figures of one box with one style; None if the box has no such style."""
    unit = value_unit(box.content)
    content, spacing = plane_last(*canonical_array(box.content))
    content = np.ascontiguousarray(np.nan_to_num(content, nan=float(np.nanmin(content))))
    grid = volume_grid(content, spacing, unit)
    truth = expected = clean = None
    if name in OTHER_SLICES:
        if len(content) < 2 * _FEWEST_SLICES:
            return {}
        noisy, upper = known_truth(content, spacing, name, unit), len(content) // 2
        style = volume_grid(noisy[:upper], spacing, unit)
        clean = volume_grid(content[:upper].copy(), spacing, unit)
        content, truth = content[upper:].copy(), noisy[upper:]
        grid, expected = volume_grid(content, spacing, unit), content
    elif name in KNOWN:
        truth = known_truth(content, spacing, name, unit)
        expected = content if name in NOISES else truth
        style = volume_grid(truth[..., ::-1], spacing, unit)
    elif name == "built-in":
        style = open_style(default_style(grid, "auto"), 0, grid)
    elif box.style is not None:
        style = box.style
    else:
        return {}
    label = MATCHING_STYLE if name == "built-in" else "style"
    row: dict[str, Any] = {"box": box.name, "style": name}
    start = time.process_time()
    result, transfer, row["outcome"] = _transfer(grid, style, label)
    row["seconds"] = round(time.process_time() - start, 1)
    row["peak"] = round(peak_mib())
    if transfer is None:
        return row
    strength = transfer.record.get("safe_strength", "")
    row |= {"strength": strength, "sharpness": transfer.record.get("sharpness", "")}
    if expected is not None and row["sharpness"] == "unchanged":
        expected = content  # the anatomy stays the scan's; "edges" measures sharpness
    target, target_spacing = (
        (truth, spacing) if truth is not None else plane_last(*canonical_array(style))
    )
    row |= judge(name, content, spacing, result, unit, truth, expected, target, target_spacing)
    if clean is not None and truth is not None:
        other, _, _ = _transfer(grid, clean, label)
        labels = figures.tissue_labels(content, spacing, padding(content), unit)
        row["left beside clean"] = _per_cent(
            figures.spectrum_left(content, truth, result, labels, other)
        )
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        middle = (content[len(content) // 2], target[len(target) // 2], result[len(content) // 2])
        np.savez_compressed(
            keep / f"{box.name}-{name}.npz",
            **dict(zip(("content", "style", "result"), middle, strict=True)),
        )
    return row


def _transfer(content: Grid, style: Grid, label: str) -> tuple[Any, LookTransfer | None, str]:
    """The result, the transfer that made it, and the message at its end."""
    outcome, transfer, progress = "done", None, None
    try:
        inputs = TransferInputs(content=content, styles=[style], names=["scan", label])
        transfer = LookTransfer(inputs, VolumeOptions())
        for step in transfer.run(state=None, group=None, on_message=None):
            progress = step
    except ConvndError as error:
        outcome = f"{type(error).__name__}: {error}"
    if transfer is None or progress is None:
        return None, None, outcome
    result = transfer.result(progress)
    assert result is not None
    return canonical_array(result)[0], transfer, outcome


def judge(
    name: str,
    content: Any,
    spacing: tuple[float, ...],
    result: Any,
    unit: str,
    truth: Any,
    expected: Any,
    target: Any,
    target_spacing: tuple[float, ...],
) -> dict[str, Any]:
    """The figures of a result ``(D, H, W)``.

    Args:
        name: name of the known change of the look.
        content: the scan.
        spacing: mm along each axis.
        result: the result.
        unit: "HU", or "" for others.
        truth: the correct result; None if there is none.
        expected: the correct result without noise that is to be added; None is the scan.
        target: the scan whose noise the result should have.
        target_spacing: mm along each of its axes.
    """
    background = padding(content)
    row: dict[str, Any] = {}
    if truth is not None and name not in NOISES:
        slopes = [
            figures.edge_slope(volume, spacing, content, background) for volume in (truth, result)
        ]
        row["edges"] = round(100 * (slopes[1] / slopes[0] - 1), 1)
    anatomy = content if expected is None else expected
    labels = figures.tissue_labels(content, spacing, background, unit)
    if name in NOISES:
        again = known_truth(content, spacing, name, unit, seed=6)
        left = figures.spectrum_left(content, truth, result, labels)
        row["spectrum left"] = _per_cent(left)
        floor = figures.spectrum_left(content, truth, again, labels)
        row["left by another draw"] = _per_cent(floor)
        row["by tissue"] = " ".join(f"{n}:{100 * share:.0f}" for n, share in left.items())
    first, last = (figures.tissue_means(volume, labels) for volume in (anatomy, result))
    sharpened = None if expected is content else expected
    row |= _means(content, sharpened, result, spacing, background, unit)
    noise = figures.tissue_noise(result, labels, spacing)
    other = labels
    if truth is None:
        other = figures.tissue_labels(target, target_spacing, padding(target), unit)
    aim = figures.tissue_noise(target, other, target_spacing if truth is None else spacing)
    if truth is not None:
        ratio = figures.contrast_to_noise(last, noise) / figures.contrast_to_noise(
            figures.tissue_means(truth, labels), aim
        )
        row["CNR"] = round(ratio, 3)
    row["thin"] = round(figures.thin_contrast(anatomy, result, spacing, background), 3)
    if expected is not None:
        own = figures.tissue_noise(content, labels, spacing)
        known = {n: max(aim.get(n, 0.0), own[n]) for n in first}
        if name in NOISES:  # the added noise is known, so no filter has to estimate it
            added = truth - content
            known = {n: float(np.hypot(own[n], added[labels == n].std())) for n in first}
        change = figures.largest_change(result - anatomy, anatomy, spacing, background, unit, known)
        row["largest"] = round(change, 2)
    if unit == "HU":
        shares = [
            figures.dark_lung(volume, labels)
            for volume in (content, truth, result)
            if volume is not None
        ]
        row["LAA-950"] = " ".join(f"{share:.1f}" for share in shares)
    for classes in (2, 3):
        overlap = figures.dice(anatomy, result, spacing, background, classes)
        row[f"Dice {classes}"] = round(overlap, 4)
        if name in NOISES:
            overlap = figures.dice(anatomy, truth, spacing, background, classes)
            row[f"Dice {classes} of truth"] = round(overlap, 4)
    row["background"] = int((result != content)[background].sum())
    row["range"] = int(((result < content.min()) | (result > content.max())).sum())
    return row


def _means(
    content: Any, truth: Any, result: Any, spacing: tuple[float, ...], background: Any, unit: str
) -> dict[str, float]:
    """Changes of the means of tissues, in HU or % of the tissue's value.

    The distance of the mean of bone to the truth is in %.

    Harm is measured against the content; if sharpness is to change (``truth`` is not None), deep in
    a tissue, where a filter mixes it with no other. Nearer to borders a known change of sharpness
    moves means as well, so there the distance to the truth is measured.
    """
    row = {}
    comparisons = [("mean", 2 if truth is None else 4, content, result)]
    if truth is not None:
        comparisons += [("mean to truth", 2, truth, result), ("mean of truth", 2, content, truth)]
    for name, depth, before, after in comparisons:
        labels = figures.tissue_labels(content, spacing, background, unit, depth)
        first, last = (figures.tissue_means(volume, labels) for volume in (before, after))
        changes = {n: abs(last[n] - first[n]) for n in first}
        for n in first:
            if unit != "HU" or (n == _BONE and name != "mean"):
                changes[n] /= _level(first, n)
        bone = changes.pop(_BONE, math.nan) if unit == "HU" else math.nan
        row[name] = round(max(changes.values(), default=0.0), 3)
        row[name.replace("mean", "bone")] = round(bone, 3)
    return row


def _per_cent(shares: Mapping[int, float]) -> float | None:
    """The mean of the shares of tissues in %; None without tissues."""
    return round(100 * float(np.mean(list(shares.values()))), 1) if shares else None


def _level(means: Mapping[int, float], number: int) -> float:
    """One per cent of the value of a tissue; at least half of that of the brightest one."""
    return 0.01 * max(abs(means[number]), max(map(abs, means.values())) / 2)


if __name__ == "__main__":
    main()
