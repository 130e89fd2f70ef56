"""Volumes are made with SimpleITK or by hand, and what comes out is compared with nibabel too."""

from __future__ import annotations

import gzip
import json
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

import convnd.io
from convnd.errors import InputFileError, ShapeError
from convnd.grid import Grid

SUFFIXES = [".nrrd", ".mha"]


def picture(rng, dtype=np.int16):
    image = sitk.GetImageFromArray((rng.normal(size=(5, 4, 3)) * 500).astype(dtype))
    image.SetSpacing((0.6, 0.7, 5.0))
    image.SetOrigin((-12.0, 7.5, 100.0))
    image.SetDirection((0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1))
    image.SetMetaData("Owner", "a scanner")
    return image


def same_geometry(one, other):
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(
            getattr(one, f"Get{name}")(), getattr(other, f"Get{name}")(), atol=1e-4
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [True, False])
def test_volumes_come_back_as_their_owner_knows_them(tmp_path, rng, suffix, packed):
    image = picture(rng)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    expected = sitk.GetArrayFromImage(image).transpose()
    np.testing.assert_array_equal(grid.values[0, 0].numpy(), expected)
    assert grid.spacing == pytest.approx((0.6, 0.7, 5.0))
    for other in (".nii.gz", ".nrrd", ".mha"):
        convnd.io.write(tmp_path / f"b{other}", grid, provenance={"steps": "5"})
        back = sitk.ReadImage(str(tmp_path / f"b{other}"))
        same_geometry(back, image)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back).transpose(), expected)
        if other != ".nii.gz":
            assert json.loads(back.GetMetaData("convnd")) == {"steps": "5"}
            assert back.GetPixelID() == sitk.sitkFloat32
    assert sitk.ReadImage(str(tmp_path / f"b{suffix}")).GetMetaData("Owner") == "a scanner"
    # nibabel counts towards the right and the front.
    affine = nib.load(tmp_path / "b.nii.gz").affine
    np.testing.assert_allclose(affine[:3, 3], (12, -7.5, 100), atol=1e-4)
    rounded, _, _ = convnd.io.quantize(grid.with_values(grid.values + 0.3))
    convnd.io.write(tmp_path / f"c{suffix}", rounded)
    assert sitk.ReadImage(str(tmp_path / f"c{suffix}")).GetPixelID() == sitk.sitkInt16


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits_of_compressed_voxels_are_noticed(tmp_path, rng, suffix):
    sitk.WriteImage(picture(rng), str(tmp_path / f"a{suffix}"), useCompression=True)
    whole = (tmp_path / f"a{suffix}").read_bytes()
    first = len(whole) - 60
    for _ in range(10):
        data = bytearray(whole)
        data[rng.integers(first, len(data))] ^= 1 << rng.integers(8)
        (tmp_path / f"a{suffix}").write_bytes(data)
        with pytest.raises(InputFileError, match="^read "):
            convnd.io.read(tmp_path / f"a{suffix}")


NRRD = (
    b"NRRD0004\ntype: float\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\n"
    b"space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    b"space origin: (0,0,0)\n\n"
)
MHA = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    b"CompressedData = False\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 2 3 4\n"
    b"ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
)
BAD = [
    (".nrrd", b"sizes: 2 3 4", b"sizes: 2 3 5", "240|480|expected 120 bytes of voxels, got fewer"),
    (".nrrd", b"sizes: 2 3 4", b"sizes: 9000 9000 9000", "at most 1,073,741,824 pixels"),
    (".nrrd", b"(0,0,1)", b"(0,0,nan)", "expected finite space directions"),
    (".nrrd", b"(0,0,1)", b"(0,0,0)", "none of length 0"),
    (".nrrd", b"dimension: 3\nsizes: 2 3 4", b"dimension: 2\nsizes: 6 4", "."),
    (".nrrd", b"encoding: raw", b"encoding: gzip", "."),
    (".nrrd", b"NRRD0004", b"PNG", "a header of less than 1048576 bytes that ends"),
    (".mha", b"Spacing = 1 1 1", b"Spacing = 1 0 1", "positive finite spacing .* got '1 0 1'"),
    (".mha", b"Spacing = 1 1 1", b"Spacing = 1 nan 1", "positive finite spacing .* got '1 nan 1'"),
    (".mha", b"DimSize = 2 3 4", b"DimSize = 2 0 4", "."),
    (".mha", b"DimSize = 2 3 4", b"DimSize = 99 99 9999", "bytes of voxels, got fewer"),
    (".mha", b"= LOCAL", b"= other.raw", "."),
    (".mha", b"FLOAT", b"FLOAT_ARRAY\nElementNumberOfChannels = 3", "."),
]


@pytest.mark.parametrize(("suffix", "old", "new", "message"), BAD)
def test_hazards_are_refused_without_a_sound(tmp_path, capfd, suffix, old, new, message):
    start = {".nrrd": NRRD, ".mha": MHA}[suffix]
    voxels = np.arange(24, dtype=np.float32).tobytes()
    (tmp_path / f"a{suffix}").write_bytes(start + voxels)
    assert convnd.io.read(tmp_path / f"a{suffix}").values.sum() == 276
    assert old in start
    (tmp_path / f"a{suffix}").write_bytes(start.replace(old, new) + voxels)
    with pytest.raises(InputFileError, match=message) as caught:
        convnd.io.read(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_small_file_cannot_unpack_into_a_large_one(tmp_path):
    bomb = gzip.compress(bytes(2**24))
    (tmp_path / "a.nrrd").write_bytes(NRRD.replace(b"raw", b"gzip") + bomb)
    with pytest.raises(InputFileError, match="expected 96 bytes of voxels, got more"):
        convnd.io.read(tmp_path / "a.nrrd")


def test_all_missing_and_several_channels_are_refused(tmp_path):
    voxels = np.full(24, np.nan, np.float32).tobytes()
    (tmp_path / "a.nrrd").write_bytes(NRRD + voxels)
    with pytest.raises(InputFileError, match="expected finite voxels, got none among 24"):
        convnd.io.read(tmp_path / "a.nrrd")
    import torch

    with pytest.raises(ShapeError, match="expected 1 channel for NRRD and MHA, got 2"):
        convnd.io.write(tmp_path / "b.nrrd", Grid(values=torch.ones(1, 2, 2, 2, 2)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_records_of_every_character_come_back(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    record = {"Software": "convnd 1", "convnd:styles": 'a "b" \\n \\ ü.nii and = : more'}
    grid = Grid(values=torch.rand(1, 1, 3, 4, 5), spacing=(1.0, 2.0, 3.0), units=("mm",) * 3)
    convnd.io.write(path, grid, provenance=record)
    assert convnd.io.read_provenance(path) == record
    assert json.loads(sitk.ReadImage(str(path)).GetMetaData("convnd")) == record


BAD = {
    "while True: pass": "answer of its decoder within 1 s",
    "import ctypes; ctypes.string_at(0)": "its end by SIGSEGV",
    "yield 'array', {}, np.zeros((2, 2), 'f4')": "three axes of voxels",
    "yield 'array', {}, np.zeros((2, 2, 2), 'f8')": "keeps to its protocol",
    "yield 'array', {}, np.zeros((200, 200, 200), 'f4')": "keeps to its protocol",
    "yield 'array', {'spacing': [1, 1, 'x']}, np.zeros((2, 2, 2), 'f4')": "damaged or unsupported",
    "yield 'end', {}, None": "three axes of voxels",
}


@pytest.mark.parametrize("bad", BAD)
def test_what_goes_wrong_in_itk_ends_in_one_line(tmp_path, rng, monkeypatch, bad):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(picture(rng), str(path))
    start = "import sys; sys.path[:] = sys.argv[1:]; import numpy as np\n"
    start += "from convnd.io.worker import worker, itk_decoder\n"
    code = f"{start}def bad(*_):\n    {bad}\n    yield\nitk_decoder.serve = bad\nworker.main()"
    monkeypatch.setattr("convnd.io.worker.client.COMMAND", (sys.executable, "-I", "-c", code))
    monkeypatch.setattr("convnd.io.volumes.itk.TIMEOUT", 1.0)
    with pytest.raises(InputFileError, match=BAD[bad]) as refused:
        convnd.io.read(path, max_pixels=1000)
    assert str(refused.value).isprintable()
