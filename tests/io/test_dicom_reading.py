"""What folders of real scanners hold: rounded positions, files without preamble, many frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import codes, enhanced, image, save, series
from error_fields import raises
from pydicom.data import get_testdata_file

import convnd.io
from convnd.errors import InputFileError
from convnd.io.volumes.dicom import read_series


def even(count: int, step: float, digits: int) -> list[float]:
    return [round(step * k, digits) for k in range(count)]


def real(name: str) -> Path:
    path = get_testdata_file(name)
    assert path is not None
    return Path(path)


@pytest.mark.parametrize(("count", "digits"), [(40, 2), (42, 2), (41, 1), (33, 3)])
@pytest.mark.parametrize("step", [0.625, pytest.param(1.25, marks=pytest.mark.slow)])
def test_rounded_positions_are_no_gaps(
    tmp_path: Path, count: int, digits: int, step: float
) -> None:
    places = even(count, step, digits)
    folder = series(tmp_path / "s", places, pixels=lambda k: codes(k, (4, 5)))
    grid = convnd.io.read(folder)
    expected = (places[-1] - places[0]) / (count - 1)
    assert grid.spacing == pytest.approx((0.6, 0.7, expected))
    end = convnd.io.grid_affine(grid) @ [0, 0, count - 1, 1]
    assert end[2] == pytest.approx(places[-1])


GAPS: dict[str, tuple[list[float], dict[str, str]]] = {
    "a slice": ([0, 1, 2, 4, 5, 6], {"got": "slices are missing"}),
    "rounded": (
        [*even(8, 0.625, 1), *[round(0.625 * k, 1) for k in range(9, 20)]],
        {"got": "1.2 mm after 4.40 mm: slices"},
    ),
    "the last but one": ([0, 1.25, 2.5, 3.75, 6.25], {"got": "slices are missing"}),
    "two spacings": (
        [0, 5, 10, 15, 17.5, 20, 22.5, 25],
        {"expected": "at one distance", "got": "2.5 to 5 mm"},
    ),
    "closer in between": (
        [0, 2.5, 5, 7.5, 10, 15, 20, 25],
        {"expected": "at one distance", "got": "2.5 to 5 mm"},
    ),
    "uneven": ([0, 5, 10, 16.5, 20], {"expected": "at one distance"}),
    "one off": ([0, 5, 10, 16, 20], {"expected": "at one distance"}),
    "doubled": ([0, 5, 5, 10], {"expected": "different positions", "got": "two at 5.00 mm"}),
}


@pytest.mark.parametrize("name", list(GAPS))
def test_gaps_are_refused_for_their_own_reason(tmp_path: Path, name: str) -> None:
    places, words = GAPS[name]
    series(tmp_path / "s", places, pixels=lambda k: codes(k, (4, 5)))
    with raises(InputFileError, **words):
        convnd.io.read(tmp_path / "s")


@pytest.mark.parametrize("cut", [132, 128 + 4 + 200])
def test_files_without_preamble_are_slices(tmp_path: Path, cut: int) -> None:
    folder = series(tmp_path / "s", [5.0 * k for k in range(6)])
    expected = convnd.io.read(folder).values
    for file in sorted(folder.iterdir())[-3:]:
        content = file.read_bytes()
        if cut != 132:  # no information about the file either
            start = content.index(b"\x08\0\x08\0CS")
            content = bytes(132) + content[start:]
            cut = 132
        file.write_bytes(content[cut:])
    np.testing.assert_array_equal(convnd.io.read(folder).values, expected)


@pytest.mark.parametrize("content", [b"", b"damaged", bytes(500)])
def test_a_slice_that_is_lost_is_named(tmp_path: Path, content: Any) -> None:
    folder = series(tmp_path / "s", [5.0 * k for k in range(6)])
    (folder / "0005").write_bytes(content)
    (folder / "README").write_bytes(b"of another name")
    (folder / ".DS_Store").write_bytes(b"")
    with raises(InputFileError, got="0005"):
        convnd.io.read(folder)
    (folder / "0005").unlink()
    assert convnd.io.read(folder).shape == (20, 24, 5)


def test_a_slice_that_is_cut_short_is_named(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [5.0 * k for k in range(6)])
    content = (folder / "0003").read_bytes()
    for length in (700, len(content) - 40):
        (folder / "0003").write_bytes(content[:length])
        with raises(InputFileError, got="0003"):
            convnd.io.read(folder)


@pytest.mark.parametrize("name", ["ends_in.dcm", "study.1.2", "scan.nii"])
def test_a_folder_is_a_series_whatever_its_name(tmp_path: Path, name: str) -> None:
    series(tmp_path / name, [0, 5, 10])
    assert convnd.io.read(tmp_path / name).shape == (20, 24, 3)
    assert convnd.io.spatial_dims(tmp_path / name) == 3


def test_numbers_beyond_int16_stay(tmp_path: Path) -> None:
    def large(k: int) -> Any:
        return codes(k, (6, 5)) * 30

    fields = {"BitsStored": 16, "HighBit": 15, "RescaleIntercept": "0"}
    folder = series(tmp_path / "s", [0, 5, 10], pixels=large, **fields)
    rounded, _, clipped = convnd.io.quantize(convnd.io.read(folder))
    convnd.io.write(tmp_path / "a.nrrd", rounded)
    back = convnd.io.read(tmp_path / "a.nrrd")
    assert clipped == 0
    encoding: Any = back.header["integer_encoding"]
    assert encoding.dtype == "uint16"
    np.testing.assert_array_equal(back.values[0, 0, ..., 2].numpy().T, large(2))


def test_overlays_in_high_bits_are_no_values(tmp_path: Path) -> None:
    def drawn_over(k: int) -> Any:
        return codes(k, (6, 5)) | 0xF000

    grid = convnd.io.read(series(tmp_path / "s", [0, 5, 10], pixels=drawn_over))
    np.testing.assert_array_equal(grid.values[0, 0, ..., 1].numpy().T + 1024, codes(1, (6, 5)))


def test_many_frames_of_one_file(tmp_path: Path) -> None:
    places = [7.5, 0, 2.5, 5]  # in no order
    grid = convnd.io.read(enhanced(tmp_path / "a.dcm", places))
    assert grid.shape == (20, 24, 4)
    assert grid.spacing == pytest.approx((0.6, 0.7, 2.5))
    for k, frame in enumerate(np.argsort(places)):
        np.testing.assert_array_equal(
            grid.values[0, 0, ..., k].numpy().T, 2.0 * codes(int(frame)) - 1000
        )
    assert grid.header["value_unit"] == "HU"
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.dcm").rename(tmp_path / "folder" / "IM1")
    again = convnd.io.read(tmp_path / "folder")
    np.testing.assert_array_equal(again.values, grid.values)
    np.testing.assert_array_equal(
        convnd.io.read(tmp_path / "folder" / "IM1").values, grid.values
    )  # without a suffix


def test_real_files_of_one_image() -> None:
    slice_ = convnd.io.read(real("CT_small.dcm"))
    dataset = pydicom.dcmread(real("CT_small.dcm"))
    assert slice_.shape == (128, 128, 1)
    assert slice_.header["value_unit"] == "HU"
    expected = dataset.pixel_array.T + float(dataset.RescaleIntercept)
    np.testing.assert_array_equal(slice_.values[0, 0, ..., 0], expected)
    dose = convnd.io.read(real("rtdose.dcm"))
    dataset = pydicom.dcmread(real("rtdose.dcm"))
    assert (dataset.DoseUnits, dose.header["value_unit"]) == ("RELATIVE", "")
    np.testing.assert_allclose(
        dose.values[0, 0].numpy().T, dataset.pixel_array * float(dataset.DoseGridScaling), rtol=1e-6
    )
    assert dose.spacing[2] == pytest.approx(
        float(dataset.GridFrameOffsetVector[1]) - float(dataset.GridFrameOffsetVector[0])
    )
    for name in ("MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"):
        grid = convnd.io.read(real(name))
        np.testing.assert_array_equal(
            grid.values[0, 0, ..., 0].numpy().T, pydicom.dcmread(real(name)).pixel_array
        )
        assert grid.header["value_unit"] == ""


def test_what_a_file_is_decides_its_axes() -> None:
    assert convnd.io.spatial_dims(real("CT_small.dcm")) == 3
    assert convnd.io.spatial_dims(real("waveform_ecg.dcm")) == 1
    assert convnd.io.read(real("waveform_ecg.dcm")).ndim == 1
    with raises(InputFileError, operation="rtplan.dcm", got="RT Plan Storage"):
        convnd.io.read(real("rtplan.dcm"))
    with raises(InputFileError, operation="SC_rgb_rle.dcm", got="SC_rgb_rle.dcm in colours (RGB)"):
        convnd.io.read(real("SC_rgb_rle.dcm"))


def test_folders_below_and_folders_of_several_series(tmp_path: Path) -> None:
    patient = tmp_path / "patient"
    first: dict[str, Any] = {"SeriesNumber": 2, "SeriesDescription": "Thorax B70f"}
    series(patient / "study" / "a", [0, 5, 10], **first)
    only = convnd.io.read(patient)
    assert only.shape == (20, 24, 3)
    second: dict[str, Any] = {
        "SeriesNumber": 3,
        "SeriesDescription": "Thorax B30f",
        "SeriesInstanceUID": "1.2.9",
    }
    series(patient / "study" / "b", [0, 2, 4, 6], **second)
    with raises(
        InputFileError, operation="patient", got="2 mixed: 2 (thorax b70f, 3", remedy="--series"
    ):
        convnd.io.read(patient)
    for name in ("3", "1.2.9", "B30F"):
        assert read_series(patient, series=name).shape == (20, 24, 4)
    assert read_series(patient, series="2").shape == (20, 24, 3)
    with raises(InputFileError, operation="patient", expected="'thorax'", got="2 mixed"):
        read_series(patient, series="thorax")
    with raises(InputFileError, operation="patient", expected="'7'", got="none of these: 2"):
        read_series(patient, series="7")
    series(patient / "study" / "c", [0, 5], **{**second, "SeriesInstanceUID": "1.2.10"})
    with raises(InputFileError, operation="patient", got="3 mixed: 2 (thorax b70f, 3"):
        convnd.io.read(patient)  # of which two have one number


def test_slices_side_by_side_are_no_slice(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}
    with raises(InputFileError, got="a mosaic of several in 0000"):
        convnd.io.read(series(tmp_path / "s", [0, 5], **fields))


def test_a_missing_decoder_is_named() -> None:
    pytest.importorskip("pydicom")
    with raises(
        InputFileError,
        operation="MR_small_jpeg_ls_lossless.dcm",
        got="'Unable to decompress 'JPEG-LS Lossless Image",
        remedy='pip install "pylibjpeg[all]"',
    ):
        convnd.io.read(real("MR_small_jpeg_ls_lossless.dcm"))


def test_an_index_of_the_folder_is_no_slice(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 5, 10])
    index = image(codes(0), SOPInstanceUID="1.2.77")
    for name in ("Rows", "Columns", "PixelData"):
        del index[name]
    save(index, folder / "DICOMDIR")
    assert convnd.io.read(folder).shape == (20, 24, 3)
