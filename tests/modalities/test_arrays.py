"""Arrays of any number of axes: short axes, and series of volumes from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.arrays.codec import Continuation, prepare
from convnd_tasks.modalities.arrays.options import ArrayOptions
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from error_fields import check_error, raises

import convnd
from convnd.errors import InputFileError
from convnd.grid import Grid

nibabel: Any = _nibabel  # its type hints are incomplete
QUICK = ("--steps", "1", "--scales", "1", "--content-layers", "relu1_2", "--style-layers")


def prepared(shape: tuple[int, ...], style: tuple[int, ...], **options: Any) -> PreparedInputs:
    generator = torch.Generator().manual_seed(0)
    content, other = (
        Grid(values=torch.rand(1, 2, *extents, generator=generator)) for extents in (shape, style)
    )
    inputs = TransferInputs(content=content, styles=[other], names=["c", "s"])
    return prepare(inputs, ArrayOptions.for_dim(len(shape), **options))


@pytest.mark.parametrize("extent", [2, 3, 5, 8, 15, 16, 17])
def test_a_short_axis_is_continued_by_its_mirror_image(extent: int) -> None:
    values = torch.arange(float(extent)).view(1, 1, extent)
    longer = Continuation.of((extent,), (extent,))
    continued = longer.extend(values)[0, 0]
    assert torch.equal(longer.crop(continued[None, None]), values)
    assert len(continued) >= 16
    assert len(continued) == longer.extended((extent,))[0] < 16 + extent
    steps = continued.diff().abs()
    assert torch.equal(steps, torch.ones_like(steps))  # no jump, and no sample twice
    if extent > 15:
        assert len(continued) == extent


def test_content_and_style_are_long_enough_and_the_result_has_the_content_s_size() -> None:
    inputs = prepared((20, 3, 1, 17), (2, 40, 1, 9))
    assert inputs.content is not None
    assert inputs.content.shape == (2, 1, 20, 18, 1, 17)
    assert inputs.styles[0].shape == (2, 1, 16, 40, 1, 18)
    assert inputs.size == (20, 18, 1, 17)
    decoded = inputs.decode(inputs.content)
    assert decoded.values.shape == (1, 2, 20, 3, 1, 17)
    torch.testing.assert_close(
        decoded.values,
        torch.rand(1, 2, 20, 3, 1, 17, generator=torch.Generator().manual_seed(0)),
    )
    share = torch.rand(1, 1, 20, 3, 1, 17)
    assert inputs.encode_share(share).shape == (1, 1, 20, 18, 1, 17)


@pytest.mark.parametrize("size", [12, 40])
def test_a_short_axis_is_resized_like_the_others(size: int) -> None:
    """The continued field has as many images before and after: they scale alike."""
    inputs = prepared((20, 4), (20, 20), size=size)
    assert min(inputs.size) >= 16
    field = torch.zeros(1, 1, *inputs.size)
    assert inputs.decode(field.expand(2, -1, -1, -1)).shape == (size, round(4 * size / 20))


def test_an_axis_of_one_sample_stays_at_every_size() -> None:
    assert prepared((20, 1), (20, 1), size=100).size == (100, 1)


def test_gaps_of_a_short_axis_stay() -> None:
    content = torch.rand(1, 1, 20, 3)
    content[0, 0, 4, 1] = float("nan")
    result = convnd.stylize(
        Grid(values=content), torch.rand(20, 20), dim=2, steps=1, backbone="compact"
    )
    assert torch.equal(result.values.isnan(), content.isnan())


def test_a_period_has_no_short_axis() -> None:
    with raises(InputFileError, expected="at least 16 samples along each axis of a field without"):
        prepared((20, 3), (20, 20), seamless=True)


def bold(path: Path, shape: tuple[int, ...], seed: int) -> Any:
    numbers = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    image = nibabel.Nifti1Image(numbers, np.diag([3.0, 3, 6, 1]))
    image.header.set_zooms((3, 3, 6, 2))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return numbers


def test_a_series_of_volumes_is_stylised_over_four_axes(tmp_path: Path, run: Run) -> None:
    numbers = bold(tmp_path / "bold.nii", (9, 16, 2, 3), 0)
    other = bold(tmp_path / "style.nii.gz", (16, 8, 3, 4), 1)
    code, _, err = run("stylize", "bold.nii", "style.nii.gz", "--dim", "4", *QUICK, "relu1_2")
    assert code == 0, err
    image = nibabel.load(tmp_path / "bold_stylized.nii.gz")
    assert image.shape == numbers.shape
    assert image.header.get_zooms() == (3, 3, 6, 2)
    in_python = convnd.stylize(
        numbers.T,
        other.T,
        dim=4,
        steps=1,
        scales=1,
        content_layers=["relu1_2"],
        style_layers=["relu1_2"],
    )
    assert np.array_equal(image.get_fdata().T, in_python.values[0, 0].numpy())
    assert not np.array_equal(image.get_fdata(), numbers)


def test_files_that_hold_no_series_are_refused(tmp_path: Path, run: Run) -> None:
    bold(tmp_path / "bold.nii", (16, 16, 16, 16), 0)
    for output, expected in (("a.nrrd", "a name ending in"), ("a.png", "a name ending in")):
        code, _, err = run("stylize", "bold.nii", "bold.nii", "--dim", "4", "-o", output)
        assert code == 2
        check_error(err, operation=f"write {output}", expected=expected)
    (tmp_path / "scan.nrrd").touch()
    code, _, err = run("stylize", "scan.nrrd", "bold.nii", "--dim", "4")
    assert code == 2
    check_error(err, expected="3, the number of axes of scan.nrrd", got="4")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bold.nii", "scan.nrrd"]
