"""Brush strokes in any dimension: ribbons of paint along the streamlines of a flow."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnd_tasks.samples.fields import Array, Lattice, ramp, reduce_blocks

__all__ = ["Canvas", "Strokes"]

_CHUNK = 64_000  # paint points per chunk, which stay in the cache
_SPACING = 0.72  # distance of paint points in samples; dense enough for almost no holes
_KINDS = 64  # number of bristle patterns


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """A layer of strokes of similar size.

    Args:
        length: length in units of the lattice; 0 gives round dabs.
        width: width in units of the lattice.
        coverage: area of all strokes relative to the area of the canvas.
        spread: standard deviation of a stroke's tone around the tone at its middle.
        accents: fraction of strokes with the opposite tone.
        strength: height of the paint.
    """

    length: float
    width: float
    coverage: float
    spread: float
    accents: float = 0.0
    strength: float = 1.0


class Canvas:
    """Paint on a grid: colour and height of the paint at each sample.

    In 1-D and 2-D the paint has twice as many samples per axis as the motif, for smooth outlines;
    at higher rank that would cost too much.

    Args:
        lattice: positions of the samples.
        tone: the motif, ``(*S)`` in ``[0, 1]``.
        flow: unit vectors ``(N, *S)`` that the strokes follow.
        palette: colours ``(K, C)`` from tone 0 to tone 1.
    """

    def __init__(self, lattice: Lattice, tone: Array, flow: Array, palette: Array) -> None:
        self.tone, self.flow, self.palette = tone, flow, palette
        self.finer = 2 if lattice.ndim <= 2 else 1
        self.lattice = lattice.finer(self.finer)
        self.color = ramp(palette, tone)
        for axis in range(1, self.color.ndim):
            self.color = self.color.repeat(self.finer, axis=axis)
        self.height = np.zeros(self.lattice.shape, dtype=np.float32)

    def paint(self, tag: str, strokes: Strokes) -> None:
        """Cover the canvas with a layer of strokes; later strokes hide earlier ones."""
        n, shape = self.lattice.ndim, np.array(self.lattice.shape)
        rng = self.lattice.rng(tag)
        half_length = strokes.length / self.lattice.step / 2
        half_width = max(strokes.width / self.lattice.step / 2, 0.75)
        round_ = half_length <= half_width
        steps = 1 if round_ else 2 * math.ceil(half_length / _SPACING) + 1
        offsets = _ball(n if round_ else n - 1, half_width)
        points = steps * len(offsets)
        count = max(
            1, round(strokes.coverage * math.prod(self.lattice.shape) / points / _SPACING**n)
        )
        seeds = (rng.random((count, n), dtype=np.float32) * shape).astype(np.float32)
        size = rng.uniform(0.7, 1.3, count).astype(np.float32)
        # A margin takes the paint beyond the edge, which saves a test of every point.
        margin = math.ceil(half_length + 1.4 * half_width) + 2
        top = np.full(shape + 2 * margin, -1, dtype=np.int64)
        path, heading = self._streamlines(seeds, steps)
        u = np.linspace(-1, 1, steps, dtype=np.float32) if steps > 1 else np.zeros(1)
        taper = np.sqrt(np.clip(1.03 - u**4, 0, 1)).astype(np.float32) * np.float32(half_width)
        chunk = max(1, _CHUNK // points)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            across = np.eye(n, dtype=np.float32)[None, None] if round_ else _frame(heading[part])
            radius = taper * size[part, None]  # (strokes, steps)
            index = np.zeros((*radius.shape, len(offsets)), dtype=np.int64)
            for axis in range(n):
                positions = (
                    across[..., axis] * radius[..., None]
                ) @ offsets.T  # (strokes, steps, offsets)
                positions += path[part, :, None, axis] + np.float32(margin)
                index *= top.shape[axis]
                index += positions.astype(np.int64)
            # For repeated indices numpy keeps the last value: later strokes lie on top.
            top.reshape(-1)[index.ravel()] = np.arange(index.size) + start * points
        core = tuple(slice(margin, margin + extent) for extent in shape)
        self._apply(top[core].ravel(), seeds, rng, steps, offsets, strokes)

    def _apply(
        self,
        top: NDArray[np.int64],
        seeds: Array,
        rng: np.random.Generator,
        steps: int,
        offsets: Array,
        strokes: Strokes,
    ) -> None:
        """Colour the samples by their topmost paint point; −1 stands for none."""
        pixels = np.flatnonzero(top >= 0)
        number = top[pixels]
        stroke = number // (steps * len(offsets))
        point = number - stroke * (steps * len(offsets))
        step = point // len(offsets)
        across = point - step * len(offsets)
        # Bristles: stripes along the stroke that fade in and out, different for each stroke.
        stripes = rng.standard_normal((_KINDS, 1, len(offsets)), dtype=np.float32)
        drift = rng.standard_normal((_KINDS, steps, 1), dtype=np.float32).cumsum(axis=1)
        fade = np.sin(drift * np.float32(0.25) + rng.random((_KINDS, 1, 1), dtype=np.float32) * 6)
        bristles = (stripes * (0.7 + 0.3 * fade)).reshape(_KINDS, -1).astype(np.float32)
        bristle = bristles[stroke % _KINDS, point]
        # Paint is pushed up in the middle and piles up towards the end of the stroke.
        edge = np.linalg.norm(offsets, axis=1).astype(np.float32) ** 3
        u = np.linspace(0, 0.2, steps, dtype=np.float32) if steps > 1 else np.zeros(1, np.float32)
        height = self.height.reshape(-1)
        profile = 0.9 - 0.35 * edge[across] + u[step] + 0.16 * bristle
        height[pixels] = 0.35 * height[pixels] + np.float32(strokes.strength) * profile

        tone = self.tone[self._motif(seeds)] + strokes.spread * rng.standard_normal(len(seeds))
        tone = np.where(rng.random(len(seeds)) < strokes.accents, 1 - tone, tone)
        paint = ramp(self.palette, tone.astype(np.float32))
        tint = 1 + np.float32(0.07) * bristle
        for channel, pigment in zip(self.color, paint, strict=True):
            channel.reshape(-1)[pixels] = pigment[stroke] * tint

    def _motif(self, positions: Array) -> tuple[NDArray[np.int64], ...]:
        """Convert positions ``(n, N)`` on the canvas to indices of the motif."""
        last = np.array(self.tone.shape) - 1
        return tuple((positions / self.finer).astype(np.int64).clip(0, last).T)

    def _streamlines(self, seeds: Array, steps: int) -> tuple[Array, Array]:
        """Follow the flow through the seeds: paths ``(n, steps, N)`` and their directions."""
        path = np.empty((len(seeds), steps, seeds.shape[1]), dtype=np.float32)
        heading = np.empty_like(path)
        half = steps // 2
        for sign in (1, -1):
            positions = seeds.copy()
            for k in range(half + 1):
                direction = np.stack([v[self._motif(positions)] for v in self.flow], axis=-1)
                path[:, half + sign * k] = positions
                heading[:, half + sign * k] = direction
                positions += np.float32(sign * _SPACING) * direction
        return path, heading

    def relief(self, amount: float) -> Array:
        """Light the canvas from the start of every axis, so that thick paint shows relief."""
        slope = np.zeros(self.lattice.shape, dtype=np.float32)
        for axis, n in enumerate(self.lattice.shape):
            if n > 1:
                slope += np.gradient(self.height, axis=axis)
        slope *= np.float32(amount / math.sqrt(self.lattice.ndim))
        shade = np.clip(slope, -0.5, 0.5)
        gloss = 0.12 * np.maximum(shade, 0)
        lit = np.clip(self.color * (1 + shade) + gloss, 0, 1)
        return reduce_blocks(lit.astype(np.float32), self.finer)


def _ball(ndim: int, radius: float) -> Array:
    """Offsets in the unit ball of ``ndim`` dimensions, dense for ``radius`` samples."""
    count = math.ceil(2 * radius / _SPACING)
    line = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * (2 / count) - 1
    corners = list(itertools.product(line, repeat=ndim))  # ndim 0: one empty offset
    points = np.array(corners, dtype=np.float32).reshape(len(corners), ndim)
    inside: Array = points[np.linalg.norm(points, axis=1) <= 1]
    return inside


def _frame(heading: Array) -> Array:
    """Orthonormal vectors across unit directions, ``(..., N) -> (..., N − 1, N)``.

    The Householder reflection that maps the last axis to ±heading maps the others across it.
    """
    n = heading.shape[-1]
    w = heading.copy()
    w[..., -1] += np.where(w[..., -1] < 0, -1, 1)
    w /= np.linalg.norm(w, axis=-1, keepdims=True)
    eye = np.eye(n, dtype=np.float32)[:-1]
    return np.asarray(eye - 2 * w[..., :-1, None] * w[..., None, :], dtype=np.float32)
