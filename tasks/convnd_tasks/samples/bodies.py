"""A content for any rank: lit balls and boxes in front of a colour gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convnd_tasks.samples.easel import rgb
from convnd_tasks.samples.fields import Array, Lattice, smoothstep
from convnd_tasks.samples.sample import Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["CONTENTS"]

_COLORS = ("c8452e", "2f6f9f", "e0a92e", "4f8a4a", "8a5a9c", "d98aa0", "3aa6a0", "b5743a")


def _bodies(lattice: Lattice, colors: Array, ground: Array) -> Array:
    """Paint textured bodies that hide each other and are lit along the first axis."""
    n = lattice.ndim
    rng = lattice.rng("bodies")
    coords = lattice.coords()
    t = np.broadcast_to(coords[0] / lattice.extent[0], lattice.shape)
    lift = (slice(None), *[None] * n)
    picture = ground[0][lift] * (1 - t) + ground[1][lift] * t
    picture = picture * (1 + 0.05 * lattice.fbm("ground", 0.3, 5, 0.6))
    texture = lattice.fbm("texture", 0.05, 4, 0.6)
    soft = 1.5 * lattice.step
    # A body fills a smaller part of a space of more dimensions, so the size grows with the rank.
    typical = 0.16 * n**0.5 if n > 1 else 0.05
    for k in range(14):
        centre = rng.random(n) * lattice.extent
        radius = typical * float(rng.uniform(0.45, 1.2))
        stretch = rng.uniform(0.8, 1.25, n)
        parts = [(x - c) / (radius * s) for x, c, s in zip(coords, centre, stretch, strict=True)]
        if k % 2 == 0:
            distance = np.sqrt(np.asarray(sum(p * p for p in parts), dtype=np.float32))
        else:  # a box with rounded edges: a norm between Euclid's and the maximum
            distance = np.asarray(sum((1.25 * p) ** 6 for p in parts), dtype=np.float32) ** (1 / 6)
        mask = smoothstep(soft / radius, -soft / radius, distance - 1)
        light = np.clip(1.0 - 0.42 * parts[0] - 0.25 * distance**2 + 0.10 * texture, 0.15, 1.5)
        picture = picture + mask * (colors[k % len(colors)][lift] * light - picture)
    return np.asarray(np.clip(picture, 0, 1), dtype=np.float32)


def _make(shape: tuple[int, ...], seed: int, /) -> Grid:
    if len(shape) == 2:
        colors = np.stack([rgb(code) for code in _COLORS])
        ground = np.stack([rgb("e8e2d4"), rgb("9aa6b4")])
    else:
        colors = np.linspace(0.45, 1.0, 8, dtype=np.float32)[[3, 7, 0, 5, 2, 6, 1, 4], None]
        ground = np.array([[0.12], [0.32]], dtype=np.float32)
    return as_grid(_bodies(Lattice(shape, seed), colors, ground))


CONTENTS: dict[str, Sample] = {
    "bodies": Sample(make=_make, summary="lit balls and boxes, any rank", sizes={})
}
