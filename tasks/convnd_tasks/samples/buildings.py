"""The buildings of the town: gabled houses and a church."""

from __future__ import annotations

import numpy as np

from convnd_tasks.samples.easel import Easel, rgb
from convnd_tasks.samples.fields import Array, smoothstep

__all__ = ["HAZE", "paint_church", "paint_house"]


_WALLS = ("e3c489", "d98f5c", "c9705a", "efe2c4", "b9c3a2", "d8a7a0", "a9b7c4", "e8d3a0", "c8a878")

_ROOFS = ("8a4632", "9c5238", "7a4034", "6d4a42", "a15c3c")

_SHUTTERS = ("4f6b4a", "5a3a30", "3f5a72", "7d3b34")

HAZE = rgb("c3cfd9")
"""Colour that distant things fade to."""


def _fog(color: Array, haze: float) -> Array:
    return np.asarray(color + haze * (HAZE - color), dtype=np.float32)


def paint_house(
    easel: Easel, rng: np.random.Generator, x: float, w: float, base: float, h: float, haze: float
) -> None:
    """Paint a house with its gable or its eaves to the river.

    Args:
        easel: the picture; all lengths are in units of its height.
        rng: chooses colours, roof and windows.
        x: left edge.
        w: width of the front.
        base: height of the ground, from the top of the picture.
        h: height of the front, without the roof.
        haze: share of `HAZE` in all colours, from 0 (near) to 1.
    """
    wall = _fog(rgb(str(rng.choice(_WALLS))) * float(rng.uniform(0.88, 1.05)), haze)
    roof = _fog(rgb(str(rng.choice(_ROOFS))) * float(rng.uniform(0.85, 1.15)), haze)
    timber = _fog(rgb("4a3428"), haze)
    top = base - h
    gable = rng.random() < 0.6
    rise = w * float(rng.uniform(0.55, 0.85)) if gable else w * float(rng.uniform(0.4, 0.55))
    peak = (x + w / 2, top - rise)
    if rng.random() < 0.8:  # chimney, behind the roof
        left = x + w * float(rng.uniform(0.2, 0.8))
        easel.rectangle(
            (left, top - 0.95 * rise, left + 0.014, top), _fog(rgb("7b4a3c"), haze), 0.2
        )
        easel.rectangle(
            (left - 0.003, top - 0.97 * rise, left + 0.017, top - 0.93 * rise), timber, 0.1
        )
    if gable:
        easel.polygon([(x - 0.01, top), peak, (x + w + 0.01, top)], roof, 0.2)
        easel.polygon(
            [(x + 0.004, top), (peak[0], peak[1] + 0.012), (x + w - 0.004, top)], wall, 0.09
        )
    else:
        inset = 0.12 * w
        corners = [
            (x - 0.008, top),
            (x + inset, top - rise),
            (x + w - inset, top - rise),
            (x + w + 0.008, top),
        ]
        box, mask = easel.polygon_mask(corners)
        easel.blend(box, mask, _tiles(easel, box, roof))
    _wall(easel, x, w, base, top, wall)
    _facade(easel, rng, x, w, base, h, haze, timber)
    if gable:
        for row, spread in enumerate((2, 1)):
            y = top - rise * (0.27 + 0.30 * row)
            for column in range(spread):
                cx = peak[0] + (column - (spread - 1) / 2) * w * 0.26
                _window(easel, rng, cx, y, 0.11 * w, 0.15 * rise + 0.008, None, haze)
        for end in ((x - 0.012, top + 0.008), (x + w + 0.012, top + 0.008)):
            easel.line(end, peak, 0.008, roof * (1.1 if end[0] < peak[0] else 0.7))
    else:
        easel.line((x - 0.01, top), (x + w + 0.01, top), 0.005, timber)
        _dormers(easel, rng, x, w, top, rise, haze, (wall, roof))
    easel.line((x + w, base), (x + w, top), 0.0035, wall * 0.45)


def _wall(easel: Easel, x: float, w: float, base: float, top: float, color: Array) -> None:
    """Paint the front wall; light comes from the left, and the eaves and the ground are dark."""
    box, mask = easel.polygon_mask([(x, base), (x, top), (x + w, top), (x + w, base)])
    px, py = easel.coordinates(box)
    light = 1.04 - 0.16 * (px - x) / w - 0.22 * smoothstep(base - 0.05, base + 0.01, py)
    light = light * (1 - 0.35 * smoothstep(top + 0.018, top, py))
    easel.blend(box, mask, easel.material(box, color, 0.10) * light)


def _facade(
    easel: Easel,
    rng: np.random.Generator,
    x: float,
    w: float,
    base: float,
    h: float,
    haze: float,
    timber: Array,
) -> None:
    """Paint the timber frame, the windows and the door of a house, see `paint_house`."""
    top = base - h
    has_frame = rng.random() < 0.4
    floor = 0.062 * (0.75 if haze else 1.0)
    floors = max(1, int(h / floor))
    columns = max(2, int(w / (0.036 if haze == 0 else 0.026)))
    shutter = _fog(rgb(str(rng.choice(_SHUTTERS))), haze) if rng.random() < 0.5 else None
    if has_frame and floor > easel.pixel:
        _timbering(easel, x, w, top, h, floors, columns, timber)
    for row in range(floors):
        y = top + (row + 0.24) * h / floors
        for column in range(columns):
            cx = x + (column + 0.5) * w / columns
            tall = 0.55 * h / floors
            if row == floors - 1 and haze == 0 and column == columns // 2:
                _door(easel, cx, base, 0.8 * h / floors, timber)
                continue
            _window(easel, rng, cx, y, 0.40 * w / columns, tall, shutter, haze)


def _dormers(
    easel: Easel,
    rng: np.random.Generator,
    x: float,
    w: float,
    top: float,
    rise: float,
    haze: float,
    colors: tuple[Array, Array],
) -> None:
    """Paint dormer windows into a roof; ``colors`` are those of wall and roof."""
    wall, roof = colors
    for k in range(int(rng.integers(1, 4))):
        cx = x + w * (0.25 + 0.25 * k)
        y = top - 0.45 * rise
        easel.rectangle((cx - 0.011, y, cx + 0.011, y + 0.026), wall, 0.1)
        easel.polygon([(cx - 0.016, y), (cx, y - 0.017), (cx + 0.016, y)], roof * 0.8, 0.1)
        _window(easel, rng, cx, y + 0.005, 0.012, 0.017, None, haze)


def _tiles(easel: Easel, box: tuple[slice, slice], roof: Array) -> Array:
    """Roof tiles in rows with a lighter upper edge, ``(3, h, w)``."""
    x, y = easel.coordinates(box)
    rows = y / 0.011
    row = np.floor(rows)
    tile = np.sin((x / 0.008 + 0.5 * np.mod(row, 2)) * 2 * np.pi)
    relief = 0.82 + 0.26 * (1 - (rows - row)) + 0.06 * tile
    return np.asarray(easel.material(box, roof, 0.28) * relief, dtype=np.float32)


def _timbering(
    easel: Easel, x: float, w: float, top: float, h: float, floors: int, columns: int, timber: Array
) -> None:
    for row in range(floors):
        y = top + row * h / floors
        easel.line((x, y), (x + w, y), 0.006, timber)
        if row == floors - 1:
            break  # the ground floor is plastered
        for column in range(columns + 1):
            cx = x + column * w / columns
            easel.line((cx, y), (cx, y + h / floors), 0.005, timber)
            if column < columns and (column + row) % 2 == 0:
                end = cx + w / columns
                easel.line((cx, y + h / floors), (end, y + 0.7 * h / floors), 0.004, timber)


def _window(
    easel: Easel,
    rng: np.random.Generator,
    cx: float,
    y: float,
    w: float,
    h: float,
    shutter: Array | None,
    haze: float,
) -> None:
    if h < 0.25 * easel.pixel:
        return  # invisible
    frame = _fog(rgb("ece6d8"), haze)
    glass = _fog(rgb("27323c") * float(rng.uniform(0.7, 1.5)), haze)
    if rng.random() < 0.07:
        glass = _fog(rgb("e8c878"), haze)  # somebody is at home
    border = 0.12 * w + 0.0012
    easel.rectangle(
        (cx - w / 2 - border, y - border, cx + w / 2 + border, y + h + border), frame, 0.05
    )
    box, mask = easel.rectangle_mask((cx - w / 2, y, cx + w / 2, y + h))
    _, py = easel.coordinates(box)
    sky = np.clip(1 - (py - y) / h, 0, 1) * 0.35
    easel.blend(box, mask, glass[:, None, None] + sky * (rgb("9fb6cc") - glass)[:, None, None])
    easel.line((cx, y), (cx, y + h), 0.10 * w, frame)
    easel.line((cx - w / 2, y + 0.4 * h), (cx + w / 2, y + 0.4 * h), 0.10 * w, frame)
    sill = y + h + border
    easel.line((cx - 0.7 * w, sill + 0.002), (cx + 0.7 * w, sill + 0.002), 0.003, frame * 0.5)
    if shutter is not None:
        for side in (-1, 1):
            inner = cx + side * (w / 2 + border)
            outer = inner + side * 0.36 * w
            easel.rectangle((min(inner, outer), y, max(inner, outer), y + h), shutter, 0.2)
    elif rng.random() < 0.3:
        bloom = rgb(str(rng.choice(["b8433a", "d8787a", "c75b7a"])))
        easel.foliage(cx, sill, 0.6 * w, 0.007, _fog(rgb("37502c"), haze), _fog(bloom, haze))


def _door(easel: Easel, cx: float, base: float, h: float, timber: Array) -> None:
    easel.rectangle((cx - 0.014, base - h - 0.004, cx + 0.014, base), rgb("cfc3ac"), 0.15)
    easel.rectangle((cx - 0.010, base - h, cx + 0.010, base), timber, 0.3)
    easel.disc(cx, base - h, 0.010, timber)


def paint_church(easel: Easel, cx: float, base: float) -> None:
    """Paint a church with its tower around ``cx``, on the ground at ``base``."""
    stone, shade = rgb("c9bda4"), rgb("85796a")
    half, top = 0.040, 0.235
    box, mask = easel.rectangle_mask((cx - half, top, cx + half, base))
    x, _ = easel.coordinates(box)
    light = 1.08 - 0.5 * smoothstep(cx - 0.2 * half, cx + half, x)
    easel.blend(box, mask, easel.material(box, stone, 0.14) * light)
    for y in (top, top + 0.11, top + 0.22):
        easel.line((cx - half - 0.004, y), (cx + half + 0.004, y), 0.007, shade)
    slate = rgb("55616b")
    easel.polygon([(cx - half - 0.006, top), (cx, 0.045), (cx + 0.3 * half, top)], slate * 1.2, 0.2)
    easel.polygon(
        [(cx + 0.2 * half, top), (cx, 0.045), (cx + half + 0.006, top)], slate * 0.75, 0.2
    )
    easel.line((cx, 0.05), (cx, 0.015), 0.003, rgb("c9a94a"))
    easel.line((cx - 0.008, 0.028), (cx + 0.008, 0.028), 0.003, rgb("c9a94a"))
    for side in (-0.45, 0.45):
        middle = cx + side * half
        easel.rectangle(
            (middle - 0.008, top + 0.035, middle + 0.008, top + 0.085), rgb("2d2b2c"), 0.1
        )
        easel.disc(middle, top + 0.036, 0.008, rgb("2d2b2c"))
    easel.disc(cx, top + 0.150, 0.022, rgb("e9e1c8"))
    easel.disc(cx, top + 0.150, 0.018, rgb("34373f"))
    easel.line((cx, top + 0.150), (cx, top + 0.136), 0.003, rgb("e9c95a"))
    easel.line((cx, top + 0.150), (cx + 0.010, top + 0.154), 0.003, rgb("e9c95a"))
    # The nave leans on the tower.
    roof = [(cx + half, base), (cx + half, 0.44), (cx + 0.26, 0.44), (cx + 0.30, 0.52)]
    box, mask = easel.polygon_mask([roof[1], roof[2], roof[3], (cx + half, 0.52)])
    easel.blend(box, mask, _tiles(easel, box, rgb("7d4a3a")))
    easel.rectangle((cx + half, 0.52, cx + 0.29, base), stone * 0.9, 0.12)
    for k in range(4):
        middle = cx + half + 0.03 + 0.06 * k
        easel.rectangle((middle - 0.008, 0.535, middle + 0.008, 0.59), rgb("3a3d45"), 0.1)
