"""Small pictures of patches of any rank: pixels, traces, three planes, film strips."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Lattice = tuple[tuple[float, ...], tuple[str, ...], tuple[str, ...]]
    """Spacing, units and names of axes."""

__all__ = ["BEYOND", "colored", "is_clip", "legend", "thumbnail", "tile_side"]

BEYOND = (200, 216, 236)
"""Pale blue, which no grey is: what lies beyond the border of an input."""

_INK = (0, 114, 178)
_FAINT = (176, 182, 189)
_STILLS = 4


def tile_side(span: Sequence[int]) -> int:
    """Pixels a side of a patch's picture: deeper units see more, and are shown larger.

    >>> [tile_side([span]) for span in (3, 10, 24, 68, 132)]
    [40, 44, 60, 90, 112]
    """
    return int(min(112, max(40, 16 + 9 * max(span) ** 0.5 + 0.5)))


def is_clip(axes: Sequence[str]) -> bool:
    """Whether the first of three axes is time.

    >>> is_clip(("t", "y", "x")), is_clip(("i", "j", "k"))
    (True, False)
    """
    return len(axes) == 3 and axes[0] in ("t", "time", "frame")


def legend(span: Sequence[int], lattices: Collection[Lattice]) -> str:
    """What a unit sees, in samples and, where all inputs agree, in their units; how it is drawn.

    Args:
        span: samples along each axis.
        lattices: of the inputs that patches are of.

    >>> legend([90], {((1 / 360,), ("s",), ("t",))})
    '90 samples (0.25 s), each trace by its own range'
    """
    text = "x".join(map(str, span)) + " samples"
    extents = {
        "x".join(f"{n * step:.3g}" for n, step in zip(span, spacing, strict=True)) + f" {units[0]}"
        for spacing, units, _ in lattices
        if len(set(units)) == 1 and units[0] != "px"
    }
    if len(extents) == 1:
        text += f" ({extents.pop()})"
    axes = next((names for _, _, names in lattices), ())
    if len(span) == 1:
        text += ", each trace by its own range"
    elif is_clip(axes):
        text += f", {_STILLS} frames of each"
    elif len(axes) == 3:
        text += f", of each the planes across {', '.join(axes[:0:-1])} and {axes[0]}"
    return text


def thumbnail(
    values: Tensor,
    side: int,
    *,
    window: Sequence[range],
    region: Sequence[slice],
    axes: Sequence[str],
    spacing: Sequence[float],
    zero: float | None = None,
) -> NDArray[np.uint8]:
    """A patch as a picture, placed where it lies in what the unit sees.

    Signals become a trace, pictures themselves, clips four frames side by side, volumes three
    planes through the centre, and higher ranks the plane of their last two axes.

    Args:
        values: ``(1, C, *region)``, about ``[0, 1]``.
        side: pixels a side (of each plane or frame; a trace is twice as wide).
        window: what the unit sees along each axis.
        region: the part of it inside of the input.
        axes: names of the axes of the input.
        spacing: distance between samples along each axis, so that planes keep their shape;
            those of thick slices are drawn no narrower than half as wide as high.
        zero: a value whose height is marked beside traces by a grey line, or None.

    Returns:
        ``(side, width, 3)``.
    """
    whole = np.full((values.shape[1], *map(len, window)), np.nan, np.float32)
    inner = tuple(
        slice(part.start - seen.start, part.stop - seen.start)
        for seen, part in zip(window, region, strict=True)
    )
    whole[(slice(None), *inner)] = values[0].detach().cpu().float().numpy()
    rank = whole.ndim - 1
    if rank == 1:
        return _trace(whole, side, zero)
    if rank == 2:
        return _plane(whole, side, spacing)
    if rank == 3 and is_clip(axes):
        moments = np.unique(np.linspace(0, whole.shape[1] - 1, _STILLS).round().astype(int))
        return _joined([_plane(whole[:, at], side, spacing[1:]) for at in moments])
    middle: list[Any] = [extent // 2 for extent in whole.shape[1:]]
    if rank > 3:
        return _plane(whole[(slice(None), *middle[:-2])], side, spacing[-2:])
    cuts = []
    for across in (2, 1, 0):
        plane = np.take(whole, middle[across], axis=1 + across)
        steps = [step for axis, step in enumerate(spacing) if axis != across]
        # Rows of the picture are the later axis, upwards, as radiologists hold RAS volumes.
        cuts.append(_plane(plane.swapaxes(1, 2)[:, ::-1], side, steps[::-1], tight=True))
    return _joined(cuts)


def colored(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``(C, H, W)`` in about ``[0, 1]`` as pixels; NaN is `BEYOND`; not three channels is grey."""
    shown = plane if len(plane) == 3 else plane[:1].repeat(3, 0)
    beyond = np.array(BEYOND).reshape(3, 1, 1)
    pixels = np.where(np.isnan(shown), beyond, (np.clip(shown, 0, 1) * 255).round())
    return np.asarray(pixels.transpose(1, 2, 0), np.uint8)


def _plane(
    plane: NDArray[np.float32], side: int, spacing: Sequence[float], *, tight: bool = False
) -> NDArray[np.uint8]:
    from PIL import Image

    pixels = colored(plane)
    extent = [n * step for n, step in zip(plane.shape[1:], spacing, strict=True)]
    height, width = (round(side * max(each / max(extent), 0.5)) for each in extent)
    grown = side / max(plane.shape[1:])
    # Few samples stay squares that can be counted; more would be squares of unequal size.
    how = Image.Resampling.BOX if grown < 1 or grown > 6 else Image.Resampling.BICUBIC
    picture = Image.fromarray(pixels).resize((width, height), how)
    across = width if tight else side
    canvas = Image.new("RGB", (across, side), (255, 255, 255))
    canvas.paste(picture, ((across - width) // 2, (side - height) // 2))
    return np.asarray(canvas)


def _trace(signal: NDArray[np.float32], side: int, zero: float | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    fine = 3  # drawn larger and shrunk, which smooths the line
    width, height = 2 * side * fine, side * fine
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    finite = signal[np.isfinite(signal)]
    marks = [] if zero is None else [zero]
    low, high = min(float(finite.min()), *marks, np.inf), max(float(finite.max()), *marks, -np.inf)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.02)
    count = signal.shape[1]
    step = width / count
    beyond = np.isnan(signal[0])
    for start, stop in _runs(beyond):
        draw.rectangle((start * step, 0, stop * step, height), fill=BEYOND)
    for mark in marks:
        level = height * (0.5 - 0.42 * (mark - middle) / half)
        draw.line((0, level, width, level), fill=_FAINT, width=fine)
    for row in signal:
        for start, stop in _runs(~np.isnan(row)):
            points = [
                ((at + 0.5) * step, height * (0.5 - 0.42 * (float(row[at]) - middle) / half))
                for at in range(start, stop)
            ]
            if len(points) > 1:
                draw.line(points, fill=_INK, width=fine + 2, joint="curve")
            else:
                x, y = points[0]
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_INK)
    return np.asarray(canvas.resize((2 * side, side), Image.Resampling.LANCZOS))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _joined(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((len(parts[0]), 1, 3), 255, np.uint8)
    pieces: list[Any] = [parts[0]]
    for part in parts[1:]:
        pieces += [gap, part]
    return np.concatenate(pieces, axis=1)
