"""What keeps the anatomy of a scan: limits by construction, and figures that find harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.inputs import built_in_scan
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.paired import find_pair
from convnd_tasks.modalities.volumes.safety import measure_safety
from convnd_tasks.modalities.volumes.safety_figure import (
    SafetyFigure,
    describe_broken,
    describe_figures,
    is_judged,
)
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES
from convnd_tasks.modalities.volumes.units import check_voxel_sizes
from error_fields import raises
from numpy.typing import NDArray
from scipy import ndimage

from convnd.errors import InputFileError
from convnd.grid import Grid

Array = NDArray[np.float64]
SPACING = (1.0, 1.0, 1.0)
SHAPE = (24, 64, 64)
NONE = torch.zeros(3, 3, 3)


def body(noise: float = 3.0, seed: int = 0, blur: float = 0.8) -> Array:
    """Soft tissue in lung, with vessels and a bone of sharp edges, and white noise."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    data = np.full(SHAPE, -820.0)
    data[np.hypot(y - 34, x - 30) < 20] = 40.0
    data[np.hypot(y - 30, x - 28) < 6] = 500.0
    for centre in (6, 18, 46, 58):
        data[np.hypot(y - 7, x - centre) < 1.5] = 40.0
    data = ndimage.gaussian_filter(data, (0, blur, blur))
    return np.asarray(data + noise * np.random.default_rng(seed).normal(size=SHAPE))


def scan_of(values: Array) -> Scan:
    return Scan.from_values(torch.from_numpy(np.ascontiguousarray(values)).float(), SPACING)


def transfer(content: Array, style: Array, unit: str = "HU") -> tuple[Array, list[str], str]:
    """The result of a transfer, its messages, and its record of the anatomy."""
    header = {"affine": np.eye(4), "value_unit": unit}
    grids = [
        Grid(
            values=torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0)))[
                None, None
            ].float(),
            spacing=SPACING,
            units=("mm",) * 3,
            header=header,
        )
        for values in (content, style)
    ]
    inputs = TransferInputs(content=grids[0], styles=[grids[1]], names=["scan", "style"])
    look, messages = LookTransfer(inputs, VolumeOptions()), list[str]()
    *_, last = look.run(state=None, group=None, on_message=messages.append)
    result = look.result(last)
    assert result is not None
    changed = result.values[0, 0].numpy().transpose(2, 1, 0).astype(np.float64)
    return changed, messages, look.record["anatomy"]


def figures_of(scan: Scan, filtered: torch.Tensor, result: torch.Tensor) -> list[SafetyFigure]:
    changes = {tissue: NoiseChange(NONE, NONE, 0.0, 3.0, 3.0) for tissue in range(5)}
    return measure_safety(scan, filtered, result, changes, CT_TISSUES, 1.0)


def test_a_strong_sharpening_overshoots_as_its_style_does() -> None:
    content = body()
    style = content + 2.0 * (content - ndimage.gaussian_filter(content, (0, 1.2, 1.2)))
    style = style.clip(content.min(), content.max())
    result, messages, _ = transfer(content, style[:, :, ::-1].copy())
    assert any("sharpened" in line for line in messages)
    window = (5, 5, 5)
    low, high = ndimage.minimum_filter(content, window), ndimage.maximum_filter(content, window)
    beyond = [np.maximum(values - high, low - values).max() for values in (style, result)]
    assert beyond[0] > 0.1 * (high - low).max()
    assert beyond[1] < 1.1 * beyond[0]


def test_what_a_filter_does_counts_as_harm() -> None:
    """H17: a filter in the wrong direction; the result equals the filtered scan."""
    scan = scan_of(body())
    blurred = gaussian(scan.values, (2.0, 2.0, 2.0))
    assert "thin structures" in describe_broken(figures_of(scan, blurred, blurred))
    mild = gaussian(scan.values, (0.5, 0.5, 0.5))
    assert describe_broken(figures_of(scan, mild, mild)) == ""


def test_noise_lowers_the_limit_of_dice_as_far_as_it_explains() -> None:
    scan = scan_of(body())
    kernel = torch.zeros(9, 9, 9)
    kernel[4, 4, 4] = 1.0
    kernel = 900 * gaussian(kernel, (1.5, 1.5, 1.5))
    changes = dict.fromkeys(range(5), NoiseChange(kernel, NONE, 0.0, 3.0, 90.0))
    figures = measure_safety(scan, scan.values, scan.values, changes, CT_TISSUES, 1.0)
    assert min(figure.low for figure in figures if figure.name.startswith("Dice")) < 0.98


def test_figures_that_cannot_be_measured_are_not_safe() -> None:
    """Grains of bone in constant flesh, which counts as padding: no figure can be measured."""
    rng = np.random.default_rng(1)
    grains = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.0)
    content = np.where(grains > 2.8 * grains.std(), 300 + 400 * grains, 100.0).round()
    style = np.where(content != 100, 300 + rng.normal(size=SHAPE), 100.0)
    result, messages, record = transfer(content, style, unit="")
    assert any(line.startswith("noise: none is removed, since no figure") for line in messages)
    assert "not measured: " in record
    assert "Dice of two classes" in record
    # Noise is added only: nothing is removed that may be anatomy.
    assert np.abs(result - content).max() < 6 * 60
    bone = content != 100
    assert result[bone].std() > 0.98 * content[bone].std()


def test_missing_figures_are_told_apart() -> None:
    figures = [
        SafetyFigure("a", 1.0, 0.0, 2.0, decisive=False),
        SafetyFigure("b", float("nan"), 0.0, 0.0, reason="too small"),
        SafetyFigure("c", float("nan"), 0.0, 0.0, reason="too small"),
    ]
    assert describe_figures(figures) == "a 1 (at most 2); not measured: b, c (too small)"
    assert describe_broken(figures) == ""
    assert not is_judged(figures)
    assert is_judged([*figures, SafetyFigure("mean change of soft", 0.0, 0.0, 2.0)])


def test_noise_alone_is_no_sharpness() -> None:
    for quiet, loud in ((1.0, 40.0), (40.0, 1.0)):
        scan, style = scan_of(body(quiet)), scan_of(body(loud, seed=3)[:, :, ::-1])
        pair = find_pair(scan, style, 1.0)
        assert pair is not None
        assert pair.filters == {}


def test_a_sharpening_of_ideal_edges_is_found() -> None:
    sharp = body(1.0, blur=0.1)
    style = 2 * sharp - ndimage.gaussian_filter(sharp, (0, 1.0, 1.0))
    style = style.clip(sharp.min(), sharp.max())
    pair = find_pair(scan_of(sharp), scan_of(style[:, :, ::-1]), 1.0)
    assert pair is not None
    assert pair.filters[2] == pytest.approx(1.0, abs=0.1)


def test_a_style_that_shows_something_else_is_no_pair() -> None:
    scan, other = body(), body(seed=2)
    assert find_pair(scan_of(scan), scan_of(other[:, :, ::-1]), 1.0) is not None
    without_lung = np.where(scan < -400, 40.0, scan)
    assert find_pair(scan_of(scan), scan_of(without_lung), 1.0) is None
    coarse = Scan.from_values(scan_of(scan).values, (2.0, 2.0, 2.0))
    assert find_pair(scan_of(scan), coarse, 2.0) is None


@pytest.mark.parametrize("contrast", [0.3, 0.5, 0.6, 0.8, 1.2])
def test_another_contrast_of_tissues_is_no_sharpness(contrast: float) -> None:
    other = body(seed=2)
    other = np.where(other > -390, -390 + contrast * (other + 390), other)
    pair = find_pair(scan_of(body()), scan_of(other), 1.0)
    assert pair is None or pair.filters == {}


def test_the_sharpness_of_another_body_is_left() -> None:
    content = body()
    other = np.where(content < -400, 40.0, content)
    style = ndimage.gaussian_filter(other, 1.0)
    _, messages, _ = transfer(content, style)
    assert "sharpness: unchanged" in messages
    assert any(line.startswith("style: its sharpness is not transferred") for line in messages)


def test_a_style_of_much_coarser_voxels_is_refused() -> None:
    values = torch.zeros(1, 1, 20, 20, 20)
    scan, style = (Grid(values=values, spacing=(s,) * 3, units=("mm",) * 3) for s in (1.0, 3.0))
    with raises(InputFileError, expected="voxels of 0.4 to 2.5 mm"):
        check_voxel_sizes(scan, [style])


@pytest.mark.parametrize("spacing", [0.6, 3.0])
def test_the_built_in_style_has_the_voxels_of_a_small_scan(spacing: float) -> None:
    scan = Grid(values=torch.zeros(1, 1, 64, 64, 12), spacing=(spacing,) * 3, units=("mm",) * 3)
    assert built_in_scan("sharp", 0, scan).spacing == pytest.approx((spacing,) * 3)
