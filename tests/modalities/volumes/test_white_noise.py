"""The white noise that a scan has more than another scan of other anatomy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES, TissueScheme
from convnd_tasks.modalities.volumes.white_noise import lacking_white_noise
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Spacing = tuple[float, float, float]
SHAPE = (24, 80, 80)
BRAIN = TissueScheme(("dark", "medium", "bright"), (60.0, 180.0), (True,) * 3, uniform=True)
THICK: Spacing = (5.0, 1.0, 1.0)


def anatomy(seed: int, strength: float = 20.0, sigma: float = 1.5) -> Array:
    """Two tissues with structures of all sizes from a few voxels on; slices are independent."""
    rng = np.random.default_rng(seed)
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), (0, sigma, sigma))
    inside = np.hypot(y - 40 + 8 * seed, x - 40) < 17
    return np.asarray(np.where(inside, 240.0, 120.0) + strength * field / field.std())


def scan_of(values: Array, spacing: Spacing = THICK) -> Scan:
    return Scan.from_values(torch.from_numpy(values.copy()).float(), spacing)


def lacking(content: Scan, style: Scan, scheme: TissueScheme = BRAIN) -> dict[int, float]:
    resolution = max(min(content.spacing), min(style.spacing))
    return lacking_white_noise(content, style, scheme, scheme, resolution)


@pytest.mark.parametrize("spacing", [THICK, (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("own", [0.0, 4.0])
def test_known_noise_shows_in_strong_anatomy(spacing: Spacing, own: float) -> None:
    """Noise of deviation 6 in structures of deviation 20 and 30, which are others in the scan."""
    rng = np.random.default_rng(9)
    content = scan_of(anatomy(0) + own * rng.normal(size=SHAPE), spacing)
    style = scan_of(anatomy(1, 30.0) + np.hypot(own, 6) * rng.normal(size=SHAPE), spacing)
    assert lacking(content, style) == {n: pytest.approx(36, rel=0.1) for n in range(3)}
    assert lacking(style, content) == {0: 0.0, 1: 0.0, 2: 0.0}


def test_stronger_anatomy_is_no_noise() -> None:
    rng = np.random.default_rng(9)
    content = scan_of(anatomy(0, 10.0) + 5 * rng.normal(size=SHAPE))
    style = scan_of(anatomy(1, 40.0) + 5 * rng.normal(size=SHAPE))
    assert lacking(content, style)[0] < 1.0  # of 25 in both


def test_coarse_noise_cannot_be_told_from_anatomy() -> None:
    coarse = ndimage.gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), (0, 1.2, 1.2))
    style = scan_of(anatomy(1) + 8 * coarse / coarse.std())
    assert lacking(scan_of(anatomy(0)), style)[0] < 0.02 * 64


def test_each_tissue_of_ct_has_its_own_noise() -> None:
    """Noise of air and of soft tissue; lung, borders and bone are not measured."""
    rng = np.random.default_rng(9)
    _, y, _ = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    air = y < 40
    noise = np.where(air, 3.0, 12.0) * rng.normal(size=SHAPE)
    content = np.where(air, -985.0, 40.0) + rng.normal(size=SHAPE)
    scheme = CT_TISSUES.without_structured()
    expected = {0: pytest.approx(9, rel=0.1), 3: pytest.approx(144, rel=0.1)}
    assert lacking(scan_of(content), scan_of(content + noise), scheme) == expected


@pytest.mark.parametrize("air", [0.0, 20.0])
def test_air_near_zero_does_not_count(air: float) -> None:
    """The magnitude of complex noise of deviation s has the deviation 0.655 s in air (Rayleigh).

    Air of 20 is far above zero for the noise of the content, and near zero for that of the style.
    """
    rng = np.random.default_rng(9)
    _, _, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")

    def magnitude(deviation: float) -> Scan:
        signal = np.where(x < 50, air, anatomy(0))
        parts = [deviation * rng.normal(size=SHAPE) for _ in range(2)]
        return scan_of(np.hypot(signal + parts[0], parts[1]))

    assert lacking(magnitude(5), magnitude(13))[0] == pytest.approx(144, rel=0.1)


def test_a_tissue_at_the_highest_value_does_not_count() -> None:
    """The range clips the noise of the inner tissue of the style."""
    noise = 6 * np.random.default_rng(9).normal(size=SHAPE)
    style = np.where(anatomy(1, 0.1) > 180, 240.0, anatomy(1)) + noise
    clipped = scan_of(np.minimum(style, 243.0))
    assert lacking(scan_of(anatomy(0)), clipped)[0] == pytest.approx(36, rel=0.1)


def test_noise_has_one_power_at_every_voxel_size() -> None:
    """A style of voxels of 0.5 mm has a quarter of its variance at 1 mm."""
    content = scan_of(anatomy(0))
    noise = 8 * np.random.default_rng(9).normal(size=SHAPE)
    fine = scan_of(anatomy(1) + noise, (5.0, 0.5, 0.5))
    assert lacking(content, fine)[0] == pytest.approx(16, rel=0.1)


def test_a_difference_within_two_errors_does_not_count() -> None:
    noise = np.random.default_rng(9).normal(size=(2, *SHAPE))
    parts = [scan_of(anatomy(n) + 10 * noise[n]) for n in range(2)]
    assert lacking(parts[0], parts[1])[0] == lacking(parts[1], parts[0])[0] == 0.0


def test_few_patches_do_not_lower_the_variance() -> None:
    """Of 1000 patches of 125 voxels the smallest variance is 0.4 of that of their noise."""
    shape = (14, 14, 14)
    noise = np.random.default_rng(9).normal(size=(2, *shape))
    low, high = (scan_of(200 + part, (1.0, 1.0, 1.0)) for part in (noise[0], 8 * noise[1]))
    scheme = TissueScheme(("all",), (), (True,), uniform=True)
    assert lacking(low, high, scheme)[0] == pytest.approx(63, rel=0.15)


def test_too_few_patches_show_nothing() -> None:
    noise = np.random.default_rng(9).normal(size=SHAPE)
    small = scan_of((anatomy(1) + 9 * noise)[:3, :12, :12])
    assert lacking(scan_of(anatomy(0)), small) == {}
