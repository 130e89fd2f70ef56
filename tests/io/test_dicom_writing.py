"""Volumes from DICOM files become DICOM files again: new pixels, all else as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from command_line import Run
from dicom_files import enhanced, series
from error_fields import check_error, raises
from pydicom.data import get_testdata_file

import convnd.io
from convnd.errors import OutputExistsError, OutputFileError, UsageError
from convnd.grid import Grid

NEW = {
    *("SOPInstanceUID", "SeriesInstanceUID", "ImageType", "PixelData", "SourceImageSequence"),
    "DerivationDescription",
}


def real(name: str) -> Path:
    path = get_testdata_file(name)
    assert path is not None
    return Path(path)


def elements(path: Path) -> dict[str, Any]:
    dataset = pydicom.dcmread(path)
    return {element.keyword or str(element.tag): element.value for element in dataset}


def by_position(folder: Path) -> list[Path]:
    return sorted(
        folder.iterdir(), key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2])
    )


def test_all_but_the_pixels_is_as_it_was(tmp_path: Path) -> None:
    source = series(tmp_path / "s", [0, 5, 10, 15])
    grid = convnd.io.read(source)
    changed = grid.with_values(grid.values + 3)
    convnd.io.write(tmp_path / "out", changed, provenance={"convnd:steps": "5"})
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"{k:04d}.dcm" for k in (1, 2, 3, 4)
    ]
    for old, new in zip(by_position(source), by_position(tmp_path / "out"), strict=True):
        before, after = elements(old), elements(new)
        record = {name for name in after if name.startswith("(0099")}
        assert {name for name in after if before.get(name) != after[name]} - record == NEW
        assert set(before) - set(after) == set()
        assert after["ImageType"] == ["DERIVED", "PRIMARY", "AXIAL"]
        reference = after["SourceImageSequence"][0]
        assert reference.ReferencedSOPInstanceUID == before["SOPInstanceUID"]
        assert pydicom.dcmread(new).file_meta.MediaStorageSOPInstanceUID == after["SOPInstanceUID"]
        np.testing.assert_array_equal(
            pydicom.dcmread(new).pixel_array, pydicom.dcmread(old).pixel_array + 3
        )
    uids = [elements(file)["SOPInstanceUID"] for file in (tmp_path / "out").iterdir()]
    assert len(set(uids)) == 4
    assert len({elements(f)["SeriesInstanceUID"] for f in (tmp_path / "out").iterdir()}) == 1
    back = convnd.io.read(tmp_path / "out")
    np.testing.assert_array_equal(back.values, changed.values)
    assert convnd.io.read_provenance(tmp_path / "out") == {"convnd:steps": "5"}


def test_others_see_the_same_volume(tmp_path: Path) -> None:
    grid = convnd.io.read(series(tmp_path / "s", [0, 5, 10, 15]))
    convnd.io.write(tmp_path / "out", grid)
    images = []
    for folder in ("s", "out"):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / folder)))
        images.append(reader.Execute())
    assert images[0].GetOrigin() == images[1].GetOrigin()
    assert images[0].GetSpacing() == images[1].GetSpacing()
    first, second = map(sitk.GetArrayFromImage, images)
    np.testing.assert_array_equal(first, second)


def test_the_same_result_has_the_same_bytes_and_another_has_other_uids(tmp_path: Path) -> None:
    grid = convnd.io.read(series(tmp_path / "s", [0, 5]))
    for name, values in {"a": grid.values, "b": grid.values, "c": grid.values + 1}.items():
        convnd.io.write(tmp_path / name, grid.with_values(values))
    contents = {
        name: [file.read_bytes() for file in sorted((tmp_path / name).iterdir())] for name in "abc"
    }
    assert contents["a"] == contents["b"]
    uids = {elements(tmp_path / name / "0001.dcm")["SeriesInstanceUID"] for name in "abc"}
    assert len(uids) == 2


@pytest.mark.parametrize(
    ("change", "bits", "signed"), [(0, 12, 0), (2500, 16, 0), (-1500, 16, 1), (40000, 16, 0)]
)
def test_the_bits_of_a_number_stay_if_they_hold_the_values(
    tmp_path: Path, change: int, bits: int, signed: int
) -> None:
    folder = series(tmp_path / "s", [0, 5], PixelPaddingValue=0)
    grid = convnd.io.read(folder)
    changed = grid.with_values(grid.values + change)
    convnd.io.write(tmp_path / "out", changed)
    dataset = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert (dataset.BitsStored, dataset.HighBit) == (bits, bits - 1)
    assert (dataset.BitsAllocated, dataset.PixelRepresentation) == (16, signed)
    assert ("SS" if signed else "US") == dataset["PixelPaddingValue"].VR
    np.testing.assert_array_equal(convnd.io.read(tmp_path / "out").values, changed.values)


def test_each_slice_keeps_its_slope(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 5, 10])
    for k, file in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.25 * (k + 1), 0
        dataset.save_as(file)
    grid = convnd.io.read(folder)
    changed = grid.with_values(grid.values + 0.3)
    error, clipped = convnd.io.dicom_rounding(changed)
    convnd.io.write(tmp_path / "out", changed)
    back = convnd.io.read(tmp_path / "out")
    assert clipped == 0
    assert (back.values - changed.values).abs().max() == pytest.approx(error, abs=1e-4)
    assert error <= 0.375
    slopes = [float(elements(file)["RescaleSlope"]) for file in by_position(tmp_path / "out")]
    assert slopes == [0.25, 0.5, 0.75]


def test_many_frames_go_back_into_one_file(tmp_path: Path) -> None:
    source = enhanced(tmp_path / "a.dcm", [7.5, 0, 2.5, 5])
    grid = convnd.io.read(source)
    changed = grid.with_values(grid.values + 2)
    convnd.io.write(tmp_path / "b.dcm", changed, provenance={"convnd:steps": "5"})
    old, new = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "b.dcm")
    np.testing.assert_array_equal(new.pixel_array, old.pixel_array + 1)
    assert new.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence == (
        old.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    )
    kind = new.PerFrameFunctionalGroupsSequence[1].CTImageFrameTypeSequence[0].FrameType
    assert list(kind) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    np.testing.assert_array_equal(convnd.io.read(tmp_path / "b.dcm").values, changed.values)
    assert convnd.io.read_provenance(tmp_path / "b.dcm") == {"convnd:steps": "5"}


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"),
        *("MR_small_implicit.dcm", "rtdose.dcm", "rtdose_rle.dcm"),
    ],
)
def test_real_files_come_back(tmp_path: Path, name: str) -> None:
    grid = convnd.io.read(real(name))
    convnd.io.write(tmp_path / "b.dcm", grid)
    before, after = elements(real(name)), elements(tmp_path / "b.dcm")
    differ = {key for key in before if key in after and before[key] != after[key]}
    assert differ <= NEW
    assert set(before) - set(after) <= {
        *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"),
        *("LargestPixelValueInSeries", "(fffc,fffc)", "DataSetTrailingPadding"),
    }
    np.testing.assert_array_equal(
        pydicom.dcmread(tmp_path / "b.dcm").pixel_array, pydicom.dcmread(real(name)).pixel_array
    )
    np.testing.assert_array_equal(convnd.io.read(tmp_path / "b.dcm").values, grid.values)


def test_the_record_of_the_source_does_not_pass_on(tmp_path: Path) -> None:
    grid = convnd.io.read(series(tmp_path / "s", [0, 5]))
    convnd.io.write(tmp_path / "a", grid, provenance={"convnd:steps": "5"})
    convnd.io.write(tmp_path / "b", convnd.io.read(tmp_path / "a"))
    assert convnd.io.read_provenance(tmp_path / "b") == {}


def test_folders_are_replaced_whole_and_never_others(tmp_path: Path) -> None:
    grid = convnd.io.read(series(tmp_path / "s", [0, 5, 10]))
    shorter = convnd.io.read(series(tmp_path / "t", [0, 5]))
    (tmp_path / "empty").mkdir()
    convnd.io.write(tmp_path / "empty", grid)
    convnd.io.write(tmp_path / "out", grid)
    with pytest.raises(OutputExistsError):
        convnd.io.write(tmp_path / "out", shorter)
    convnd.io.write(tmp_path / "out", shorter, overwrite=True)
    assert convnd.io.read(tmp_path / "out").shape == (20, 24, 2)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with raises(OutputFileError, operation="out", got="'thesis.txt' among them"):
        convnd.io.write(tmp_path / "out", grid, overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_what_cannot_be_dicom_is_refused(tmp_path: Path) -> None:
    grid = convnd.io.read(series(tmp_path / "s", [0, 5, 10]))
    with raises(UsageError, operation="write a.dcm", expected="3 files"):
        convnd.io.write(tmp_path / "a.dcm", grid)
    with raises(UsageError, operation="out", got="'out'"):
        convnd.io.write(tmp_path / "out", Grid(values=torch.ones(1, 1, 2, 2, 2)))
    box = convnd.io.crop(grid, [slice(0, 4), slice(0, 4), slice(1, 3)])
    with raises(UsageError, operation="write DICOM", expected="20 x 24 x 3", got="4 x 4 x 2"):
        convnd.io.write(tmp_path / "out", box)
    convnd.io.write(tmp_path / "box.nii", box)
    np.testing.assert_array_equal(
        convnd.io.read(tmp_path / "box.nii").values, grid.values[..., :4, :4, 1:3]
    )
    assert not (tmp_path / "out").exists()


def test_a_stylised_series_is_a_series(run: Run, tmp_path: Path) -> None:
    source = series(tmp_path / "ct", [0, 5, 10, 15])
    options = ("--steps", "1", "-q", "--no-figures", "--style", source, "--transfer", "look")
    code, out, err = run("stylize-volume", source, *options)
    assert (code, out.split()[0]) == (0, "ct_stylized"), err
    assert "rounded to the steps of the DICOM files: error at most" in err
    result = convnd.io.read(tmp_path / "ct_stylized")
    assert convnd.io.grid_affine(result) == pytest.approx(
        convnd.io.grid_affine(convnd.io.read(source))
    )
    code, _, err = run("evaluate", source, tmp_path / "ct_stylized")
    assert code == 0, err
    assert run("stylize-volume", source, *options)[0] == 2  # it exists
    assert run("stylize-volume", source, *options, "--skip-existing")[0] == 0
    assert run("stylize-volume", source, *options, "--overwrite")[0] == 0
    code, _, err = run("stylize-volume", source, *options, "-o", source, "--overwrite")
    assert code == 2, err
    check_error(err, expected="another file than the input")
    code, _, err = run("stylize-volume", "ct/0000", *options)
    assert code == 0, err
    assert convnd.io.read(tmp_path / "0000_stylized.dcm").shape == (20, 24, 1)
    (tmp_path / "ct_stylized").rename(tmp_path / "first")
    code, out, err = run("rerun", tmp_path / "first", "-o", "ct_stylized")
    assert code == 0, err
    first, second = (
        [file.read_bytes() for file in sorted((tmp_path / name).iterdir())]
        for name in ("first", "ct_stylized")
    )
    assert first == second


def test_a_folder_called_by_numbers_has_a_result_beside_it(run: Run, tmp_path: Path) -> None:
    source = series(tmp_path / "1.2.840.113", [0, 5, 10, 15])
    options = ("--steps", "1", "-q", "--style", source, "--transfer", "look")
    code, out, err = run("stylize-volume", source, *options)
    assert code == 0, err
    assert out.split()[0] == "1.2.840.113_stylized"
    assert convnd.io.read(tmp_path / "1.2.840.113_stylized").shape == (20, 24, 4)
    assert (tmp_path / "1.2.840.113_stylized-montage.png").is_file()
    code, _, err = run("stylize-volume", source, *options, "-o", "a.foo", "--no-figures")
    assert code == 2, err
    check_error(err, expected="a name ending in")


def test_numbered_results_are_series_too(run: Run, tmp_path: Path) -> None:
    source = series(tmp_path / "ct", [0, 5, 10, 15])
    other = series(tmp_path / "other", [0, 5, 10, 15], RescaleIntercept="-900")
    options = ("--steps", "2", "--save-every", "1", "-q", "--no-figures", "--style", other)
    code, _, err = run("stylize-volume", source, *options)
    assert code == 0, err
    assert convnd.io.read(tmp_path / "ct_stylized-000001").shape == (20, 24, 4)
