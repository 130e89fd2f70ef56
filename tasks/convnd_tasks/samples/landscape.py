"""A mountain lake in the morning, painted back to front."""

from __future__ import annotations

import numpy as np

from convnd_tasks.samples.easel import Easel, rgb
from convnd_tasks.samples.fields import Array, smoothstep

__all__ = ["paint_landscape"]

_HAZE = rgb("c9d3dc")


def paint_landscape(easel: Easel) -> None:
    """Paint three ranges with snow, woods, a lake with reflections, and a meadow with a hut."""
    rng = easel.lattice.rng("landscape")
    width = easel.aspect
    easel.sky(rgb("3f7cc0"), rgb("f3dcc0"), 0.50, cover=0.05)
    shore = 0.60
    _range(easel, "far", 0.27, 0.110, shore, rgb("7d8797"), 0.60, snow=0.30)
    _range(easel, "middle", 0.37, 0.095, shore, rgb("6b6a66"), 0.30, snow=0.31)
    _range(easel, "near", 0.49, 0.035, shore, rgb("4d5f42"), 0.12, snow=0.0)
    _wood(easel, rng, 0.012, 0.045, shore - 0.012, 0.35)
    _wood(easel, rng, 0.016, 0.075, shore, 0.10)
    easel.water(shore, rgb("24464c"), 0.55)
    _meadow(easel, 0.83)
    _hut(easel, width * 0.68, 0.885, 0.20)
    for _ in range(round(5 * width)):
        side = rng.random() < 0.5
        x = float(rng.uniform(-0.02, 0.24)) if side else width - float(rng.uniform(-0.02, 0.12))
        _conifer(easel, x, float(rng.uniform(0.85, 0.93)), float(rng.uniform(0.30, 0.52)), 0.0, rng)


def _range(
    easel: Easel,
    tag: str,
    line: float,
    rise: float,
    base: float,
    rock: Array,
    haze: float,
    snow: float,
) -> None:
    """Paint a mountain range: ridges lit from the upper left, snow on high and flat parts."""
    unit = min(1.0, easel.aspect)
    ridge = line - rise * easel.lattice.fbm(f"{tag} line", 0.5 / unit, 7, 0.45, ridged=True)[:1]
    box = easel.box(0, 0, easel.aspect, base)
    _, y = easel.coordinates(box)
    mask = smoothstep(-easel.pixel, easel.pixel, y - ridge)
    # Creases run down the slopes, so they are longer along y.
    relief = easel.lattice.fbm(f"{tag} relief", [0.42 / unit, 0.24 / unit], 8, 0.46, ridged=True)[
        box
    ]
    light = np.zeros_like(relief)
    for axis, weight in ((0, 0.4), (1, 1.0)):
        if relief.shape[axis] > 1:
            light += weight * np.gradient(relief, axis=axis)
    light = np.clip(0.88 + light / easel.pixel * unit * 0.035, 0.22, 1.7)
    surface = rock[:, None, None] * light * (1 + 0.10 * easel.grain[box])
    if snow:
        high = smoothstep(snow + 0.10, snow - 0.12, y + 0.045 * relief + 0.02 * easel.stain[box])
        white = rgb("f4f5fa")[:, None, None] * np.clip(0.35 + 0.6 * light, 0.5, 1.08)
        surface = surface + high * (white - surface)
    else:
        surface = surface * (1 + 0.22 * easel.leaves[box])
    depth = np.clip(haze + 0.45 * np.clip((y - line) / (base - line), 0, 1) * haze * 2, 0, 0.9)
    easel.blend(box, mask, surface + depth * (_HAZE[:, None, None] - surface))


def _wood(
    easel: Easel, rng: np.random.Generator, gap: float, tall: float, base: float, haze: float
) -> None:
    for k in range(round(easel.aspect / gap) + 1):
        x = (k + float(rng.uniform(-0.5, 0.5))) * gap
        clump = 0.55 + 0.45 * np.sin(x * 7 + 3) ** 2
        height = tall * clump * float(rng.uniform(0.6, 1.15))
        _conifer(easel, x, base + float(rng.uniform(-0.004, 0.004)), height, haze, rng)


def _conifer(
    easel: Easel, x0: float, base: float, tall: float, haze: float, rng: np.random.Generator
) -> None:
    """Paint a spruce: tiers of boughs with a ragged outline, lit from the left."""
    if tall < 0.25 * easel.pixel:
        return  # invisible
    half = tall * float(rng.uniform(0.17, 0.23))
    box = easel.box(x0 - 1.4 * half, base - tall, x0 + 1.4 * half, base)
    x, y = easel.coordinates(box)
    down = (y - base + tall) / tall
    needles = 0.4 * easel.leaves[box] + 0.8 * easel.grain[box]
    tier = down * (10 + 12 * tall) + 0.5 * needles + float(rng.uniform(0, 1))
    tier = tier - np.floor(tier)
    reach = half * down * (0.62 + 0.38 * tier + 0.13 * needles)
    u = (x - x0) / half
    mask = np.clip((reach - np.abs(x - x0)) / np.float32(easel.pixel) + 0.5, 0, 1)
    lit = np.clip(0.48 - 0.42 * u + 0.30 * (0.5 - tier) + 0.15 * needles, 0, 1.2)
    dark, light = rgb("15241c"), rgb("6f8a4c") * float(rng.uniform(0.85, 1.1))
    color = dark[:, None, None] * (1 - lit) + light[:, None, None] * lit
    color = color + haze * (_HAZE[:, None, None] - color)
    easel.blend(box, mask * np.ones_like(down), color)


def _meadow(easel: Easel, line: float) -> None:
    """Paint grass in perspective, with flowers."""
    unit = min(1.0, easel.aspect)
    bank = line - 0.035 * easel.lattice.fbm("bank", 0.5 / unit, 4, 0.45)[:1]
    box = easel.box(0, line - 0.16, easel.aspect, 1)
    _, y = easel.coordinates(box)
    blades = easel.lattice.fbm("blades", [0.018 / unit, 0.0032 / unit], 3, 0.8)[box]
    tufts = easel.lattice.fbm("tufts", [0.02 / unit, 0.07 / unit], 4, 0.6)[box]
    mask = smoothstep(-easel.pixel, easel.pixel, y - bank + 0.006 * blades)
    nearness = np.clip((y - line) / (1 - line), 0, 1)
    tone = np.clip(0.50 + 0.20 * blades + 0.18 * tufts - 0.22 * nearness, 0, 1)
    grass = rgb("2b3d18")[:, None, None] * (1 - tone) + rgb("b7b955")[:, None, None] * tone
    easel.blend(box, mask, grass)
    spots = easel.lattice.noise("flowers", 0.007 / unit)[box] + 0.5 * tufts
    kind = easel.lattice.noise("kinds", 0.12 / unit)[box]
    bloom = smoothstep(2.0, 2.3, spots) * mask * smoothstep(-0.05, 0.15, nearness)
    for color, low, high in (("f2ead8", -9.0, -0.4), ("e8b73a", -0.4, 0.5), ("c2507e", 0.5, 9.0)):
        easel.blend(box, bloom * ((kind >= low) & (kind < high)), rgb(color))


def _hut(easel: Easel, x: float, base: float, w: float) -> None:
    """Paint a log hut with a shingle roof, seen from its corner."""
    front, top = 0.55 * w, base - 0.46 * w
    peak = (x + front / 2, top - 0.34 * w)
    side = [(x + front, base), (x + front, top), (x + w, top + 0.03 * w), (x + w, base - 0.03 * w)]
    logs = rgb("8a5a34")
    for corners, shade in (
        ([(x, base), (x, top), (x + front, top), (x + front, base)], 1.0),
        (side, 0.55),
        ([(x, top), peak, (x + front, top)], 0.95),
    ):
        box, mask = easel.polygon_mask(corners)
        _, y = easel.coordinates(box)
        rows = y / (0.042 * w * 1.6)
        bulge = 0.72 + 0.38 * np.sin(np.pi * (rows - np.floor(rows)))
        easel.blend(box, mask, easel.material(box, logs * shade, 0.3) * bulge)
    back = (x + w - 0.06 * w, peak[1] + 0.02 * w)
    eave = top + 0.06 * w
    roof = [peak, back, (x + w + 0.05 * w, eave + 0.03 * w), (x + front + 0.04 * w, eave)]
    box, mask = easel.polygon_mask(roof)
    _, y = easel.coordinates(box)
    rows = y / (0.05 * w)
    easel.blend(box, mask, easel.material(box, rgb("6d5d55"), 0.4) * (0.7 + 0.4 * (rows % 1)))
    easel.line((x - 0.05 * w, eave), peak, 0.035 * w, rgb("c9b79a"))
    easel.line((x + front + 0.04 * w, eave), peak, 0.035 * w, rgb("8d7a62"))
    door = x + 0.12 * w
    easel.rectangle((door, base - 0.3 * w, door + 0.14 * w, base), rgb("3a241a"), 0.3)
    for left, top_, size in ((0.33, 0.28, 0.13), (0.70, 0.27, 0.12)):
        x0, y0, s = x + left * w, base - top_ * w, size * w
        m = 0.15 * s
        easel.rectangle((x0, y0, x0 + s, y0 + s), rgb("e9dfc8"), 0.1)
        easel.rectangle((x0 + m, y0 + m, x0 + s - m, y0 + s - m), rgb("2f3b44"), 0.2)
        easel.line((x0 + s / 2, y0), (x0 + s / 2, y0 + s), 0.12 * s, rgb("e9dfc8"))
    chimney = x + 0.72 * w
    corners_ = (chimney, peak[1] - 0.07 * w, chimney + 0.08 * w, peak[1] + 0.10 * w)
    easel.rectangle(corners_, rgb("8c8279"), 0.3)
