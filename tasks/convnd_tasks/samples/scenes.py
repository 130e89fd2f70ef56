"""Content pictures: a town by a river and a mountain lake, painted back to front."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from convnd_tasks.samples.buildings import HAZE, paint_church, paint_house
from convnd_tasks.samples.easel import Easel, rgb
from convnd_tasks.samples.fields import Array, smoothstep
from convnd_tasks.samples.landscape import paint_landscape
from convnd_tasks.samples.sample import Maker, Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["CONTENTS", "paint_punt", "paint_town"]


def paint_town(easel: Easel, *, boat: bool = True) -> None:
    """Paint gabled houses, a church and trees along a river with a punt."""
    rng = easel.lattice.rng("town")
    width = easel.aspect
    easel.sky(rgb("4f86c6"), rgb("dfe3dc"), 0.56, cover=0.15)
    _hill(easel, 0.40, 0.07, rgb("8ea3a8"), "far hill")
    _hill(easel, 0.47, 0.05, rgb("6f8a6c"), "near hill")
    # Back row, smaller and paler.
    x = -0.05
    while x < width:
        w = float(rng.uniform(0.07, 0.11))
        paint_house(easel, rng, x, w, 0.60, float(rng.uniform(0.11, 0.17)), 0.35)
        x += w * float(rng.uniform(0.9, 1.2))
    paint_church(easel, width * 0.63, 0.60)
    for k in range(round(9 * width)):
        x = (k + float(rng.uniform(0, 1))) / 9
        r = float(rng.uniform(0.03, 0.05))
        easel.foliage(x, 0.585 - r * 0.3, r, r, rgb("39502f"), rgb("9bb06a"))
    # Front row along the quay.
    x = -0.03
    while x < width:
        w = float(rng.uniform(0.115, 0.185))
        if rng.random() < 0.14:  # a gap with a garden
            _tree(easel, rng, x + w / 2, 0.70, 0.06)
            x += 0.8 * w
            continue
        paint_house(easel, rng, x, w, 0.70, float(rng.uniform(0.17, 0.27)), 0.0)
        x += w
    _quay(easel, 0.695, 0.755)
    for k in range(round(4 * width)):
        if rng.random() < 0.75:
            x = (k + float(rng.uniform(0, 1))) / 4
            _tree(easel, rng, x, 0.705, float(rng.uniform(0.03, 0.055)))
    easel.water(0.755, rgb("3b4a3c"), 0.8)
    if boat:
        paint_punt(easel, width * 0.36, 0.88, 0.34)


def _hill(easel: Easel, line: float, rise: float, color: Array, tag: str) -> None:
    ridge = easel.lattice.fbm(tag, 0.5, 5, 0.5)[:1] * rise + line
    box = easel.box(0, line - 4 * rise, easel.aspect, 0.72)
    _, y = easel.coordinates(box)
    rag = 0.006 * easel.leaves[box]
    mask = smoothstep(0, 2.5 * easel.pixel, y - ridge + rag)
    woods = 1 + 0.08 * easel.leaves[box] + 0.10 * easel.grain[box]
    lit = color[:, None, None] * woods
    t = np.clip((y - line) / 0.2, 0, 1) * 0.5
    easel.blend(box, mask, lit + t * (HAZE[:, None, None] - lit))


def _tree(easel: Easel, rng: np.random.Generator, x: float, base: float, r: float) -> None:
    if r < 0.25 * easel.pixel:
        return
    easel.line((x, base + 0.01), (x + 0.004, base - 1.6 * r), 0.008, rgb("4a3b2e"))
    tint = float(rng.uniform(0.85, 1.1))
    for _ in range(6):
        dx, dy = rng.normal(0, 0.5, 2) * r
        k = float(rng.uniform(0.6, 0.9)) * r
        easel.foliage(
            x + dx, base - 1.9 * r + dy, k, 0.9 * k, rgb("26391f") * tint, rgb("a8bd62") * tint
        )


def _quay(easel: Easel, top: float, line: float) -> None:
    box = easel.box(0, top, easel.aspect, line)
    x, y = easel.coordinates(box)
    rows = (y - top) / 0.013
    row = np.floor(rows)
    columns = x / 0.034 + 0.5 * np.mod(row, 2) + 0.15 * np.sin(row * 7)
    joint = np.minimum(np.abs(rows - row - 0.5), np.abs(columns - np.floor(columns) - 0.5) * 2.4)
    stones = 1 - 0.35 * smoothstep(0.30, 0.5, joint)
    block = np.sin(np.floor(columns) * 12.9 + row * 78.2) * 0.08
    wet = 1 - 0.4 * smoothstep(line - 0.02, line, y)
    wall = easel.material(box, rgb("a3937c"), 0.22) * (stones + block) * wet
    mask = np.clip((y - top) / np.float32(easel.pixel) + 0.5, 0, 1) * np.ones_like(x)
    easel.blend(box, mask, wall)
    easel.line((0, top), (easel.aspect, top), 0.008, rgb("c9bba2"))


def paint_punt(easel: Easel, x: float, y: float, w: float) -> None:
    """Paint a flat boat with a boatman, and its dark reflection."""
    hull, rim = rgb("4b2f22"), rgb("b58a55")
    for side, h in ((1.0, 0.030), (-1.0, 0.022)):
        corners = [
            (x, y - 0.012 * side),
            (x + w, y - 0.016 * side),
            (x + 0.93 * w, y + h * 0.6 * side),
            (x + 0.06 * w, y + h * 0.6 * side),
        ]
        if side < 0:
            box, mask = easel.polygon_mask([(a, 2 * y + 0.026 - b + 0.0) for a, b in corners])
            easel.blend(box, 0.55 * mask, hull * 0.6)
        else:
            easel.polygon(corners, hull, 0.3)
    easel.line((x, y - 0.012), (x + w, y - 0.016), 0.006, rim)
    for k, cloth in enumerate(("a8443a", "e2d6b8", "3d5f86", "d0a040")):
        px = x + w * (0.22 + 0.15 * k)
        easel.polygon(
            [(px - 0.014, y), (px - 0.010, y - 0.034), (px + 0.010, y - 0.034), (px + 0.014, y)],
            rgb(cloth),
            0.2,
        )
        easel.disc(px, y - 0.043, 0.0095, rgb("d9aa85"))
        easel.disc(px, y - 0.047, 0.0085, rgb("4a3426"))
    bx = x + 0.90 * w
    easel.polygon(
        [(bx - 0.012, y - 0.01), (bx - 0.012, y - 0.085), (bx + 0.012, y - 0.085), (bx + 0.010, y)],
        rgb("e6dfcf"),
        0.15,
    )
    easel.disc(bx, y - 0.097, 0.011, rgb("d9aa85"))
    easel.line((bx - 0.016, y - 0.105), (bx + 0.016, y - 0.105), 0.006, rgb("d8bf74"))
    easel.line((bx + 0.012, y - 0.13), (bx + 0.065, y + 0.08), 0.004, rgb("8a6a44"))


def _maker(paint: Callable[[Easel], None]) -> Maker:
    def make(shape: tuple[int, ...], seed: int, /) -> Grid:
        easel = Easel((shape[0], shape[1]), seed)
        paint(easel)
        return as_grid(easel.finish())

    return make


CONTENTS: dict[str, Sample] = {
    "town": Sample(make=_maker(paint_town), summary="a town by a river", sizes={2: (512, 768)}),
    "landscape": Sample(
        make=_maker(paint_landscape), summary="a mountain lake", sizes={2: (512, 768)}
    ),
}
