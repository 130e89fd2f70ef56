"""Soft-edged shapes and materials for painting scenes, in units of the picture's height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from convnd_tasks.samples.fields import Array, Lattice, interpolate, smoothstep

__all__ = ["Box", "Color", "Easel", "rgb"]

Box: TypeAlias = tuple[slice, slice]
Color: TypeAlias = Array
"""``(3,)``, or ``(3, h, w)`` for a box."""


def rgb(code: str) -> Array:
    """Parse a colour of six hexadecimal digits to ``(3,)`` in ``[0, 1]``.

    >>> rgb("ff0000").tolist()
    [1.0, 0.0, 0.0]
    """
    return np.array([int(code[k : k + 2], 16) for k in (0, 2, 4)], dtype=np.float32) / 255


class Easel:
    """An RGB picture that is painted back to front, with antialiasing.

    Positions are ``(x, y)``: ``y`` from 0 at the top to 1 at the bottom, ``x`` from 0 to the
    aspect ratio.

    `picture` is ``(3, H, W)``; `cover`, ``(H, W)``, is the opacity of all shapes, so that
    ``picture − (1 − cover)·backdrop`` is the premultiplied foreground.

    Args:
        shape: ``(H, W)``.
        seed: seed of all textures.
    """

    def __init__(self, shape: tuple[int, int], seed: int) -> None:
        self.lattice = Lattice(shape, seed)
        self.pixel = 1.0 / shape[0]
        self.aspect = shape[1] / shape[0]
        self.picture = np.zeros((3, *shape), dtype=np.float32)
        self.backdrop = self.picture  # the sky alone
        self.cover = np.zeros(shape, dtype=np.float32)  # opacity in front of the backdrop
        self.y = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) * np.float32(self.pixel)
        self.x = (np.arange(shape[1], dtype=np.float32)[None, :] + 0.5) * np.float32(self.pixel)
        unit = min(1.0, self.aspect)
        # Textures of three scales, shared by all shapes.
        self.grain = self.lattice.fbm("grain", 0.008 / unit, 3, 0.7)
        self.stain = self.lattice.fbm("stain", 0.09 / unit, 5, 0.6)
        self.leaves = self.lattice.fbm("leaves", 0.035 / unit, 5, 0.75)

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Compute the samples that a region covers, with a margin of one."""
        height, width = self.lattice.shape

        def span(low: float, high: float, n: int) -> slice:
            first = min(max(math.floor(low / self.pixel) - 1, 0), n)
            return slice(first, max(first, min(math.ceil(high / self.pixel) + 1, n)))

        return span(top, bottom, height), span(left, right, width)

    def coordinates(self, box: Box) -> tuple[Array, Array]:
        """Return ``x`` as ``(1, w)`` and ``y`` as ``(h, 1)`` in a box."""
        return self.x[:, box[1]], self.y[box[0]]

    def polygon_mask(self, points: Sequence[tuple[float, float]]) -> tuple[Box, Array]:
        """Compute box and coverage ``(h, w)`` of a convex polygon, with corners in either order."""
        p = np.asarray(points, dtype=np.float32)
        box = self.box(p[:, 0].min(), p[:, 1].min(), p[:, 0].max(), p[:, 1].max())
        x, y = self.coordinates(box)
        sides = np.roll(p, -1, axis=0) - p
        lengths = np.hypot(sides[:, 0], sides[:, 1])
        normals = np.stack([sides[:, 1], -sides[:, 0]], axis=1)
        outwards = (normals * (p.mean(axis=0) - p)).sum(axis=1) < 0
        inside = np.full((y.size, x.size), np.inf, dtype=np.float32)
        for a, normal, length, outward in zip(p, normals, lengths.tolist(), outwards, strict=True):
            if length == 0:
                continue
            u, v = normal * ((-1.0 if outward else 1.0) / length)
            np.minimum(inside, (x - a[0]) * u + (y - a[1]) * v, out=inside)
        return box, np.clip(inside / np.float32(self.pixel) + 0.5, 0, 1)

    def rectangle_mask(self, corners: tuple[float, float, float, float]) -> tuple[Box, Array]:
        """Compute box and exact coverage of an upright rectangle ``(left, top, right, bottom)``."""
        left, top, right, bottom = corners
        box = self.box(left, top, right, bottom)
        x, y = self.coordinates(box)
        half = self.pixel / 2
        across = np.clip(np.minimum(x + half, right) - np.maximum(x - half, left), 0, None)
        down = np.clip(np.minimum(y + half, bottom) - np.maximum(y - half, top), 0, None)
        return box, across * down / np.float32(self.pixel**2)

    def blend(self, box: Box, mask: Array, color: Color) -> None:
        """Blend a colour into a box, with opacity ``mask``."""
        if color.ndim == 1:
            color = color[:, None, None]
        part = self.picture[:, *box]
        part += mask * (color - part)
        hidden_share = self.cover[box]
        hidden_share += mask * (1 - hidden_share)

    def polygon(self, points: Sequence[tuple[float, float]], color: Array, rough: float) -> None:
        """Paint a convex polygon of a material; ``rough`` scales its grain and stains."""
        box, mask = self.polygon_mask(points)
        self.blend(box, mask, self.material(box, color, rough))

    def rectangle(
        self, corners: tuple[float, float, float, float], color: Array, rough: float
    ) -> None:
        """Paint an upright rectangle ``(left, top, right, bottom)`` of a material."""
        box, mask = self.rectangle_mask(corners)
        self.blend(box, mask, self.material(box, color, rough))

    def material(self, box: Box, color: Array, rough: float) -> Array:
        """Add grain and stains to a colour, ``(3, h, w)``."""
        texture = 1 + rough * (0.5 * self.grain[box] + 0.6 * self.stain[box])
        return np.asarray(color[:, None, None] * texture, dtype=np.float32)

    def line(
        self, a: tuple[float, float], b: tuple[float, float], width: float, color: Array
    ) -> None:
        """Paint a straight bar."""
        if a[0] == b[0]:
            half, (top, bottom) = width / 2, sorted((a[1], b[1]))
            self.rectangle((a[0] - half, top, a[0] + half, bottom), color, 0.25)
            return
        d = np.array([b[0] - a[0], b[1] - a[1]])
        n = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-9) * width / 2
        corners = [
            (a[0] + n[0], a[1] + n[1]),
            (b[0] + n[0], b[1] + n[1]),
            (b[0] - n[0], b[1] - n[1]),
            (a[0] - n[0], a[1] - n[1]),
        ]
        self.polygon(corners, color, 0.25)

    def disc(self, x0: float, y0: float, radius: float, color: Array) -> None:
        """Paint a filled circle."""
        box = self.box(x0 - radius, y0 - radius, x0 + radius, y0 + radius)
        x, y = self.coordinates(box)
        d = np.sqrt((x - x0) ** 2 + (y - y0) ** 2)
        self.blend(box, np.clip((radius - d) / np.float32(self.pixel) + 0.5, 0, 1), color)

    def foliage(
        self, x0: float, y0: float, rx: float, ry: float, dark: Array, light: Array
    ) -> None:
        """Paint the crown of a tree: ragged outline, clumps of leaves, lit from the left."""
        box = self.box(x0 - 1.3 * rx, y0 - 1.3 * ry, x0 + 1.3 * rx, y0 + 1.3 * ry)
        x, y = self.coordinates(box)
        u, v = (x - x0) / rx, (y - y0) / ry
        leaves = self.leaves[box]
        soft = 1.5 * self.pixel / min(rx, ry)
        inside = 1 - np.sqrt(u * u + v * v) + 0.12 * leaves + 0.08 * self.grain[box]
        mask = smoothstep(-soft, soft, inside)
        lit = 0.42 - 0.21 * u - 0.42 * v + 0.15 * leaves + 0.20 * self.grain[box]
        lit = np.clip(lit, 0, 1.25)
        self.blend(box, mask, dark[:, None, None] * (1 - lit) + light[:, None, None] * lit)

    def sky(self, zenith: Array, horizon: Array, line: float, cover: float = 0.0) -> None:
        """Paint the sky above ``y = line``: a gradient, and cumulus clouds in perspective."""
        t = np.clip(self.y / line, 0, 1) ** 1.4
        sky = zenith[:, None, None] * (1 - t) + horizon[:, None, None] * t
        extent = max(self.aspect, 1.0)
        # The clouds form a ceiling in perspective: rows near the horizon are far away.
        depth = 0.22 / np.maximum(line * 1.12 - self.y, 0.03)
        field = self.lattice.fbm("clouds", 0.30, 6, 0.5)
        rows = np.clip(depth * 0.55, 0, 0.98) * (self.lattice.shape[0] - 1)
        columns = (self.x - extent / 2) * np.clip(depth, 0.4, 2.2) * 0.5 + extent / 2
        columns = columns / self.pixel
        rows, columns = np.broadcast_arrays(rows, columns)
        density, lit = (
            interpolate(field[None], [rows, columns])[0],
            interpolate(field[None], [rows - 0.03 / self.pixel, columns - 0.02 / self.pixel])[0],
        )
        mask = smoothstep(0.15 - cover, 1.15 - cover, density) * np.clip(1.15 - 0.5 * t, 0, 1)
        shade = np.clip(0.86 + 0.16 * (density - lit), 0.62, 1.05)
        cloud = shade * np.array([1.0, 0.985, 0.965], dtype=np.float32)[:, None, None]
        self.picture[:] = sky + mask * (cloud - sky)
        self.backdrop = self.picture.copy()

    def water(self, line: float, depth: Array, swell: float) -> None:
        """Paint water below ``y = line``: a reflection of the picture above, broken by ripples."""
        box = self.box(0, line, self.aspect, 1)
        x, y = self.coordinates(box)
        if y.size == 0:
            return
        nearness = (y - line) / max(1 - line, 1e-6)
        unit = min(1.0, self.aspect)
        long = self.lattice.fbm("swell", [0.016 / unit, 0.16 / unit], 4, 0.6)[box]
        short = self.lattice.fbm("ripple", [0.005 / unit, 0.035 / unit], 3, 0.7)[box]
        wave = (0.6 * long + 0.5 * short) * (0.15 + nearness)
        rows = (2 * line - y - np.abs(0.012 * swell * wave) * 2 - 0.02 * nearness) / self.pixel
        columns = (x + 0.012 * swell * wave) / self.pixel - 0.5
        rows, columns = np.broadcast_arrays(rows, columns)
        reflection = interpolate(self.picture, [rows, columns])
        fresnel = np.clip(0.80 - 0.38 * nearness + 0.10 * wave, 0.15, 0.92)
        water = depth[:, None, None] * (0.9 + 0.18 * wave)
        glint = 0.35 * smoothstep(1.35, 2.4, short + 0.4 * long) * (0.3 + 0.7 * nearness)
        edge = np.clip((y - line) / np.float32(self.pixel) + 0.5, 0, 1)
        self.blend(box, edge, water + fresnel * (reflection * 0.93 - water) + glint)

    def finish(self) -> Array:
        """Add a gentle vignette and grain and return the picture, ``(3, H, W)``."""
        u = (self.x / self.aspect - 0.5) * 2
        v = (self.y - 0.5) * 2
        vignette = 1 - 0.10 * (u * u + v * v)
        film = 1 + 0.010 * self.grain
        return np.clip(self.picture * vignette * film, 0, 1).astype(np.float32)
