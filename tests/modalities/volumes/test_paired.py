"""Styles that are other images of the scan itself: known filters, noises, shifts and mirrors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.paired import Pair, added_noise, find_pair
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES, TissueScheme, otsu_scheme
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
SPACING = (1.0, 1.0, 1.0)
SHAPE = (28, 80, 80)


def organs(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Array:
    """Balls of lung and bone in flesh, with edges of one voxel."""
    rng = np.random.default_rng(seed)
    places = np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij", sparse=True)
    data = np.full(shape, 40.0)
    for number in range(14):
        centre, radius = rng.uniform(0, shape), rng.uniform(4, 14)
        ball = sum((axis - c) ** 2 for axis, c in zip(places, centre, strict=True)) < radius**2
        data[ball] = -820.0 if number % 3 else 400.0
    return np.asarray(ndimage.gaussian_filter(data, 0.8))


def noise(deviation: float, seed: int, width: float = 0.0) -> Array:
    field = np.random.default_rng(seed).normal(size=SHAPE)
    field = ndimage.gaussian_filter(field, width) if width else field
    return np.asarray(deviation * field / field.std())


def scan_of(values: Array) -> Scan:
    return Scan.from_values(torch.from_numpy(values.copy()).float(), SPACING)


def pair_of(content: Array, style: Array) -> Pair:
    pair = find_pair(scan_of(content), scan_of(style), 1.0)
    assert pair is not None
    return pair


@pytest.mark.parametrize("loud", [0.0, 30.0])
@pytest.mark.parametrize("amount", [-1.7, -0.5, 0.7, 2.0])
def test_a_known_filter_is_found(amount: float, loud: float) -> None:
    content = organs()
    if amount < 0:
        style = ndimage.gaussian_filter(content, (-amount) ** 0.5, mode="nearest")
    else:
        style = content + amount * (content - ndimage.gaussian_filter(content, 1, mode="nearest"))
        style = style.clip(content.min(), content.max())
    pair = pair_of(content + noise(loud, 1), style + noise(20.0, 2))
    assert set(pair.filters) == {0, 1, 2}
    assert pair.filters[1] == pytest.approx(amount, rel=0.1)


@pytest.mark.parametrize("mirror", [(), (2,), (0, 1)])
@pytest.mark.parametrize("extra", [0, 80])
def test_a_mirrored_and_shifted_style_is_placed(mirror: tuple[int, ...], extra: int) -> None:
    """With more than 64 voxels along an axis, averaged scans are compared first."""
    whole = organs(1, (28, 80 + extra, 70))
    whole += np.random.default_rng(2).normal(size=whole.shape)
    content, other = whole[4:, 3:-2, 5:], whole[:-3, :-7, 1:-2]
    style = scan_of(np.flip(other, mirror))
    pair = find_pair(scan_of(content), style, 1.0)
    assert pair is not None
    assert pair.filters == {}
    placed = pair.style
    np.testing.assert_array_equal(
        placed.values[placed.valid], content.astype(np.float32)[placed.valid.numpy()]
    )
    common = np.zeros(whole.shape, dtype=bool)
    common[4:-3, 3:-7, 5:-2] = True
    np.testing.assert_array_equal(placed.valid.numpy(), common[4:, 3:-2, 5:])


@pytest.mark.parametrize("scheme", ["CT", "MR"])
@pytest.mark.parametrize(("scan", "style"), [(1, 25), (25, 1), (10, 25), (25, 25), (20, 10)])
def test_the_noise_of_both_is_told_apart(scan: int, style: int, scheme: str) -> None:
    content = organs() + noise(scan, 1)
    pair = pair_of(content, organs() + noise(style, 2))
    own = scan_of(content)
    tissues: TissueScheme = CT_TISSUES if scheme == "CT" else otsu_scheme([own.values.flatten()])
    power = added_noise(pair.style, own, tissues, 1.0)
    expected = float(style**2 - scan**2)
    total = float(style**2 + scan**2)
    assert power
    for bands in power.values():
        assert float(bands.mean()) == pytest.approx(expected, abs=0.15 * total)


def test_noise_of_a_kernel_keeps_its_spectrum() -> None:
    """The power of Gaussian noise at the middle of each band, in squared units."""
    deviation, width = 30.0, 1.2
    content = organs() + noise(1.0, 1)
    pair = pair_of(content, content + noise(deviation, 4, width))
    power = added_noise(pair.style, scan_of(content), CT_TISSUES, 1.0)[3]
    frequency = (np.arange(7) + 1.5) / 16
    spectrum = np.exp(-4 * (np.pi * width * frequency) ** 2)
    expected = spectrum * deviation**2 * (4 * np.pi * width**2) ** 1.5
    np.testing.assert_allclose(power[:4].numpy(), expected[:4], rtol=0.35)


def test_anatomy_that_no_filter_explains_is_no_noise() -> None:
    """An agent brightens some voxels by a tenth; the scan has its own noise."""
    content = organs() + noise(3.0, 1)
    style = np.where(content > 100, 1.1 * content, content)
    pair = find_pair(scan_of(content), scan_of(style), 1.0)
    assert pair is not None
    for bands in added_noise(pair.style, scan_of(content), CT_TISSUES, 1.0).values():
        assert float(bands.abs().max()) < 9.0


def test_nothing_is_added_to_an_equal_scan() -> None:
    content = organs() + noise(5.0, 1)
    pair = pair_of(content, content)
    assert pair.filters == {}
    for bands in added_noise(pair.style, scan_of(content), CT_TISSUES, 1.0).values():
        assert not bool(bands.any())


@pytest.mark.parametrize("extents", [(1, 40, 40), (2, 2, 2), (24, 1, 64)])
def test_scans_of_few_voxels_are_compared_without_an_error(extents: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=extents)
    find_pair(scan_of(values), scan_of(values[::-1].copy()), 1.0)
    find_pair(scan_of(values), scan_of(organs()), 1.0)
    find_pair(scan_of(np.zeros(extents)), scan_of(values), 1.0)
