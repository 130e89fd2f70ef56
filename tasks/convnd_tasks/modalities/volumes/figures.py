"""Figures of volumes: slices of scan, style, result and change in three planes."""

from __future__ import annotations

import io as _bytes
from collections.abc import Sequence
from typing import Any

from convnd.grid import Grid
from convnd.io.reading import import_optional
from convnd_tasks.modalities.value_range import same_units, value_range
from convnd_tasks.modalities.volumes.orientation import canonical_array

__all__ = ["montage"]

_PLANES = ("axial", "coronal", "sagittal")
_Column = tuple[Any, Sequence[float]]  # values (D, H, W) with canonical axes; mm along each axis


def montage(scan: Grid, style: Grid, result: Grid) -> bytes:
    """Draw the middle axial, coronal and sagittal slices as a PNG, with sides in proportion to mm.

    Args:
        scan: a volume with values ``(1, T, *S)``; the first frame is shown.
        style: a volume or a picture.
        result: a volume of the scan's shape.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    import numpy as np

    import_optional("matplotlib", "figures (--no-figures leaves them out)", extra="volumes")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before, after = canonical_array(scan), canonical_array(result)
    change = after[0] - before[0]
    finite = np.abs(change[np.isfinite(change)])
    largest = (float(np.percentile(finite, 99.5)) if finite.size else 0.0) or 1.0
    frames = scan.values.shape[1]
    series = f" (frame 1 of {frames})" if frames > 1 else ""
    columns: dict[str, _Column | None] = {
        f"scan{series}": before,
        "style": canonical_array(style) if style.ndim == 3 else None,
        f"result{series}": after,
        "result − scan": (change, before[1]),
    }
    # Rows are as high as their slices, so there are no gaps around thin slices.
    heights = [
        min(1.4, max(_relative_height(*column, row) for column in columns.values() if column))
        for row in range(3)
    ]
    figure = Figure(figsize=(12, 3 * sum(heights) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.add_gridspec(4, 4, height_ratios=(*heights, 0.05))
    window = value_range(scan.values)
    span = window if style.ndim == 2 else value_range(style.values)
    ranges = [window, window if same_units(span, window) else span, window, (-largest, largest)]
    images: list[Any] = []
    for row, plane in enumerate(_PLANES):
        for number, (title, column) in enumerate(columns.items()):
            axes = _panel(figure, grid[row, number], "" if row else title, "" if number else plane)
            if column is not None:
                cmap = "RdBu_r" if number == 3 else "gray"
                images.append(_draw(axes, column, row, ranges[number], cmap))
            elif row == 0:
                picture = style.values[0].movedim(0, -1).squeeze().numpy()
                axes.imshow(picture.clip(0, 1), cmap="gray")
    unit = "HU" if window[0] < -500 or scan.channels == ("HU",) else "value"
    bars = ((images[0], grid[3, :3], unit), (images[-1], grid[3, 3], f"change in {unit}"))
    for image, cell, label in bars:
        bar = figure.add_subplot(cell)
        figure.colorbar(image, cax=bar, label=label, orientation="horizontal")
    stream = _bytes.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _panel(figure: Any, cell: Any, title: str, label: str) -> Any:
    """Add axes without ticks and frame to a cell of the figure's grid."""
    axes: Any = figure.add_subplot(cell, xticks=[], yticks=[], title=title, ylabel=label)
    axes.spines[:].set_visible(False)
    return axes


def _draw(axes: Any, column: _Column, axis: int, limits: tuple[float, float], cmap: str) -> Any:
    """Draw the middle slice across an axis, in the orientation of radiologists."""
    import numpy as np

    values, spacing = column
    plane = np.take(values, values.shape[axis] // 2, axis)
    rows, columns = (step for other, step in enumerate(spacing) if other != axis)
    # Head or front is up; the patient's right, or in sagittal slices the front, is on the left.
    return axes.imshow(
        plane[::-1, ::-1],
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        aspect=rows / columns,
        interpolation="nearest",
    )


def _relative_height(values: Any, spacing: Sequence[float], axis: int) -> float:
    """The ratio of height and width in mm of a slice across an axis."""
    height, width = (
        extent * step
        for other, (extent, step) in enumerate(zip(values.shape, spacing, strict=True))
        if other != axis
    )
    return float(height / width)
