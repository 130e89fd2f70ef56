"""What a style of other anatomy may change, and the figures of small tissues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes import look_transfer
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.paired import Pair
from convnd_tasks.modalities.volumes.safety import limit_means, measure_safety
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure, describe_broken
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES
from numpy.typing import NDArray
from scipy import ndimage

from convnd.grid import Grid

Array = NDArray[np.float64]
SPACING = (1.0, 1.0, 1.0)
SHAPE = (24, 64, 64)


def body(noise: float, seed: int) -> Array:
    """Flesh and a bone in lung, with edges of one voxel and white noise."""
    _, y, x = np.meshgrid(*(np.arange(extent) for extent in SHAPE), indexing="ij")
    data = np.where(np.hypot(y - 32, x - 30) < 22, 40.0, -820.0)
    data[np.hypot(y - 30, x - 28) < 6] = 500.0
    data = ndimage.gaussian_filter(data, (0, 0.8, 0.8))
    return np.asarray(data + noise * np.random.default_rng(seed).normal(size=SHAPE))


def scan_of(values: Array) -> Scan:
    return Scan.from_values(torch.from_numpy(np.ascontiguousarray(values)).float(), SPACING)


def transfer(content: Array, style: Array) -> tuple[Array, list[str], dict[str, str]]:
    """The result, towards head first, the messages and the record."""
    header = {"affine": np.eye(4), "value_unit": "HU"}
    grids = []
    for values in (content, style):
        tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0))).float()
        grids.append(
            Grid(values=tensor[None, None], spacing=SPACING, units=("mm",) * 3, header=header)
        )
    inputs = TransferInputs(content=grids[0], styles=[grids[1]], names=["scan", "style"])
    look, messages = LookTransfer(inputs, VolumeOptions()), list[str]()
    *_, last = look.run(state=None, group=None, on_message=messages.append)
    result = look.result(last)
    assert result is not None
    changed = result.values[0, 0].numpy().transpose(2, 1, 0).astype(np.float64)
    return changed, messages, look.record


def test_a_filter_that_harms_at_every_strength_leaves_sharpness_and_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a style has more at high frequencies is its sharpness or its noise."""
    pair = Pair(scan_of(body(25, 2)), {1: 0.5, 2: 0.5})
    monkeypatch.setattr(look_transfer, "find_pair", lambda *_: pair)
    broken, safe = (SafetyFigure("mean change of soft", n, 0.0, 2.0, "HU") for n in (9.0, 1.0))
    calls = iter([*[[broken]] * 6, [safe]])
    monkeypatch.setattr(look_transfer, "measure_safety", lambda *_, **__: next(calls))
    content = body(5, 1)
    result, messages, record = transfer(content, body(25, 2))
    assert record["sharpness"] == "unchanged"
    assert any(line.startswith("sharpness and noise: left as they are") for line in messages)
    np.testing.assert_array_equal(result, content.astype(np.float32))


@pytest.mark.parametrize("paired", [True, False])
def test_noise_is_removed_only_if_it_can_be_told_from_anatomy(
    paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not paired:
        monkeypatch.setattr(look_transfer, "find_pair", lambda *_: None)
    content = body(30, 1)
    result, messages, _ = transfer(content, body(5, 2))
    flat = ndimage.gaussian_filter(content, 1.0) > -100
    flat &= ndimage.gaussian_filter(content, 1.0) < 180
    quieter = bool(result[flat].std() < 0.9 * content[flat].std())
    assert quieter == paired
    assert any("none is removed" in line for line in messages) != paired


def test_a_filter_keeps_the_means_of_small_tissues() -> None:
    """A bone whose core, four voxels inside, has fewer than 500 voxels."""
    values = body(1, 1)
    scan = scan_of(values)
    bone = torch.from_numpy(ndimage.gaussian_filter(values, 1) > 200)
    moved = torch.where(bone, scan.values + 10, scan.values)
    figures = measure_safety(scan, moved, moved, {}, CT_TISSUES, 1.0)
    assert "mean change of bone 10" in describe_broken(figures)
    excess = limit_means(scan, moved, moved, CT_TISSUES, 1.0)
    figures = measure_safety(scan, moved - excess, moved - excess, {}, CT_TISSUES, 1.0)
    assert "mean change" not in describe_broken(figures)
    # Noise scatters in so few voxels.
    figures = measure_safety(scan, scan.values, moved, {}, CT_TISSUES, 1.0)
    assert "mean change" not in describe_broken(figures)


def test_lung_gets_its_own_noise_from_another_image() -> None:
    """Vessels hide the noise of the lung, but not in the difference of two images."""
    content = body(2.0, 1)
    lung = body(0.0, 0) < -500
    content[:, :4] -= 160  # air, so that the range does not clip the noise of the lung
    lung[:, :4] = False
    style = content + np.random.default_rng(2).normal(size=SHAPE) * np.where(lung, 30.0, 8.0)
    result, _, _ = transfer(content, style)
    for tissue, deviation in ((lung, 30.0), (~lung & (content < 200), 8.0)):
        deep = ndimage.binary_erosion(tissue, iterations=5)
        assert (result - content)[deep].std() == pytest.approx(deviation, rel=0.15)
