"""Draws the pictures of the guide to regions: a picture, a scan, a signal and a video.

``python docs/_build/regions.py`` draws all of them in some minutes, and
``python docs/_build/regions.py signal`` one. The inputs are built-in samples and the maps below.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from convnd_tasks import samples
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import convnd

IMAGES = Path(__file__).parents[1] / "images"
STYLES = "red=waves,blue=marble,white=keep"
CELL = (360, 240)  # pixels of one picture of the town
FRAMES = (0, 4, 8, 11)  # frames of the video that are shown
LUNG, TISSUE = (-950.0, -400.0), -400.0  # HU
SPANS = """start,end,label,lead
1.2,3.8,irregular,
6.2,8.8,noisy,II
"""


def convnd_command(folder: Path, line: str) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "convnd", *line.split()], cwd=folder, check=True)


def draw_picture(folder: Path) -> None:
    """Draw a map of the town, the result, ``--colors only``, and three strengths."""
    paint_town().save(folder / "map.png")
    convnd_command(folder, f"stylize town --regions map.png --region {STYLES} --size 384 -o 1.png")
    convnd_command(folder, "stylize town waves --colors only --size 384 -o 2.png")
    for number, strength in enumerate((0.25, 0.5, 0.75), 3):
        options = f"--strength {strength} --size 384 -o {number}.png"
        convnd_command(folder, f"stylize town waves {options}")
    names = ["map.png", *(f"{number}.png" for number in range(1, 6))]
    save_table(
        [[folder / name for name in names[row : row + 3]] for row in (0, 3)], "regions", CELL
    )


def paint_town() -> Image.Image:
    """Paint the sky red, the river blue, and the houses white."""
    picture = Image.new("RGB", (768, 512), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 768, 235), fill="red")
    draw.rectangle((0, 345, 768, 512), fill="blue")
    return picture


def draw_video(folder: Path) -> None:
    """Draw frames of the video, the regions of the first frame, and the result."""
    content = samples.content("video", spatial_dims=3).values[0, :, ::2]
    (folder / "clip").mkdir()
    for number, frame in enumerate(content.unbind(1)):
        pixels = frame.movedim(0, -1).mul(255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / "clip" / f"{number:04}.png")
    paint_first_frame().save(folder / "first.png")
    options = f"--regions first.png --track-regions --region {STYLES} -o result"
    convnd_command(folder, f"stylize-video clip {options}")
    results = sorted((folder / "result").glob("*.png"))
    rows = [[folder / "clip" / f"{number:04}.png" for number in FRAMES]]
    rows.append([results[number] for number in FRAMES])
    save_table(rows, "video-regions", (288, 192), first=folder / "first.png")


def paint_first_frame() -> Image.Image:
    """Paint the sky of the video red, the river blue, and the town and the boat white."""
    picture = Image.new("RGB", (288, 192), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 288, 68), fill="red")
    draw.polygon([(196, 1), (205, 44), (205, 70), (187, 70), (187, 44)], fill="white")
    draw.rectangle((0, 147, 288, 192), fill="blue")
    draw.polygon([(29, 164), (40, 158), (75, 158), (84, 147), (92, 147), (97, 172)], fill="white")
    draw.polygon([(29, 164), (97, 166), (93, 173), (33, 173)], fill="white")
    return picture


def draw_scan(folder: Path) -> None:
    """Draw a scan, its labels, the result with a look for each label, and the difference."""
    scan = samples.content("chest", spatial_dims=3)
    values = scan.values
    labels = torch.zeros_like(values)
    labels[(values > LUNG[0]) & (values < LUNG[1])] = 1
    labels[values >= TISSUE] = 2
    convnd.write(folder / "scan.nii.gz", scan)
    convnd.write(folder / "organs.nii.gz", scan.with_values(labels))
    options = "--regions organs.nii.gz --region 1=sharp,2=lowdose -o result.nii.gz"
    convnd_command(folder, f"stylize-volume scan.nii.gz {options}")
    result = convnd.read(folder / "result.nii.gz").values
    panels: Mapping[str, tuple[torch.Tensor, tuple[float, float], str]] = {
        "scan": (values, (-1000, 400), "gray"),
        "1 lung, 2 tissue": (labels, (0, 2), "viridis"),
        "1=sharp, 2=lowdose": (result, (-1000, 400), "gray"),
        "result − scan": (result - values, (-150, 150), "RdBu"),
    }
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, (title, (field, limits, colors)) in zip(
        figure.subplots(1, len(panels)), panels.items(), strict=True
    ):
        plane = np.rot90(field[0, 0, :, :, field.shape[-1] // 2].numpy())
        axes.imshow(plane, vmin=limits[0], vmax=limits[1], cmap=colors)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    save_figure(figure, "regions-scan")


def draw_signal(folder: Path) -> None:
    """Draw two leads, with the spans that take a style and the result."""
    (folder / "spans.csv").write_text(SPANS)
    options = "--regions spans.csv --region irregular=arrhythmia,noisy=ambulatory -o result.csv"
    convnd_command(folder, f"stylize ecg --dim 1 {options}")
    content = samples.content("ecg", spatial_dims=1)
    result = convnd.read(folder / "result.csv")
    times = np.arange(content.values.shape[-1]) * content.spacing[0]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for number, axes in enumerate(figure.subplots(2, 1, sharex=True)):
        axes.axvspan(1.2, 3.8, color="#ffd9b3", label="irregular: arrhythmia, every lead")
        if number == 1:
            axes.axvspan(6.2, 8.8, color="#cfe4ff", label="noisy: ambulatory, lead II alone")
        axes.plot(times, content.values[0, number], color="#8a8a8a", linewidth=0.8, label="content")
        axes.plot(times, result.values[0, number], color="#111111", linewidth=0.8, label="result")
        axes.set(ylabel=f"{('I', 'II')[number]} (mV)", xlim=(0, 10))
    axes.set_xlabel("s")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    save_figure(figure, "regions-signal")


def save_table(
    rows: list[list[Path]], name: str, cell: tuple[int, int], first: Path | None = None
) -> None:
    """Save pictures in rows; ``first`` is one more, in a column of its own beside them."""
    columns = len(rows[0]) + (first is not None)
    table = Image.new("RGB", (columns * cell[0], len(rows) * cell[1]), "white")
    for y, row in enumerate(rows):
        for x, path in enumerate(row, columns - len(row)):
            picture = Image.open(path).convert("RGB").resize(cell, Image.Resampling.LANCZOS)
            table.paste(picture, (x * cell[0], y * cell[1]))
    if first is not None:
        picture = Image.open(first).resize(cell, Image.Resampling.NEAREST)
        table.paste(picture, (0, (table.height - cell[1]) // 2))
    save(table, name)


def save_figure(figure: Any, name: str) -> None:
    """Save a figure of matplotlib."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    save(Image.open(data).convert("RGB"), name)


def save(picture: Image.Image, name: str) -> None:
    """Save a picture of the guide."""
    picture.save(IMAGES / f"{name}.jpg", quality=82, optimize=True)


DRAWINGS: Mapping[str, Callable[[Path], None]] = {
    "picture": draw_picture,
    "scan": draw_scan,
    "signal": draw_signal,
    "video": draw_video,
}

if __name__ == "__main__":
    for kind in sys.argv[1:] or DRAWINGS:
        with TemporaryDirectory() as temporary:
            DRAWINGS[kind](Path(temporary))
