"""Figures that show grids of any kind side by side, for reports and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd.io.images.formats import opacity
from convnd_tasks.modalities.value_range import value_range
from convnd_tasks.runtime.plots import encode, new_figure

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["draw_comparison", "draw_grid"]

_MAX_STYLES = 3  # more would make the pictures too small


def draw_comparison(content: Grid | None, styles: Sequence[Grid], result: Grid) -> bytes:
    """Draw content, styles and result side by side, as PNG.

    A grid of one axis is drawn as lines. A grid of more than two axes is shown by the middle slice
    along all but the last two. Colours are shown unchanged, other values in grey over the content's
    range.

    Args:
        content: ``(1, C, *S)``, or None for a texture.
        styles: styles, of which the first three are shown.
        result: ``(1, C, *S)``.
    """
    panels = [("content", content)] if content is not None else []
    panels += [("style", style) for style in styles[:_MAX_STYLES]]
    panels += [("result", result)]
    height = max(_relative_height(grid) for _, grid in panels)
    figure, axes = new_figure(3.2 * len(panels), 3.2 * height + 0.5, columns=len(panels))
    low, high = _value_range(content if content is not None else result)
    for axis, (title, grid) in zip(axes[0], panels, strict=True):
        axis.set_title(title)
        _draw(axis, grid, _value_range(grid) if title == "style" else (low, high))
    return encode(figure)


def _relative_height(grid: Grid) -> float:
    """Height of a panel relative to its width, at most 2."""
    return 0.8 if grid.ndim == 1 else min(2.0, grid.shape[-2] / grid.shape[-1])


def draw_grid(grid: Grid) -> bytes:
    """Draw one grid as PNG, in the manner of `draw_comparison`."""
    figure, axes = new_figure(5, 4)
    _draw(axes[0, 0], grid, _value_range(grid))
    return encode(figure)


def _draw(axis: Any, grid: Grid, span: tuple[float, float]) -> None:
    if grid.ndim == 1:
        axis.plot(grid.values[0].T.numpy(), linewidth=0.7)
        return
    axis.set_axis_off()
    axis.imshow(_plane(grid), cmap="gray", vmin=span[0], vmax=span[1])


def _plane(grid: Grid) -> Any:
    """Take a plane of a grid for drawing: grey ``(H, W)``, or colours ``(H, W, 3)``."""
    values = grid.values[0]
    while values.ndim > 3:
        values = values[:, values.shape[1] // 2]
    if grid.channels == ("R", "G", "B"):
        alpha = opacity(grid)
        if alpha is not None:  # on white, like the page of a report
            values = values * alpha[0] + (1 - alpha[0])
        return values.movedim(0, -1).clamp(0, 1).numpy()
    return values[0].numpy()


def _value_range(grid: Grid) -> tuple[float, float]:
    return value_range(grid.values) if bool(grid.values.isfinite().any()) else (0.0, 1.0)
