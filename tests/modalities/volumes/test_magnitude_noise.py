"""The noise of magnitude images: near zero, in weak anatomy, between the parts of one scan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.volumes.look import moderate_noise
from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan
from convnd_tasks.modalities.volumes.noise_power import (
    NoisePower,
    measure_noise,
)
from convnd_tasks.modalities.volumes.paired import added_noise
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme, otsu_scheme
from convnd_tasks.modalities.volumes.units import level_ratio
from numpy.typing import NDArray
from scipy import ndimage

nibabel: Any = _nibabel  # its type hints are incomplete
Array = NDArray[np.float64]
SHAPE = (24, 80, 80)


def scan_of(values: Array, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Scan:
    return Scan.from_values(torch.from_numpy(values.copy()).float(), spacing)


def head(inner: float = 240.0, outer: float = 120.0) -> Array:
    """A cylinder of two tissues in air."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    radius = np.hypot(y - 40, x - 40)
    return np.where(radius < 17, inner, np.where(radius < 34, outer, 0.0))


def test_air_does_not_show_the_noise_of_a_magnitude_image() -> None:
    """The magnitude of complex noise of deviation s has the deviation 0.655 s (Rayleigh)."""
    rng = np.random.default_rng(0)
    values = np.hypot(head() + 20 * rng.normal(size=SHAPE), 20 * rng.normal(size=SHAPE))
    assert values[:, :8, :8].std() == pytest.approx(0.655 * 20, rel=0.05)
    scan = scan_of(values)
    tissues = TissueMap(scan, otsu_scheme([scan.values.flatten()]), 1.0)
    assert measure_noise(scan, tissues, 1.0)[0].deviation == pytest.approx(20, rel=0.05)


def test_scattered_noise_is_measured_near_the_lowest_value_if_nowhere_else() -> None:
    """A scan of air has noise, too."""
    rng = np.random.default_rng(1)
    scan = scan_of(np.hypot(9 * rng.normal(size=SHAPE), 9 * rng.normal(size=SHAPE)))
    tissues = TissueMap(scan, otsu_scheme([scan.values.flatten()]), 1.0)
    noise = measure_noise(scan, tissues, 1.0)
    assert noise[0].deviation == pytest.approx(0.655 * 9, rel=0.15)


@pytest.mark.parametrize("factor", [1.0, 0.25, 3.0])
def test_parts_of_one_scan_have_one_unit(factor: float) -> None:
    """Air moves the threshold of tissue, and so its median, without another unit."""
    whole = head(outer=150) + np.random.default_rng(2).uniform(1, 3, SHAPE)
    part = scan_of(whole[:, 16:64, 16:64])  # without air, tissue is what is brighter than 195
    other = scan_of(whole / factor)
    expected = 1.0 if factor == 1 else factor * 240 / 150
    assert level_ratio(part, other) == pytest.approx(expected, rel=0.02)


def test_noise_beside_texture_is_not_noise_of_the_scan() -> None:
    """Texture and noise of few frequencies have few independent values near a voxel."""
    texture, grain = (
        ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), (0, 2, 2))
        for seed in (5, 6)
    )
    grain *= 20 / grain.std()

    def added(anatomy: Array) -> float:
        own, style = (scan_of(part, (6.0, 1.0, 1.0)) for part in (anatomy, anatomy + grain))
        return float(added_noise(style, own, otsu_scheme([own.values.flatten()]), 1.0)[0].sum())

    smooth = head() + 300
    assert added(smooth + 20 * texture / texture.std()) == pytest.approx(added(smooth), rel=0.1)


@pytest.mark.parametrize(
    ("limits", "own", "expected"),
    [((80.0, 90.0), 1.0, 2.0), ((60.0, 160.0), 1.0, 3.0), ((80.0, 90.0), 2.5, 2.5)],
)
def test_the_built_in_style_leaves_tissues_of_little_contrast_apart(
    limits: tuple[float, float], own: float, expected: float
) -> None:
    """A style with a noise of 3; a fifth of the distance of the thresholds is 2, or 20."""
    scheme = TissueScheme(("dark", "medium", "bright"), limits, (True,) * 3, uniform=True)
    scan, style = (
        NoisePower(torch.full((7,), level**2).double(), torch.zeros(7), 3) for level in (own, 3.0)
    )
    noise = moderate_noise({0: scan}, {0: style}, scheme)
    assert noise[0].deviation == pytest.approx(expected)


def loud_air() -> tuple[Array, Array]:
    """A scan whose air is its quietest part, and the same with much noise in the air alone."""
    rng = np.random.default_rng(7)
    inside = head() > 0
    scan = head() + 300 + np.where(inside, 8.0, 5.0) * rng.normal(size=SHAPE)
    return scan, scan + np.where(inside, 0.0, 20.0) * rng.normal(size=SHAPE)


def test_the_noise_after_a_change_is_that_of_the_tissue_before_it() -> None:
    """Else the body would be compared with the air, and the noise would rise from 5 to 8."""
    values, louder = loud_air()
    before = MeasuredScan.measure(scan_of(values), "", 1.0)
    after = before.changed(torch.from_numpy(louder).float())
    for part, expected in ((before, 5.0), (after, np.hypot(5, 20))):
        assert part.noise[0].deviation == pytest.approx(expected, rel=0.05)
    alone = MeasuredScan.measure(scan_of(louder), "", 1.0)
    assert alone.noise[0].deviation == pytest.approx(8, rel=0.05)


def test_the_noise_of_a_result_is_told_of_one_tissue(run: Run, tmp_path: Path) -> None:
    """Air is the quietest part of the scan; in the result, 0 cuts its noise off."""
    rng = np.random.default_rng(8)
    deviations = np.where(head() > 0, 1.3, 1.0)
    values = (head() + 4 + deviations * rng.normal(size=SHAPE)).round().clip(0, 255)
    image = nibabel.Nifti1Image(values.T.astype(np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "scan.nii")
    code, _, err = run("stylize-volume", "scan.nii", "--no-figures", "-q")
    assert code == 0, err
    told = re.search(r"noise of all tissues: from ([\d.]+) to ([\d.]+);", err)
    assert told is not None
    result = np.asarray(nibabel.load(tmp_path / "scan_stylized.nii.gz").dataobj).T
    _, y, x = np.indices(SHAPE)
    air = np.hypot(y - 40, x - 40) > 38
    for part, figure in zip((values, result), told.groups(), strict=True):
        assert float(figure) == pytest.approx(part[air].std(), rel=0.08)
