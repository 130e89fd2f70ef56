"""Pictures of volumes: three planes of scan, style, result and difference, and the loss."""

from __future__ import annotations

import io as _bytes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import DependencyError
from convnd_tasks.modalities.arrays.codec import same_units, value_range

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["montage"]

_PLANES = ("axial", "coronal", "sagittal")


def montage(scan: Grid, style: Grid, result: Grid, losses: Sequence[float]) -> bytes:
    """A PNG: the middle axial, coronal and sagittal slices, in millimetres, and the loss curve.

    Args:
        scan: values ``(1, T, *S)``; the first frame is shown.
        style: a volume or a picture.
        result: of the scan's shape.
        losses: at every step.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "montage: expected the package matplotlib, got none; install it: "
            'pip install "convnd-toolkit[volumes]", or leave it out (--no-montage)'
        ) from error
    import numpy as np

    low, high = value_range(scan.values)
    unit = "HU" if low < -500 or scan.channels == ("HU",) else "value"
    before, after = _turned(scan), _turned(result)
    change = after[0] - before[0]
    finite = np.abs(change[np.isfinite(change)])
    reach = float(np.percentile(finite, 99.5)) if finite.size else 1.0
    reach = reach if reach > 0 else 1.0
    columns: list[tuple[str, Any]] = [("scan", before), ("style", None), ("result", after)]
    if style.ndim == 3:
        columns[1] = ("style", _turned(style))
    # Rows as high as their slices are, so that thin ones leave no gaps.
    heights = [
        min(1.4, max(_height(each[0], each[1], row) for _, each in columns if each))
        for row in range(3)
    ]
    figure = Figure(figsize=(12, 3 * sum(heights) + 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.add_gridspec(5, 4, height_ratios=(*heights, 0.05, 0.45))
    grey: Any = None
    coloured: Any = None
    for row, plane in enumerate(_PLANES):
        for column, (title, entry) in enumerate([*columns, ("result − scan", (change, before[1]))]):
            axes: Any = figure.add_subplot(grid[row, column])
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_visible(False)
            if row == 0:
                axes.set_title(title)
            if column == 0:
                axes.set_ylabel(plane)
            if entry is None:
                if row == 0:
                    axes.imshow(
                        style.values[0].movedim(0, -1).squeeze().numpy().clip(0, 1), cmap="gray"
                    )
                continue
            values, spacing = entry
            picture, aspect = _slice(values, spacing, row)
            if column == 3:
                coloured = axes.imshow(
                    picture,
                    cmap="RdBu_r",
                    vmin=-reach,
                    vmax=reach,
                    aspect=aspect,
                    interpolation="nearest",
                )
            else:
                own = (low, high)
                if column == 1:
                    span = value_range(style.values)
                    own = own if same_units(span, own) else span
                shown = axes.imshow(
                    picture,
                    cmap="gray",
                    vmin=own[0],
                    vmax=own[1],
                    aspect=aspect,
                    interpolation="nearest",
                )
                grey = shown if column == 0 else grey
    for shown, place, label in (
        (grey, grid[3, :3], unit),
        (coloured, grid[3, 3], f"change in {unit}"),
    ):
        bar = figure.add_subplot(place)
        figure.colorbar(shown, cax=bar, label=label, orientation="horizontal")
    curve: Any = figure.add_subplot(grid[4, :])
    curve.plot(range(len(losses)), losses, color="black", linewidth=1.2)
    curve.set_yscale("log" if min(losses) > 0 else "linear")
    curve.set_xlabel("step")
    curve.set_ylabel("loss")
    curve.grid(alpha=0.3)
    stream = _bytes.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _turned(scan: Grid) -> tuple[Any, tuple[float, ...]]:
    """The first frame with axes towards head, front and right, and its spacing."""
    import numpy as np

    order = io.anatomical_axes(scan)
    values = scan.values[0, 0].detach().cpu().numpy().transpose([axis for axis, _ in order])
    values = np.flip(values, tuple(n for n, (_, against) in enumerate(order) if against))
    return values, tuple(scan.spacing[axis] for axis, _ in order)


def _height(values: Any, spacing: Sequence[float], axis: int) -> float:
    """Of a plane across this axis, over its width."""
    high, wide = (
        n * step
        for each, (n, step) in enumerate(zip(values.shape, spacing, strict=True))
        if each != axis
    )
    return float(high / wide)


def _slice(values: Any, spacing: Sequence[float], axis: int) -> tuple[Any, float]:
    """The middle slice as radiologists hang it, and the ratio of its pixels' sides."""
    import numpy as np

    plane = np.take(values, values.shape[axis] // 2, axis)
    rows, columns = (step for n, step in enumerate(spacing) if n != axis)
    # Head or front up; the patient's right on the left, and for sagittal slices front on the left.
    return plane[::-1, ::-1], rows / columns
