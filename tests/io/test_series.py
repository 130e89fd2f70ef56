"""Series of volumes as fields of four axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import torch
from error_fields import raises

import convnd.io
from convnd.errors import ShapeError, UsageError
from convnd.grid import Grid
from convnd.io.volumes.series import axis_to_frames, frames_to_axis

nibabel: Any = _nibabel  # its type hints are incomplete
AFFINE = np.array([[-3.0, 0, 0, 12], [0, 3, 0, -7], [0, 0, 5, 100], [0, 0, 0, 1]])
SUFFIXES = (".nii.gz", ".nii", ".hdr", ".mgz")


def series(path: Path, dtype: str = "int16") -> Any:
    """Write a series of seven volumes, one in 0.72 s, and return its numbers ``(I, J, K, T)``."""
    numbers = np.random.default_rng(0).integers(0, 900, (4, 5, 6, 7)).astype(dtype)
    if path.suffix == ".mgz":
        image = nibabel.MGHImage(numbers, AFFINE)
        image.header["tr"] = 720
    else:
        kind = nibabel.Nifti1Pair if path.suffix == ".hdr" else nibabel.Nifti1Image
        image = kind(numbers, AFFINE)
        image.header.set_zooms((3, 3, 5, 0.72))
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = b"rest"
    nibabel.save(image, path)
    return numbers


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by nibabel
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_become_the_first_axis_and_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bold{suffix}"
    numbers = series(path)
    grid = frames_to_axis(convnd.io.read(path))
    np.testing.assert_array_equal(grid.values[0, 0], numbers.T)
    step = (720.0, "ms") if suffix == ".mgz" else (0.72, "s")
    assert grid.spacing == (step[0], 5.0, 3.0, 3.0)
    assert (grid.units, grid.axes) == ((step[1], "mm", "mm", "mm"), ("t", "k", "j", "i"))
    convnd.io.write(tmp_path / f"copy{suffix}", grid)
    copy = nibabel.load(tmp_path / f"copy{suffix}")
    np.testing.assert_array_equal(np.asarray(copy.dataobj), numbers)
    np.testing.assert_allclose(copy.affine, AFFINE)
    assert copy.header.get_zooms() == nibabel.load(path).header.get_zooms()
    if suffix != ".mgz":
        assert copy.header["descrip"].item() == b"rest"


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_integers_of_a_series_come_back(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.nii"
    numbers = np.random.default_rng(0).integers(-(2**14), 2**14, (2, 3, 4, 5)).astype(dtype)
    if dtype == "int32":
        numbers += 2**30  # float32 does not tell these apart
    image = nibabel.Nifti1Image(numbers, AFFINE)
    nibabel.save(image, path)
    grid, error, _ = convnd.io.quantize(frames_to_axis(convnd.io.read(path)))
    assert error == 0
    convnd.io.write(tmp_path / "b.nii", grid)
    copy = nibabel.load(tmp_path / "b.nii")
    assert copy.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(copy.dataobj), numbers)


def test_a_series_of_another_size_keeps_its_duration_and_field_of_view(tmp_path: Path) -> None:
    series(tmp_path / "a.nii")
    grid = frames_to_axis(convnd.io.read(tmp_path / "a.nii"))
    convnd.io.write(tmp_path / "b.nii", grid.with_values(torch.rand(1, 1, 14, 6, 5, 8)))
    copy = nibabel.load(tmp_path / "b.nii")
    assert copy.shape == (8, 5, 6, 14)
    assert copy.header.get_zooms() == pytest.approx((1.5, 3, 5, 0.36))


@pytest.mark.parametrize(("unit", "name"), [("s", "sec"), ("ms", "msec"), ("px", "unknown")])
def test_an_array_of_four_axes_is_written_as_a_series(tmp_path: Path, unit: str, name: str) -> None:
    values = torch.rand(1, 1, 3, 4, 5, 6)
    units = (unit, "mm", "mm", "mm")
    grid = Grid(values=values, spacing=(2.0, 1.5, 1.0, 0.5), units=units)
    convnd.io.write(tmp_path / "a.nii.gz", grid)
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), values[0, 0].numpy().T)
    assert image.header.get_zooms() == (0.5, 1.0, 1.5, 2.0)
    assert image.header.get_xyzt_units() == ("mm", name)


def test_a_header_without_a_time_step_gets_none(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((2, 3, 4, 5), np.float32), AFFINE)
    image.header["pixdim"][4] = 0
    nibabel.save(image, tmp_path / "a.nii")
    grid = frames_to_axis(convnd.io.read(tmp_path / "a.nii"))
    assert (grid.spacing[0], grid.units[0]) == (1.0, "px")
    convnd.io.write(tmp_path / "b.nii", grid)
    assert nibabel.load(tmp_path / "b.nii").header["pixdim"][4] == 0


def test_one_volume_is_a_series_of_one(tmp_path: Path) -> None:
    values = torch.rand(1, 1, 2, 3, 4)
    grid = frames_to_axis(Grid(values=values))
    assert grid.shape == (1, 4, 3, 2)
    assert torch.equal(axis_to_frames(grid).values, values)
    convnd.io.write(tmp_path / "a.nii", grid)
    assert nibabel.load(tmp_path / "a.nii").shape == (2, 3, 4)


def test_other_formats_and_several_channels_are_refused(tmp_path: Path) -> None:
    field = Grid(values=torch.rand(1, 1, 3, 4, 5, 6))
    with raises(ShapeError, expected="3 spatial dims for NRRD", got="4"):
        convnd.io.write(tmp_path / "a.nrrd", field)
    with raises(ShapeError, expected="3 spatial dims for NIfTI", got="4"):
        convnd.io.write(tmp_path / "a.nii", Grid(values=torch.rand(1, 2, 3, 4, 5, 6)))
    with raises(UsageError, operation=f"write {tmp_path / 'a.nrrd'}"):
        convnd.io.check_output(tmp_path / "a.nrrd", spatial_dims=4)
    convnd.io.check_output(tmp_path / "a.nii.gz", spatial_dims=4)
    assert not list(tmp_path.iterdir())
