"""Geometry of volumes: what one format says is what every other is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

import convnd.io
from convnd.grid import Grid

nibabel: Any = _nibabel  # its type hints are incomplete

SHEARED = np.array([[0.57, 0.3, 0, -40], [0, 0.57, 0, 17], [0, 0.1, 5, 90], [0, 0, 0, 1.0]])
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti(path: Path, sform: np.ndarray, *, pixdim: tuple[float, ...] | None = None) -> Path:
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.float32).reshape(4, 5, 6), None)
    image.header.set_qform(None, 0)
    image.header.set_sform(sform, 1)
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    path.write_bytes(image.to_bytes())
    return path


def affine_of(path: Path) -> np.ndarray:
    """The affine towards RAS+ as nibabel or SimpleITK read it."""
    if path.name.endswith((".nii", ".nii.gz")):
        return np.asarray(nibabel.load(path).affine)
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return FLIP @ affine


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_sform_decides_where_pixdim_says_something_else(tmp_path: Path, suffix: str) -> None:
    sform = np.diag([0.57, 0.57, 5, 1])
    grid = convnd.io.read(nifti(tmp_path / "a.nii", sform, pixdim=(1, 1, 1)))
    assert grid.spacing == pytest.approx((0.57, 0.57, 5))
    convnd.io.write(tmp_path / f"b{suffix}", grid)
    np.testing.assert_allclose(affine_of(tmp_path / f"b{suffix}"), sform, atol=1e-6)
    back = convnd.io.read(tmp_path / f"b{suffix}")
    assert back.spacing == pytest.approx((0.57, 0.57, 5))


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_shear_goes_into_every_format(tmp_path: Path, suffix: str) -> None:
    grid = convnd.io.read(nifti(tmp_path / "a.nii", SHEARED))
    lengths = np.linalg.norm(SHEARED[:3, :3], axis=0)
    assert grid.spacing == pytest.approx(lengths)
    written = tmp_path / f"b{suffix}"
    convnd.io.write(written, grid)
    np.testing.assert_allclose(affine_of(written), SHEARED, atol=1e-5)
    back = convnd.io.read(written)
    np.testing.assert_allclose(convnd.io.grid_affine(back), SHEARED, atol=1e-5)
    convnd.io.write(tmp_path / "c.nii", back)
    image = nibabel.load(tmp_path / "c.nii")
    np.testing.assert_allclose(image.affine, SHEARED, atol=1e-5)
    qform, code = image.header.get_qform(coded=True)
    assert code == 0 or np.allclose(qform, SHEARED, atol=1e-5)  # no second, other geometry


def test_a_header_of_two_minds_comes_back_as_it_was(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.diag([0.57, 0.57, 5, 1]), pixdim=(1, 1, 1))
    convnd.io.write(tmp_path / "b.nii", convnd.io.read(path))
    for name in ("pixdim", "srow_x", "srow_y", "srow_z", "sform_code", "qform_code"):
        np.testing.assert_array_equal(
            nibabel.load(path).header[name], nibabel.load(tmp_path / "b.nii").header[name]
        )


def test_a_crop_stays_in_its_place_in_every_format(tmp_path: Path) -> None:
    grid = convnd.io.read(nifti(tmp_path / "a.nii", SHEARED))
    box = convnd.io.crop(grid, [slice(1, 3), slice(2, 5), slice(3, 6)])
    corner = SHEARED @ [1, 2, 3, 1]
    for suffix in (".nii", ".nrrd", ".mha"):
        convnd.io.write(tmp_path / f"b{suffix}", box)
        np.testing.assert_allclose(affine_of(tmp_path / f"b{suffix}")[:3, 3], corner[:3], atol=1e-4)


def test_small_and_large_numbers_of_geometry_keep_their_digits(tmp_path: Path) -> None:
    affine = np.diag([0.017578125, 0.0123456789, 2.499999, 1])
    affine[:3, 3] = (-1234.56789, 0.000123456, 98765.4321)
    grid = Grid(
        values=torch.arange(24.0).reshape(1, 1, 2, 3, 4),
        spacing=tuple(affine.diagonal()[:3]),
        units=("mm",) * 3,
        header={"affine": affine},
    )
    for suffix in (".nrrd", ".mha"):
        convnd.io.write(tmp_path / f"b{suffix}", grid)
        back = convnd.io.read(tmp_path / f"b{suffix}")
        np.testing.assert_allclose(convnd.io.grid_affine(back), affine, rtol=1e-9)


def test_what_arrays_cannot_hold_of_a_scan_is_named(tmp_path: Path) -> None:
    grid = convnd.io.read(nifti(tmp_path / "a.nii", SHEARED))
    place = "position and directions of the scan"
    assert convnd.io.lost_metadata("b.npy", grid) == ("spacing", place)
    assert convnd.io.lost_metadata("b.npz", grid) == (place,)
    assert convnd.io.lost_metadata("b.nrrd", grid) == ()
