"""Pictures are made and looked at with Pillow, OpenCV and tifffile; ours stands between."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from error_fields import raises
from PIL import Image, ImageCms, PngImagePlugin

import convnd.io
from convnd.errors import (
    DependencyError,
    InputFileError,
    NumericalError,
    OutputFileError,
    ShapeError,
    UsageError,
)
from convnd.grid import Grid
from convnd.io.images.decoding import decode
from convnd.io.images.formats import grid_of_image

LOSSLESS = [".png", ".tif", ".bmp"]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def codes(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def hwc(grid: Grid) -> np.ndarray:
    return grid.values[0].permute(1, 2, 0).numpy()


def in_bytes(grid: Grid) -> np.ndarray:
    return np.rint(hwc(grid) * 255).astype(np.uint8)  # type: ignore[no-any-return]


def grid_of(array: np.ndarray, **header: object) -> Grid:
    values = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), np.float32))[None]
    return Grid(values=values, header=header)


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG: length, name, data, checksum."""
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png16(array: np.ndarray, kind: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG by the specification: signature, IHDR, extra chunks, IDAT, IEND."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# Reading


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".webp", ".gif"])
def test_reading_gives_codes_over_the_largest_code(tmp_path: Path, codes: Any, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"photo{suffix}"
    image = Image.fromarray(codes)
    if suffix == ".gif":
        image = image.quantize(64)
    image.save(path, **options)  # type: ignore[arg-type]
    grid = convnd.io.read(path)
    expected = np.array(image.convert("RGB")).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(hwc(grid), expected)
    assert grid.values.dtype == torch.float32
    assert grid.values.is_contiguous()
    assert (grid.axes, grid.units, grid.spacing) == (("y", "x"), ("px", "px"), (1.0, 1.0))
    assert grid.channels == ("R", "G", "B")
    assert grid.header["depth"] == 8


def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path, codes: Any) -> None:
    path = tmp_path / "PHOTO.JPEG"
    Image.fromarray(codes).save(path, format="JPEG")
    with Image.open(path) as image:
        np.testing.assert_array_equal(in_bytes(convnd.io.read(path)), np.array(image))


def test_the_content_not_the_suffix_tells_the_format(tmp_path: Path, codes: Any) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(codes).save(path, format="PNG")
    np.testing.assert_array_equal(in_bytes(convnd.io.read(path)), codes)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "YCbCr"])
def test_other_kinds_of_pixels_become_rgb(tmp_path: Path, codes: Any, mode: str) -> None:
    image = Image.fromarray(codes)
    image = image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)
    path = tmp_path / ("photo.jpg" if mode == "YCbCr" else "photo.tif")
    image.save(path)
    grid = convnd.io.read(path)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(in_bytes(grid), np.array(stored.convert("RGB")))
    assert grid.header["grey"] == (mode in {"1", "L", "LA"})
    assert ("alpha" in grid.header) == (mode in {"LA", "RGBA"})


def test_cmyk_goes_through_its_profile_which_is_then_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No CMYK profile is at hand: what a profile does is the library's part, ours to ask for it.
    icc = bytearray(ICC)
    icc[16:20] = b"CMYK"
    modes = []

    def convert(image: Any, _source: Any, _target: Any, *, outputMode: Any) -> Any:  # noqa: N803
        modes.append((image.mode, outputMode))
        return Image.new("RGB", image.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda file: file.read())
    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    Image.new("CMYK", (2, 2)).save(tmp_path / "a.jpg", icc_profile=bytes(icc))
    decoded = decode(tmp_path / "a.jpg", 4)  # in this process, where the library was replaced
    assert modes == [("CMYK", "RGB")]
    assert np.asarray(decoded.pixels)[0, 0].tolist() == [1, 2, 3]
    assert "icc" not in decoded.header


def test_a_damaged_cmyk_profile_is_no_reason_to_refuse(tmp_path: Path) -> None:
    icc = bytearray(ICC)
    icc[16:20] = b"CMYK"
    Image.new("CMYK", (2, 2)).save(tmp_path / "a.jpg", icc_profile=bytes(icc[:140]))
    assert in_bytes(convnd.io.read(tmp_path / "a.jpg"))[0, 0].tolist() == [255, 255, 255]


def test_a_grey_profile_is_not_kept_for_rgb(tmp_path: Path) -> None:
    icc = bytearray(ICC)
    icc[16:20] = b"GRAY"
    Image.new("L", (2, 2), 77).save(tmp_path / "a.png", icc_profile=bytes(icc))
    grid = convnd.io.read(tmp_path / "a.png")
    assert "icc" not in grid.header


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_alpha(tmp_path: Path, mode: str) -> None:
    colour: Any = {"P": 1, "L": 9, "RGB": (1, 2, 3)}[mode]
    image = Image.new(mode, (2, 1))
    if mode == "P":
        image.putpalette([5, 5, 5, 6, 6, 6])
    image.putpixel((0, 0), colour)
    image.save(tmp_path / "a.png", transparency=colour)
    assert convnd.io.read(tmp_path / "a.png").header["alpha"].flatten().tolist() == [0, 1]  # type: ignore[attr-defined]


def test_a_transparent_grey_of_16_bits_is_alpha(tmp_path: Path) -> None:
    stored = np.array([[[1000], [60000]]], np.uint16)
    (tmp_path / "a.png").write_bytes(png16(stored, 0, chunk(b"tRNS", b"\x03\xe8")))
    grid = convnd.io.read(tmp_path / "a.png")
    assert grid.header["alpha"].flatten().tolist() == [0, 1]  # type: ignore[attr-defined]
    with Image.open(tmp_path / "a.png") as image:
        again = grid_of_image(image)
    assert again.header["alpha"].flatten().tolist() == [0, 1]  # type: ignore[attr-defined]


# EXIF: where the first row and column of the stored pixels belong in the upright picture.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind", ["png", "webp", "tif", "tifgrey", "tifalpha", "png16", "tif16", "tif16grey", "tif32"]
)
def test_orientation_is_applied_once(
    tmp_path: Path, rng: np.random.Generator, kind: str, orientation: Any
) -> None:
    path = tmp_path / f"a.{'webp' if kind == 'webp' else kind[:3]}"
    tag = [(274, "H", 1, orientation, True)]
    exif = Image.Exif()
    exif[274] = orientation
    if kind.endswith(("16", "16grey")):
        stored = rng.integers(0, 65536, (3, 5, 3), dtype=np.uint16)
        white = 65535
    else:
        stored, white = rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), 255
    if kind == "png16":
        path.write_bytes(png16(stored, 2, chunk(b"eXIf", exif.tobytes()[6:])))
    elif kind == "tif16grey" or kind == "tifgrey":
        tifffile.imwrite(path, stored[..., 0], extratags=tag)
        stored = stored[..., :1].repeat(3, 2)
    elif kind == "tifalpha":
        opaque = np.dstack([stored, np.full(stored.shape[:2], 255, np.uint8)])
        tifffile.imwrite(path, opaque, photometric="rgb", extrasamples=[2], extratags=tag)
    elif kind == "tif16":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=tag)
    elif kind == "tif32":
        tifffile.imwrite(path, (stored / 255).astype("f4"), photometric="rgb", extratags=tag)
    else:
        options = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(stored).save(path, exif=exif, **options)  # type: ignore[arg-type]
    grid = convnd.io.read(path)
    np.testing.assert_array_equal(np.rint(hwc(grid) * white), UPRIGHT[orientation](stored))  # type: ignore[operator]

    convnd.io.write(tmp_path / "b.png", grid)
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif().get(274, 1) == 1
        assert image.size == (grid.shape[1], grid.shape[0])


def test_orientation_of_a_photo_matches_what_viewers_show(tmp_path: Path) -> None:
    # 6: the camera was held upright; a viewer turns the picture clockwise.
    exif = Image.Exif()
    exif[274] = 6
    image = Image.new("RGB", (32, 16), "blue")
    image.paste("red", (0, 0, 16, 16))  # the left half becomes the top
    image.save(tmp_path / "a.jpg", exif=exif)
    values = in_bytes(convnd.io.read(tmp_path / "a.jpg"))
    assert values.shape == (32, 16, 3)
    assert values[4, 8, 0] > 200
    assert values[28, 8, 2] > 200


def test_alpha_is_upright_too(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[274] = 3
    image.save(tmp_path / "a.png", exif=exif)
    assert convnd.io.read(tmp_path / "a.png").header["alpha"].flatten().tolist() == [1, 0]  # type: ignore[attr-defined]


# 16 bits and float


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_is_exact_both_ways(
    tmp_path: Path, rng: np.random.Generator, kind: int, channels: int
) -> None:
    stored = rng.integers(0, 65536, (4, 5, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16(stored, kind))
    grid = convnd.io.read(tmp_path / "a.png")
    colours = stored[..., : channels - 1 + channels % 2]
    expected = colours if colours.shape[2] == 3 else colours.repeat(3, 2)
    np.testing.assert_array_equal(np.rint(hwc(grid) * 65535), expected)
    assert grid.header["depth"] == 16

    convnd.io.write(tmp_path / "b.png", grid)
    back = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert back.dtype == np.uint16  # type: ignore[union-attr]
    np.testing.assert_array_equal(back[..., 2::-1], expected)  # type: ignore[index]
    if channels % 2 == 0:
        np.testing.assert_array_equal(back[..., 3], stored[..., -1])  # type: ignore[index]


def test_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    stored = np.array([[[1000, 2000, 3000], [1, 2, 3]]], np.uint16)
    extra = chunk(b"tRNS", stored[0, 0].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(png16(stored, 2, extra))
    assert convnd.io.read(tmp_path / "a.png").header["alpha"].flatten().tolist() == [0, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_tiff_is_exact_both_ways(
    tmp_path: Path, rng: np.random.Generator, dtype: str, channels: int, options: Any
) -> None:
    stored = rng.integers(0, 65536, (4, 5, channels)).astype(np.uint16)
    white = 65535
    if dtype == "float32":
        stored, white = rng.random((4, 5, channels), np.float32), 1  # type: ignore[assignment]
    kind = {1: {"photometric": "minisblack"}, 3: {"photometric": "rgb"}}.get(
        channels, {"photometric": "rgb", "extrasamples": [2]}
    )
    tifffile.imwrite(tmp_path / "a.tif", stored.squeeze(), **kind, **options)
    grid = convnd.io.read(tmp_path / "a.tif")
    expected = np.broadcast_to(stored[..., :3], (4, 5, 3))
    np.testing.assert_allclose(hwc(grid) * white, expected, rtol=1e-7)

    convnd.io.write(tmp_path / "b.tiff", grid)
    with tifffile.TiffFile(tmp_path / "b.tiff") as file:
        page = file.pages[0]
        assert page.dtype == dtype
        assert page.samplesperpixel == (4 if channels == 4 else 3)  # type: ignore[union-attr]
        assert page.extrasamples == ((2,) if channels == 4 else ())  # type: ignore[union-attr]
        assert page.compression.name == "ADOBE_DEFLATE"  # type: ignore[attr-defined]
    back = cv2.imread(str(tmp_path / "b.tiff"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back[..., 2::-1], expected)  # type: ignore[index]
    if channels == 4:
        np.testing.assert_array_equal(back[..., 3], stored[..., 3])  # type: ignore[index]


def test_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 65535]], "u2"), photometric="miniswhite")
    assert hwc(convnd.io.read(tmp_path / "a.tif"))[0, :, 0].tolist() == [1, 0]


def test_premultiplied_colours_are_divided(tmp_path: Path) -> None:
    stored = np.array([[[100, 200, 300, 400], [0, 0, 0, 0]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=[1])
    grid = convnd.io.read(tmp_path / "a.tif")
    expected = [[[0.25, 0.5, 0.75], [0, 0, 0]]]
    np.testing.assert_allclose(hwc(grid), expected, atol=1 / 65535)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (
            np.full((2, 2), 1.5, "f4"),
            {},
            {"operation": "a.tif", "expected": "0 to 1", "got": "1.5 to 1.5"},
        ),
        (
            np.full((2, 2, 3), np.nan, "f4"),
            {"photometric": "rgb"},
            {"operation": "a.tif", "expected": "0 to 1", "got": "nan to nan"},
        ),
        (
            np.zeros((2, 2), "i2"),
            {},
            {"operation": "a.tif", "got": "[16] bits, 1 samples, sample format"},
        ),
        (np.zeros((2, 2), "u4"), {}, {"operation": "a.tif", "got": "[32] bits"}),
        (
            np.zeros((3, 2, 2), "u2"),
            {"photometric": "rgb", "planarconfig": "separate"},
            {"operation": "a.tif", "expected": "interleaved"},
        ),
        (
            np.zeros((2, 2, 2), "u1"),
            {"photometric": "minisblack"},
            {"operation": "a.tif", "got": "2 pages"},
        ),
    ],
)
def test_tiffs_that_are_refused(
    tmp_path: Path, array: Any, options: Any, words: dict[str, str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with raises(InputFileError, **words):
        convnd.io.read(tmp_path / "a.tif")


def test_a_reduced_copy_in_a_tiff_is_not_a_second_picture(tmp_path: Path, codes: Any) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(codes, photometric="rgb")
        file.write(codes[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(in_bytes(convnd.io.read(tmp_path / "a.tif")), codes)


# Writing


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_writing_clamps_and_rounds(tmp_path: Path, suffix: str) -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 100.4 / 255, 1.0, 7.0])
    grid = Grid(values=values.expand(1, 3, 2, 7).clone())
    convnd.io.write(tmp_path / f"a{suffix}", grid)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == "RGB"
        assert np.array(image)[1, :, 2].tolist() == [0, 0, 0, 1, 100, 255, 255]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (5, 7)])
def test_round_trip(
    tmp_path: Path, rng: np.random.Generator, suffix: str, size: tuple[int, ...]
) -> None:
    codes = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    convnd.io.write(tmp_path / f"a{suffix}", grid_of(codes / 255))
    np.testing.assert_array_equal(in_bytes(convnd.io.read(tmp_path / f"a{suffix}")), codes)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality_and_full_colour_resolution(tmp_path: Path, suffix: str) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip("Pillow was built without it")
    # Red and blue columns: 4:2:0 would mix them.
    codes = np.zeros((32, 32, 3))
    codes[:, ::2, 0] = codes[:, 1::2, 2] = 1
    sizes = {}
    for quality in (10, None, 100):
        path = tmp_path / f"{quality}{suffix}"
        convnd.io.write(path, grid_of(codes), quality=quality)
        sizes[quality] = path.stat().st_size
    assert sizes[10] < sizes[None]
    got = hwc(convnd.io.read(tmp_path / f"100{suffix}"))
    assert np.abs(got - codes).max() < 0.06
    with Image.open(tmp_path / f"None{suffix}") as image:
        if suffix == ".jpg":
            assert image.layer[0][1:3] == (1, 1)  # type: ignore[attr-defined]  # luminance sampled no finer than chrominance


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_comes_back_and_hidden_colours_with_it(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    codes = rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    codes[:3, :, 3] = 0
    Image.fromarray(codes).save(tmp_path / "a.png")
    grid = convnd.io.read(tmp_path / "a.png")
    assert grid.values.shape == (1, 3, 5, 7)
    convnd.io.write(tmp_path / f"b{suffix}", grid, quality=100)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.array(image), codes)


def test_alpha_follows_a_new_size(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.save(tmp_path / "a.png")
    grid = convnd.io.read(tmp_path / "a.png")
    convnd.io.write(tmp_path / "b.png", grid.with_values(torch.zeros(1, 3, 16, 4)))
    with Image.open(tmp_path / "b.png") as result:
        alpha = np.array(result)[..., 3]
    assert alpha.shape == (16, 4)
    assert (alpha[:, 0] > 240).all()
    assert (alpha[:, 3] < 15).all()


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_without_transparency_what_lies_behind_is_white(tmp_path: Path, suffix: str) -> None:
    grid = grid_of(np.zeros((8, 8, 3)), alpha=torch.full((1, 1, 8, 8), 0.25))
    convnd.io.write(tmp_path / f"a{suffix}", grid)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert np.abs(np.array(image).astype(int) - 191).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_profile_and_camera_data_come_back(tmp_path: Path, codes: Any, suffix: str) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip("Pillow was built without it")
    exif = Image.Exif()
    exif[271], exif[274], exif[315] = "Camera", 6, "Someone"
    exif[0x8769] = {0x829A: 0.01, 0xA002: 7, 0x927C: b"maker"}  # exposure, width, note
    exif[0x8825] = {1: "N", 2: (48.0, 31.0, 0.0)}
    Image.fromarray(codes).save(
        tmp_path / "a.jpg", exif=exif, icc_profile=ICC, dpi=(300, 300), quality=100
    )
    grid = convnd.io.read(tmp_path / "a.jpg")
    convnd.io.write(tmp_path / f"b{suffix}", grid)
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        back = image.getexif()
        assert image.info["icc_profile"] == ICC
        assert (back[271], back[315], back.get(274, 1)) == ("Camera", "Someone", 1)
        details = back.get_ifd(0x8769)
        assert float(details[0x829A]) == pytest.approx(0.01)
        assert not {0xA002, 0x927C} & set(details)
        assert back.get_ifd(0x8825)[1] == "N"
        if suffix in {".png", ".jpg", ".tif"}:
            assert [round(float(value)) for value in image.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("depth", [8, 16])
def test_png_holds_the_record_and_the_old_text(tmp_path: Path, codes: Any, depth: int) -> None:
    old = PngImagePlugin.PngInfo()
    old.add_text("Author", "Ümit 名")
    old.add_text("steps", "1")
    old.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.fromarray(codes).save(tmp_path / "a.png", pnginfo=old, icc_profile=ICC, dpi=(99, 99))
    grid = convnd.io.read(tmp_path / "a.png")
    assert grid.shape == (7, 5)  # XMP, too, can say how the camera was held
    grid = Grid(values=grid.values, header={**grid.header, "depth": depth})
    convnd.io.write(tmp_path / "b.png", grid, provenance={"steps": "500", "style": "名.jpg"})
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        assert image.text == {"Author": "Ümit 名", "steps": "500", "style": "名.jpg"}  # type: ignore[attr-defined]
        assert image.info["icc_profile"] == ICC
        assert round(image.info["dpi"][0]) == 99
    assert (tmp_path / "b.png").read_bytes()[24] == depth


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".avif"])
def test_other_formats_hold_the_record_as_user_comment(
    tmp_path: Path, codes: Any, suffix: str
) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip("Pillow was built without it")
    record = {"steps": "500", "style": "名.jpg"}
    convnd.io.write(tmp_path / f"a{suffix}", grid_of(codes / 255), provenance=record)
    with Image.open(tmp_path / f"a{suffix}") as image:
        image.load()
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"ASCII\0\0\0"
    assert json.loads(comment[8:]) == record


def test_without_a_record_nothing_is_said(tmp_path: Path, codes: Any) -> None:
    for suffix in (".png", ".jpg"):
        convnd.io.write(tmp_path / f"a{suffix}", grid_of(codes / 255))
        with Image.open(tmp_path / f"a{suffix}") as image:
            image.load()
            assert not image.getexif()
            assert not getattr(image, "text", {})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_one_channel_is_written_in_grey(tmp_path: Path, suffix: str, depth: int) -> None:
    grid = Grid(values=torch.full((1, 1, 8, 8), 0.5), header={"depth": depth, "icc": ICC})
    convnd.io.write(tmp_path / f"a{suffix}", grid)
    with Image.open(tmp_path / f"a{suffix}") as image:
        deep = depth == 16 and suffix != ".jpg"
        assert image.mode == ("I;16" if deep else "L")
        assert "icc_profile" not in image.info
    got = convnd.io.read(tmp_path / f"a{suffix}")
    assert got.header["grey"]
    assert (got.values - 0.5).abs().max() < 0.003


def test_grey_with_alpha_of_16_bits(tmp_path: Path) -> None:
    header = {"depth": 16, "alpha": torch.full((1, 1, 4, 4), 0.25)}
    convnd.io.write(tmp_path / "a.png", Grid(values=torch.full((1, 1, 4, 4), 0.5), header=header))
    got = convnd.io.read(tmp_path / "a.png")
    torch.testing.assert_close(got.values, torch.full((1, 3, 4, 4), 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        got.header["alpha"], torch.full((1, 1, 4, 4), 0.25), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("grid", "suffix", "error", "words"),
    [
        (
            Grid(values=torch.zeros(1, 2, 4, 4)),
            ".png",
            ShapeError,
            {"operation": "write", "expected": "1 or 3", "got": "2"},
        ),
        (
            Grid(values=torch.zeros(1, 3, 4, 4, 4)),
            ".png",
            ShapeError,
            {"operation": "a.png", "expected": "2 spatial"},
        ),
        (
            Grid(values=torch.full((1, 3, 4, 4), torch.nan)),
            ".png",
            NumericalError,
            {"operation": "write", "got": "NaN or infinity"},
        ),
        (
            Grid(values=torch.zeros(1, 1, 1, 16384)),
            ".webp",
            OutputFileError,
            {"operation": "write", "expected": "16383 pixels", "got": "16384 × 1"},
        ),
        (
            Grid(values=torch.zeros(1, 1, 65501, 1)),
            ".jpg",
            OutputFileError,
            {"operation": "write", "expected": "65500 pixels"},
        ),
        (
            Grid(values=torch.zeros(1, 3, 4, 4)),
            ".gif",
            UsageError,
            {"operation": "a.gif", "expected": "name ending in .png"},
        ),
    ],
)
def test_grids_that_a_format_cannot_hold(
    tmp_path: Path, grid: Any, suffix: str, error: Any, words: dict[str, str]
) -> None:
    with raises(error, **words):
        convnd.io.write(tmp_path / f"a{suffix}", grid)
    assert list(tmp_path.iterdir()) == []


def test_a_record_too_long_for_exif_is_an_output_error(tmp_path: Path, codes: Any) -> None:
    with raises(OutputFileError, operation="a.jpg", expected="to encode and store"):
        convnd.io.write(tmp_path / "a.jpg", grid_of(codes / 255), provenance={"a": "x" * 70_000})
    assert list(tmp_path.iterdir()) == []


def test_16_bits_that_opencv_will_not_encode(
    tmp_path: Path, codes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with raises(OutputFileError, operation="write", expected="7 × 5", got="a refusal from OpenCV"):
        convnd.io.write(tmp_path / "a.png", grid_of(codes / 255, depth=16))


# What is refused


def bomb(width: int, height: int) -> bytes:
    image = io.BytesIO()
    Image.new("1", (1, 1)).save(image, format="PNG")
    data = bytearray(image.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_size_is_judged_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(30_000, 30_000))
    with raises(
        InputFileError,
        operation="a.png",
        expected="178,956,970 pixels",
        got="30000 × 30000 = 900,000,000",
    ):
        convnd.io.read(path)
    with raises(
        InputFileError, operation="a.png", expected="73,700 bytes"
    ):  # allowed, and then not there
        convnd.io.read(path, max_pixels=10**9)
    Image.new("RGB", (30_000, 2), "red").save(path)
    assert convnd.io.read(path).shape == (2, 30_000)
    with raises(InputFileError, operation="a.png", expected="100 pixels", got="2 × 30000 = 60,000"):
        convnd.io.read(path, max_pixels=100)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20, 3), "u2"), photometric="rgb")
    with raises(InputFileError, operation="a.tif", expected="100 pixels", got="20 × 20 = 400"):
        convnd.io.read(tmp_path / "a.tif", max_pixels=100)


def test_pillows_own_settings_are_left_alone(
    tmp_path: Path, codes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    filters = list(warnings.filters)
    path = tmp_path / "a.png"
    Image.fromarray(codes).save(path)
    convnd.io.read(path, max_pixels=10**9)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputFileError):
        convnd.io.read(path, max_pixels=10**9)
    assert Image.MAX_IMAGE_PIXELS == 1234
    assert filters == list(warnings.filters)


def test_pillows_warnings_are_no_errors(
    tmp_path: Path, codes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Image.open

    def complain(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("odd metadata", stacklevel=2)
        return original(*args, **kwargs)

    Image.fromarray(codes).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", complain)
    np.testing.assert_array_equal(in_bytes(convnd.io.read(tmp_path / "a.png")), codes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with raises(InputFileError, expected="one picture", got="an animation") as caught:
        convnd.io.read(path)
    assert "convnd stylize-video" in str(caught.value)
    assert len(list(convnd.io.open_video(path).frames())) == 2  # as it says


def test_a_cameras_extra_pictures_are_not_an_animation(tmp_path: Path, codes: Any) -> None:
    images = [Image.fromarray(codes), Image.fromarray(codes[::-1])]
    images[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=images[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
        np.testing.assert_array_equal(in_bytes(convnd.io.read(tmp_path / "a.jpg")), np.array(image))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"Dear diary,\ntoday",
            {
                "operation": "notes.jpg",
                "expected": "a picture (PNG, JPEG",
                "got": "content that is none of these",
            },
        ),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            {"operation": "notes.jpg", "got": "PostScript"},
        ),
        (b"II*\0", {"operation": "notes.jpg", "got": "a damaged or unsupported file"}),
        (b"II*\0\x08\0\0\0", {"operation": "notes.jpg", "got": "a damaged or unsupported file"}),
    ],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, words: dict[str, str]) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    with raises(InputFileError, **words) as caught:
        convnd.io.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"])
def test_files_cut_short_are_refused_without_a_sound(
    tmp_path: Path, rng: np.random.Generator, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    codes = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    options = {"compression": "tiff_lzw"} if suffix == ".tif" else {}
    Image.fromarray(codes).save(path, **options)
    whole = path.read_bytes()
    for fraction in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(fraction * len(whole))])
        with raises(InputFileError, operation="a.") as caught:
            convnd.io.read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_files_cut_short_are_refused_without_a_sound(
    tmp_path: Path, rng: np.random.Generator, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), rng.integers(0, 65536, (40, 40, 3), dtype=np.uint16))
    whole = path.read_bytes()
    for fraction in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(fraction * len(whole))])
        with raises(InputFileError, operation="a.") as caught:
            convnd.io.read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_kinds_of_pixels_that_are_refused(tmp_path: Path) -> None:
    image = Image.merge("LAB", [Image.new("L", (4, 4), 9)] * 3)
    image.save(tmp_path / "a.tif")
    with raises(
        InputFileError, operation="a.tif", got="pixels of kind 'LAB'", remedy="convert it to RGB"
    ):
        convnd.io.read(tmp_path / "a.tif")


def test_a_damaged_exif_record_is_no_reason_to_refuse(tmp_path: Path, codes: Any) -> None:
    Image.fromarray(codes).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    grid = convnd.io.read(tmp_path / "a.png")
    np.testing.assert_array_equal(in_bytes(grid), codes)
    assert "exif" not in grid.header


# What files say of their origin


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("place", [False, True])
def test_no_directory_of_exif_is_empty(
    tmp_path: Path, codes: Any, suffix: str, place: bool
) -> None:
    exif = Image.Exif()
    exif[0x10F] = "Camera"
    if place:
        exif[0x8825] = {1: "N", 2: (50.0, 30.0, 0.0)}
    Image.fromarray(codes).save(tmp_path / "a.jpg", exif=exif)
    convnd.io.write(tmp_path / f"b{suffix}", convnd.io.read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert (0x8825 in image.getexif()) == place
        assert 0x8769 not in image.getexif()
        assert image.getexif()[0x10F] == "Camera"


# Formats by other names, and formats that are not read


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JIF"])
def test_a_jpeg_by_its_other_names(tmp_path: Path, codes: Any, suffix: str) -> None:
    Image.fromarray(codes).save(tmp_path / f"a{suffix}", format="JPEG")
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    convnd.io.write(tmp_path / f"b{suffix}", grid)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("suffix", [".heic", ".HIF", ".jpg"])
def test_heic_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x10F] = "Camera"
    image = Image.new("RGB", (64, 48), (200, 30, 40))
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=100, exif=exif.tobytes())
    path = (tmp_path / "a.heic").rename(tmp_path / f"b{suffix}")
    grid = convnd.io.read(path)
    assert grid.shape == (48, 64)
    assert np.abs(in_bytes(grid)[20, 20].astype(int) - (200, 30, 40)).max() < 4
    assert "text" not in grid.header
    convnd.io.write(tmp_path / "c.png", grid)
    with Image.open(tmp_path / "c.png") as written:
        assert written.getexif()[0x10F] == "Camera"


def test_heic_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with raises(
        DependencyError, operation="HEIC", got="none installed", remedy='"convnd-toolkit[pictures]"'
    ):
        decode(tmp_path / "a.heic", 10**6)


def test_heic_of_too_many_pixels_and_damaged_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.new("RGB", (64, 48))).save(path)
    with raises(InputFileError, operation="a.heic", expected="100 pixels"):
        convnd.io.read(path, max_pixels=100)
    path.write_bytes(path.read_bytes()[:-20])
    with raises(InputFileError, operation="a.heic", expected="a picture"):
        convnd.io.read(path)
    path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    with raises(InputFileError, operation="a.heic", expected="a picture"):
        convnd.io.read(path)


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.cr2", b"II*\0", "darktable"),
        ("a.psd", b"8BPS", "GIMP.*PNG"),
        ("a.svg", b"<svg", "inkscape"),
        ("a.jxl", b"\xff\x0a", "djxl"),
        ("a.exr", b"v/1\x01", "GIMP"),
        ("a.vti", b"<?xml", "3D Slicer"),
        ("a.tgz", b"\x1f\x8b", "tar xzf"),
        ("a.ppm", b"P6\n", "PIL.Image"),
        ("a.jpg", b"8BPS" + b"\0" * 40, "Photoshop.*PNG"),
        ("a.png", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40, "JPEG XL.*djxl"),
        ("a.png", b"%PDF-1.7\n" + b"\0" * 40, "pdftoppm"),
    ],
)
def test_formats_that_are_not_read_name_what_converts_them(
    tmp_path: Path, name: str, content: bytes, remedy: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputFileError, match=remedy):
        convnd.io.read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp", ".webp", ".avif"])
def test_what_a_format_loses_is_named(tmp_path: Path, suffix: str) -> None:
    """The names agree with what comes back from the file."""
    codes = np.random.default_rng(0).integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    codes[:3] = 0
    cv2.imwrite(str(tmp_path / "deep.png"), codes)
    grid = convnd.io.read(tmp_path / "deep.png")
    lost = convnd.io.lost_metadata(f"result{suffix}", grid)
    convnd.io.write(tmp_path / f"result{suffix}", grid)
    header = convnd.io.read(tmp_path / f"result{suffix}").header
    assert ("transparency" in lost) == ("alpha" not in header)
    assert ("more than 8 bits" in lost) == (header["depth"] == 8)
    solid = dataclasses.replace(grid, header={**grid.header, "alpha": torch.ones(1, 1, 20, 24)})
    assert "transparency" not in convnd.io.lost_metadata(f"result{suffix}", solid)
