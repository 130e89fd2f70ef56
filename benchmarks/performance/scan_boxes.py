"""Effect and harm of the transfer of a look, for known answers on boxes of scans.

A box is a scan or a part of one. Each box takes the look of styles for which the correct result is
known: the mirrored box with white noise, with noise of a kernel, with a blur of one voxel, and
sharpened. The upper half of its slices also takes the look of the lower half with white noise. Then
the box takes the look of another scan, and that of the built-in style. `scan_figures` measures
every run without the code that changes scans.

`scan_box_files` cuts the boxes.

    python -m benchmarks.performance.scan_boxes chest.nii.gz=other.nii.gz head.nii.gz
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.geometry import value_unit
from convnd_tasks.modalities.volumes.inputs import default_style, open_style
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import canonical_array
from convnd_tasks.samples import MATCHING_STYLE
from scipy import ndimage

from benchmarks.common import peak_mib
from benchmarks.measurement import Table, add_json_option, commit, machine, write_results
from benchmarks.performance import scan_figures as figures
from convnd import io
from convnd.errors import ConvndError
from convnd.grid import Grid

KNOWN = ("white", "coloured", "blur", "sharp", "slices")
NOISES = ("white", "coloured", "slices")
STYLES = (*KNOWN, "scan", "built-in")

_NOISE_HU, _NOISE_SHARE = 20.0, 0.025  # CT; other scans, of their spread
_KERNEL, _BLUR, _SHARPENING = 1.2, 1.0, 1.2  # voxels
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
        default="D",
        metavar="PREFIX",
        help="boxes on which the method was developed have names that begin so",
    )
    parser.add_argument("--conditions", default="", help="conditions of the measurement, as text")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    rows = _former_rows(arguments.lines)
    for box in _boxes(arguments.scans):
        for name in arguments.styles.split(","):
            row = run(box, name, arguments.keep)
            if row:
                row["commit"] = commit()
                rows.append(row)
                print(json.dumps(row), flush=True)
    write_results(
        arguments.json,
        "The look of scans: known answers and harm",
        [
            *(
                Table(rows=_limits_held(part), caption=f"Runs that hold each limit, {name}")
                for name, part in _by_development(rows, arguments.development).items()
                if part
            ),
            Table(rows=[_in_short(row) for row in rows], caption="Every run"),
        ],
        section="Volumes",
        conditions=arguments.conditions,
        summary=(
            "spectrum left: distance of the noise spectrum to the truth's, in % of the content's "
            "distance; edges: % by which the slope of edges misses the truth, 5 voxels from the "
            "background; mean: largest change of the mean of a tissue from the scan's, in HU or % "
            "of its value, where sharpness changes 4 voxels away from other tissues, else 2; bone: "
            "the same of bone in CT, in HU; to truth: 2 voxels away from other tissues, from the "
            "truth's, that of bone in %; of truth: how far the known "
            "change itself moves them from the scan's; CNR: contrast-to-noise ratio over that of "
            "the truth; thin: contrast of thin structures over the expected one; largest: change "
            "of a voxel in standard deviations of the noise of its tissue; LAA-950: % of the lungs "
            "in content, truth and result; Dice: mean over Otsu's two and three classes, and that "
            "of the truth, whose noise changes classes too; background, range: voxels that changed "
            "or left the range of the scan."
        ),
        target=(
            "spectrum left at most 20, edges within 15, mean at most 2 HU or 1 %, bone 2 HU (to "
            "truth 1 %), "
            "thin 0.9 to 1.1, largest at most 6, Dice at least 0.98 or what the noise explains, "
            "background and range 0"
        ),
    )


def _former_rows(paths: list[Path]) -> list[dict[str, Any]]:
    """The rows that earlier runs printed."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"box"')]


def _by_development(rows: list[dict[str, Any]], prefix: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of boxes on which the method was developed, and those of other boxes."""
    developed = [row for row in rows if row["box"].startswith(prefix)]
    others = [row for row in rows if not row["box"].startswith(prefix)]
    return {"boxes of development": developed, "other boxes": others}


def _limits_held(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The number of runs of each style that stay within each limit."""

    def dice(row: Mapping[str, Any], classes: int) -> bool:
        truth = row.get(f"Dice {classes} of truth", 1.0)
        return bool(row[f"Dice {classes}"] >= min(0.98, truth - 0.01))

    limits: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "spectrum left": lambda row: row["spectrum left"] <= 20,
        "edges": lambda row: abs(row["edges"]) <= 15,
        "mean": lambda row: row["mean"] <= (2 if "LAA-950" in row else 1),
        "bone": lambda row: row["bone"] <= 2,
        "mean to truth": lambda row: row["mean to truth"] <= (2 if "LAA-950" in row else 1),
        "bone to truth": lambda row: row["bone to truth"] <= 1,
        "thin": lambda row: 0.9 <= row["thin"] <= 1.1,
        "largest": lambda row: row["largest"] <= 6,
        "Dice 2": lambda row: dice(row, 2),
        "Dice 3": lambda row: dice(row, 3),
        "background": lambda row: row["background"] == 0,
        "range": lambda row: row["range"] == 0,
    }
    table = []
    for style in dict.fromkeys(row["style"] for row in rows):
        line = {"style": style}
        for name, holds in limits.items():
            judged = [row for row in rows if row["style"] == style and _is_number(row.get(name))]
            line[name] = f"{sum(map(holds, judged))} of {len(judged)}" if judged else ""
        refused = sum(row["outcome"] != "done" for row in rows if row["style"] == style)
        table.append({**line, "refused": str(refused or "")})
    return table


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _in_short(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that the table of all runs shows."""
    names = (
        *("box", "style", "strength", "sharpness", "spectrum left", "left by another draw"),
        *("edges", "mean", "bone", "mean to truth", "mean of truth"),
        *("bone to truth", "bone of truth", "CNR", "thin", "largest", "LAA-950"),
        *("Dice 2", "Dice 2 of truth", "Dice 3", "Dice 3 of truth", "background", "range"),
        *("seconds", "commit"),
    )
    short = {name: row.get(name) for name in names}
    short = {
        name: "" if value is None or value != value else value for name, value in short.items()
    }
    if row["outcome"] != "done":
        short["sharpness"] = str(row["outcome"]).partition(";")[0]
    return short


def _boxes(names: list[str]) -> Iterator[Box]:
    for name in names:
        path, _, style = name.partition("=")
        label = Path(path).name.partition(".")[0]
        yield Box(label, io.read(path), io.read(style) if style else None)


def run(box: Box, name: str, keep: Path | None = None) -> dict[str, Any]:
    """The figures of one box with one style; None if the box has no such style."""
    unit = value_unit(box.content)
    content, spacing = _plane_last(*canonical_array(box.content))
    content = np.ascontiguousarray(np.nan_to_num(content, nan=float(np.nanmin(content))))
    grid = _grid(content, spacing, unit)
    truth = expected = None
    if name == "slices":
        if len(content) < 2 * _FEWEST_SLICES:
            return {}
        noisy, upper = _truth(content, spacing, "white", unit), len(content) // 2
        style = _grid(noisy[:upper], spacing, unit)
        content, truth = content[upper:].copy(), noisy[upper:]
        grid, expected = _grid(content, spacing, unit), content
    elif name in KNOWN:
        truth = _truth(content, spacing, name, unit)
        expected = content if name in NOISES else truth
        style = _grid(truth[..., ::-1], spacing, unit)
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
        (truth, spacing) if truth is not None else _plane_last(*canonical_array(style))
    )
    row |= _judge(name, content, spacing, result, unit, truth, expected, target, target_spacing)
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


def _judge(
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
    background = _background(content)
    row: dict[str, Any] = {}
    if truth is not None and name not in NOISES:
        slopes = [
            figures.edge_slope(volume, spacing, content, background) for volume in (truth, result)
        ]
        row["edges"] = round(100 * (slopes[1] / slopes[0] - 1), 1)
    anatomy = content if expected is None else expected
    labels = figures.tissue_labels(content, spacing, background, unit)
    if name in NOISES:
        again = _truth(content, spacing, name, unit, seed=6)
        left = figures.spectrum_left(content, truth, result, labels)
        row["spectrum left"] = round(100 * float(np.mean(list(left.values()))), 1) if left else None
        floor = figures.spectrum_left(content, truth, again, labels)
        row["left by another draw"] = (
            round(100 * float(np.mean(list(floor.values()))), 1) if floor else None
        )
        row["by tissue"] = " ".join(f"{n}:{100 * share:.0f}" for n, share in left.items())
    first, last = (figures.tissue_means(volume, labels) for volume in (anatomy, result))
    sharpened = None if expected is content else expected
    row |= _means(content, sharpened, result, spacing, background, unit)
    noise = figures.tissue_noise(result, labels, spacing)
    other = labels
    if truth is None:
        other = figures.tissue_labels(target, target_spacing, _background(target), unit)
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


def _level(means: Mapping[int, float], number: int) -> float:
    """One per cent of the value of a tissue; at least half of that of the brightest one."""
    return 0.01 * max(abs(means[number]), max(map(abs, means.values())) / 2)


def _truth(content: Any, spacing: tuple[float, ...], name: str, unit: str, seed: int = 5) -> Any:
    """The correct result: the box with a known change of its look."""
    if name in ("blur", "sharp"):
        sigma = figures.widths(spacing, _BLUR if name == "blur" else _SHARPENING)
        # A scan is masked after it was acquired, so no blur mixes its background with the rest.
        inside = (~_background(content)).astype(np.float32)
        weight = ndimage.gaussian_filter(inside, sigma).clip(1e-4)
        blurred = ndimage.gaussian_filter(content * inside, sigma) / weight
        truth = blurred if name == "blur" else 2 * content - blurred
    else:
        noise = np.random.default_rng(seed).normal(size=content.shape)
        if name == "coloured":
            noise = ndimage.gaussian_filter(noise, figures.widths(spacing, _KERNEL))
        low, high = np.percentile(content, [5, 95])
        deviation = _NOISE_HU if unit == "HU" else _NOISE_SHARE * (high - low)
        truth = content + deviation * noise / noise.std()
    truth = truth.clip(content.min(), content.max())  # like the values of the scan
    return np.where(_background(content), content, truth).astype(np.float32)


def _background(content: Any) -> Any:
    """Mask of constant padding: regions of the lowest value that contain a cube of 3 voxels."""
    lowest = content == content.min()
    inner = ndimage.minimum_filter(lowest, 3)
    regions, _ = ndimage.label(lowest)
    return lowest & (inner.mean() > 1e-3) & np.isin(regions, np.unique(regions[inner]))


def _plane_last(values: Any, spacing: tuple[float, ...]) -> tuple[Any, tuple[float, ...]]:
    """A scan with its axes in an order that puts the coarsest first."""
    across = int(np.argmax(np.round(spacing, 3)))
    order = [across, *(axis for axis in range(3) if axis != across)]
    return np.transpose(values, order), tuple(spacing[axis] for axis in order)


def _grid(values: Any, spacing: float | tuple[float, ...], unit: str = "") -> Grid:
    """A grid from values ``(D, H, W)``, whose axes point to head, front and right."""
    steps = (spacing,) * 3 if isinstance(spacing, float) else spacing
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0))).float()
    return Grid(
        values=tensor[None, None],
        spacing=steps[::-1],
        units=("mm",) * 3,
        header={"affine": np.diag([*steps[::-1], 1.0]), "value_unit": unit},
    )


if __name__ == "__main__":
    main()
