"""Series are made with pydicom, and looked at with SimpleITK, which orders slices by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from command_line import Run
from error_fields import raises
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import convnd.io
from convnd.errors import InputFileError

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (0.8, 0.6, 0, 0, 0, -1)


def make(
    folder: Path,
    rng: np.random.Generator,
    *,
    count: int = 4,
    shape: tuple[int, ...] = (6, 5),
    orientation: Any = AXIAL,
    between: float = 5.0,
    drift: float = 0.0,
    **fields: Any,
) -> Path:
    """A series of ``count`` slices, its files named in another order."""
    folder.mkdir(exist_ok=True)
    series = generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, generate_uid()
        dataset.Modality, dataset.InstanceNumber = "CT", number + 1
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *shape, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.PixelSpacing, dataset.SliceThickness = [0.6, 0.7], 3.0
        position = np.array([-10.0, 20.0, 30.0]) + normal * between * number
        dataset.ImagePositionPatient = [*map(float, np.add(position, [drift * number, 0, 0]))]
        dataset.ImageOrientationPatient = list(orientation)
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        dataset.PixelData = rng.integers(0, 3000, shape, dtype=np.uint16).tobytes()
        for name, value in fields.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{(number * 7) % 20}.dcm", enforce_file_format=True)
    return folder


def by_itk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_a_series_is_the_volume_that_others_see(
    tmp_path: Path, rng: np.random.Generator, orientation: Any
) -> None:
    make(tmp_path / "s", rng, orientation=orientation)
    (tmp_path / "s" / "notes.txt").write_text("not a picture")
    grid = convnd.io.read(tmp_path / "s")
    assert convnd.io.spatial_dims(tmp_path / "s") == 3
    theirs = by_itk(tmp_path / "s")
    np.testing.assert_array_equal(
        grid.values[0, 0].numpy(), sitk.GetArrayFromImage(theirs).transpose()
    )
    assert grid.spacing == pytest.approx((0.7, 0.6, 5.0))
    convnd.io.write(tmp_path / "a.nii.gz", grid)
    written = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(written.GetDirection(), theirs.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(written.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(written.GetSpacing(), theirs.GetSpacing(), rtol=1e-5)
    assert nib.load(tmp_path / "a.nii.gz").header["sform_code"] == 1
    rounded, error, clipped = convnd.io.quantize(grid)
    assert (error, clipped) == (0, 0)
    convnd.io.write(tmp_path / "b.nii.gz", rounded)
    assert nib.load(tmp_path / "b.nii.gz").get_data_dtype() == np.int16


def test_a_real_slice(tmp_path: Path) -> None:
    source = get_testdata_file("CT_small.dcm")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_bytes(Path(source).read_bytes())  # type: ignore[arg-type]
    grid = convnd.io.read(tmp_path / "s")
    expected = pydicom.dcmread(source)  # type: ignore[arg-type]
    hu = expected.pixel_array * float(expected.RescaleSlope) + float(expected.RescaleIntercept)
    np.testing.assert_array_equal(grid.values[0, 0, ..., 0].numpy().T, hu)
    assert grid.spacing[2] == float(expected.SliceThickness)


BAD = [
    ({"drift": 1.5}, "got a drift of 4.5 mm \\(tilted gantry\\); dcm2niix"),
    ({"between": 0.0}, "slices at different positions, got two at"),
    ({"PixelSpacing": [0.0, 0.7]}, "positive finite spacing"),
    ({"SamplesPerPixel": 3}, "greyscale slices, got .* in colours"),
    ({"NumberOfFrames": 2}, "frames that say where they lie, got 2 without"),
    ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "."),
    ({"RescaleSlope": "0"}, "a finite slope other than 0"),
    ({"PixelData": b"\0\0"}, "pixels that can be decoded"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_what_would_mislead_is_refused(
    tmp_path: Path,
    rng: np.random.Generator,
    capfd: pytest.CaptureFixture[str],
    fields: Any,
    message: str,
) -> None:
    make(tmp_path / "s", rng, **fields)
    with pytest.raises(InputFileError, match=message) as caught:
        convnd.io.read(tmp_path / "s")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_slices_mixed_series_and_empty_folders(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    make(tmp_path / "s", rng, count=6)
    (tmp_path / "s" / "1.dcm").unlink()  # the fourth
    with raises(InputFileError, expected="5 mm", got="10 mm after 40.00 mm: slices"):
        convnd.io.read(tmp_path / "s")
    make(tmp_path / "t", rng)
    for file in (tmp_path / "s").iterdir():
        file.rename(tmp_path / "t" / f"other{file.name}")
    with raises(InputFileError, expected="one series", got="2 mixed"):
        convnd.io.read(tmp_path / "t")
    with raises(InputFileError, expected="a folder of DICOM", got="none in it or below"):
        convnd.io.read(tmp_path / "s")
    make(tmp_path / "u", rng)
    with raises(InputFileError, expected="9 pixels"):
        convnd.io.read(tmp_path / "u", max_pixels=9)


def test_a_stylised_series_lies_where_others_see_the_series(
    run: Run, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = make(tmp_path / "series", rng, count=4, shape=(24, 20), orientation=OBLIQUE)
    options = ("--steps", 1, "--style", folder, "--transfer", "look", "-q", "--no-figures")
    code, out, err = run("stylize-volume", folder, *options, "-o", "series_stylized.nii.gz")
    assert (code, out.split()[0]) == (0, "series_stylized.nii.gz"), err
    one, two = by_itk(folder), sitk.ReadImage(str(tmp_path / "series_stylized.nii.gz"))
    # Of the same voxels the file may list another corner first.
    corners = [
        np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1).T
        for image in (one, two)
    ]
    places = [
        np.array(
            sorted(
                np.round(image.TransformIndexToPhysicalPoint(list(map(int, index))), 3).tolist()
                for index in some
            )
        )
        for image, some in zip((one, two), corners, strict=True)
    ]
    np.testing.assert_allclose(*places, atol=2e-3)  # type: ignore[call-overload]
