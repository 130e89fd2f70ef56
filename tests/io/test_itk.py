"""Volumes are made with SimpleITK or by hand, and what comes out is compared with nibabel too."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from error_fields import raises

import convnd.io
from convnd.errors import DependencyError, InputFileError, ShapeError
from convnd.grid import Grid
from convnd.io.affine import flip_lps

SUFFIXES = [".nrrd", ".mha"]


def picture(rng: np.random.Generator, dtype: type[np.generic] = np.int16) -> Any:
    image = sitk.GetImageFromArray((rng.normal(size=(5, 4, 3)) * 500).astype(dtype))
    image.SetSpacing((0.6, 0.7, 5.0))
    image.SetOrigin((-12.0, 7.5, 100.0))
    image.SetDirection((0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1))
    image.SetMetaData("Owner", "a scanner")
    return image


def same_geometry(one: Any, other: Any) -> None:
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(
            getattr(one, f"Get{name}")(), getattr(other, f"Get{name}")(), atol=1e-4
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [True, False])
def test_volumes_come_back_as_their_owner_knows_them(
    tmp_path: Path, rng: np.random.Generator, suffix: str, packed: bool
) -> None:
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
def test_flipped_bits_of_compressed_voxels_are_noticed(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    sitk.WriteImage(picture(rng), str(tmp_path / f"a{suffix}"), useCompression=True)
    whole = (tmp_path / f"a{suffix}").read_bytes()
    first = len(whole) - 60
    for _ in range(10):
        data = bytearray(whole)
        data[rng.integers(first, len(data))] ^= 1 << rng.integers(8)
        (tmp_path / f"a{suffix}").write_bytes(data)
        with raises(InputFileError, operation="read "):
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
    (".nrrd", b"NRRD0004", b"PNG", "expected a header of lines with '='"),
    (".mha", b"Spacing = 1 1 1", b"Spacing = 1 0 1", "positive finite spacing .* got '1 0 1'"),
    (".mha", b"Spacing = 1 1 1", b"Spacing = 1 nan 1", "positive finite spacing .* got '1 nan 1'"),
    (".mha", b"DimSize = 2 3 4", b"DimSize = 2 0 4", "."),
    (".mha", b"DimSize = 2 3 4", b"DimSize = 99 99 9999", "bytes of voxels, got fewer"),
    (".mha", b"= LOCAL", b"= other.raw", "."),
    (".mha", b"FLOAT", b"FLOAT_ARRAY\nElementNumberOfChannels = 3", "."),
]


@pytest.mark.parametrize(("suffix", "old", "new", "message"), BAD)
def test_hazards_are_refused_without_a_sound(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, old: Any, new: Any, message: str
) -> None:
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


def test_a_small_file_cannot_unpack_into_a_large_one(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**24))
    (tmp_path / "a.nrrd").write_bytes(NRRD.replace(b"raw", b"gzip") + bomb)
    with raises(InputFileError, operation="a.nrrd", expected="96 bytes", got="more"):
        convnd.io.read(tmp_path / "a.nrrd")


def test_all_missing_and_several_channels_are_refused(tmp_path: Path) -> None:
    voxels = np.full(24, np.nan, np.float32).tobytes()
    (tmp_path / "a.nrrd").write_bytes(NRRD + voxels)
    with raises(InputFileError, operation="a.nrrd", got="none among 24"):
        convnd.io.read(tmp_path / "a.nrrd")
    import torch

    with raises(ShapeError, operation="write", expected="1 channel", got="2"):
        convnd.io.write(tmp_path / "b.nrrd", Grid(values=torch.ones(1, 2, 2, 2, 2)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_records_of_every_character_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    record = {"Software": "convnd 1", "convnd:styles": 'a "b" \\n \\ ü.nii and = : more'}
    grid = Grid(values=torch.rand(1, 1, 3, 4, 5), spacing=(1.0, 2.0, 3.0), units=("mm",) * 3)
    convnd.io.write(path, grid, provenance=record)
    assert convnd.io.read_provenance(path) == record
    assert json.loads(sitk.ReadImage(str(path)).GetMetaData("convnd")) == record


# Whatever one parser takes for the end of a key or of a line and another does not.
ODD = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x00", "\x85", "\xa0",
       "\u2028", "\u3000", ":", " ", "\t"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_no_other_file_is_read_that_a_header_names(tmp_path: Path, odd: Any) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"S" * 200)
    nrrd = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\n{}encoding: raw\n\n"
    mha = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 4 4\n"
        "ElementType = MET_UCHAR\n"
    )
    headers = {
        "nrrd": [
            nrrd.format(f"content: x{odd}data file: {secret}\n"),
            nrrd.format(f"{odd}data file: {secret}\n"),
            nrrd.format(f"data{odd}file: {secret}\n"),
            nrrd.format(f"data file{odd}: {secret}\n"),
            nrrd.format(f"data file:{odd}{secret}\n"),
            nrrd.format(f"x:={odd}data file: {secret}\n"),
        ],
        "mha": [
            f"{mha}ElementDataFile{odd}= LOCAL\nElementDataFile = {secret}\n",
            f"{mha}{odd}ElementDataFile = LOCAL\nElementDataFile = {secret}\n",
            f"{mha}ElementDataFile{odd}{tmp_path}/k=v/../secret.txt\nElementDataFile = LOCAL\n",
            f"{mha}Name = x{odd}ElementDataFile = {secret}\nElementDataFile = LOCAL\n",
            f"{mha}ElementDataFile = LOCAL{odd}{secret}\n",
        ],
    }
    (tmp_path / "k=v").mkdir()
    for suffix, texts in headers.items():
        for text in texts:
            path = tmp_path / f"a.{suffix}"
            path.write_bytes(text.encode() + bytes(64))
            with contextlib.suppress(InputFileError):
                grid = convnd.io.read(path)
                assert not (grid.values == ord("S")).all(), text
                # Nor does what is written back make another program read it.
                for other in SUFFIXES:
                    convnd.io.write(tmp_path / f"b{other}", grid, overwrite=True)
                    image = sitk.ReadImage(str(tmp_path / f"b{other}"))
                    back = sitk.GetArrayFromImage(image).transpose()
                    np.testing.assert_array_equal(back, grid.values[0, 0].numpy())


PACKED = zlib.compress(bytes(range(64)))


@pytest.mark.parametrize("word", ["True", "T", "1", "true"])
@pytest.mark.parametrize("size", [None, len(PACKED), 0, 10, len(PACKED) + 5, -1])
@pytest.mark.parametrize("body", ["whole", "cut", "noise", "changed"])
def test_compressed_voxels_are_right_or_refused(
    tmp_path: Path, word: str, size: Any, body: str
) -> None:
    """ITK returned memory that was never filled, without an error."""
    changed = bytearray(PACKED)
    changed[len(PACKED) // 2] ^= 4
    bodies = {"whole": PACKED, "cut": PACKED[:20], "noise": bytes(range(200, 255)) * 3,
              "changed": bytes(changed)}  # fmt: skip
    text = f"NDims = 3\nBinaryData = True\nCompressedData = {word}\n"
    text += "" if size is None else f"CompressedDataSize = {size}\n"
    text += "DimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + bodies[body])
    if body == "whole":
        values = convnd.io.read(tmp_path / "a.mha").values[0, 0].numpy()
        assert values.T.ravel().tolist() == list(range(64))
    else:
        with raises(InputFileError, operation="a.mha"):
            convnd.io.read(tmp_path / "a.mha")


SPACE = "space: {}\nspace directions: (2,1,0) (0,3,0) (0, 1, 4)\nspace origin: (1,2,3)\n"
NRRD_FIELDS = [
    "", "spacings: 0.5 2 3\n", "spacings: 0.5 2 3\naxis mins: 1 2 3\n", "Spacings: 2 2 2e-1\n",
    "spacings: 1 1 1\naxis mins: 1 2 3\ncenters: node node node\n", "kinds: space time domain\n",
    *[SPACE.format(space) for space in (
        "RAS", "LAS", "LPS", "left-anterior-superior", "right-anterior-superior", "scanner-xyz")],
    "space: LPS\nspace directions: (2,1,0) (0,3,0) (0,0,4)\n", "foo:=bar: baz\\nq\\\\\n",
    "# comment\ncontent: a:=b\nsample units: HU\n", "byte skip: -1\n", "number: 24\nold min: 3\n",
    'units: "mm" "mm" "mm"\nlabels: "a" "b" "c"\nthicknesses: 2 2 2\n',
]  # fmt: skip
MHA_FIELDS = [
    "", "ElementSpacing = 0.5 2 3\n", "ElementSize = 0.5 2 3\n", "ElementSpacing =2 2 2\n",
    "ElementSpacing = 1 1 1\nElementSize = 2 2 2\n", "HeaderSize = -1\n", "Foo = bar baz\n",
    *[f"{turn} = 0.8 0.6 0 -0.6 0.8 0 0 0 1\n{place} = 1 2 3\n" for turn, place in (
        ("TransformMatrix", "Offset"), ("Orientation", "Position"), ("Rotation", "Origin"))],
    "BinaryDataByteOrderMSB = True\n", "ElementByteOrderMSB = 1\n", "Modality = MET_MOD_CT\n",
    "AnatomicalOrientation = LPI\nCenterOfRotation = 1 1 1\nComment = hi\nID = 3\n", "\n",
    "ElementToIntensityFunctionSlope = 2\nElementMin = 0\nCompressedData = False\n",
]  # fmt: skip
NRRD_TYPES = ["signed char", "uint8_t", "short", "ushort", "int32", "unsigned int", "long long",
              "uint64", "float"]  # fmt: skip
MHA_TYPES = ["CHAR", "UCHAR", "SHORT", "USHORT", "INT", "UINT", "LONG", "ULONG", "LONG_LONG",
             "ULONG_LONG", "FLOAT", "DOUBLE"]  # fmt: skip


def nrrd_header(
    fields: str = "", kind: str = "short", encoding: str = "raw", endian: str = "little"
) -> str:
    return (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nsizes: 2 3 4\nencoding: {encoding}\n"
        f"endian: {endian}\n{fields}\n"
    )


def mha_header(fields: str = "", kind: str = "SHORT", binary: str = "BinaryData = True\n") -> str:
    return (
        f"ObjectType = Image\nNDims = 3\n{binary}{fields}DimSize = 2 3 4\n"
        f"ElementType = MET_{kind}\nElementDataFile = LOCAL\n"
    )


VOXELS = np.arange(24, dtype="<i2").tobytes()
MANY = bytes(range(65, 89)) * 8
DOUBLES = np.linspace(-1, 3, 24).tobytes()
VALID = [
    *[(".nrrd", nrrd_header(fields), VOXELS) for fields in NRRD_FIELDS],
    *[(".nrrd", nrrd_header(kind=kind), MANY) for kind in NRRD_TYPES],
    (".nrrd", nrrd_header(kind="double"), DOUBLES),
    (".nrrd", nrrd_header(endian="big"), VOXELS),
    (".nrrd", nrrd_header(encoding="gz"), gzip.compress(VOXELS, mtime=0)),
    (".nrrd", nrrd_header(encoding="gzip"),
     gzip.compress(VOXELS[:20], mtime=0) + gzip.compress(VOXELS[20:], mtime=0)),
    (".nrrd", nrrd_header(encoding="ascii"), " ".join(map(str, range(24))).encode()),
    (".nrrd", nrrd_header(encoding="text"), "\n".join(map(str, range(24))).encode() + b"\n"),
    (".nrrd", nrrd_header(encoding="hex"), VOXELS.hex().encode()),
    (".nrrd", nrrd_header("spacings: 2 2 2\n").replace("\n", "\r\n"), VOXELS),
    *[(".mha", mha_header(fields), VOXELS) for fields in MHA_FIELDS],
    *[(".mha", mha_header(kind=kind), DOUBLES if kind == "DOUBLE" else MANY) for kind in MHA_TYPES],
    (".mha", mha_header(binary=""), VOXELS),
    (".mha", mha_header(binary="BinaryData = False\n"),
     " ".join(map(str, range(24))).encode() + b"\n"),
    (".mha", mha_header("ElementSpacing = 2 2 2\n").replace("\n", "\r\n"), VOXELS),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "header", "voxels"), VALID)
def test_what_itk_reads_of_valid_files_is_read(
    tmp_path: Path, suffix: str, header: Any, voxels: Any
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(header.encode() + voxels)
    image, grid = sitk.ReadImage(str(path)), convnd.io.read(path)
    expected = sitk.GetArrayFromImage(image).transpose().astype(np.float32)
    np.testing.assert_array_equal(grid.values[0, 0].numpy(), expected)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(flip_lps(grid.header["affine"]), affine, rtol=1e-15, atol=0)  # type: ignore[arg-type]
    np.testing.assert_allclose(grid.spacing, image.GetSpacing(), rtol=1e-15)
    text = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()
            if not key.startswith(("ITK_", "NRRD_", "Modality"))}  # fmt: skip
    assert {key: value for key, value in grid.header["text"].items() if key != "Modality"} == text  # type: ignore[attr-defined]
    kind = sitk.GetArrayViewFromImage(image).dtype
    encoding = grid.header["integer_encoding"]
    assert (encoding.dtype if encoding else None) == (kind.name if kind.kind in "iu" else None)  # type: ignore[attr-defined]


INVALID = [
    (".nrrd", nrrd_header("spacings: nan 1 1\n")), (".nrrd", nrrd_header("spacings: 1_0 1 1\n")),
    (".nrrd", nrrd_header("spacings: 1 1 1\nspacings: 2 2 2\n")),
    (".nrrd", nrrd_header("foo: b\n")),
    (".nrrd", nrrd_header("kinds: list domain domain\n")), (".nrrd", nrrd_header(kind="block")),
    (".nrrd", nrrd_header("space: RPI\n")), (".nrrd", nrrd_header("spacings:2 2 2\n")),
    (".nrrd", nrrd_header("space: LPS\nspacings: 1 2 3\n")),
    (".nrrd", nrrd_header("space: LPS\nspace directions: (2,1,0) (0,3,0) none\n")),
    (".nrrd", nrrd_header("line skip: 1\n")), (".nrrd", nrrd_header("byte skip: -2\n")),
    (".nrrd", nrrd_header("axis mins: 0 0 0\naxis maxs: 4 -6 8\n")),
    (".nrrd", nrrd_header(encoding="bzip2")), (".nrrd", nrrd_header(endian="middle")),
    (".nrrd", nrrd_header(encoding="ascii")), (".nrrd", nrrd_header(encoding="hex")),
    (".nrrd", nrrd_header("space: LPS\nspace directions: (1e300,1e300,0) (0,3,0) (0,0,1)\n")),
    (".mha", mha_header("ElementSpacing = 1,2,3\n")),
    (".mha", mha_header("ElementSpacing = 1 1\n")),
    (".mha", mha_header("TransformMatrix = 1 0 0 0 1 0 0 0 0\n")),
    (".mha", mha_header(kind="STRING")),
    (".mha", mha_header("Offset = 1 2 3\nPosition = 4 5 6\n")),
    (".mha", mha_header("HeaderSize = 4\n")),
    (".mha", mha_header("BinaryData = False\n")),
    (".mha", mha_header(binary="BinaryData = yes\n")),
    (".mha", mha_header("ElementNumberOfChannels = 3\n")),
    (".mha", mha_header("Offset = 1 2 inf\n")), (".mha", mha_header("Offset : = 1 2 3\n")),
    (".mha", mha_header(binary="BinaryData = False\n")),
    (".mha", mha_header().replace("= 3", "= 2")),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "header"), INVALID)
def test_headers_that_mislead_are_refused(tmp_path: Path, suffix: str, header: Any) -> None:
    (tmp_path / f"a{suffix}").write_bytes(header.encode() + VOXELS)
    with pytest.raises(InputFileError) as refused:
        convnd.io.read(tmp_path / f"a{suffix}")
    assert str(refused.value).isprintable()


def test_limits_of_axes_are_geometry(tmp_path: Path) -> None:
    fields = "axis mins: 0 0 0\naxis maxs: 4 6 8\ncenters: cell cell node\n"
    (tmp_path / "a.nrrd").write_bytes(nrrd_header(fields).encode() + VOXELS)
    grid = convnd.io.read(tmp_path / "a.nrrd")
    assert grid.spacing == pytest.approx((2, 2, 8 / 3))
    np.testing.assert_allclose(flip_lps(grid.header["affine"])[:3, 3], (1, 1, 0))  # type: ignore[arg-type]


def test_text_is_written_back_as_text_alone(tmp_path: Path) -> None:
    grid = Grid(values=torch.zeros(1, 1, 2, 3, 4), units=("mm",) * 3)
    text = {"Owner": "a\nElementDataFile = /etc/passwd\r\nb", "data file": "/etc/passwd",
            "ElementDataFile": "/etc/passwd", "Patient": "x",
            "a:=b": "x", "encoding\n": "y"}  # fmt: skip
    grid = dataclasses.replace(grid, header={"text": text})
    for suffix in SUFFIXES:
        convnd.io.write(tmp_path / f"a{suffix}", grid)
        back = convnd.io.read(tmp_path / f"a{suffix}")
        assert not back.values.any()
        assert back.header["text"].keys() - {"Modality"} == {"Owner", "Patient"}  # type: ignore[attr-defined]


def test_reading_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mha").write_bytes(mha_header().encode() + VOXELS)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    grid = convnd.io.read(tmp_path / "a.mha")
    with raises(
        DependencyError,
        operation="NRRD and MHA",
        got="none installed",
        remedy='pip install "convnd-toolkit[volumes]"',
    ):
        convnd.io.write(tmp_path / "b.mha", grid)
