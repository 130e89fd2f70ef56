"""Thumbnails of patches of any rank: pixels, traces, three planes, film strips."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convnd_tasks.runtime.plots import join_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Geometry = tuple[tuple[float, ...], tuple[str, ...], tuple[str, ...]]
    """Spacing, units and names of the axes of an input."""

__all__ = ["OUTSIDE_COLOR", "describe_field", "draw_thumbnail", "is_video", "thumbnail_size"]

OUTSIDE_COLOR = (200, 216, 236)
"""Pale blue, distinct from every gray: samples beyond the border of an input."""

_LINE_COLOR = (0, 114, 178)
_ZERO_COLOR = (176, 182, 189)
_FRAMES = 4


def thumbnail_size(span: Sequence[int]) -> int:
    """Return the side in pixels of a thumbnail; larger for larger receptive fields.

    >>> [thumbnail_size([span]) for span in (3, 10, 24, 68, 132)]
    [40, 44, 60, 90, 112]
    """
    return int(min(112, max(40, 16 + 9 * max(span) ** 0.5 + 0.5)))


def is_video(axes: Sequence[str]) -> bool:
    """Return whether there are three axes of which the first is time.

    >>> is_video(("t", "y", "x")), is_video(("i", "j", "k"))
    (True, False)
    """
    return len(axes) == 3 and axes[0] in ("t", "time", "frame")


def describe_field(span: Sequence[int], geometries: Collection[Geometry]) -> str:
    """Describe the extent of a receptive field and how its thumbnails are drawn.

    Args:
        span: extent in samples along each axis.
        geometries: geometries of the inputs; the extent is also given in their units if they
            agree.

    >>> describe_field([90], {((1 / 360,), ("s",), ("t",))})
    '90 samples (0.25 s), each trace scaled to its range'
    """
    text = "x".join(map(str, span)) + " samples"
    extents = {
        "x".join(f"{n * step:.3g}" for n, step in zip(span, spacing, strict=True)) + f" {units[0]}"
        for spacing, units, _ in geometries
        if len(set(units)) == 1 and units[0] != "px"
    }
    if len(extents) == 1:
        text += f" ({extents.pop()})"
    axes = next((names for _, _, names in geometries), ())
    if len(span) == 1:
        text += ", each trace scaled to its range"
    elif is_video(axes):
        text += f", shown as {_FRAMES} frames"
    elif len(axes) == 3:
        text += f", shown as the planes across {', '.join(axes[:0:-1])} and {axes[0]}"
    return text


def draw_thumbnail(
    values: Tensor,
    side: int,
    *,
    window: Sequence[range],
    region: Sequence[slice],
    axes: Sequence[str],
    spacing: Sequence[float],
    zero: float | None = None,
) -> NDArray[np.uint8]:
    """Draw a patch at its place in the receptive field.

    A signal becomes a trace, an image its pixels, a video four frames side by side, a volume three
    planes through the center, and data of higher rank the central plane of the last two axes.

    Args:
        values: ``(1, C, *region)``, about ``[0, 1]``.
        side: height in pixels, and the width of a plane or frame; a trace is twice as wide.
        window: receptive field along each axis.
        region: the part of the window inside the input.
        axes: names of the axes.
        spacing: distance between samples along each axis. Planes keep their aspect ratio, except
            that the shorter side is at least half of the longer one.
        zero: value that a gray line marks in traces, or None.

    Returns:
        ``(side, width, 3)``, 8-bit.
    """
    whole = np.full((values.shape[1], *map(len, window)), np.nan, np.float32)
    inner = tuple(
        slice(part.start - extent.start, part.stop - extent.start)
        for extent, part in zip(window, region, strict=True)
    )
    whole[(slice(None), *inner)] = values[0].detach().cpu().float().numpy()
    rank = whole.ndim - 1
    if rank == 1:
        return _draw_trace(whole, side, zero)
    if rank == 2:
        return _draw_plane(whole, side, spacing)
    if rank == 3 and is_video(axes):
        frames = np.unique(np.linspace(0, whole.shape[1] - 1, _FRAMES).round().astype(int))
        return join_pictures(
            [_draw_plane(whole[:, frame], side, spacing[1:]) for frame in frames], axis=1, gap=1
        )
    center: list[Any] = [extent // 2 for extent in whole.shape[1:]]
    if rank > 3:
        return _draw_plane(whole[(slice(None), *center[:-2])], side, spacing[-2:])
    planes = []
    for normal in (2, 1, 0):
        plane = np.take(whole, center[normal], axis=1 + normal)
        steps = [step for axis, step in enumerate(spacing) if axis != normal]
        # The later axis points up, the radiological convention for RAS volumes.
        planes.append(_draw_plane(plane.swapaxes(1, 2)[:, ::-1], side, steps[::-1], tight=True))
    return join_pictures(planes, axis=1, gap=1)


def _to_pixels(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert ``(C, H, W)`` to 8-bit pixels; NaN becomes `OUTSIDE_COLOR`.

    Three channels are colors; otherwise the first channel is gray.
    """
    colors = plane if len(plane) == 3 else plane[:1].repeat(3, 0)
    outside = np.array(OUTSIDE_COLOR).reshape(3, 1, 1)
    pixels = np.where(np.isnan(colors), outside, (np.clip(colors, 0, 1) * 255).round())
    return np.asarray(pixels.transpose(1, 2, 0), np.uint8)


def _draw_plane(
    plane: NDArray[np.float32], side: int, spacing: Sequence[float], *, tight: bool = False
) -> NDArray[np.uint8]:
    from PIL import Image

    pixels = _to_pixels(plane)
    extent = [n * step for n, step in zip(plane.shape[1:], spacing, strict=True)]
    height, width = (round(side * max(length / max(extent), 0.5)) for length in extent)
    factor = side / max(plane.shape[1:])
    # A few samples stay squares that can be counted; more would become squares of unequal size.
    filter_ = Image.Resampling.BOX if factor < 1 or factor > 6 else Image.Resampling.BICUBIC
    picture = Image.fromarray(pixels).resize((width, height), filter_)
    total_width = width if tight else side
    canvas = Image.new("RGB", (total_width, side), (255, 255, 255))
    canvas.paste(picture, ((total_width - width) // 2, (side - height) // 2))
    return np.asarray(canvas)


def _draw_trace(signal: NDArray[np.float32], side: int, zero: float | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    oversampling = 3  # drawn larger and reduced, which smooths the line
    width, height = 2 * side * oversampling, side * oversampling
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    finite = signal[np.isfinite(signal)]
    marks = [] if zero is None else [zero]
    low, high = min(float(finite.min()), *marks, np.inf), max(float(finite.max()), *marks, -np.inf)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.02)
    step = width / signal.shape[1]

    def level(value: float) -> float:
        return height * (0.5 - 0.42 * (value - middle) / half)

    for start, stop in _runs(np.isnan(signal[0])):
        draw.rectangle((start * step, 0, stop * step, height), fill=OUTSIDE_COLOR)
    for mark in marks:
        draw.line((0, level(mark), width, level(mark)), fill=_ZERO_COLOR, width=oversampling)
    for row in signal:
        for start, stop in _runs(~np.isnan(row)):
            points = [((i + 0.5) * step, level(float(row[i]))) for i in range(start, stop)]
            if len(points) > 1:
                draw.line(points, fill=_LINE_COLOR, width=oversampling + 2, joint="curve")
            else:
                x, y = points[0]
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_LINE_COLOR)
    return np.asarray(canvas.resize((2 * side, side), Image.Resampling.LANCZOS))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
