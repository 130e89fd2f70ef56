"""Styles for any rank: patterns, coloured in two dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convnd_tasks.samples.brush import Canvas, Strokes
from convnd_tasks.samples.easel import rgb
from convnd_tasks.samples.fields import Array, Lattice, curl_flow, ramp, smoothstep
from convnd_tasks.samples.sample import Maker, Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["STYLES", "cells", "dots", "ink", "marble", "waves", "weave"]


def _count_pairs(n: int) -> int:
    return n * (n - 1) // 2


def _normalize(v: Array) -> Array:
    length = np.linalg.norm(v, axis=0, keepdims=True)
    return np.asarray(v / np.maximum(length, 1e-6), dtype=np.float32)


def _clip_colors(color: Array) -> Array:
    """Clip colours to ``[0, 1]``."""
    return np.asarray(np.clip(color, 0, 1), dtype=np.float32)


def waves(lattice: Lattice, palette: Array) -> Array:
    """Swirling strokes of thick paint around glowing centres, after a night in Saint-Rémy."""
    rng = lattice.rng("centres3")  # chosen for the composition of seed 0
    # Centres of the swirls: each is the most distant of random candidates.
    centres = np.empty((0, lattice.ndim))
    for _ in range(9):
        candidates = rng.random((16, lattice.ndim)) * lattice.extent
        gaps = [
            min((float(np.linalg.norm(c - o)) for o in centres), default=1.0) for c in candidates
        ]
        centres = np.vstack([centres, candidates[int(np.argmax(gaps))]])
    room = math.prod(lattice.extent) ** (0.5 / lattice.ndim)
    potentials = [
        0.16 * lattice.fbm(f"potential{k}", 0.55, 2, 0.35)
        for k in range(max(_count_pairs(lattice.ndim), 1))
    ]
    glow = np.zeros(lattice.shape, dtype=np.float32)
    halo = np.zeros(lattice.shape, dtype=np.float32)
    for k, centre in enumerate(centres.tolist()):  # Python floats keep float32 arrays float32
        radius = room * float(rng.uniform(0.045, 0.13)) * (1.6 if k == 0 else 1.0)
        spin = float(rng.choice([-1.0, 1.0]))
        d2 = sum((x - c) ** 2 for x, c in zip(lattice.coords(), centre, strict=True))
        d = np.sqrt(np.asarray(d2)) / radius
        bump = np.exp(-0.5 * (d / 1.5) ** 2) * (3.2 * spin * radius)
        for potential in potentials:
            potential += bump
        glow = np.maximum(glow, np.exp(-((d / 0.62) ** 2)))
        halo = np.maximum(halo, (0.5 + 0.5 * np.cos(d * 6)) * np.exp(-((d / 1.9) ** 2)))
    heading = _normalize(curl_flow(lattice, potentials[: _count_pairs(lattice.ndim)], drift=0.55))

    stream = np.sin(sum(potentials) * np.float32(38.0) + lattice.fbm("bend", 0.3, 2))
    tone = 0.28 + 0.08 * lattice.fbm("tone", 0.5, 3) + 0.13 * stream + 0.28 * halo + 0.62 * glow
    canvas = Canvas(lattice, np.asarray(tone, dtype=np.float32), heading, palette)
    for k, strokes in enumerate(
        (
            Strokes(length=0.16, width=0.028, coverage=3.0, spread=0.05),
            Strokes(length=0.10, width=0.016, coverage=1.6, spread=0.07),
            Strokes(length=0.055, width=0.010, coverage=0.7, spread=0.10, accents=0.015),
        )
    ):
        canvas.paint(f"strokes{k}", strokes)
    return canvas.relief(0.55)


def cells(lattice: Lattice, palette: Array) -> Array:
    """Stained glass: Voronoi cells of streaky glass held by rounded strips of lead."""
    n = lattice.ndim
    spacing = 0.095 if n > 1 else 0.05
    centre, wall, site = _voronoi(lattice, spacing, "sites")
    sweep = lattice.fbm("sweep", 0.7, 2, 0.5)
    hue = np.mod(0.45 + 0.20 * sweep + 0.75 * np.abs(site - 0.5) * (2 * np.mod(site * 8, 1)), 1.0)
    glass = ramp(np.vstack([palette, palette[:1]]), hue)  # a closed circle of hues
    streaks = lattice.fbm("streaks", [0.02] * (n - 1) + [0.12], 4, 0.7)
    bubbles = lattice.fbm("bubbles", 0.012, 3, 0.8)
    depth = np.clip(1.25 - 1.1 * (centre / spacing) ** 2, 0.5, 1.25)
    lead_width = max(0.0065, 0.8 * lattice.step)
    # Near the lead less light bleeds, and the glass is thicker.
    depth = depth * (0.72 + 0.28 * smoothstep(lead_width, 4 * lead_width, wall))
    glass = glass * (depth * (1 + 0.12 * streaks + 0.06 * bubbles))
    glint = smoothstep(1.5, 2.4, bubbles) * 0.22
    soft = max(0.6 * lattice.step, 0.001)
    lead = 1 - smoothstep(lead_width - soft, lead_width + soft, wall)
    bead = np.sqrt(np.clip(1 - (wall / lead_width) ** 2, 0, 1))
    metal = 0.04 + 0.20 * bead * (1 + 0.4 * bubbles)
    return _clip_colors((glass + glint) * (1 - lead) + metal * lead)


def _voronoi(lattice: Lattice, spacing: float, tag: str) -> tuple[Array, Array, Array]:
    """Compute the distance to the nearest site and to the wall of its cell, and the site's label.

    Sites are jittered in a grid, so the nearest two are among the 3^N cells around a position.
    """
    rng = lattice.rng(tag)
    counts = [math.ceil(length / spacing) + 3 for length in lattice.extent]
    jitter = rng.random((lattice.ndim, *counts), dtype=np.float32)
    label = rng.random(counts, dtype=np.float32)
    position = [x / np.float32(spacing) + 1 for x in lattice.coords()]
    cell = [np.floor(x).astype(np.int64) for x in position]
    steps = list(itertools.product((-1, 0, 1), repeat=lattice.ndim))
    nearest = np.full(lattice.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    first_step, second_step = np.zeros((2, *lattice.shape), dtype=np.int64)

    def offset(step: Sequence[NDArray[np.int64] | int]) -> tuple[list[Array], Array]:
        index = tuple(c + s for c, s in zip(cell, step, strict=True))
        offsets = [i + j[index] - x for i, j, x in zip(index, jitter, position, strict=True)]
        return offsets, label[index]

    for k, step in enumerate(steps):
        d2 = np.asarray(sum(v * v for v in offset(step)[0]), dtype=np.float32)
        closer, is_second = d2 < nearest, d2 < second
        second = np.where(closer, nearest, np.where(is_second, d2, second))
        second_step = np.where(closer, first_step, np.where(is_second, k, second_step))
        first_step = np.where(closer, k, first_step)
        nearest = np.where(closer, d2, nearest)
    table = np.array(steps).T
    to_nearest, site = offset([axis[first_step] for axis in table])
    to_second, _ = offset([axis[second_step] for axis in table])
    gap = np.sqrt(np.asarray(sum((b - a) ** 2 for a, b in zip(to_nearest, to_second, strict=True))))
    # The wall is the plane halfway between two sites.
    wall = (second - nearest) / (2 * np.maximum(gap, 1e-6))
    scale = np.float32(spacing)
    return np.sqrt(nearest) * scale, np.asarray(wall * scale, dtype=np.float32), site


def weave(lattice: Lattice, palette: Array) -> Array:
    """Tartan twill: threads along every axis pass over and under each other."""
    n = lattice.ndim
    pitch = max(0.0145, 4 * lattice.step)
    wobble = [0.10 * lattice.fbm(f"wobble{a}", 0.12, 4, 0.5) for a in range(n)]
    position = [x / pitch + w for x, w in zip(lattice.coords(), wobble, strict=True)]
    thread = [np.floor(x).astype(np.int64) for x in position]
    inside = [(x - np.floor(x)).astype(np.float32) for x in position]
    # A 2/2 twill at any rank: the family of threads on top alternates along the diagonal.
    crossing_number = np.mod(sum(thread), 2 * n) // 2
    fibre = lattice.fbm("fibre", max(0.006, 2 * lattice.step), 2, 0.8)
    stripes = _tartan(lattice, len(palette))
    color = np.zeros((palette.shape[1], *lattice.shape), dtype=np.float32)
    for family in range(n):
        across = [a for a in range(n) if a != family] or [0]
        number = sum(thread[a] * (7 if k else 1) for k, a in enumerate(across))
        dye = palette[stripes[np.mod(number, len(stripes))]]  # (*S, C)
        round_ = np.ones(lattice.shape, dtype=np.float32)
        for a in across:
            round_ = round_ * np.sqrt(np.clip(1 - (2 * inside[a] - 1) ** 2 * 0.92, 0, 1))
        run = np.mod(sum(thread) + inside[family], 2 * n) % 2 / 2
        bulge = 0.72 + 0.28 * np.sin(np.pi * np.clip(run, 0, 1))
        twist = np.sin(2 * np.pi * (1.5 * inside[family] + 1.2 * inside[across[0]]) * 2)
        light = (0.25 + 0.85 * round_) * bulge * (1 + 0.10 * twist + 0.10 * fibre)
        layer = np.moveaxis(dye, -1, 0) * light
        color = np.where(crossing_number == family, layer, color).astype(np.float32)
    fold = 1 + 0.10 * lattice.fbm("fold", 0.45, 3, 0.5)
    return _clip_colors(color * fold)


def _tartan(lattice: Lattice, colors: int) -> Array:
    """Choose the colour of each thread of a sett, mirrored like a tartan."""
    rng = lattice.rng("sett")
    widths = rng.choice([1, 2, 2, 4, 7, 10], 9)
    order = [int(k) for k in rng.permutation(colors)] * 3
    half = np.concatenate([np.full(w, order[k], dtype=np.int64) for k, w in enumerate(widths)])
    return np.concatenate([half, half[::-1]])


def marble(lattice: Lattice, palette: Array) -> Array:
    """Marbled paper: bands of ink combed and curled by turbulence, with gold veins."""
    n = lattice.ndim
    bend = [lattice.fbm(f"bend{a}", 0.45, 5, 0.48) for a in range(n)]
    curl = [lattice.fbm(f"curl{a}", 0.16, 5, 0.5) for a in range(n)]
    phase = sum(
        x * (1.0 + 0.5 * a) + 0.20 * b + 0.055 * c
        for a, (x, b, c) in enumerate(zip(lattice.coords(), bend, curl, strict=True))
    )
    bands = np.asarray(phase, dtype=np.float32) * np.float32(3.2)
    saw = np.abs(2 * (bands - np.floor(bands)) - 1)
    veins = np.sin(bands * np.float32(2 * np.pi * 5) + curl[0])
    tone = 0.06 + 0.88 * saw + 0.07 * veins + 0.03 * lattice.fbm("grain", 0.02, 4, 0.7)
    color = ramp(palette, tone)
    line = np.abs(np.mod(bands * 2 + 0.25 * bend[-1], 1) - 0.5)
    ink = smoothstep(0.045, 0.012, line) * (0.5 + 0.5 * smoothstep(-0.6, 0.6, bend[0]))
    color = color * (1 - 0.75 * ink)
    vein = smoothstep(0.05, 0.0, np.abs(lattice.fbm("vein", 0.35, 6, 0.55)))
    gold = palette[-2][(slice(None), *[None] * n)] * (0.9 + 0.25 * curl[-1])
    return _clip_colors(color + 0.8 * vein * (gold - color))


def dots(lattice: Lattice, palette: Array) -> Array:
    """Pointillism: dabs of pure, often complementary colours that mix in the eye."""
    light = 0.46 + 0.27 * lattice.fbm("light", 0.36, 5, 0.45)
    no_flow = np.zeros((lattice.ndim, *lattice.shape), dtype=np.float32)
    canvas = Canvas(lattice, light, no_flow, palette)
    for k, strokes in enumerate(
        (
            Strokes(length=0, width=0.030, coverage=2.2, spread=0.09, accents=0.12, strength=0.8),
            Strokes(length=0, width=0.017, coverage=1.5, spread=0.14, accents=0.12, strength=0.8),
            Strokes(length=0, width=0.010, coverage=0.7, spread=0.20, accents=0.12, strength=0.8),
        )
    ):
        canvas.paint(f"dabs{k}", strokes)
    return canvas.relief(0.35)


def ink(lattice: Lattice, palette: Array) -> Array:
    """Woodcut: carved lines that swell with the dark, crossed by a second set in the shadows."""
    n = lattice.ndim
    light = 0.60 + 0.24 * lattice.fbm("light", 0.30, 4, 0.5)
    paper = ramp(palette[1:], np.clip(0.5 + 0.30 * lattice.fbm("wash", 0.6, 3, 0.45), 0, 1))
    paper = paper * (1 + 0.03 * lattice.fbm("pulp", 0.012, 3, 0.8))
    hill = sum(x for x in lattice.coords()) + 0.42 * lattice.fbm("lie", 0.55, 2, 0.4)
    other = sum(x * (-1) ** a * (1 + 0.4 * a) for a, x in enumerate(lattice.coords()))
    other = other + 0.30 * lattice.fbm("cross", 0.6, 2, 0.4)
    nib = 0.10 * lattice.fbm("nib", 0.02, 4, 0.7)
    pitch = max(0.021, 6 * lattice.step)
    covered_share = np.zeros(lattice.shape, dtype=np.float32)
    for field, floor, scale in ((hill, 0.0, 1.0), (other, 0.48, 0.8)):
        phase = np.asarray(field, dtype=np.float32) / np.float32(pitch * scale)
        wave = np.abs(2 * (phase - np.floor(phase)) - 1)  # 0 in the middle of each line
        dark = np.clip((1 - light - floor) / (1 - floor), 0, 0.8) + nib
        # The edge is one sample wide, measured by the slope of the wave.
        slope = np.maximum(
            sum(np.abs(np.gradient(phase, axis=a)) for a in range(n) if lattice.shape[a] > 1), 1e-3
        )
        covered_share = np.maximum(covered_share, np.clip((dark - wave) / (2 * slope) + 0.5, 0, 1))
    black = palette[0][(slice(None), *[None] * n)]
    return _clip_colors(paper + covered_share * (black - paper))


def _stops(*codes: str) -> Array:
    return np.stack([rgb(code) for code in codes])


# fmt: off
_FIELDS: dict[str, tuple[Callable[[Lattice, Array], Array], Array, str]] = {
    "waves": (waves, _stops("0c122c", "16305f", "244896", "346cb6", "6098c8", "a0c4c4", "dedca0",
                            "f8d054", "fcec96"), "swirling strokes of thick paint"),
    "cells": (cells, _stops("12306e", "1d6fb0", "1fa3a0", "2f9e4f", "b8c832", "f6c21c", "f08a1a",
                            "d8321e", "a01848", "5a1c78"), "stained glass in lead"),
    "weave": (weave, _stops("7c1420", "14323c", "e8dcc0", "1c5c4a", "d8a028", "20243c"),
              "tartan twill"),
    "marble": (marble, _stops("0c2a3c", "11606a", "2f9a94", "e8e2cc", "f4c88c", "d86a3a", "9c2438",
                              "d8a83c", "f6ecd8"), "marbled paper with gold veins"),
    "dots": (dots, _stops("1c2c78", "2c5cb8", "3ca0a0", "5cb85c", "c8d04c", "f8d848", "f89c3c",
                          "e85c3c", "d87ca8"), "pointillist dabs of pure colour"),
    "ink": (ink, _stops("141c30", "2a6c86", "7cb0a4", "ecdcb0", "f4e6c4", "e8a060", "c8482c"),
            "woodcut lines on washed paper"),
}
# fmt: on


def _maker(field: Callable[[Lattice, Array], Array], palette: Array) -> Maker:
    def make(shape: tuple[int, ...], seed: int, /) -> Grid:
        # Volumes have few samples per side: a smaller view gives each structure enough of them.
        lattice = Lattice(shape, seed, view=1.0 if len(shape) <= 2 else 0.4)
        stops = palette if len(shape) == 2 else np.linspace(0, 1, 9, dtype=np.float32)[:, None]
        return as_grid(field(lattice, stops).astype(np.float32))

    return make


STYLES: dict[str, Sample] = {
    name: Sample(make=_maker(field, palette), summary=summary, sizes={})
    for name, (field, palette, summary) in _FIELDS.items()
}
