"""FreeSurfer volumes, pairs of header and voxels, and detached headers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from command_line import Run
from error_fields import check_error, raises

import convnd.io
from convnd.errors import InputFileError

nibabel: Any = _nibabel  # its type hints are incomplete
AFFINE = np.array([[0, -0.7, 0.1, 12], [0.6, 0, 0, -7], [0, 0, 5.0, 100], [0, 0, 0, 1]])
DETACHED = (".nhdr", ".mhd")
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def data(dtype: str = "float32") -> Any:
    return (np.random.default_rng(1).normal(size=(4, 5, 6)) * 90 + 100).astype(dtype)


def affine_of(path: Path) -> Any:
    if path.suffix not in DETACHED:
        return nibabel.load(path).affine
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return FLIP @ affine


def values_of(path: Path) -> Any:
    if path.suffix not in DETACHED:
        return np.asarray(nibabel.load(path).dataobj)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by nibabel
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_freesurfer_volumes_come_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    image = nibabel.MGHImage(data(dtype), AFFINE)
    image.header["tr"], image.header["flip_angle"] = 2300, 0.157
    nibabel.save(image, path)
    grid = convnd.io.read(path)
    np.testing.assert_array_equal(grid.values[0, 0], data(dtype))
    np.testing.assert_allclose(convnd.io.grid_affine(grid), AFFINE, atol=1e-5)
    assert grid.spacing == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0))
    if dtype != "float32":
        grid, _, _ = convnd.io.quantize(grid)
    convnd.io.write(tmp_path / f"b{suffix}", grid, provenance={"convnd:steps": "5"})
    back = nibabel.load(tmp_path / f"b{suffix}")
    assert back.get_data_dtype() == np.dtype(dtype).newbyteorder(">")
    np.testing.assert_array_equal(np.asarray(back.dataobj), data(dtype))
    np.testing.assert_allclose(back.affine, AFFINE, atol=1e-5)
    assert back.header["tr"] == 2300
    assert convnd.io.read_provenance(tmp_path / f"b{suffix}") == {"convnd:steps": "5"}
    convnd.io.write(tmp_path / "c.nii", grid)
    np.testing.assert_allclose(nibabel.load(tmp_path / "c.nii").affine, AFFINE, atol=1e-5)


def test_a_series_of_freesurfer_volumes_comes_back(tmp_path: Path) -> None:
    frames = np.stack([data(), data() + 7], axis=-1)
    nibabel.save(nibabel.MGHImage(frames, AFFINE), tmp_path / "a.mgz")
    grid = convnd.io.read(tmp_path / "a.mgz")
    assert grid.values.shape == (1, 2, 4, 5, 6)
    convnd.io.write(tmp_path / "b.mgz", grid)
    np.testing.assert_array_equal(values_of(tmp_path / "b.mgz"), frames)
    convnd.io.write(tmp_path / "c.nii", grid)
    np.testing.assert_array_equal(values_of(tmp_path / "c.nii"), frames)
    convnd.io.write(tmp_path / "d.mgz", convnd.io.read(tmp_path / "c.nii"))
    np.testing.assert_array_equal(values_of(tmp_path / "d.mgz"), frames)


def test_damaged_freesurfer_volumes_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(data(), AFFINE), tmp_path / "a.mgh")
    whole = (tmp_path / "a.mgh").read_bytes()
    for content, words in (
        (whole[:200], {"operation": "b.mgh", "expected": "284 bytes", "got": "fewer"}),
        (whole[:400], {"operation": "b.mgh", "expected": "480 bytes", "got": "fewer"}),
        (b"\0\0\0\2" + whole[4:], {"operation": "b.mgh", "expected": "version 1"}),
        (
            whole[:20] + b"\0\0\0\7" + whole[24:],
            {"operation": "b.mgh", "got": "version 1 and type 7"},
        ),
        (
            whole[:4] + b"\x7f\xff\xff\xff" + whole[8:],
            {"operation": "b.mgh", "expected": "at most"},
        ),
    ):
        (tmp_path / "b.mgh").write_bytes(content)
        with raises(InputFileError, **words):
            convnd.io.read(tmp_path / "b.mgh")


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("kind", ["Nifti1Pair", "Nifti2Pair"])
@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_pairs_come_back(tmp_path: Path, suffix: str, kind: str, dtype: str) -> None:
    image = getattr(nibabel, kind)(data(dtype), AFFINE)
    image.header["descrip"] = b"a scanner"
    nibabel.save(image, tmp_path / "a.img")
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(grid.values[0, 0], data(dtype))
    np.testing.assert_allclose(convnd.io.grid_affine(grid), AFFINE, atol=1e-5)
    convnd.io.write(tmp_path / f"b{suffix}", grid, provenance={"convnd:steps": "5"})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.hdr", "a.img", "b.hdr", "b.img"]
    back = nibabel.load(tmp_path / "b.img")
    assert type(back).__name__ == kind
    np.testing.assert_array_equal(np.asarray(back.dataobj), data(dtype))
    np.testing.assert_allclose(back.affine, AFFINE, atol=1e-5)
    assert bytes(back.header["descrip"]).startswith(b"a scanner")
    assert convnd.io.read_provenance(tmp_path / "b.hdr") == {"convnd:steps": "5"}
    convnd.io.write(tmp_path / "c.nii.gz", grid)
    single = nibabel.load(tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(np.asarray(single.dataobj), data(dtype))
    assert bytes(single.header["descrip"]).startswith(b"a scanner")


def test_a_pair_may_be_compressed(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(data(), AFFINE), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    for name in ("a.hdr.gz", "a.img.gz"):
        np.testing.assert_array_equal(convnd.io.read(tmp_path / name).values[0, 0], data())


@pytest.mark.parametrize("kind", ["AnalyzeImage", "Spm99AnalyzeImage"])
def test_analyze_is_read_with_its_voxels_from_right_to_left(tmp_path: Path, kind: str) -> None:
    image = getattr(nibabel, kind)(data("int16"), None)
    image.header.set_zooms((0.6, 0.7, 5))
    if kind == "Spm99AnalyzeImage":
        image.header["origin"][:3] = (2, 3, 4)
    nibabel.save(image, tmp_path / "a.img")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    expected = nibabel.Spm99AnalyzeImage.load(tmp_path / "a.img")
    grid = convnd.io.read(tmp_path / "a.hdr")
    np.testing.assert_array_equal(grid.values[0, 0], data("int16"))
    assert grid.spacing == pytest.approx((0.6, 0.7, 5))
    np.testing.assert_allclose(convnd.io.grid_affine(grid), expected.affine, atol=1e-5)
    convnd.io.write(tmp_path / "b.nii", grid)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, expected.affine, atol=1e-5)
    (tmp_path / "a.mat").write_bytes(b"geometry")
    with raises(
        InputFileError, operation="a.hdr", got="one in a.mat", remedy="convert it to NIfTI"
    ):
        convnd.io.read(tmp_path / "a.hdr")


def test_pairs_with_one_file_missing_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(data(), AFFINE), tmp_path / "a.img")
    (tmp_path / "a.img").rename(tmp_path / "b.img")
    with raises(InputFileError, operation="a.hdr", expected="the file a.img beside", got="none"):
        convnd.io.read(tmp_path / "a.hdr")
    with raises(InputFileError, operation="b.img", expected="the file b.hdr beside", got="none"):
        convnd.io.read(tmp_path / "b.img")
    (tmp_path / "a.img").write_bytes(bytes(10))
    with raises(InputFileError, operation="a.img", got="fewer"):
        convnd.io.read(tmp_path / "a.hdr")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", DETACHED)
def test_detached_headers_come_back(tmp_path: Path, suffix: str, packed: bool) -> None:
    image = sitk.GetImageFromArray(data("int16").T)
    image.SetSpacing((0.6, 0.7, 5))
    image.SetOrigin((-3, 4, 5))
    image.SetDirection((0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(grid.values[0, 0], data("int16"))
    np.testing.assert_allclose(
        convnd.io.grid_affine(grid), affine_of(tmp_path / f"a{suffix}"), atol=1e-6
    )
    convnd.io.write(tmp_path / f"b{suffix}", grid, provenance={"convnd:steps": "5"})
    assert (tmp_path / "b.raw").stat().st_size == data().nbytes
    np.testing.assert_array_equal(values_of(tmp_path / f"b{suffix}"), data("int16"))
    np.testing.assert_allclose(
        affine_of(tmp_path / f"b{suffix}"), affine_of(tmp_path / f"a{suffix}"), atol=1e-6
    )
    assert convnd.io.read_provenance(tmp_path / f"b{suffix}") == {"convnd:steps": "5"}
    again = convnd.io.read(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(again.values, grid.values)


MHD = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 4 4\n"
    "ElementType = MET_UCHAR\n{more}ElementDataFile = {name}\n"
)
NHDR = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n{more}data file: {name}\n"
ELSEWHERE = [
    *("../secret.raw", "/etc/passwd", "below/x.raw", "..\\secret.raw", "secret.key", ".hidden.raw"),
    *("LIST", "x%03d.raw", "C:x.raw", "link.raw", "missing.raw", "x.raw 1 2 1", ""),
]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(("suffix", "text"), [(".mhd", MHD), (".nhdr", NHDR)])
def test_detached_headers_read_no_file_elsewhere(
    tmp_path: Path, suffix: str, text: Any, name: str
) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    for file in ("secret.raw", "folder/secret.key", "folder/.hidden.raw", "folder/below/x.raw"):
        (tmp_path / file).write_bytes(b"S" * 64)
    (folder / "..\\secret.raw").write_bytes(b"S" * 64)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    (folder / f"a{suffix}").write_text(text.format(name=name, more=""))
    with pytest.raises(InputFileError):
        convnd.io.read(folder / f"a{suffix}")


def test_positions_of_voxels_in_detached_files(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(bytes(5) + bytes(range(64)))
    for suffix, text, more in (
        (".mhd", MHD, "HeaderSize = 5\n"),
        (".mhd", MHD, "HeaderSize = -1\n"),
        (".nhdr", NHDR, "byte skip: 5\n"),
        (".nhdr", NHDR, "byte skip: -1\n"),
    ):
        (tmp_path / f"a{suffix}").write_text(text.format(name="x.raw", more=more))
        values = convnd.io.read(tmp_path / f"a{suffix}").values
        assert values.flatten().sort().values.tolist() == list(range(64))
    for header in ("a.nrrd", "a.mha"):  # which hold their voxels themselves
        text = NHDR if header == "a.nrrd" else MHD
        (tmp_path / header).write_text(text.format(name="x.raw", more=""))
        with raises(InputFileError, remedy=".mhd or .nhdr"):
            convnd.io.read(tmp_path / header)


@pytest.mark.parametrize("suffix", [".hdr", ".mhd", ".nhdr"])
def test_the_digest_of_a_header_includes_its_voxels(tmp_path: Path, suffix: str) -> None:
    nibabel.save(nibabel.Nifti1Image(data(), AFFINE), tmp_path / "a.nii")
    convnd.io.write(tmp_path / f"b{suffix}", convnd.io.read(tmp_path / "a.nii"))
    before = convnd.io.digest(tmp_path / f"b{suffix}")
    voxels = tmp_path / ("b.img" if suffix == ".hdr" else "b.raw")
    voxels.write_bytes(voxels.read_bytes()[:-1] + b"!")
    assert convnd.io.digest(tmp_path / f"b{suffix}") != before


@pytest.mark.parametrize(("name", "output"), [("a.img", "a.hdr"), ("a.mhd", "a.nhdr")])
def test_an_output_does_not_replace_a_part_of_an_input(
    run: Run, tmp_path: Path, name: str, output: str
) -> None:
    affine = np.diag([1.0, 1, 1, 1])
    values = np.random.default_rng(0).normal(size=(16, 17, 18)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "x.nii")
    convnd.io.write(tmp_path / name, convnd.io.read(tmp_path / "x.nii"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    typed = ("stylize-volume", name, "--style", "x.nii", "--steps", "1", "-q", "--no-figures")
    code, _, err = run(*typed, "-o", output, "--overwrite")
    assert code == 2, err
    check_error(err, expected="another file than the input")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
