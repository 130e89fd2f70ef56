"""Procedural fields of any rank for training, each with the numbers that made it.

Diversity matters more than realism. `FAMILIES` holds very different processes (coloured noise,
trains of pulses, steps, waves, veins, cells, bursts), with the same code for one, two or three
axes. An example is a mixture: one process for its structure, a weaker one for its texture, white
noise, and finally a nonlinear curve of the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]
PARAMETERS = 3
"""Numbers in [0, 1] that each process has."""
GAIN = 7.0
"""Brings the usual contrast of values to a deviation of about 1."""


@dataclass(frozen=True)
class Example:
    """One field ``(*S)`` and the numbers that made it.

    Args:
        values: ``(*S)`` around 0.5, most of them in ``[0, 1]``.
        structure: ``(*S)``, the first process alone, in the values' units times `GAIN`.
        families: indices of both processes in `FAMILIES`.
        parameters: the parameters of both processes, ``(2, PARAMETERS)``.
        shares: standard deviations of texture and white noise over that of the structure.
    """

    values: Array
    structure: Array
    families: tuple[int, int]
    parameters: Array
    shares: Array


def _radius(shape: Shape) -> Array:
    """Frequency in cycles per sample for each coefficient of ``rfftn``."""
    axes = [np.fft.fftfreq(extent) for extent in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    squares = np.meshgrid(*(axis**2 for axis in axes), indexing="ij")
    return np.asarray(np.sqrt(sum(squares)), dtype=np.float32)


def _shaped(shape: Shape, rng: np.random.Generator, gain: Array) -> Array:
    spectrum = np.fft.rfftn(rng.standard_normal(shape, dtype=np.float32)) * gain
    return np.asarray(np.fft.irfftn(spectrum, s=shape, axes=range(len(shape))), dtype=np.float32)


def _unit(values: Array) -> Array:
    centred = values - values.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-6), dtype=np.float32)


def _smooth(shape: Shape, rng: np.random.Generator, period: float) -> Array:
    """Gaussian noise whose details are about ``period`` samples long."""
    return _unit(_shaped(shape, rng, np.exp(-0.5 * (_radius(shape) * period) ** 2)))


def _between(low: float, high: float, position: float) -> float:
    return float(low * (high / low) ** position)


def _power(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Noise with spectrum 1/f^b, attenuated above a frequency."""
    f = np.maximum(_radius(shape), 1 / max(shape))
    top = _between(0.05, 0.5, p[1])
    return _shaped(shape, rng, f ** (-1.8 * p[0]) * np.exp(-((f / top) ** 2) * p[2]))


def _band(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Noise in a band of frequencies."""
    middle, width = _between(0.015, 0.4, p[0]), _between(0.08, 1.0, p[1])
    f = np.maximum(_radius(shape), 1e-4)
    band = _shaped(shape, rng, np.exp(-0.5 * (np.log(f / middle) / width) ** 2))
    return np.asarray(band + p[2] * np.abs(band), dtype=np.float32)


def _sites(shape: Shape, rng: np.random.Generator, distance: float, jitter: float) -> Array:
    """Sites on a jittered lattice, ``(n, N)`` in samples."""
    lines = [np.arange(-distance * rng.random(), extent + distance, distance) for extent in shape]
    sites = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(shape))
    return np.asarray(
        sites + jitter * distance * rng.standard_normal(sites.shape), dtype=np.float32
    )


def _marks(shape: Shape, sites: Array, heights: Array) -> Array:
    field = np.zeros(shape, np.float32)
    index = np.round(sites).astype(int)
    inside = ((index >= 0) & (index < np.array(shape))).all(1)
    np.add.at(field, tuple(index[inside].T), heights[inside])
    return field


def _pulses(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Pulses with several waves at more or less regular sites: beats, grains, spots."""
    distance = _between(6, max(shape) / 2.5, p[0])
    width = _between(0.6, 0.2 * distance, p[1])
    f = _radius(shape)
    total = np.zeros(shape, np.float32)
    sites = _sites(shape, rng, distance, 0.4 * float(p[2]))
    for number in range(int(rng.integers(1, 4))):
        scale = width * float(rng.uniform(0.6, 4 if number else 1.0))
        heights = rng.normal(1, 0.15, len(sites)).astype(np.float32) * float(
            rng.choice([-1, 1]) * rng.uniform(0.2, 1.0 if number else 2.0)
        )
        shift = rng.normal(0, 0.2 * distance if number else 0.0, len(shape)).astype(np.float32)
        kernel = np.exp(-2 * (math.pi * f * scale) ** 2) * scale ** len(shape)
        if rng.random() < 0.4:  # with a dip on either side
            kernel = kernel * (f * scale) ** 2 * 20
        wave = np.fft.rfftn(_marks(shape, sites + shift, heights)) * kernel
        total += np.fft.irfftn(wave, s=shape, axes=range(len(shape))).astype(np.float32)
    return total


def _steps(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Plateaus with sharp or soft edges."""
    field = _smooth(shape, rng, _between(4, max(shape) / 3, p[0]))
    levels = 1.0 + 3 * float(p[1])
    whole = np.round(field * levels)
    soft = np.tanh((field * levels - whole) * 2) * float(p[2]) * 0.5
    return np.asarray(whole + soft, dtype=np.float32)


def _wave(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """A wave with overtones and a slowly varying phase."""
    frequency = _between(1.5 / max(shape), 0.2, p[0])
    way = _unit_vector(len(shape), rng)
    lines = np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij")
    phase = 2 * math.pi * frequency * sum(w * line for w, line in zip(way, lines, strict=True))
    phase = phase + 2.5 * float(p[2]) * _smooth(shape, rng, max(shape) / 4)
    total = np.zeros(shape)
    for overtone in range(1, 6):
        total += float(p[1]) ** (overtone - 1) * np.cos(overtone * phase + rng.uniform(0, 0.5))
    return total.astype(np.float32)


def _unit_vector(ndim: int, rng: np.random.Generator) -> Array:
    vector = rng.standard_normal(ndim)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _veins(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Lines where smooth noise changes its sign."""
    field = np.abs(_smooth(shape, rng, _between(4, max(shape) / 3, p[0])))
    sharp = np.exp(-field * _between(1, 8, p[1]))
    return np.asarray(sharp + p[2] * field, dtype=np.float32)


def _cells(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Voronoi cells, each with a value of its own and a dark wall."""
    from scipy.spatial import cKDTree

    sites = _sites(shape, rng, _between(5, max(shape) / 2.5, p[0]), 0.1 + 0.4 * float(p[1]))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))
    distances, nearest = cKDTree(sites).query(grid, k=2)
    wall = np.exp(-np.maximum(distances[:, 1] - distances[:, 0], 0) / 1.5)
    label = rng.standard_normal(len(sites))[nearest[:, 0]]
    return np.asarray((label * (1 - p[2]) - 2 * p[2] * wall).reshape(shape), dtype=np.float32)


def _bursts(shape: Shape, rng: np.random.Generator, p: Array) -> Array:
    """Noise in bursts."""
    envelope = np.exp(1.6 * float(p[1]) * _smooth(shape, rng, _between(8, max(shape) / 2, p[0])))
    fine = _shaped(shape, rng, np.exp(-((_radius(shape) / _between(0.1, 0.5, p[2])) ** 2)))
    return np.asarray(_unit(fine) * envelope, dtype=np.float32)


FAMILIES: tuple[Callable[[Shape, np.random.Generator, Array], Array], ...] = (
    _power, _band, _pulses, _steps, _wave, _veins, _cells, _bursts,
)  # fmt: skip


def example(shape: Shape, rng: np.random.Generator) -> Example:
    """Draws one example.

    Args:
        shape: samples along each axis.
        rng: the only source of randomness.

    >>> example((64,), np.random.default_rng(0)).values.shape
    (64,)
    """
    families = (int(rng.integers(len(FAMILIES))), int(rng.integers(len(FAMILIES))))
    parameters = rng.random((2, PARAMETERS), dtype=np.float32)
    structure, texture = (
        _unit(FAMILIES[family](shape, rng, p))
        for family, p in zip(families, parameters, strict=True)
    )
    shares = np.array([rng.random() ** 1.5 * 0.8, rng.random() ** 3 * 0.5], np.float32)
    mixed = structure + shares[0] * texture
    mixed = _unit(mixed + shares[1] * rng.standard_normal(shape, dtype=np.float32))
    contrast = _between(0.04, 0.3, float(rng.random())) * float(rng.choice([-1, 1]))
    bent = contrast * _unit(np.sinh(mixed * np.float32(rng.uniform(0.01, 0.6))))
    structure = GAIN * contrast * structure
    values = 0.5 + 0.12 * rng.standard_normal() + bent
    return Example(values.astype(np.float32), structure, families, parameters, shares)
