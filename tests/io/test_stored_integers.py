"""Voxels that nothing changed keep the integers of their file, however large they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import convnd.io

nibabel: Any = _nibabel  # its type hints are incomplete

LARGE = {
    "int32": 36_540_001,
    "uint32": 4_294_967_295,
    "int64": 9_007_199_254_740_993,
    "uint64": 18_446_744_073_709_551_615,
}


def save(path: Path, codes: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, codes)
    elif path.suffix == ".npz":
        np.savez(path, values=codes)
    elif path.suffix == ".nii":
        nibabel.Nifti1Image(codes, np.eye(4), dtype=codes.dtype).to_filename(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(codes.T), str(path))
    return path


def load(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        return np.load(path)["values"]
    if path.suffix == ".nii":
        return np.asarray(nibabel.load(path).dataobj)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T


@pytest.mark.parametrize("dtype", list(LARGE))
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".npy", ".npz"])
def test_large_integers_come_back(tmp_path: Path, suffix: str, dtype: Any) -> None:
    codes = np.full((3, 4, 5), LARGE[dtype], dtype)
    codes[1] = np.arange(20).reshape(4, 5)
    codes[2, 0] = np.iinfo(dtype).min
    grid = convnd.io.read(save(tmp_path / f"a{suffix}", codes))
    values = grid.values.clone()
    frame = values.reshape(3, 4, 5)
    frame[1, 2] += 7
    rounded, error, clipped = convnd.io.quantize(grid.with_values(values))
    assert (error, clipped) == (0, 0)
    convnd.io.write(tmp_path / f"b{suffix}", rounded)
    expected = codes.copy()
    expected[1, 2] += codes.dtype.type(7)
    back = load(tmp_path / f"b{suffix}")
    assert back.dtype == codes.dtype
    np.testing.assert_array_equal(back, expected)


def test_integers_that_the_intercept_hides_come_back(tmp_path: Path) -> None:
    codes = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(codes, np.eye(4), dtype=np.int16)
    image.header.set_slope_inter(1e-6, 1000.0)  # float32 has steps of 6e-5 there
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    rounded, _, _ = convnd.io.quantize(convnd.io.read(tmp_path / "a.nii"))
    convnd.io.write(tmp_path / "b.nii", rounded)
    stored = nibabel.load(tmp_path / "b.nii").dataobj.get_unscaled()
    np.testing.assert_array_equal(stored, codes)


def test_a_crop_keeps_its_integers(tmp_path: Path) -> None:
    codes = np.arange(60, dtype=np.int32).reshape(3, 4, 5) + 36_540_001
    grid = convnd.io.read(save(tmp_path / "a.nii", codes))
    box = convnd.io.crop(grid, [slice(1, 3), slice(0, 4), slice(2, 5)])
    convnd.io.write(tmp_path / "b.nii", convnd.io.quantize(box)[0])
    np.testing.assert_array_equal(load(tmp_path / "b.nii"), codes[1:, :, 2:])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mgz", ".npy", ".npz", ".nii"])
def test_integers_with_a_slope_keep_their_values_in_formats_without(
    tmp_path: Path, suffix: str
) -> None:
    codes = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(codes, np.eye(4), dtype=np.int16)
    image.header.set_slope_inter(0.5, -1024.0)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    grid = convnd.io.read(tmp_path / "a.nii")
    convnd.io.write(tmp_path / f"b{suffix}", convnd.io.quantize(grid)[0])
    back = convnd.io.read(tmp_path / f"b{suffix}").values
    np.testing.assert_array_equal(back.flatten(), grid.values.flatten())
