"""The look of a part of a scan: its figures are those of the part."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.scan import Scan

from convnd.grid import Grid

SHAPE = (24, 64, 64)


def tissue(noise: float, seed: int) -> Grid:
    """Soft tissue of 40 HU with white noise, above lung, and some bone."""
    values = np.where(np.arange(64)[:, None] < 44, 40.0, -850.0) + np.zeros(SHAPE)
    values[:, :6, :6] = 700.0
    values += np.random.default_rng(seed).normal(0, noise, SHAPE)
    header = {"affine": np.eye(4), "value_unit": "HU"}
    tensor = torch.from_numpy(values)[None, None].float()
    return Grid(values=tensor, spacing=(1.0,) * 3, units=("mm",) * 3, header=header)


def noise_lines(mask: torch.Tensor | None) -> str:
    """What a transfer from noise of 5 HU to noise of 15 HU says about soft tissue."""
    content = tissue(5, 1)
    inputs = TransferInputs(
        content=content,
        styles=[tissue(15, 2)],
        names=["scan", "style"],
        mask=None if mask is None else content.with_values(mask[None, None].float()),
    )
    lines: list[str] = []
    list(LookTransfer(inputs, VolumeOptions()).run(state=None, group=None, on_message=lines.append))
    return next(line for line in lines if line.startswith("noise of soft"))


def test_the_noise_of_a_small_part_is_measured_in_that_part() -> None:
    mask = torch.zeros(SHAPE)
    mask[4:20, 8:24, 8:24] = 1  # 6 % of the soft tissue
    whole, part = noise_lines(None), noise_lines(mask)
    after = [float(line.split(" to ")[1].split(" HU")[0]) for line in (whole, part)]
    # 16 x 16 x 16 independent values scatter by 1.1 %; the residual of a small part by more.
    assert after == pytest.approx([15, 15], rel=0.12)


def test_a_part_contains_the_mask_and_counts_nothing_else() -> None:
    values = torch.arange(4 * 5 * 6).float().reshape(4, 5, 6)
    valid = values != 50.0
    inside = torch.zeros(4, 5, 6, dtype=torch.bool)
    inside[1, 2, 3] = inside[1, 3, 2] = inside[2, 2, 2] = True
    box, part = Scan(values, (1.0, 1.0, 1.0), valid).part(inside)
    assert box == (slice(1, 3), slice(2, 4), slice(2, 4))
    np.testing.assert_array_equal(part.values, values[1:3, 2:4, 2:4])
    # Voxel 50 is (1, 3, 2): inside, but missing.
    np.testing.assert_array_equal(part.valid, [[[False, True], [False, False]], [[1, 0], [0, 0]]])


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.8])
def test_another_image_of_a_scan_is_found_behind_a_wrong_factor(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros around one of both change the medians that the unit of a style is guessed by."""
    monkeypatch.setattr("convnd_tasks.modalities.volumes.units.level_ratio", lambda *_: factor)
    content, style = (
        grid.with_values(grid.values + 1000) for grid in (tissue(5, 1), tissue(15, 2))
    )
    content, style = (dataclasses.replace(grid, header={}) for grid in (content, style))
    inputs = TransferInputs(content=content, styles=[style], names=["scan", "style"])
    transfer, lines = LookTransfer(inputs, VolumeOptions(modality="mr")), list[str]()
    *_, last = transfer.run(state=None, group=None, on_message=lines.append)
    words = "" if factor == 1 else " without that factor"
    assert any(line.startswith(f"style: another image of this scan{words}, so") for line in lines)
    result = transfer.result(last)
    assert result is not None
    change = (result.values - content.values)[content.values > 900]
    assert float(change.std()) == pytest.approx((15**2 - 5**2) ** 0.5, rel=0.15)
