"""Volumes are made and looked at with nibabel; ours stands between."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from error_fields import raises
from numpy.typing import NDArray

import convnd.io
from convnd.errors import InputFileError, NumericalError, ShapeError, UsageError
from convnd.grid import Grid

OBLIQUE = np.array(
    [[0.0, -0.6, 0.1, 12.0], [0.6, 0.0, 0.0, -7.0], [0.0, 0.0, 5.0, 100.0], [0.0, 0.0, 0.0, 1.0]]
)


def image(
    data: Any, affine: NDArray[Any] = OBLIQUE, kind: Any = nib.Nifti1Image, dtype: Any = None
) -> Any:
    scan = kind(data, affine, dtype=dtype)
    scan.set_qform(affine, 1)
    scan.set_sform(affine, 3)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header["descrip"] = b"a scanner"
    return scan


def voxels(grid: Grid) -> np.ndarray:
    return grid.values[0, 0].numpy()


def damaged(path: Path, **fields: Any) -> Path:
    """A float32 volume of 2 × 3 × 4 voxels, with header fields set to what nibabel would refuse."""
    header = nib.Nifti1Header()
    header.set_data_shape((2, 3, 4))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    header["pixdim"][:4] = 1
    header["magic"] = b"n+1"
    data = np.arange(24, dtype=np.float32)
    for name, value in fields.items():
        if name == "data":
            data = value
        elif isinstance(value, dict):
            for index, entry in value.items():
                header[name][index] = entry
        else:
            header[name] = value
    content = header.binaryblock + bytes(4) + data.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_volumes_come_back_as_their_owner_knows_them(
    tmp_path: Path, rng: np.random.Generator, kind: Any, dtype: str, suffix: str
) -> None:
    data = (rng.normal(size=(4, 5, 3)) * 50).astype(dtype)
    original = image(data, kind=kind)
    original.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"theirs"))
    nib.save(original, tmp_path / f"a{suffix.lower()}")
    (tmp_path / f"a{suffix.lower()}").rename(tmp_path / f"a{suffix}")

    grid = convnd.io.read(tmp_path / f"a{suffix}")
    assert grid.values.dtype == torch.float32
    assert grid.values.is_contiguous()
    np.testing.assert_allclose(voxels(grid), original.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(grid.spacing, np.linalg.norm(OBLIQUE[:3, :3], axis=0), rtol=1e-6)
    assert (grid.units, grid.axes) == (("mm", "mm", "mm"), ("i", "j", "k"))

    changed = grid.with_values(grid.values + 0.25)  # integers would lose it
    convnd.io.write(tmp_path / "b.nii.gz", changed, provenance={"steps": "5"})
    back = nib.load(tmp_path / "b.nii.gz")
    assert type(back) is kind
    assert back.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(back.dataobj), voxels(changed))
    for name in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim", "srow_x"):
        np.testing.assert_array_equal(back.header[name], original.header[name])
    np.testing.assert_array_equal(back.affine, original.affine)
    theirs, ours = back.header.extensions
    assert theirs.get_content() == b"theirs"
    assert json.loads(ours.get_content()) == {"steps": "5"}


def test_the_file_says_that_nothing_is_scaled(tmp_path: Path) -> None:
    original = image(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    original.header.set_slope_inter(2.5, -1024)
    nib.save(original, tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_array_equal(voxels(grid), stored.astype(np.float32))
    convnd.io.write(tmp_path / "b.nii", grid)
    raw = nib.Nifti1Header((tmp_path / "b.nii").read_bytes()[:348])
    assert raw["scl_slope"].item() in (1, 0) or np.isnan(raw["scl_slope"])
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").get_fdata(), voxels(grid))


def test_big_endian_files(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    data = np.arange(-12, 12, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(data, np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    grid = convnd.io.read(tmp_path / "a.nii")
    np.testing.assert_array_equal(voxels(grid), data)
    convnd.io.write(tmp_path / "b.nii", grid)
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").get_fdata(), data)


def test_spacing_is_the_number_the_owner_wrote(tmp_path: Path) -> None:
    nib.save(image(np.ones((2, 2, 2)), np.diag([0.6, 0.6, 5, 1])), tmp_path / "a.nii")
    assert convnd.io.read(tmp_path / "a.nii").spacing == (0.6, 0.6, 5.0)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
def test_spacing_is_in_millimetres_and_the_files_unit_stays(
    tmp_path: Path, unit: str, factor: float
) -> None:
    original = image(np.ones((2, 2, 2)), np.diag([2, 3, 4, 1]))
    original.header.set_xyzt_units(unit)
    nib.save(original, tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii")
    np.testing.assert_allclose(grid.spacing, np.multiply([2, 3, 4], factor))
    convnd.io.write(tmp_path / "b.nii", grid)
    back = nib.load(tmp_path / "b.nii").header
    assert back.get_xyzt_units()[0] == unit
    assert back.get_zooms() == (2, 3, 4)


@pytest.mark.parametrize("coded", [True, False])
def test_another_extent_keeps_the_field_of_view(tmp_path: Path, coded: bool) -> None:
    original = image(np.ones((2, 3, 4)))
    if coded:
        nib.save(original, tmp_path / "a.nii")
    else:
        damaged(tmp_path / "a.nii", pixdim={1: 0.6, 3: 5.0})
    grid = convnd.io.read(tmp_path / "a.nii").with_values(torch.ones(1, 1, 4, 9, 1))
    convnd.io.write(tmp_path / "b.nii", grid)
    back = nib.load(tmp_path / "b.nii")
    np.testing.assert_allclose(back.header.get_zooms(), grid.spacing, rtol=1e-6)
    assert back.header["sform_code"] == (3 if coded else 0)
    assert back.header["qform_code"] == (1 if coded else 0)
    if coded:
        for corner in ([0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]):
            ends = [
                part.affine @ [*(np.multiply(corner, part.shape) - 0.5), 1]
                for part in (original, back)
            ]
            np.testing.assert_allclose(*ends, atol=1e-4)  # type: ignore[call-overload]


@pytest.mark.parametrize("shape", [(5,), (4, 5), (4, 5, 1), (4, 5, 3, 1), (4, 5, 3, 1, 1)])
def test_axes_of_length_one_are_kept_as_stored(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    data = rng.normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii")
    assert grid.shape == (*shape, 1, 1)[:3]
    convnd.io.write(tmp_path / "b.nii", grid)
    back = nib.load(tmp_path / "b.nii")
    assert back.shape == shape
    np.testing.assert_array_equal(np.asarray(back.dataobj), data)


def test_a_flat_volume_can_grow(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 5)), np.eye(4)), tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii").with_values(torch.ones(1, 1, 4, 5, 2))
    convnd.io.write(tmp_path / "b.nii", grid)
    assert nib.load(tmp_path / "b.nii").shape == (4, 5, 2)


def test_a_grid_from_elsewhere(tmp_path: Path) -> None:
    grid = Grid(values=torch.rand(1, 1, 2, 3, 4), spacing=(0.5, 0.6, 5.0), units=("mm",) * 3)
    convnd.io.write(tmp_path / "a.nii", grid)
    back = nib.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(back.dataobj), voxels(grid))
    np.testing.assert_allclose(back.header.get_zooms(), (0.5, 0.6, 5))
    np.testing.assert_allclose(np.diag(back.affine), (0.5, 0.6, 5, 1))
    assert back.header.get_xyzt_units()[0] == "mm"
    assert convnd.io.read(tmp_path / "a.nii").spacing == (0.5, 0.6, 5.0)


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    grid = Grid(values=torch.rand(1, 1, 2, 3, 4))
    for name in ("a.nii.gz", "b.nii.gz"):
        convnd.io.write(tmp_path / name, grid)
    packed = (tmp_path / "a.nii.gz").read_bytes()
    assert packed == (tmp_path / "b.nii.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # gzip's place for the time


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    nib.save(image(np.ones((2, 2, 2))), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    assert convnd.io.read(tmp_path / "a.nii").shape == (2, 2, 2)


# Hazards


NAN, INF = float("nan"), float("inf")
HAZARDS = [
    ({"pixdim": {2: 0.0}}, {"expected": "positive finite pixdim", "got": "[1.0, 0.0, 1.0]"}),
    ({"pixdim": {1: NAN}}, {"expected": "positive finite pixdim", "got": "[nan, 1.0, 1.0]"}),
    ({"pixdim": {1: -1.0}}, {"expected": "positive finite pixdim", "got": "[-1.0, 1.0, 1.0]"}),
    ({"pixdim": {3: INF}}, {"expected": "positive finite pixdim", "got": "[1.0, 1.0, inf]"}),
    ({"sform_code": 1, "srow_x": NAN}, {"expected": "an invertible sform", "got": "[[nan"}),
    ({"sform_code": 1}, {"expected": "an invertible sform", "got": "[[0.0"}),
    ({"qform_code": 1, "qoffset_y": NAN}, {"expected": "an invertible qform"}),
    ({"qform_code": 1, "quatern_b": 5.0}, {"got": "damaged or unsupported"}),
    ({"dim": {2: 0}}, {"expected": "at least one sample", "got": "2 × 0 × 4"}),
    ({"dim": {2: -3}}, {"expected": "at least one sample", "got": "2 × -3 × 4"}),
    ({"dim": {0: 0}}, {"expected": "1 to 7", "got": "dim[0] = 0"}),
    ({"dim": {0: 9}}, {"expected": "1 to 7", "got": "dim[0] = 2304"}),
    ({"dim": {0: 5, 4: 1, 5: 2}}, {"expected": "3-D volume or a", "got": "5-D 2 × 3 × 4"}),
    ({"datatype": 32, "bitpix": 64}, {"expected": "real voxels", "got": "type complex64"}),
    ({"datatype": 128, "bitpix": 24}, {"expected": "real voxels", "got": "type"}),
    ({"datatype": 1536, "bitpix": 128}, {"expected": "real voxels", "got": "type"}),
    ({"datatype": 77}, {"got": "damaged or unsupported"}),
    (
        {"magic": b"ni1"},
        {"expected": "header and voxels in", "got": "magic b'ni1'"},
    ),
    ({"sizeof_hdr": 99}, {"expected": "a NIfTI header", "got": "other content"}),
    ({"vox_offset": 0}, {"expected": "voxels after the header", "got": "vox_offset 0"}),
    ({"vox_offset": NAN}, {"expected": "voxels after the header", "got": "vox_offset nan"}),
    ({"vox_offset": 1e12}, {"expected": "voxels after the header", "got": "vox_offset 1e+12"}),
    ({"vox_offset": 400}, {"expected": "496 bytes", "got": "fewer"}),
    ({"scl_slope": 1.0, "scl_inter": NAN}, {"got": "damaged or unsupported"}),
    ({"data": np.full(24, NAN, np.float32)}, {"expected": "finite voxels", "got": "none among 24"}),
    ({"data": np.zeros(23, np.float32)}, {"got": "fewer"}),
]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("fields", "words"), HAZARDS)
def test_hazards_are_refused_without_a_sound(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    suffix: str,
    fields: Any,
    words: dict[str, str],
) -> None:
    path = damaged(tmp_path / f"a{suffix}", **fields)
    with raises(InputFileError, **words) as caught:
        convnd.io.read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


FORGIVEN = [
    {},
    {"pixdim": {0: 0.0}, "qform_code": 1},
    {"xyzt_units": 7},
    {"scl_slope": NAN},
    {"sform_code": -5},
]


@pytest.mark.parametrize("fields", FORGIVEN)
def test_what_the_standard_forgives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], fields: Any
) -> None:
    grid = convnd.io.read(damaged(tmp_path / "a.nii", **fields))
    assert grid.spacing == (1, 1, 1)
    np.testing.assert_array_equal(voxels(grid).ravel(order="F"), np.arange(24))
    convnd.io.write(tmp_path / "b.nii", grid)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert nib.load(tmp_path / "b.nii").shape == (2, 3, 4)


def test_a_small_file_cannot_declare_a_large_one(tmp_path: Path) -> None:
    fields = {"dim": {1: 30000, 2: 30000, 3: 30000}}
    path = damaged(tmp_path / "a.nii.gz", **fields)
    with raises(
        InputFileError,
        operation="a.nii.gz",
        expected="1,073,741,824 pixels",
        got="30000 × 30000 × 30000",
    ):
        convnd.io.read(path)
    with raises(
        InputFileError, operation="a.nii.gz", expected="108,000,000,000,352 bytes", got="fewer"
    ):
        convnd.io.read(path, max_pixels=10**14)
    with raises(InputFileError, operation="b.nii", expected="9 pixels"):
        convnd.io.read(damaged(tmp_path / "b.nii"), max_pixels=9)


def test_a_stream_that_goes_on_and_on_is_refused(tmp_path: Path) -> None:
    whole = gzip.decompress(damaged(tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole + bytes(2**21)))
    with raises(InputFileError, operation="a.nii.gz", expected="448 bytes", got="many more"):
        convnd.io.read(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole + bytes(512)))
    assert convnd.io.read(tmp_path / "a.nii.gz").shape == (2, 3, 4)


def test_every_flipped_bit_of_the_voxels_is_noticed(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nib.save(image(rng.normal(size=(6, 6, 6)).astype(np.float32)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        data[rng.integers(20, len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "a.nii.gz").write_bytes(data)
        with raises(InputFileError, operation="a.nii.gz", expected="a NIfTI volume"):
            convnd.io.read(tmp_path / "a.nii.gz")


def test_some_missing_voxels_survive_and_new_ones_are_refused(tmp_path: Path) -> None:
    data = np.ones((2, 3, 4), np.float32)
    data[0, 0, 0] = NAN
    nib.save(image(data), tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii")
    convnd.io.write(tmp_path / "b.nii", grid)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), data)
    with raises(NumericalError, operation="write", got="NaN or infinity"):
        convnd.io.write(tmp_path / "c.nii", Grid(values=grid.values))
    assert not (tmp_path / "c.nii").exists()


def test_a_series_comes_back_as_4d(tmp_path: Path, rng: np.random.Generator) -> None:
    data = rng.normal(size=(4, 5, 3, 6)).astype(np.float32)
    original = image(data)
    original.header.set_zooms((0.6, 0.6, 5.0, 2.5))
    nib.save(original, tmp_path / "a.nii.gz")
    grid = convnd.io.read(tmp_path / "a.nii.gz")
    assert grid.values.shape == (1, 6, 4, 5, 3)
    np.testing.assert_array_equal(grid.values[0, 4].numpy(), data[..., 4])
    convnd.io.write(tmp_path / "b.nii.gz", grid)
    back = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), data)
    np.testing.assert_allclose(back.header.get_zooms(), (0.6, 0.6, 5.0, 2.5))
    assert back.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("scaling", [None, (0.5, -1024.0)])
def test_integers_come_back_as_integers(
    tmp_path: Path, rng: np.random.Generator, scaling: tuple[float, ...] | None
) -> None:
    raw = rng.integers(-900, 900, (4, 5, 3)).astype(np.int16)
    original = image(raw)
    if scaling is not None:
        original.header.set_slope_inter(*scaling)
    (tmp_path / "a.nii").write_bytes(original.to_bytes())
    grid = convnd.io.read(tmp_path / "a.nii")
    changed = grid.with_values(grid.values + 0.2)
    rounded, error, clipped = convnd.io.quantize(changed)
    convnd.io.write(tmp_path / "b.nii", rounded)
    back = nib.load(tmp_path / "b.nii")
    assert back.get_data_dtype() == np.int16
    slope = 1.0 if scaling is None else scaling[0]
    expected = nib.load(tmp_path / "a.nii").get_fdata() + 0.2
    assert np.abs(back.get_fdata() - expected).max() == pytest.approx(error, abs=1e-4)
    assert error <= slope / 2
    assert clipped == 0
    np.testing.assert_allclose(back.get_fdata(), rounded.values[0, 0].numpy())
    plain = convnd.io.read(tmp_path / "a.nii")
    convnd.io.write(tmp_path / "c.nii", convnd.io.quantize(plain)[0])
    np.testing.assert_array_equal(nib.load(tmp_path / "c.nii").get_fdata(), expected - 0.2)


def test_rounding_clips_what_the_type_cannot_hold_and_counts_it(tmp_path: Path) -> None:
    nib.save(image(np.zeros((2, 3, 4), np.uint8)), tmp_path / "a.nii")
    grid = convnd.io.read(tmp_path / "a.nii")
    values = grid.values.clone()
    values.view(-1)[:3] = torch.tensor([-7.0, 300.0, 1.25])
    rounded, error, clipped = convnd.io.quantize(grid.with_values(values))
    assert (error, clipped) == (0.25, 2)
    assert rounded.values.view(-1)[:3].tolist() == [0, 255, 1]
    floats = Grid(values=torch.ones(1, 1, 2, 2, 2))
    with raises(UsageError, operation="integer output", got="other numbers"):
        convnd.io.quantize(floats)


def test_one_channel_a_file(tmp_path: Path) -> None:
    with raises(ShapeError, operation="write", expected="1 channel", got="2"):
        convnd.io.write(tmp_path / "a.nii", Grid(values=torch.ones(1, 2, 2, 2, 2)))
