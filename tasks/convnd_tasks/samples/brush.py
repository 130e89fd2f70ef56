"""Brush strokes in any dimension: ribbons of paint laid along the streamlines of a flow."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnd_tasks.samples.fields import Array, Lattice, ramp, reduce_blocks

__all__ = ["Canvas", "Touch"]

_CHUNK = 1_000_000  # paint points at once; bounds the memory
_SPACING = 0.72  # of paint points, in samples: close enough to leave next to no holes
_KINDS = 64  # different patterns of bristles


@dataclass(frozen=True, kw_only=True)
class Touch:
    """One layer of strokes of similar size.

    Args:
        length: in units of the lattice; 0 gives round dabs.
        width: likewise.
        coverage: area of all strokes over the area of the canvas.
        spread: standard deviation of a stroke's tone about the tone at its middle.
        accents: fraction of strokes that take the opposite tone.
        strength: height of the paint.
    """

    length: float
    width: float
    coverage: float
    spread: float
    accents: float = 0.0
    strength: float = 1.0


class Canvas:
    """Paint on a grid: a colour and a height of paint at every sample.

    In 1-D and 2-D the paint has twice the samples per axis of the motif, for smooth outlines;
    above, that would cost too much.

    Args:
        lattice: where.
        tone: ``(*S)`` in ``[0, 1]``, the motif that is painted.
        flow: ``(N, *S)`` unit vectors that the strokes follow.
        palette: ``(K, C)`` colours from tone 0 to tone 1.
    """

    def __init__(self, lattice: Lattice, tone: Array, flow: Array, palette: Array) -> None:
        self.tone, self.flow, self.palette = tone, flow, palette
        self.finer = 2 if lattice.ndim <= 2 else 1
        self.lattice = lattice.finer(self.finer)
        self.colour = ramp(palette, tone)
        for axis in range(1, self.colour.ndim):
            self.colour = self.colour.repeat(self.finer, axis=axis)
        self.height = np.zeros(self.lattice.shape, dtype=np.float32)

    def lay(self, tag: str, touch: Touch) -> None:
        """Cover the canvas with a layer of strokes; later strokes hide earlier ones."""
        n, shape = self.lattice.ndim, np.array(self.lattice.shape)
        rng = self.lattice.rng(tag)
        half_length = touch.length / self.lattice.step / 2
        half_width = max(touch.width / self.lattice.step / 2, 0.75)
        round_ = half_length <= half_width
        steps = 1 if round_ else 2 * math.ceil(half_length / _SPACING) + 1
        offsets = _ball(n if round_ else n - 1, half_width)
        points = steps * len(offsets)
        count = max(1, round(touch.coverage * math.prod(self.lattice.shape) / points / _SPACING**n))
        seeds = (rng.random((count, n), dtype=np.float32) * shape).astype(np.float32)
        size = rng.uniform(0.7, 1.3, count).astype(np.float32)
        # A margin takes the paint that goes over the edge, which saves asking at every point.
        margin = math.ceil(half_length + 1.4 * half_width) + 2
        top = np.full(shape + 2 * margin, -1, dtype=np.int64)
        chunk = max(1, _CHUNK // points)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            path, heading = self._streamlines(seeds[part], steps)
            across = np.eye(n, dtype=np.float32)[None, None] if round_ else _frame(heading)
            u = np.linspace(-1, 1, steps, dtype=np.float32) if steps > 1 else np.zeros(1)
            taper = np.sqrt(np.clip(1.03 - u**4, 0, 1)).astype(np.float32) * np.float32(half_width)
            radius = taper * size[part, None]  # (strokes, steps)
            index = np.zeros((*path.shape[:2], len(offsets)), dtype=np.int64)
            for axis in range(n):
                at = (
                    across[..., axis] * radius[..., None]
                ) @ offsets.T  # (strokes, steps, offsets)
                at += path[:, :, None, axis] + np.float32(margin)
                index *= top.shape[axis]
                index += at.astype(np.int64)
            # Of repeated indices numpy keeps the last: later strokes lie on top.
            top.reshape(-1)[index.ravel()] = np.arange(index.size) + start * points
        core = tuple(slice(margin, margin + extent) for extent in shape)
        self._apply(top[core].ravel(), seeds, rng, steps, offsets, touch)

    def _apply(
        self,
        top: NDArray[np.int64],
        seeds: Array,
        rng: np.random.Generator,
        steps: int,
        offsets: Array,
        touch: Touch,
    ) -> None:
        """Colour the samples whose topmost paint point is known; −1 stands for none."""
        painted = np.flatnonzero(top >= 0)
        stroke, point = np.divmod(top[painted], steps * len(offsets))
        along, across = np.divmod(point, len(offsets))
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
        profile = 0.9 - 0.35 * edge[across] + u[along] + 0.16 * bristle
        height[painted] = 0.35 * height[painted] + np.float32(touch.strength) * profile

        tone = self.tone[self._motif(seeds)] + touch.spread * rng.standard_normal(len(seeds))
        tone = np.where(rng.random(len(seeds)) < touch.accents, 1 - tone, tone)
        paint = ramp(self.palette, tone.astype(np.float32))
        tint = 1 + np.float32(0.07) * bristle
        for channel, pigment in zip(self.colour, paint, strict=True):
            channel.reshape(-1)[painted] = pigment[stroke] * tint

    def _motif(self, at: Array) -> tuple[NDArray[np.int64], ...]:
        """Index into the motif of positions ``(n, N)`` on the canvas."""
        last = np.array(self.tone.shape) - 1
        return tuple((at / self.finer).astype(np.int64).clip(0, last).T)

    def _streamlines(self, seeds: Array, steps: int) -> tuple[Array, Array]:
        """Paths ``(n, steps, N)`` through the seeds along the flow, and their directions."""
        path = np.empty((len(seeds), steps, seeds.shape[1]), dtype=np.float32)
        heading = np.empty_like(path)
        half = steps // 2
        for sign in (1, -1):
            at = seeds.copy()
            for k in range(half + 1):
                direction = np.stack([v[self._motif(at)] for v in self.flow], axis=-1)
                path[:, half + sign * k] = at
                heading[:, half + sign * k] = direction
                at += np.float32(sign * _SPACING) * direction
        return path, heading

    def lit(self, amount: float) -> Array:
        """The canvas under light from the start of every axis: thick paint casts relief."""
        slope = np.zeros(self.lattice.shape, dtype=np.float32)
        for axis, n in enumerate(self.lattice.shape):
            if n > 1:
                slope += np.gradient(self.height, axis=axis)
        slope *= np.float32(amount / math.sqrt(self.lattice.ndim))
        shade = np.clip(slope, -0.5, 0.5)
        gloss = 0.12 * np.maximum(shade, 0)
        lit = np.clip(self.colour * (1 + shade) + gloss, 0, 1)
        return reduce_blocks(lit.astype(np.float32), self.finer)


def _ball(ndim: int, radius: float) -> Array:
    """Offsets that fill the unit ball of ``ndim`` dimensions densely for ``radius`` samples."""
    count = math.ceil(2 * radius / _SPACING)
    line = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * (2 / count) - 1
    corners = list(itertools.product(line, repeat=ndim))  # ndim 0: one empty offset
    points = np.array(corners, dtype=np.float32).reshape(len(corners), ndim)
    inside: Array = points[np.linalg.norm(points, axis=1) <= 1]
    return inside


def _frame(heading: Array) -> Array:
    """Orthonormal vectors across unit directions, ``(..., N) -> (..., N − 1, N)``.

    The Householder reflection that takes the last axis to ±heading takes the others across it.
    """
    n = heading.shape[-1]
    w = heading.copy()
    w[..., -1] += np.where(w[..., -1] < 0, -1, 1)
    w /= np.linalg.norm(w, axis=-1, keepdims=True)
    eye = np.eye(n, dtype=np.float32)[:-1]
    return np.asarray(eye - 2 * w[..., :-1, None] * w[..., None, :], dtype=np.float32)
