"""A CT phantom of a chest in Hounsfield units, reconstructed with several kernels.

Axes are ``(x, y, z)`` towards the patient's right, front and head (the orientation RAS+ of NIfTI).
Lengths are in mm. The field of view is constant, so ``size`` determines the spacing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from convnd_tasks.samples.fields import Array, Lattice, smoothstep
from convnd_tasks.samples.reconstruction import LOW_DOSE, SHARP, SOFT, STANDARD, Kernel, reconstruct
from convnd_tasks.samples.sample import Maker, Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["CONTENTS", "FIELD_OF_VIEW", "STYLES", "matching_size"]

FIELD_OF_VIEW = (380.0, 380.0, 280.0)  # mm
_MIN_VOXELS, _MAX_VOXELS = 96 * 96 * 64, 2**23  # the maximum takes 1 GiB and 5 s
_CENTRE = (190.0, 200.0, 0.0)  # mm from the corner of the field of view to x = y = z = 0

_Point: TypeAlias = tuple[float, float, float]


# Initial directions of the vessels of a lung: outwards, to the front, to the head.
_LOBES = (
    (0.9, 0.0, 0.4),
    (0.4, 0.6, 0.6),
    (0.5, -0.7, 0.5),
    (0.3, -0.1, 1.0),
    (0.7, 0.6, -0.6),
    (0.4, -0.7, -0.7),
    (0.8, -0.2, -0.6),
)


def matching_size(spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    """Choose the extent of a phantom that serves as style of a scan.

    The voxels have the size of the scan's, or only their proportions if there would be too many.
    The noise of a kernel has a scale of about a millimetre, which coarser voxels cannot represent.

    Args:
        spacing: spacing of the scan in mm, towards right, front and head.
        voxels: number of voxels of the scan; the phantom has at most sixteen times as many.

    >>> matching_size((0.75, 0.75, 5.0), 512 * 512 * 60), matching_size((1.5, 1.5, 2.0), 20**3)
    ((423, 423, 47), (102, 102, 56))
    """
    size = [
        min(512.0, max(32.0, field / step))
        for field, step in zip(FIELD_OF_VIEW, spacing, strict=True)
    ]
    factor = (min(_MAX_VOXELS, max(_MIN_VOXELS, 16 * voxels)) / math.prod(size)) ** (1 / 3)
    return tuple(max(16, round(extent * min(1.0, factor))) for extent in size)


class _Volume:
    """HU values on a grid in mm, filled by solids with soft edges; later solids replace earlier."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.lattice = Lattice(shape, seed)
        self.spacing = tuple(f / n for f, n in zip(FIELD_OF_VIEW, shape, strict=True))
        axes = [
            ((np.arange(n) + 0.5) * s - c).astype(np.float32)
            for n, s, c in zip(shape, self.spacing, _CENTRE, strict=True)
        ]
        self.x, self.y, self.z = np.meshgrid(*axes, indexing="ij", sparse=True)
        # Width of an edge in mm: a voxel contains a mixture (the partial volume effect).
        self.edge = float(np.prod(self.spacing)) ** (1 / 3)
        self.hu = np.full(shape, -1000, dtype=np.float32)

    def noise(self, tag: str, millimetres: float, octaves: int = 3) -> Array:
        """Make noise of unit variance whose structures are about ``millimetres`` wide."""
        scale = [millimetres / s * self.lattice.step for s in self.spacing]
        return self.lattice.fbm(tag, scale, octaves, 0.6)

    def inside(self, depth: Array) -> Array:
        """Convert depths in mm below a surface to the coverage of the voxels."""
        coverage: Array = np.clip(depth / np.float32(self.edge) + np.float32(0.5), 0, 1)
        return coverage

    def fill(self, depth: Array, hu: Array | float) -> None:
        """Fill where ``depth`` (mm) is positive."""
        self.hu += self.inside(depth) * (hu - self.hu)

    def ball(self, centre: _Point, radii: _Point) -> Array:
        """Compute the depth in mm below the surface of an ellipsoid.

        It is exact for a ball, and near the surface.
        """
        parts = [
            (a - c) / r for a, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True)
        ]
        depth: Array = 1 - np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
        return depth * min(radii)

    def tube(
        self, points: Sequence[_Point], radius: float, hu: float, within: Array | None = None
    ) -> None:
        """Fill a tube along a line of points.

        Args:
            points: corners of the line in mm.
            radius: in mm.
            hu: value of the tube.
            within: mask ``(X, Y, Z)`` that the tube is confined to; None is the whole volume.
        """
        for a, b in itertools.pairwise(points):
            reach = radius + 2 * self.edge
            box = tuple(
                _span(min(p, q) - reach, max(p, q) + reach, c, s, n)
                for p, q, c, s, n in zip(a, b, _CENTRE, self.spacing, self.hu.shape, strict=True)
            )
            part = self.hu[box]
            if part.size == 0:
                continue
            d = [q - p for p, q in zip(a, b, strict=True)]
            length2 = max(sum(v * v for v in d), 1e-6)
            x, y, z = self.x[box[0]] - a[0], self.y[:, box[1]] - a[1], self.z[..., box[2]] - a[2]
            t = np.clip((x * d[0] + y * d[1] + z * d[2]) / length2, 0, 1)
            distance = np.sqrt((x - t * d[0]) ** 2 + (y - t * d[1]) ** 2 + (z - t * d[2]) ** 2)
            mask = self.inside(radius - distance)
            if within is not None:
                mask = mask * within[box]
            part += mask * (hu - part)


def _span(low: float, high: float, centre: float, spacing: float, n: int) -> slice:
    first = min(max(math.floor((low + centre) / spacing), 0), n)
    return slice(first, max(first, min(math.ceil((high + centre) / spacing), n)))


def _chest(shape: tuple[int, ...], seed: int) -> _Volume:
    """Body, lungs with vessels and airways, heart, great vessels, bones, liver and table."""
    v = _Volume(shape, seed)
    x, y, z = v.x, v.y, v.z
    rng = v.lattice.rng("patient")
    build = 1 + 0.04 * float(rng.standard_normal())

    _fill_couch(v)
    shoulder = smoothstep(190.0, 290.0, z)
    wide, deep = (162 + 18 * shoulder) * build, (122 - 8 * shoulder) * build
    wobble = v.noise("outline", 150.0, 2)
    body = (1 - ((np.abs(x) / wide) ** 2.4 + (np.abs(y) / deep) ** 2.4) ** (1 / 2.4)) * deep
    body = body + 2.0 * wobble
    # Inside of the rib cage, narrower towards the neck.
    taper = np.sqrt(np.clip(1 - (np.maximum(z - 90, 0) / 205) ** 2, 0.02, 1))
    ca, cb = 134 * build * taper, 90 * build * (0.35 + 0.65 * taper)
    cage = (1 - np.sqrt((x / ca) ** 2 + ((y + 4) / cb) ** 2)) * np.minimum(ca, cb)
    muscle = v.noise("muscle", 9.0)
    v.fill(body, 20.0)
    v.fill(body - 2.5, -105 + 8 * muscle)
    v.fill(
        np.minimum(body - 13 - 4 * wobble, cage + 26 + 6 * v.noise("wall", 40.0)), 52 + 9 * muscle
    )
    v.fill(cage + 14 + 2 * v.noise("pad", 20.0, 2), -60 + 60 * muscle)
    v.fill(cage + 9, 45 + 10 * muscle)
    # Mediastinum and abdomen: fat with soft tissue in it.
    v.fill(cage + 1, -85 + 130 * smoothstep(-0.2, 0.5, v.noise("viscera", 22.0)))

    floor = _fill_abdomen(v, cage, muscle)
    heart = v.ball((-24.0, 22.0, 100.0), (64.0, 48.0, 50.0))
    medial = 26 + 10 * smoothstep(150.0, 90.0, z) + 5 * np.sin(z / 21) - 0.1 * (y + 60)
    lungs = np.minimum(cage - 2, z - floor - 4)
    lungs = np.minimum(lungs, np.abs(x + 4) - medial)
    lungs = np.minimum(lungs, -heart - 4)
    gravity = -862 + 40 * smoothstep(30.0, -90.0, y)
    v.fill(lungs, gravity + 14 * v.noise("lung", 14.0, 4))
    air = v.inside(lungs - 1)

    v.fill(heart, -80.0)
    v.fill(heart - 4, 58.0)
    for centre, radii in (
        ((-46.0, 14.0, 92.0), (24.0, 20.0, 28.0)),
        ((-4.0, 34.0, 98.0), (26.0, 18.0, 30.0)),
        ((-10.0, 0.0, 122.0), (28.0, 16.0, 16.0)),
    ):
        v.fill(v.ball(centre, radii), 40.0)
    _vessels(v, air, rng)
    _bones(v, cage, body, muscle)
    return v


def _fill_couch(v: _Volume) -> None:
    """Fill the couch: a carbon shell around foam."""
    x, y, z = v.x, v.y, v.z
    couch = 420.0 - np.sqrt(x**2 + (y - 284) ** 2) + 0 * z
    within_couch = np.minimum(np.minimum(couch, -y - 118), 170 - np.abs(x) + 0 * y)
    v.fill(within_couch, -60.0)
    v.fill(within_couch - 3, -930.0)


def _fill_abdomen(v: _Volume, cage: Array, muscle: Array) -> Array:
    """Fill liver, spleen and stomach; return the height of the diaphragm."""
    x, y, z = v.x, v.y, v.z
    floor = np.full((1, 1, 1), 0.0, dtype=np.float32)
    for side in (-1, 1):
        dome = np.clip(1 - ((x - side * 68) / 88) ** 2 - ((y - 4) / 100) ** 2, 0, 1)
        floor = np.maximum(floor, (62 + 6 * side) * np.sqrt(dome) + 14)
    belly = np.minimum(cage - 3, floor - z)
    v.fill(belly, -90 + 20 * muscle)
    liver = np.minimum(belly - 4, (x + 50) * 0.8 + 0.1 * z)
    v.fill(liver, 58 + 4 * muscle)
    v.fill(np.minimum(v.ball((-92.0, -42.0, 30.0), (32.0, 40.0, 38.0)), belly - 3), 50.0)
    stomach = np.minimum(v.ball((-62.0, 34.0, 22.0), (42.0, 34.0, 34.0)), belly - 5)
    v.fill(stomach, 35.0)
    v.fill(np.minimum(stomach - 3, y - 42), -980.0)
    return floor


def _vessels(v: _Volume, air: Array, rng: np.random.Generator) -> None:
    """Aorta, pulmonary trunk, caval vein, airways, and a tree of vessels in each lung."""
    aorta = [
        (4.0, 12.0, 128.0),
        (14.0, 22.0, 165.0),
        (4.0, 6.0, 192.0),
        (-16.0, -22.0, 194.0),
        (-24.0, -42.0, 176.0),
        (-22.0, -44.0, 90.0),
        (-10.0, -40.0, 0.0),
    ]
    v.tube(aorta, 13.0, 45.0)
    v.tube([(-12.0, 34.0, 130.0), (-12.0, 18.0, 158.0), (-30.0, -8.0, 152.0)], 12.0, 44.0)
    v.tube([(-10.0, 14.0, 156.0), (34.0, -4.0, 150.0)], 10.0, 44.0)
    v.tube([(30.0, 14.0, 110.0), (27.0, 12.0, 215.0), (24.0, 8.0, 280.0)], 8.5, 42.0)
    for top in ((26.0, 12.0), (-2.0, -8.0), (-22.0, -6.0)):
        v.tube([(top[0] * 0.4, -4.0, 196.0), (*top, 280.0)], 5.0, 45.0)
    for side in (1, -1):
        hilum = (34.0 * side - 4, -8.0, 140.0)
        twigs = [
            (hilum, np.array([side * across, front, up]), 6.0, 30.0) for across, front, up in _LOBES
        ]
        for generation in range(7):
            grown = []
            for start, heading, radius, length in twigs:
                for _ in range(2 if generation else 1):
                    d = heading + 0.48 * rng.standard_normal(3)
                    d /= np.linalg.norm(d)
                    end = tuple(float(s + length * k) for s, k in zip(start, d, strict=True))
                    tip = (end[0], end[1], end[2])
                    v.tube([start, tip], max(radius, 1.3), 40.0, air)
                    grown.append((tip, d, radius * 0.76, length * 0.82))
            twigs = grown
    for wall, hu in ((2.0, 30.0), (0.0, -995.0)):
        v.tube([(0.0, -14.0, 300.0), (2.0, -18.0, 172.0)], 8.5 + wall, hu)
        for side in (1, -1):
            v.tube([(2.0, -18.0, 172.0), (36.0 * side, -14.0, 146.0)], 6.0 + wall, hu)
            v.tube([(36.0 * side, -14.0, 146.0), (58.0 * side, -22.0, 112.0)], 3.2 + wall / 2, hu)


def _bones(v: _Volume, cage: Array, body: Array, muscle: Array) -> None:
    """Ribs, spine, breastbone and shoulder blades: dense shells around marrow."""
    x, y, z = v.x, v.y, v.z
    marrow = 190 + 45 * muscle
    # Ribs slope down towards the front; cartilage continues them to the breastbone.
    phase = (z + 0.36 * y) / 27.0
    across = (phase - np.floor(phase) - 0.5) * 27.0
    rib = 1 - np.sqrt(((cage + 5) / 5.5) ** 2 + (across / 6.5) ** 2)
    rib = np.minimum(rib * 5.5, np.minimum(np.abs(x) - 10, 252 - z) + 0 * y)
    v.fill(rib, np.where(y > 62, 130.0, 760.0))
    v.fill(np.minimum(rib - 2.2, 60 - y), marrow + 60)

    level = z / 25.0
    disc = (level - np.floor(level) - 0.5) * 25.0
    vertebra = 17.5 - np.sqrt(x**2 + (1.15 * (y + 66)) ** 2) - 1.5 * np.cos(disc / 4)
    v.fill(vertebra, 85.0 + 0 * z)
    bone = np.minimum(vertebra, 10.3 - np.abs(disc))
    v.fill(bone, 640.0)
    v.fill(bone - 2.2, marrow + 30)
    arch = np.minimum(14.5 - np.sqrt(x**2 + (y + 90) ** 2), 8.5 - np.abs(disc + 2))
    v.fill(arch, 560.0)
    wings = np.minimum(5 - np.abs(y + 86 + 0.25 * np.abs(x)), 5 - np.abs(disc - 1))
    v.fill(np.minimum(wings, 32 - np.abs(x) + 0 * z), 520.0)
    spine = np.minimum(4 - np.abs(x), 7 - np.abs(disc + 5 - 0.3 * (y + 104)))
    spine = np.minimum(spine, np.minimum(-y - 98, y + 124) + 0 * x)
    v.fill(np.minimum(spine, body - 6), 560.0)
    v.fill(9.0 - np.sqrt(x**2 + (y + 90) ** 2) + 0 * z, 28.0)

    sternum = np.minimum(19 - np.abs(x), 6 - np.abs(cage + 8))
    sternum = np.minimum(np.minimum(sternum, y - 20), np.minimum(z - 95, 225 - z))
    v.fill(sternum, 480.0)
    v.fill(sternum - 2.5, marrow)
    blade = np.minimum(4 - np.abs(cage + 19), np.minimum(np.abs(x) - 62, -18 - y))
    blade = np.minimum(np.minimum(blade, z - 165), body - 12)
    v.fill(blade, 620.0)


def _maker(kernel: Kernel) -> Maker:
    def make(shape: tuple[int, ...], seed: int, /) -> Grid:
        volume = _chest(shape, seed)
        # Fewer photons pass the middle of the body and the shoulders.
        load = 0.75 + 0.5 * np.exp(-(volume.x**2 + volume.y**2) / 110**2)
        rng = volume.lattice.rng("quantum")
        hu = reconstruct(volume.hu, volume.spacing, kernel, load, rng)
        return as_grid(hu[None], spacing=volume.spacing, channels=("HU",))

    return make


_SIZE = {3: (96, 96, 64)}
CONTENTS: dict[str, Sample] = {
    "chest": Sample(make=_maker(STANDARD), summary="CT phantom of a chest, HU", sizes=_SIZE)
}
STYLES: dict[str, Sample] = {
    "sharp": Sample(make=_maker(SHARP), summary="chest CT, sharp kernel, HU", sizes=_SIZE),
    "soft": Sample(make=_maker(SOFT), summary="chest CT, soft kernel, HU", sizes=_SIZE),
    "lowdose": Sample(make=_maker(LOW_DOSE), summary="chest CT, low dose, HU", sizes=_SIZE),
}
