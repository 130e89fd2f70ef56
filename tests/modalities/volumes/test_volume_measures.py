"""Measures of scans: known answers, cases worked by hand, IBSI's phantom, and scikit-image."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.metrics import Measure, as_json
from convnd_tasks.modalities.structural_similarity import structural_similarity
from convnd_tasks.modalities.volumes import similarity
from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan, edge_widths
from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.modalities.volumes.radiomics import Blocks, concordance, first_order, texture
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES
from error_fields import raises
from skimage.feature import graycomatrix, graycoprops
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as reference_similarity

from convnd.errors import InputFileError
from convnd.grid import Grid

# The digital phantom of IBSI: five by four by four voxels; 0 is outside its region.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
DEVIATION = 8.0  # HU, of the body's noise


def body(seed: int = 0, shape: tuple[int, ...] = (64, 60, 20), low: float = -850.0) -> Grid:
    """Soft tissue with a darker box in it, and white noise; axes right, front, head."""
    values = torch.full(shape, 40.0)
    values[16:40, 14:44, 3:17] = low
    values = gaussian(values, (0.8, 0.8, 0.0))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Grid(
        values=(values + DEVIATION * noise)[None, None],
        spacing=(1.0, 1.0, 3.0),
        units=("mm",) * 3,
        header={"affine": np.diag([1.0, 1.0, 3.0, 1.0]), "value_unit": "HU"},
    )


def measure(content: Grid, result: Grid, *styles: Grid) -> dict[str, Measure]:
    return {measure.name: measure for measure in measure_all(content, result, styles)}


def test_a_scan_equals_itself() -> None:
    scan = body()
    measures = measure(scan, scan, scan)
    values = {name: measure.value for name, measure in measures.items()}
    assert values["psnr"] == math.inf
    for name in ("ssim", "dice_of_two_classes", "dice_of_three_classes"):
        assert values[name] == pytest.approx(1, abs=1e-6), name
    for name in ("first_order_ccc", "texture_ccc", "first_order_ccc_style", "texture_ccc_style"):
        assert values[name] == pytest.approx(1), name
    for name in ("placement", "bias", "rmse", "largest_difference", "anatomy_error"):
        assert values[name] == 0, name
    assert values["noise_distance_soft"] == pytest.approx(0, abs=1e-6)
    soft = measures["noise_soft"]
    assert soft.value == soft.before == soft.style
    entry = json.loads(json.dumps(as_json([measures["psnr"]]), allow_nan=False))["psnr"]
    assert (entry["value"], entry["infinite"]) == (None, True)


def test_known_noise_is_measured() -> None:
    scan = body()
    extra = 15.0
    noise = torch.randn(scan.shape, generator=torch.Generator().manual_seed(1))
    louder = scan.with_values(scan.values + extra * noise)
    measures = measure(scan, louder)
    # The high-pass filter passes this share of the power of white noise. Over the 20,000 places
    # and more that are flat, an estimate of a deviation spreads by 0.5 %; 3 % are six of it.
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(17),) * 2))
    passed = ((1 - np.exp(-2 * (math.pi * 4 * radius) ** 2)) ** 4).mean()
    for name, deviation in (("before", DEVIATION), ("value", math.hypot(DEVIATION, extra))):
        expected = deviation * math.sqrt(passed)
        assert getattr(measures["noise_soft"], name) == pytest.approx(expected, rel=0.03)
    ratio = math.hypot(DEVIATION, extra) / DEVIATION
    first, last = measures["cnr_lung_soft"].before, measures["cnr_lung_soft"].value
    assert first is not None
    assert first / last == pytest.approx(ratio, rel=0.03)
    assert measures["rmse"].value == pytest.approx(extra, rel=0.02)
    difference = (louder.values - scan.values).numpy()
    span = float(measures["psnr"].meaning.split("; peak ")[1].split()[0])
    assert measures["psnr"].value == pytest.approx(
        peak_signal_noise_ratio(difference * 0, difference, data_range=span), abs=0.01
    )


@pytest.mark.slow
def test_the_noise_of_a_style_is_that_of_the_result_that_has_it() -> None:
    scan = body()
    noise = torch.randn((20, 60, 64), generator=torch.Generator().manual_seed(1))
    coarse = gaussian(noise, (0.0, 1.0, 1.0)).permute(2, 1, 0) * 60
    style = scan.with_values(scan.values + coarse)
    measures = measure(scan, style, style)
    distance = measures["noise_distance_soft"]
    # Both spectra are estimates. Each of about 130 independent frequencies spreads by the root of
    # 130 / 20,000 places, 8 % of its power, so two estimates of one noise are about 10 % apart.
    assert distance.value < 0.15
    assert distance.before is not None
    assert distance.before > 0.75
    frequency = measures["noise_frequency_soft"]
    assert frequency.style == pytest.approx(frequency.value, rel=0.03)
    assert frequency.before is not None
    assert frequency.value < 0.7 * frequency.before


@pytest.mark.parametrize("sigma", [1.0, pytest.param(1.5, marks=pytest.mark.slow)])
def test_the_width_of_edges_follows_a_known_blur(sigma: float) -> None:
    scan = body(shape=(72, 70, 24))
    blurred = gaussian(scan.values[0, 0], (sigma, sigma, 0.0))[None, None]
    measures = measure(scan, scan.with_values(blurred))
    for axis in ("front", "right"):
        width = measures[f"edge_width_{axis}"]
        assert width.before is not None
        # Corners of the box are blurred along both axes.
        assert width.value == pytest.approx(math.hypot(width.before, sigma), rel=0.04)


def test_edges_of_a_known_width_have_it_whatever_the_noise() -> None:
    values = body(shape=(72, 70, 24), low=-600).values[0, 0].permute(2, 1, 0)
    (first, second), (_, third) = (
        list(edge_widths(Scan.from_values(part, (3.0, 1.0, 1.0)), 1.0).values())
        for part in (values, values + 10 * torch.randn(values.shape))
    )
    # A step between two voxels is off their centres by half a voxel, which widens it to 0.92.
    assert first == pytest.approx(0.92, rel=0.03)
    assert second == pytest.approx(third, rel=0.02)


@pytest.mark.slow
def test_noise_does_not_depend_on_where_a_part_of_a_scan_begins() -> None:
    values = body(shape=(80, 70, 20)).values[0, 0].permute(2, 1, 0)
    noises = []
    for first in (0, 1, 2, 5):
        part = values[:, first : first + 60, first : first + 64]
        noise = MeasuredScan.measure(Scan.from_values(part, (3.0, 1.0, 1.0)), "HU", 1.0).noise
        assert {"lung", "soft"} <= {CT_TISSUES.names[tissue] for tissue in noise}
        noises.append([noise[tissue].deviation for tissue in sorted(noise)])
    for other in noises[1:]:
        # Other voxels at the rim alone: a tenth of the places at most.
        assert other == pytest.approx(noises[0], rel=0.02)


def test_blocks_of_radiomics_lie_at_the_same_places_of_the_scanner() -> None:
    inside = np.ones((20, 60, 64), bool)
    one = Blocks(inside, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    other = Blocks(inside[:, 5:, 7:], (3.0, 1.0, 1.0), (0.0, 5.0, 7.0))
    moved = {tuple(s.start + n for s, n in zip(box, (0, 5, 7), strict=True)) for box in other.boxes}
    assert moved
    assert moved <= {tuple(part.start for part in box) for box in one.boxes}


def test_a_shift_of_values_is_bias_and_moves_means() -> None:
    scan = body()
    measures = measure(scan, scan.with_values(scan.values + 5))
    assert measures["bias"].value == pytest.approx(5, abs=1e-3)
    soft = measures["mean_soft"]
    assert soft.before == pytest.approx(40, abs=0.2)
    assert soft.value - 40 == pytest.approx(5, abs=0.2)
    assert {measures[name].unit for name in ("bias", "mean_soft", "noise_soft")} == {"HU"}


def test_every_frame_of_a_series_is_measured() -> None:
    scan = body(shape=(44, 46, 20))
    series = Grid(
        values=torch.cat([scan.values, scan.values + 3], 1),
        spacing=scan.spacing,
        units=scan.units,
        header=scan.header,
    )
    shifted = series.with_values(series.values + torch.tensor([2.0, 4.0]).view(1, 2, 1, 1, 1))
    measures = measure(series, shifted)
    assert measures["frames"].value == 2
    bias = measures["bias"]
    assert bias.value == pytest.approx(3, abs=1e-3)
    assert bias.parts == pytest.approx({"frame 1": 2.0, "frame 2": 4.0}, abs=1e-3)


def test_padding_and_missing_values_do_not_count() -> None:
    scan = body()
    values = scan.values.clone()
    values[:, :, :12] = -2000
    changed = values.clone()
    changed[:, :, :6] += 100
    changed[0, 0, 30, 30, 10] = math.nan
    measures = measure(scan.with_values(values), scan.with_values(changed))
    assert measures["changed_background"].value == pytest.approx(50)
    assert measures["rmse"].value == 0
    share = 100 * (52 * 60 * 20 - 1) / (64 * 60 * 20)
    assert measures["compared"].value == pytest.approx(share)
    with raises(InputFileError, operation="evaluate", got="none"):
        measure(scan, scan.with_values(scan.values * math.nan))


def test_scans_of_other_voxels_or_units_are_refused() -> None:
    scan = body()
    small = Grid(values=torch.ones(1, 1, 3, 3, 3))
    with raises(InputFileError, operation="evaluate", got="64 x 60 x 20 and"):
        measure_all(scan, small, [])
    other = Grid(values=scan.values, spacing=(1.0, 1.0, 2.0), units=scan.units)
    plain = Grid(values=scan.values, spacing=scan.spacing, units=scan.units)
    with raises(InputFileError, operation="evaluate", got="voxels of 1 x 1 x"):
        measure_all(plain, other, [])
    header = {**scan.header, "value_unit": "SUV"}
    uptake = Grid(values=scan.values, spacing=scan.spacing, units=scan.units, header=header)
    with raises(InputFileError, operation="evaluate", got="HU and SUV"):
        measure_all(scan, uptake, [])
    assert measure(uptake, uptake)["rmse"].unit == "SUV"


def test_similarity_equals_that_of_scikit_image(rng: Any) -> None:
    one, two = rng.normal(size=(2, 24, 25, 26))
    expected = reference_similarity(
        one, two, data_range=4.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )[1]
    weight = rng.random(one.shape)
    first, second, weights = (torch.from_numpy(values) for values in (one, two, weight))
    actual = structural_similarity(first, second, 4.0, weights, mirrored=True)
    assert actual == pytest.approx((expected * weight).sum() / weight.sum(), abs=1e-9)


def test_texture_in_a_plane_equals_that_of_scikit_image(rng: Any) -> None:
    picture = rng.integers(0, 8, (20, 21))
    features = texture(picture[..., None] * 25.0 + 1)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    # Diagonal neighbours of scikit-image are one voxel apart along both axes, as here.
    tables = graycomatrix(picture, [1], angles, levels=8, symmetric=True, normed=True)
    names = {
        "contrast": "contrast",
        "dissimilarity": "dissimilarity",
        "correlation": "correlation",
        "inverse_difference_moment": "homogeneity",
        "angular_second_moment": "ASM",
        "joint_entropy": "entropy",
    }
    for name, theirs in names.items():
        expected = graycoprops(tables, theirs).mean() / (math.log(2) if "entropy" in name else 1)
        assert features[name] == pytest.approx(expected, rel=1e-6), name


def test_radiomics_of_the_digital_phantom_equal_those_of_ibsi() -> None:
    """Values of the consensus, to the digits that IBSI gives."""
    inside = PHANTOM > 0
    expected = {
        "mean": 2.15,
        "variance": 3.05,
        "skewness": 1.08,
        "kurtosis": -0.355,
        "median": 1,
        "p10": 1,
        "p90": 4,
        "interquartile_range": 3,
        "entropy": 1.27,
        "uniformity": 0.512,
        "contrast": 5.32,
        "dissimilarity": 1.43,
        "inverse_difference": 0.677,
        "inverse_difference_moment": 0.618,
        "angular_second_moment": 0.303,
        "joint_entropy": 2.4,
        "correlation": 0.157,
        "cluster_tendency": 7.07,
    }
    features = first_order(PHANTOM, inside, bin_width=1) | texture(PHANTOM, inside, bin_width=1)
    assert {name: float(f"{value:.3g}") for name, value in features.items()} == expected


def test_radiomics_need_voxels() -> None:
    for function in (first_order, texture):
        with raises(InputFileError, expected="in the mask", got="none"):
            function(PHANTOM, PHANTOM > 9)


def test_concordance_by_hand() -> None:
    assert concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert concordance([0, 0], [0, 0]) == 1
    assert concordance([1, 2, 3], [3, 1, 2], ranked=True) == pytest.approx(1)


def test_lungs_and_their_dark_share_are_found(rng: Any) -> None:
    values = np.full((60, 60, 20), 40.0, np.float32)
    values[:4] = -1000  # outside
    values[15:45, 15:45, 3:17] = -850
    values[20:30, 20:30, 5:15] = -970
    mask = similarity.lung_mask(values, (2.0, 2.0, 3.0))
    assert mask is not None
    assert mask[30, 30, 10]
    assert not mask[1, 30, 10]
    assert similarity.lung_mask(np.zeros((20, 20, 20)), (1, 1, 1)) is None
    assert similarity.anatomy_error(values + 7, values, (2.0, 2.0, 3.0)) == pytest.approx(7)
    grid = Grid(
        values=torch.from_numpy(values + rng.normal(size=values.shape).astype(np.float32))[
            None, None
        ],
        spacing=(2.0, 2.0, 3.0),
        units=("mm",) * 3,
    )
    truth = 1000 / (30 * 30 * 14)  # of the box; the mask is a voxel smaller at its rim
    assert measure(grid, grid)["laa950"].before == pytest.approx(100 * truth, rel=0.25)
