"""The look of scans: known answers, harm that is found, and what must not change."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes import look_transfer
from convnd_tasks.modalities.volumes.inputs import check_style
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.memory import estimate_memory
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.noise_power import (
    NoisePower,
    lacking_power,
    measure_power,
)
from convnd_tasks.modalities.volumes.noise_spectrum import spectrum
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.paired import find_pair
from convnd_tasks.modalities.volumes.safety import limit_means, measure_safety
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure, describe_broken
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import (
    apply_filters,
    edge_sharpness,
)
from convnd_tasks.modalities.volumes.smoothing import (
    constant_background,
    erode,
    gaussian,
    window_maximum,
)
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES, TissueMap, otsu_scheme
from convnd_tasks.samples import MATCHING_STYLE
from error_fields import raises
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.performance.scan_figures import thin_contrast
from convnd.errors import InputFileError, NumericalError, ResourceError
from convnd.grid import Grid

Array = NDArray[np.float64]
SPACING = (1.0, 1.0, 1.0)
SHAPE = (24, 72, 72)


@functools.cache
def _balls() -> Array:
    z, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    data = np.full(SHAPE, -820.0)
    data[:, :6] = -1000.0
    for cy, cx, radius in ((24, 20, 15), (50, 48, 17), (20, 56, 8), (58, 14, 7)):
        distance = np.sqrt((y - cy) ** 2 + (x - cx) ** 2 + 0.3 * (z - 12) ** 2)
        inside = np.clip(radius - distance + 0.5, 0, 1)
        rim = inside * np.clip(distance - radius + 2.5, 0, 1)
        data += inside * (860 - 0) + rim * 260
    return np.asarray(ndimage.gaussian_filter(data, 0.6))


def chest(noise: float, seed: int, kernel: float = 0.0, *, mirrored: bool = False) -> Array:
    """Balls of soft tissue in lung, each with a rim of bone, edges of one voxel, and noise."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=SHAPE)
    grain = ndimage.gaussian_filter(white, kernel) if kernel else white
    data = _balls() + noise * grain / grain.std()
    return np.asarray(data[:, :, ::-1].copy() if mirrored else data)


def scan_of(values: Array) -> Scan:
    """A scan with isotropic voxels of 1 mm, all of them valid."""
    tensor = torch.from_numpy(values).float()
    return Scan(tensor, SPACING, torch.ones(values.shape, dtype=torch.bool))


def grid_of(values: Array, *, unit: str = "HU") -> Grid:
    """A volume whose axes run towards right, front and head, from values towards head first."""
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0))).float()
    header = {"affine": np.eye(4), "value_unit": unit}
    return Grid(values=tensor[None, None], spacing=SPACING, units=("mm",) * 3, header=header)


def stylise(
    content: Array, style: Array, *, unit: str = "HU", label: str = "s", **options: object
) -> Array:
    """The result of a transfer of the look, towards head first."""
    grids = grid_of(content, unit=unit), grid_of(style, unit=unit)
    inputs = TransferInputs(content=grids[0], styles=[grids[1]], names=["c", label])
    transfer = LookTransfer(inputs, VolumeOptions(**options))  # type: ignore[arg-type]
    steps = list(transfer.run(state=None, group=None, on_message=None))
    result = transfer.result(steps[-1])
    assert result is not None
    return result.values[0, 0].numpy().transpose(2, 1, 0).astype(np.float64)


def core() -> NDArray[np.bool_]:
    """Voxels inside the two large balls, away from their rims."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    return np.asarray(
        (np.hypot(y - 24, x - 20) < 9) & (np.abs(np.arange(24) - 12)[:, None, None] < 9)
    )


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [0.0, 1.2])
def test_known_noise_is_transferred_and_nothing_else(kernel: float) -> None:
    content = chest(5, 1)
    style = chest(30, 2, kernel, mirrored=True)
    change = stylise(content, style) - content
    # The truth: variances add up, 30² = 5² + lacking².
    lacking = math.sqrt(30**2 - 5**2)
    inside = core()
    # A sample deviation of n independent values is off by 1/sqrt(2 n); the noise of the kernel has
    # about (4 pi k²)^1.5 values in one; both, scan and style, are measured. Five deviations.
    independent = inside.sum() / max(1.0, (4 * math.pi * kernel**2) ** 1.5)
    assert change[inside].std() == pytest.approx(lacking, rel=5 * math.sqrt(1 / independent) + 0.05)
    assert abs(change[inside].mean()) < 5 * lacking / math.sqrt(independent)

    def neighbours(noise: Array) -> float:
        pairs = inside[:, :, 1:] & inside[:, :, :-1]
        one, other = noise[:, :, 1:][pairs], noise[:, :, :-1][pairs]
        return float(np.corrcoef(one, other)[0, 1])

    expected = math.exp(-1 / (4 * kernel**2)) if kernel else 0.0
    assert neighbours(change) == pytest.approx(expected, abs=5 / math.sqrt(independent) + 0.05)
    # Noise is no anatomy: edges are as steep as they were, and nothing else is drawn.
    smooth = ndimage.gaussian_filter(change, 4)
    # A Gaussian of sigma 4 leaves noise of a kernel k the share ((k² + 1/4pi) / (k² + 16))^(3/4).
    left = ((kernel**2 + 1 / (4 * math.pi)) / (kernel**2 + 16)) ** 0.75
    # What was measured of the scan's own noise is off by a few percent, hence not five but eight.
    assert np.abs(smooth).max() < 8 * lacking * left


def waves(seed: int, deviation: float) -> Array:
    """Weak anatomy: structures of some voxels, without an edge and without noise."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    return np.asarray(deviation * field / field.std())


def coarse_part(change: Array, inside: NDArray[np.bool_], deviation: float) -> float:
    """The deviation of the coarse part of a change, over that of white noise's coarse part."""
    sigma = 3.0
    smooth = ndimage.gaussian_filter(change, sigma)[inside]
    return float(smooth.std() / (deviation * (4 * math.pi * sigma**2) ** -0.75))


def test_weak_anatomy_of_another_scan_is_no_noise() -> None:
    """An average of scans has no noise; its style has other waves, twice as strong, and noise."""
    noise = 2.0 * np.random.default_rng(5).normal(size=SHAPE)
    content, style = 100 + waves(1, 3), 100 + waves(2, 6) + noise
    change = stylise(content, style, unit="") - content
    # Noise is told from anatomy with errors, so less of it comes over, and no anatomy.
    assert 1.5 < change.std() < 2.2
    assert coarse_part(change, np.ones(SHAPE, dtype=bool), 2.0) < 1.5


def test_coarse_noise_of_ct_is_noise() -> None:
    """A smooth kernel leaves noise without fine parts, as weak anatomy is in magnitudes."""
    change = stylise(chest(5, 1, 2.0), chest(30, 2, 2.0, mirrored=True)) - chest(5, 1, 2.0)
    assert change[core()].std() > 15


def test_weak_anatomy_cancels_in_the_difference_of_two_noises() -> None:
    rng, part = np.random.default_rng(6), (np.arange(24) > 16)[:, None, None]
    clean = chest(0, 1) + part * waves(3, 12)  # half of the style's noise, twice the scan's
    content = clean + 5 * rng.normal(size=SHAPE)
    style = clean[:, :, ::-1] + 30 * rng.normal(size=SHAPE)
    change = stylise(content, style) - content
    assert coarse_part(change, core(), math.sqrt(30**2 - 5**2)) < 1.2


def test_small_tissues_get_no_more_noise_than_others() -> None:
    z, y, x = (np.arange(extent) % 12 - 6 for extent in SHAPE)
    inside = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 4.5**2  # its core: few voxels
    content = np.where(inside, 40.0, -820.0)
    content[:, :36] = 40.0
    content += 5 * np.random.default_rng(7).normal(size=SHAPE)
    change = stylise(content, chest(30, 2)) - content
    smooth = ndimage.gaussian_filter(change, 1.5)
    small = smooth[4:-4, 42:-6, 6:-6][inside[4:-4, 42:-6, 6:-6]]
    assert small.std() < 1.2 * smooth[4:-4, 6:24, 6:-6].std()


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.6, 0.9])
def test_a_known_blur_is_transferred(sigma: float) -> None:
    content = chest(3, 1)
    style = ndimage.gaussian_filter(content, sigma)
    result = stylise(content, style[:, :, ::-1].copy())
    truth, scale = style, np.abs(style - content).max()
    # A Gaussian is found for a Gaussian: what is left is a small part of what the blur changed.
    assert np.abs(result - truth).max() < 0.15 * scale


@pytest.mark.slow
def test_a_known_sharpening_gives_the_slope_of_edges() -> None:
    content = chest(2, 1)
    style = content + 0.8 * (content - ndimage.gaussian_filter(content, 1.2))
    result = stylise(content, style[:, :, ::-1].copy())
    slopes = [np.abs(np.gradient(values, axis=2)) for values in (content, style, result)]
    edges = slopes[0] > np.quantile(slopes[0], 0.98)
    before, target, after = (float(np.median(slope[edges])) for slope in slopes)
    assert target > 1.15 * before
    assert after == pytest.approx(target, rel=0.15)


def test_noise_does_not_change_the_measured_sharpness() -> None:
    quiet = edge_sharpness(scan_of(chest(5, 1)), 1.0)
    noisy = edge_sharpness(scan_of(chest(40, 3)), 1.0)
    assert quiet
    for axis, sharpness in quiet.items():
        assert noisy[axis] == pytest.approx(sharpness, rel=0.03)


@pytest.mark.slow
def test_the_scan_is_shown_after_each_stage_that_changes_it() -> None:
    content, style = grid_of(chest(4.0, 1)), grid_of(chest(20.0, 2, mirrored=True))
    series = content.with_values(content.values.repeat(1, 2, 1, 1, 1))
    inputs = TransferInputs(content=series, styles=[style], names=["c", "s"])
    transfer = LookTransfer(inputs, VolumeOptions())
    shown: list[Any] = []
    for step in transfer.run(state=None, group=None, on_message=None):
        preview = transfer.preview(step)
        shown.append(None if preview is None else preview.values - series.values)
    changed = [None if one is None else [bool(part.any()) for part in one[0]] for one in shown]
    first = [None, None, [False, False], [True, False], [True, False]]  # equally sharp scans
    assert changed == [*first, [True, False], [True, False], [True, False], [True] * 2, [True] * 2]
    result = transfer.result(step)
    assert result is not None
    assert torch.equal(shown[-1] + series.values, result.values)
    # The drawn noise has the deviation of the style, before the safety figures may lower it.
    added = shown[3][0, 0].numpy().transpose(2, 1, 0)[core()].std()
    assert added == pytest.approx(math.sqrt(20**2 - 4**2), rel=0.2)


def test_a_quieter_style_removes_noise() -> None:
    content, clean = chest(30, 1), chest(0, 1)
    result = stylise(content, chest(8, 2, mirrored=True))
    inside = core()
    assert (result - clean)[inside].std() < 0.6 * (content - clean)[inside].std()
    assert np.abs(result - content).max() < 4 * 30  # no voxel moves by more than noise does


@pytest.mark.slow
def test_another_anatomy_changes_no_sharpness() -> None:
    content = chest(5, 1)
    # Another part with weaker edges, and blurred: the blur explains a third of the difference.
    style = 0.5 * ndimage.gaussian_filter(chest(5, 2), 1.5)[:, :40, :40] - 400
    result = stylise(content, np.pad(style, ((0, 0), (0, 16), (0, 16)), mode="reflect"))
    slopes = [np.abs(np.gradient(values, axis=2)) for values in (content, result)]
    edges = slopes[0] > np.quantile(slopes[0], 0.99)
    assert np.median(slopes[1][edges]) == pytest.approx(np.median(slopes[0][edges]), rel=0.02)


def test_padding_range_and_gaps_do_not_change() -> None:
    content, style = chest(5, 1)[:18, :40, :40], chest(30, 2)[:18, :40, :40]
    content[:, :6] = content[:, :, -5:] = -2000.0
    content[3, 20, 20] = np.nan
    result = stylise(content, style)
    padded = content == -2000
    np.testing.assert_array_equal(result[padded], content[padded].astype(np.float32))
    assert np.isnan(result[3, 20, 20])
    finite = np.isfinite(result)
    np.testing.assert_array_equal(finite, np.isfinite(content))
    measured = content[~padded & np.isfinite(content)]
    inside = result[~padded & finite]
    assert measured.min() <= inside.min() + 1e-3
    assert inside.max() <= measured.max() + 1e-3


def test_noise_at_the_end_of_the_range_keeps_the_mean() -> None:
    content = chest(5, 1)
    content[:, :20] = -1010 + 8 * np.random.default_rng(7).normal(size=(24, 20, 72))
    content = content.clip(-1024, None)  # as a scanner stores air
    style = chest(60, 2, 1.0, mirrored=True).clip(-1024, None)
    result = stylise(content, style)
    change = result - content
    air = np.s_[3:-3, 3:15, 3:-3]
    assert change[air].std() > 5
    assert result.min() >= content.astype(np.float32).min()
    assert result.max() <= content.astype(np.float32).max()
    assert abs(change[air].mean()) < 0.5


@pytest.mark.parametrize(
    ("own", "style", "least", "most"), [(8, 60, 9.3, 10.5), (40, 8, 39, 41), (40, 90, 39, 41)]
)
def test_the_built_in_style_changes_noise_moderately(
    own: float, style: float, least: float, most: float
) -> None:
    """Noise of no more than 10 HU, or the scan's own."""
    clean = chest(0, 1)
    result = stylise(chest(own, 1), chest(style, 2, mirrored=True), label=MATCHING_STYLE)
    assert least < (result - clean)[core()].std() < most


@pytest.mark.slow
def test_magnitudes_without_a_unit_are_scaled() -> None:
    content = (chest(4, 1) + 900).clip(1)
    style = 3.0 * (chest(24, 2, mirrored=True) + 900).clip(1)
    change = stylise(content, style, unit="") - content
    lacking = math.sqrt(24**2 - 4**2)
    assert change[core()].std() == pytest.approx(lacking, rel=0.1)


@pytest.mark.parametrize(
    ("units", "options", "words"),
    [
        (("HU", ""), {}, {"operation": "style", "expected": "Hounsfield units"}),
        (("", "HU"), {}, {"operation": "style", "expected": "values without a unit"}),
    ],
)
def test_another_unit_is_refused(
    units: tuple[str, str], options: dict[str, object], words: dict[str, str]
) -> None:
    content = grid_of(np.abs(chest(5, 1)) if not units[0] else chest(5, 1), unit=units[0])
    style = grid_of(chest(20, 2), unit=units[1])
    inputs = TransferInputs(content=content, styles=[style], names=["c", "s"])
    with raises(InputFileError, **words):
        LookTransfer(inputs, VolumeOptions(**options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_window_of_the_style_names_its_unit() -> None:
    content = chest(5, 1)
    style = (chest(30, 2, mirrored=True) + 1000) / 4  # stored from 0
    inputs = TransferInputs(
        content=grid_of(content), styles=[grid_of(style, unit="")], names=["c", "s"]
    )
    # -1000 to 1000 of the scan are 0 to 500 of the style.
    options = VolumeOptions(window="0,2000", style_window="250,500")
    transfer = LookTransfer(inputs, options)
    (*_, last) = transfer.run(state=None, group=None, on_message=None)
    result = transfer.result(last)
    assert result is not None
    change = result.values[0, 0].numpy().transpose(2, 1, 0) - content
    assert change[core()].std() == pytest.approx(math.sqrt(30**2 - 5**2), rel=0.1)


@pytest.mark.slow
def test_harm_lowers_the_strength_and_then_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, safe = (SafetyFigure("mean change of soft", n, 0.0, 2.0, "HU") for n in (9.0, 1.0))
    calls: list[int] = []

    def unsafe(*_: object, **__: object) -> list[SafetyFigure]:
        calls.append(1)
        return [broken] if len(calls) < safe_from else [safe]

    monkeypatch.setattr(look_transfer, "measure_safety", unsafe)
    content, style = chest(5, 1), chest(30, 2)
    safe_from = 4  # at the fourth strength, 0.5
    change = stylise(content, style) - content
    calls.clear()
    safe_from = 0
    whole = stylise(content, style) - content
    assert change[core()].std() == pytest.approx(0.5 * whole[core()].std(), rel=0.02)
    calls.clear()
    safe_from = 10**6
    with raises(NumericalError, got="mean change of soft 9 HU"):
        stylise(content, style)


def test_safety_finds_harm() -> None:
    values = torch.from_numpy(chest(5, 1)).float()
    scan = Scan.from_values(values, SPACING)
    kernel = torch.zeros(3, 3, 3)
    changes = {tissue: NoiseChange(kernel, kernel, 0.0, 5.0, 5.0) for tissue in range(5)}

    def broken(result: torch.Tensor) -> str:
        figures = measure_safety(scan, values, result, changes, CT_TISSUES, 1.0)
        return describe_broken(figures)

    noise = 5 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    assert broken(values + noise - noise.mean()) == ""
    assert "mean change of soft" in broken(values + 3.0 * (values > -100))
    spike = values.clone()
    spike[12, 24, 20] += 200
    assert "largest change" in broken(spike)
    assert "thin structures" in broken(gaussian(values, (0.0, 1.5, 1.5)))
    erased = torch.where(values > 150, torch.full_like(values, -820.0), values)
    assert "Dice" in broken(erased)


def test_means_beyond_their_limit_are_brought_back() -> None:
    values = torch.from_numpy(chest(5, 1)).float()
    scan = Scan.from_values(values, SPACING)
    tissue = TissueMap(scan, CT_TISSUES, 1.0).core(3, 4)
    assert int(tissue.sum()) > 500
    moved = values + 5.0 * (values > -100) - 1.0 * (values < -500)
    excess = limit_means(scan, moved, moved, CT_TISSUES, 1.0)
    assert 1.5 < float((moved - excess - values)[tissue].mean()) < 2.0
    assert float(excess.min()) >= 0
    assert float(excess.max()) < 5.0
    lung = TissueMap(scan, CT_TISSUES, 1.0).core(1, 8)
    assert not bool(excess[lung].any())  # its mean is within the limit
    assert not bool(limit_means(scan, values, values + 1.0, CT_TISSUES, 1.0).any())


def test_safety_judges_thin_structures_without_deep_voxels() -> None:
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    y, x = y % 36 - 18, x % 36 - 18  # four vessels in zeros, each with six wires of a stent
    data = np.where(np.hypot(y, x) < 10, 200.0, 0.0)
    for angle in np.arange(6) * math.pi / 3:
        data[np.hypot(y - 8 * math.sin(angle), x - 8 * math.cos(angle)) < 1.2] = 900.0
    noise = 5 * np.random.default_rng(0).normal(size=SHAPE)
    values = torch.from_numpy(np.where(data > 0, data + noise, 0.0)).float()
    scan = Scan.from_values(values, SPACING)
    assert not bool(scan.valid[values == 0].any())
    scheme = otsu_scheme([values[scan.valid]])
    weak = torch.where(values > 450, values - 150, values)  # a fifth of the wires' contrast
    figures = measure_safety(scan, values, weak, {}, scheme, 1.0)
    assert "thin structures" in describe_broken(figures)


@pytest.mark.parametrize("kernel", [0.0, 1.0])
def test_the_power_of_known_noise_is_measured_in_any_tissue(kernel: float) -> None:
    """The oracle is noise of a known kernel; balls of a tissue hold a third of the voxels."""
    white = np.random.default_rng(4).normal(size=(40, 96, 96))
    field = ndimage.gaussian_filter(white, kernel) if kernel else white
    z, y, x = (np.arange(extent) % 24 - 12 for extent in white.shape)
    inside = torch.from_numpy(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 10**2)
    values = torch.from_numpy(10 * field / field.std()).float()
    powers = measure_power(torch.where(inside, values, 500.0), inside, SPACING, 1.0)
    power = powers.mean(1)
    power_spectrum = spectrum(power, [33] * 3, SPACING, 1.0)
    # Lines between bands lie above the Gaussian of this kernel by a tenth.
    assert float(power_spectrum.mean()) == pytest.approx(100.0, rel=0.15)
    # The shares of the bands are those of the spectrum.
    assert NoisePower(power, torch.zeros(7), 3).variance == pytest.approx(100.0, rel=0.15)


def test_a_band_counts_where_its_difference_is_certain() -> None:
    def power(bands: list[float], error: float) -> NoisePower:
        return NoisePower(torch.tensor(bands).double(), torch.full((7,), error).double(), 3)

    scan = power([90, 50, 20, 8, 8, 8, 8], 3.0)
    kernel = power([390, 150, 60, 28, 10, 8, 8], 4.0)  # two errors of both are 10
    lacking = lacking_power(scan, kernel, 0.0)
    # Above the finest certain band nothing; the coarsest band takes what the next one lacks.
    assert lacking.tolist() == [100, 100, 40, 20, 0, 0, 0]
    assert not bool(lacking_power(kernel, scan, 0.0).any())
    for own, style in ((scan.errors, 90 * kernel.errors), (90 * scan.errors, kernel.errors)):
        parts = dataclasses.replace(scan, errors=own), dataclasses.replace(kernel, errors=style)
        assert not bool(lacking_power(*parts, 0.0).any())
    assert lacking_power(scan, scan, 5.0).tolist() == [5.0] * 7
    # No band gets more than the style has, where nothing is certain.
    falling = power([30, 90, 25, 28, 8, 8, 8], 3.0)
    assert lacking_power(scan, falling, 0.0).tolist() == [30, 40, 20, 20, 0, 0, 0]
    anatomy = power([900, 500, 200, 10, 8, 8, 8], 3.0)  # what only coarse bands have more
    assert not bool(lacking_power(scan, anatomy, 0.0).any())


@pytest.mark.parametrize("sides", [(1, 2, 2), (2, 1, 1), (2, 2, 2)])
def test_noise_has_one_power_at_every_voxel_size(sides: tuple[int, int, int]) -> None:
    """The power is that of voxels of one resolution, whose noise averages that of finer ones."""
    generator = torch.Generator().manual_seed(3)
    fine = torch.randn(48, 96, 96, generator=generator)
    values = torch.nn.functional.avg_pool3d(fine[None, None], sides)[0, 0]
    inner = torch.ones(values.shape, dtype=torch.bool)
    power = measure_power(values, inner, [float(side) for side in sides], 2.0).mean(1)
    torch.testing.assert_close(power, torch.full((7,), 1 / 8).double(), rtol=0.15, atol=0.0)


def test_gaussian_and_erosion_equal_those_of_scipy(rng: np.random.Generator) -> None:
    values = rng.normal(size=(9, 30, 17))
    expected = ndimage.gaussian_filter(values, (0, 1.7, 1.7), mode="nearest", truncate=4)
    actual = gaussian(torch.from_numpy(values), (0.0, 1.7, 1.7))
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    mask = torch.from_numpy(rng.random((9, 30, 17)) < 0.9)
    shrunk = ndimage.binary_erosion(mask.numpy(), np.ones((1, 3, 5)), border_value=1)
    cross = ndimage.binary_erosion(mask.numpy(), np.ones((1, 3, 1)), border_value=1)
    expected_mask = ndimage.binary_erosion(cross, np.ones((1, 1, 5)), border_value=1)
    np.testing.assert_array_equal(erode(mask, (0, 1, 2)), expected_mask)
    np.testing.assert_array_equal(shrunk, expected_mask)


@pytest.mark.parametrize("axis", range(3))
def test_long_axes_and_wide_windows_equal_those_of_scipy(
    rng: np.random.Generator, axis: int
) -> None:
    values = np.moveaxis(rng.normal(size=(150, 5, 6)), 0, axis)
    sigma = [4.2 * (number == axis) for number in range(3)]
    expected = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=4)
    actual = gaussian(torch.from_numpy(values), sigma)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    for count in (1, 4, 7):
        reach = [count * (number == axis) for number in range(3)]
        highest = ndimage.maximum_filter(values, [2 * one + 1 for one in reach], mode="nearest")
        np.testing.assert_array_equal(window_maximum(torch.from_numpy(values), reach), highest)


def test_constant_tissue_of_a_phantom_is_not_background() -> None:
    data = chest(0, 1).round()
    three = torch.from_numpy(np.where(data > 200, 300.0, np.where(data > -500, 40.0, -820.0)))
    background = constant_background(three)
    assert not bool(background[core()].any())
    assert bool(background[:, 0].all())


def test_padding_is_connected_and_single_zeros_are_not_padding(rng: np.random.Generator) -> None:
    values = np.abs(rng.normal(size=(12, 40, 40))) + 0.1
    padding = np.zeros(values.shape, dtype=bool)
    padding[:, :10] = True
    padding[5, 10:30, 20] = True  # a cleft of one voxel
    padding[6:9, 29, 20] = True
    zeros = rng.random(values.shape) < 0.05
    values[zeros | padding] = 0.0
    background = constant_background(torch.from_numpy(values)).numpy()
    assert background[padding].all()
    assert background[zeros & ~padding].mean() < 0.2  # those that touch the padding


def test_a_sharpening_is_found_in_a_masked_scan() -> None:
    """The end of the range clips the sharpened rim of the body, which becomes background."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    data = np.where(np.hypot(y - 30, x - 40) < 10, 300.0, 100.0) * (np.hypot(y - 36, x - 36) < 28)
    data = ndimage.gaussian_filter(data, (0, 1.5, 1.5))
    data += np.random.default_rng(0).normal(size=SHAPE) * (data > 50)
    content = np.where(data > 0.01, data, 0.0)
    style = (2 * content - ndimage.gaussian_filter(content, (0, 1.2, 1.2))).clip(0)
    scan, other = (Scan.from_values(torch.from_numpy(v).float(), SPACING) for v in (content, style))
    assert int(other.valid.sum()) < 0.98 * int(scan.valid.sum())
    pair = find_pair(scan, other, 1.0)
    assert pair is not None
    assert pair.filters[2] == pytest.approx(1.2, abs=0.2)


def test_axes_of_one_amount_are_sharpened_together(rng: np.random.Generator) -> None:
    values = rng.normal(size=(5, 40, 40))
    blurred = ndimage.gaussian_filter(values, (0, 1.2, 1.2), mode="nearest", truncate=4)
    scan = Scan(torch.from_numpy(values), SPACING, torch.ones(values.shape, dtype=torch.bool))
    actual = apply_filters(scan, {1: 1.5, 2: 1.5}, 1.2 * SPACING[1]).values
    expected = (values + 1.5 * (values - blurred)).clip(values.min(), values.max())
    np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_voxels_beside_edges_are_not_edges() -> None:
    """Two balls have few edges: most of the largest 2 % of slopes lie beside them."""
    z, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    balls = np.zeros(SHAPE)
    for centre in (22, 50):
        balls += np.sqrt((z - 12) ** 2 + (y - 36) ** 2 + (x - centre) ** 2) < 7
    for width in (0.7, 1.2):
        sharpness = edge_sharpness(scan_of(ndimage.gaussian_filter(balls, width)), 1.0)
        # The slopes of a blurred step; a voxel adds the variance 1 / 12, and balls are no planes.
        variance = width**2 + 1 / 12
        expected = math.sqrt((2.0**2 + variance) / (0.7**2 + variance))
        assert sharpness[2] == pytest.approx(expected, rel=0.1)


def test_the_benchmark_judges_structures_rather_than_noise() -> None:
    """Deep inside a vessel in zeros there is noise alone; thin vessels have no deep voxels."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    data = np.where(np.hypot(y - 26, x - 26) < 24, 300.0, 0.0)
    for centre in (8, 24, 40, 56):
        data[np.hypot(y - 63, x - centre) < 3] = 900.0
    noise = 35 * np.random.default_rng(0).normal(size=SHAPE) * (data > 0)
    scan, background = (data + noise).astype(np.float32), data == 0
    quiet = (data + 0.3 * noise).astype(np.float32)
    assert thin_contrast(scan, quiet, SPACING, background) == pytest.approx(1, abs=0.02)
    weak = np.where(data > 600, scan - 300, scan)
    assert thin_contrast(scan, weak, SPACING, background) < 0.9


def test_without_flat_tissue_noise_is_left() -> None:
    rng = np.random.default_rng(0)
    content, style = (deviation * rng.normal(size=(9, 12, 11)) for deviation in (5.0, 20.0))
    change = stylise(content + 300, style + 300, unit="") - content - 300
    assert np.abs(change).max() < 1e-4  # float32
    one_slice = stylise(content[:1] + 300, style[:1] + 300, unit="")
    assert np.isfinite(one_slice).all()


@pytest.mark.slow
def test_memory_that_is_not_allowed_is_refused_before_the_work() -> None:
    content = grid_of(chest(5, 1))
    needed = estimate_memory(content, [content]).total
    assert needed > 20 * content.values.nbytes
    inputs = TransferInputs(content=content, styles=[content], names=["c", "s"])
    allowed = psutil.Process().memory_info().rss + needed // 2
    transfer = LookTransfer(inputs, VolumeOptions(memory=f"{allowed}B"))
    with pytest.raises(ResourceError, match="memory"):
        next(transfer.run(state=None, group=None, on_message=None))


def test_a_style_without_slices_is_refused() -> None:
    with pytest.raises(InputFileError, match="16 x 16"):
        check_style(grid_of(chest(5, 1)[:4, :4, :4]), "style")


def test_dice_allows_what_the_noise_of_the_style_explains() -> None:
    """A threshold of Otsu in the middle of a tissue: any noise moves voxels across it."""
    rng = np.random.default_rng(3)
    soft = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    data = 200 * soft / soft.std()
    data[:, 8::16, 8::16] += 6000  # thin structures, without which nothing is judged
    scan = Scan.from_values(torch.from_numpy(data).float(), SPACING)
    noise = torch.from_numpy(ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.2)).float()
    noise *= 30 / noise.std()
    kernel = torch.zeros(13, 13, 13)
    kernel[6, 6, 6] = 1.0
    kernel = gaussian(kernel, (1.2, 1.2, 1.2))
    kernel *= 30 / kernel.square().sum().sqrt()
    none = torch.zeros_like(kernel)
    scheme = otsu_scheme([scan.values.flatten()])

    def dice(added: torch.Tensor, result: torch.Tensor) -> list[SafetyFigure]:
        change = NoiseChange(added, none, 0.0, 1.0, 30.0)
        changes = dict.fromkeys(range(3), change)
        figures = measure_safety(scan, scan.values, result, changes, scheme, 1.0)
        return [figure for figure in figures if figure.name.startswith("Dice")]

    result = scan.values + noise
    explained, unexplained = dice(kernel, result), dice(none, result)
    assert [figure.value for figure in explained] == [figure.value for figure in unexplained]
    assert not explained[1].broken
    assert unexplained[1].broken
    # What noise explains is what it does: the limit is 0.005 below it.
    assert explained[1].low + 0.005 == pytest.approx(explained[1].value, abs=0.004)
    assert dice(kernel, result + 60 * (scan.values.abs() < 100))[1].broken
    removing = NoiseChange(none, kernel, 30.0, 30.0, 1.0)  # what is removed may be anatomy
    changes = dict.fromkeys(range(3), removing)
    figures = measure_safety(scan, scan.values, result, changes, scheme, 1.0)
    assert "Dice of three classes" in describe_broken(figures)


@pytest.mark.slow
def test_a_frame_without_flat_tissue_changes_nothing_for_the_next() -> None:
    rng = np.random.default_rng(0)
    rough, smooth = 500 * rng.normal(size=SHAPE) - 350, chest(5, 1)  # borders alone
    style = grid_of(chest(30, 2))
    seconds = []
    for first in (rough, smooth):
        frames = [grid_of(values).values for values in (first, smooth)]
        series = grid_of(smooth).with_values(torch.cat(frames, 1))
        inputs = TransferInputs(content=series, styles=[style], names=["c", "s"])
        transfer = LookTransfer(inputs, VolumeOptions())
        *_, last = transfer.run(state=None, group=None, on_message=None)
        result = transfer.result(last)
        assert result is not None
        seconds.append(result.values[:, 1])
    assert torch.equal(*seconds)


@pytest.mark.slow
def test_frames_of_different_strengths_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, safe = ([SafetyFigure("mean change of soft", n, 0.0, 2.0, "HU")] for n in (9.0, 1.0))
    answers = iter(
        [safe, broken, broken, broken, safe]
    )  # the second frame is safe at half the strength
    monkeypatch.setattr(look_transfer, "measure_safety", lambda *_, **__: next(answers))
    values = chest(5, 1)
    series = grid_of(values).with_values(torch.cat([grid_of(values).values] * 2, 1))
    inputs = TransferInputs(content=series, styles=[grid_of(chest(30, 2))], names=["c", "s"])
    messages: list[str] = []
    transfer = LookTransfer(inputs, VolumeOptions())
    list(transfer.run(state=None, group=None, on_message=messages.append))
    assert messages[-1].startswith("strength: 0.5 to 1 in different frames")


@pytest.mark.parametrize(("thickness", "slices"), [(1.0, 64), (5.0, 26)])
def test_the_look_of_a_tall_scan_is_measured_at_both_ends(thickness: float, slices: int) -> None:
    values = torch.arange(90.0)[:, None, None].expand(90, 8, 8) + torch.randn(90, 8, 8)
    sample = Scan.from_values(values, (thickness, 1.0, 1.0)).slabs()
    assert sample.values.shape[0] == slices
    heights = sample.values[sample.valid].round()
    assert float(heights.min()) < 4
    assert float(heights.max()) > 85
    assert not bool(sample.valid[slices // 3].any())  # between two slabs
