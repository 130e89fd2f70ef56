"""Fields of any rank: coordinates, noise, flow and interpolation from one seed.

The shortest side has length 1 by default, whatever the number of samples. A larger ``size``
therefore shows the same picture in finer detail. The time of every function is linear in the
number of samples.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Lattice", "curl_flow", "interpolate", "ramp", "reduce_blocks", "smoothstep"]

Array: TypeAlias = NDArray[np.floating[Any]]
"""float32 throughout; arithmetic with a Python number does not widen it."""

# Mean of the sum of squared cubic B-spline weights over a cell, 151/315 per axis: division by its
# root gives noise of unit variance at every rank and size.
_SPLINE_POWER = 151 / 315


@dataclass(frozen=True)
class Lattice:
    """Positions of the samples of a field, and the seed of its random numbers.

    Args:
        shape: extent along each axis, in samples; any rank.
        seed: determines every draw together with ``tag`` arguments; no global state changes.
        view: length of the shortest side; smaller values show larger structures.

    >>> Lattice((4, 8), seed=0).extent
    (1.0, 2.0)
    """

    shape: tuple[int, ...]
    seed: int
    view: float = 1.0

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def step(self) -> float:
        """Distance between two samples."""
        return self.view / min(self.shape)

    @property
    def extent(self) -> tuple[float, ...]:
        """Length of each axis."""
        return tuple(n * self.step for n in self.shape)

    def rng(self, tag: str, index: int = 0) -> np.random.Generator:
        """Make the random generator for one purpose, independent of the draws for others.

        Args:
            tag: name of the purpose.
            index: number of the generator among those of the same purpose.
        """
        return np.random.default_rng([self.seed, zlib.crc32(tag.encode()), index])

    def coords(self) -> list[Array]:
        """Return the sample centres along each axis, as an open mesh that broadcasts to ``shape``.

        >>> [c.shape for c in Lattice((2, 3), seed=0).coords()]
        [(2, 1), (1, 3)]
        """
        axes = [(np.arange(n, dtype=np.float32) + np.float32(0.5)) * self.step for n in self.shape]
        return list(np.meshgrid(*axes, indexing="ij", sparse=True))

    def finer(self, factor: int) -> Lattice:
        """Return the same field of view with ``factor`` times the samples per axis."""
        return Lattice(tuple(n * factor for n in self.shape), self.seed, self.view)

    def noise(self, tag: str, scale: float | Sequence[float], index: int = 0) -> Array:
        """Make smooth noise of zero mean and unit variance: cubic B-splines over random knots.

        Args:
            tag: name of the field; fields of different tags are independent.
            scale: distance between knots, one number for all axes or one for each; at least one
                sample.
            index: number of the octave.

        Returns:
            ``(*S)``.
        """
        rng = self.rng(tag, index)
        axis_scales = [scale] * self.ndim if isinstance(scale, int | float) else scale
        scales = [max(float(s), self.step) for s in axis_scales]  # finer knots would be invisible
        phase = rng.random(self.ndim)
        knots = [
            math.floor(length / s + p) + 5
            for length, s, p in zip(self.extent, scales, phase, strict=True)
        ]
        field = rng.standard_normal(knots, dtype=np.float32)
        for axis, (x, s, p) in enumerate(zip(self.coords(), scales, phase, strict=True)):
            field = _spline(field, axis, (x.ravel() / s + p).astype(np.float32))
        return field * np.float32(_SPLINE_POWER ** (-self.ndim / 2))

    def fbm(
        self,
        tag: str,
        scale: float | Sequence[float],
        octaves: int = 6,
        gain: float = 0.5,
        *,
        ridged: bool = False,
    ) -> Array:
        """Make fractal noise: octaves of `noise`, each half as large and ``gain`` times as strong.

        Octaves finer than two samples are omitted, which band-limits the field.

        Args:
            tag: name of the field.
            scale: distance between knots of the first octave.
            octaves: largest number of octaves.
            gain: amplitude ratio of successive octaves.
            ridged: fold each octave to ``1 − 2|n|``, which makes creases (ridges, veins).

        Returns:
            ``(*S)``, with a mean of about 0 and a variance of about 1.
        """
        scales = np.full(self.ndim, scale) if isinstance(scale, int | float) else np.array(scale)
        total = np.zeros(self.shape, dtype=np.float32)
        power = 0.0
        for octave in range(octaves):
            if octave > 0 and scales.min() < 2 * self.step:
                break
            layer = self.noise(tag, list(scales), octave)
            if ridged:
                layer = np.float32(1.32) - np.abs(layer) * np.float32(1.66)  # unit variance again
            total += layer * np.float32(gain**octave)
            power += gain ** (2 * octave)
            scales = scales / 2
        total /= np.float32(math.sqrt(power))
        return total


def _spline(field: Array, axis: int, positions: Array) -> Array:
    """Interpolate along one axis by cubic B-splines; positions are in knots."""
    low = np.floor(positions)
    f = positions - low
    first = low.astype(np.int64)
    weights = (
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    )
    rows = field.swapaxes(0, axis)  # whole rows are gathered faster than single numbers
    rows = np.ascontiguousarray(rows)
    out = np.zeros((positions.size, *rows.shape[1:]), dtype=np.float32)
    for j, w in enumerate(weights):
        part = rows.take(first + j, axis=0)
        part *= w.reshape(-1, *[1] * (field.ndim - 1))
        out += part
    return np.ascontiguousarray(out.swapaxes(0, axis))


def interpolate(field: Array, positions: Sequence[Array]) -> Array:
    """Interpolate a field linearly; beyond the border its values continue.

    Args:
        field: ``(C, *S)``.
        positions: positions in samples along each axis, arrays of one shape ``P``.

    Returns:
        ``(C, *P)``.

    >>> interpolate(np.arange(4, dtype=np.float32)[None], [np.array([0.5, 2.25])])
    array([[0.5 , 2.25]], dtype=float32)
    """
    size = field.shape[1:]
    lows, fractions = [], []
    for x, n in zip(positions, size, strict=True):
        x = np.clip(x, 0, n - 1)
        low = np.minimum(x.astype(np.int64), max(n - 2, 0))
        lows.append(low)
        fractions.append((x - low).astype(np.float32))
    flat = field.reshape(len(field), -1)
    out = np.zeros((len(field), *np.shape(positions[0])), dtype=np.float32)
    for corner in itertools.product((0, 1), repeat=len(size)):
        weight = np.ones((), dtype=np.float32)
        index = np.zeros((), dtype=np.int64)
        for bit, low, f, n in zip(corner, lows, fractions, size, strict=True):
            weight = weight * (f if bit else 1 - f)
            index = index * n + np.minimum(low + bit, n - 1)
        corner_values = flat.take(index, axis=1)
        corner_values *= weight
        out += corner_values
    return out


def curl_flow(lattice: Lattice, potentials: Sequence[Array], drift: float = 0.0) -> Array:
    r"""Compute a flow without sources or sinks ("curl noise"), at any rank.

    .. math:: v_a = \sum_b \partial_b A_{ab} + d_a,\qquad A_{ab} = -A_{ba}

    In 2-D this is the curl of a stream function, in 3-D the usual curl; a 1-D flow without
    sources is constant.

    Args:
        lattice: positions of the samples.
        potentials: ``A_ab`` for every pair ``a < b``, each ``(*S)``.
        drift: constant speed along the last axis.

    Returns:
        ``(N, *S)``, not normalized.
    """
    n = lattice.ndim
    v = np.zeros((n, *lattice.shape), dtype=np.float32)
    v[-1] = drift
    for (a, b), potential in zip(itertools.combinations(range(n), 2), potentials, strict=True):
        if lattice.shape[b] > 1:
            v[a] += np.gradient(potential, lattice.step, axis=b)
        if lattice.shape[a] > 1:
            v[b] -= np.gradient(potential, lattice.step, axis=a)
    return v


def ramp(stops: Array, tone: Array) -> Array:
    """Look up colours along a gradient.

    Args:
        stops: colours ``(K, C)`` at equal distances from 0 to 1.
        tone: ``(*S)``; values outside ``[0, 1]`` take the colours of the ends.

    Returns:
        ``(C, *S)``.

    >>> ramp(np.array([[0.0], [1.0]], dtype=np.float32), np.array([0.25, 2.0]))
    array([[0.25, 1.  ]], dtype=float32)
    """
    return interpolate(np.ascontiguousarray(stops.T), [np.asarray(tone) * (len(stops) - 1)])


def smoothstep(low: float, high: float, x: Array) -> Array:
    """Step smoothly from 0 below ``low`` to 1 above ``high``; ``low > high`` reverses the step."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def reduce_blocks(values: Array, factor: int) -> Array:
    """Average blocks of ``factor`` samples per axis: ``(C, *S) -> (C, *S / factor)``."""
    for axis in range(1, values.ndim):
        n = values.shape[axis] // factor
        split = (*values.shape[:axis], n, factor, *values.shape[axis + 1 :])
        values = values.reshape(split).mean(axis=axis + 1, dtype=np.float32)
    return values
