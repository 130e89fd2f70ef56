"""Pictures of every colour space are sRGB inside; littlecms is the reference."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from error_fields import raises
from numpy.typing import NDArray
from PIL import Image, ImageCms
from profiles import (
    ADOBE,
    GREY,
    P3,
    PROPHOTO,
    SWAPPED,
    chunk,
    curve,
    parametric,
    profile,
    rgb_profile,
    tables_profile,
)

import convnd.io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.images.color import coded_space, named_space, profile_space

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SPACES = {"P3": P3, "Adobe RGB": ADOBE, "ProPhoto": PROPHOTO, "swapped": SWAPPED}
_COLUMNS = (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)


def reference(codes: np.ndarray, icc: bytes, target: bytes = SRGB) -> np.ndarray:
    """Codes through littlecms."""
    before, after = (ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (icc, target))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(
        Image.fromarray(codes), before, after, intent, outputMode="RGB"
    )
    return np.array(converted)


def hwc(grid: Grid) -> np.ndarray:
    return grid.values[0].permute(1, 2, 0).numpy()


@pytest.fixture
def codes(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif"])
@pytest.mark.parametrize("name", SPACES)
def test_profiles_are_converted_as_littlecms_does(
    tmp_path: Path, codes: Any, name: str, suffix: str
) -> None:
    icc, path = SPACES[name], tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {"quality": 100}
    Image.fromarray(codes).save(path, icc_profile=icc, **options)
    with Image.open(path) as image:
        stored = np.array(image)
    got = hwc(convnd.io.read(path)).clip(0, 1) * 255
    assert np.abs(got - reference(stored, icc)).max() < 0.7  # it rounds, ours does not


@pytest.mark.parametrize(
    "tone",
    [
        curve(),
        curve(0, 0.1, 0.3, 1),
        parametric(0, 2.4),
        parametric(1, 2.2, 0.9, 0.1),
        parametric(2, 2.2, 0.9, 0.05, 0.02),
        parametric(3, 2.4, 0.948, 0.052, 0.0774, 0.0404),
        parametric(4, 2.4, 0.9, 0.05, 0.08, 0.04, 0.01, 0.0),
    ],
)
def test_every_kind_of_curve(codes: Any, tone: Any) -> None:
    icc = rgb_profile(_COLUMNS, tone)
    space = profile_space(icc)
    assert space is not None
    assert np.abs(space.to_srgb(codes).clip(0, 1) * 255 - reference(codes, icc)).max() < 0.8


@pytest.mark.parametrize("name", SPACES)
def test_writing_restores_codes_and_profile(tmp_path: Path, codes: Any, name: str) -> None:
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=SPACES[name])
    grid = convnd.io.read(tmp_path / "a.png")
    for suffix in (".png", ".tif", ".webp"):
        convnd.io.write(tmp_path / f"b{suffix}", grid, quality=100)
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.info["icc_profile"] == SPACES[name]
            np.testing.assert_array_equal(np.array(image), codes)


def test_16_bits_stay_16_bits(tmp_path: Path, rng: np.random.Generator) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, 2)
    colors = rng.integers(0, 65536, (256, 256, 3), dtype=np.uint16)
    for name, codes, tolerance in (("grey", ramp, 0), ("colour", colors, 40)):
        tifffile.imwrite(
            tmp_path / "a.tif", codes, photometric="rgb", iccprofile=P3, compression="zlib"
        )
        grid = convnd.io.read(tmp_path / "a.tif")
        assert len(torch.unique(grid.values[0, 1])) > 40_000, name
        for suffix in (".png", ".tif"):
            convnd.io.write(tmp_path / f"b{suffix}", grid, overwrite=True)
            back = cv2.imread(str(tmp_path / f"b{suffix}"), cv2.IMREAD_UNCHANGED)
            assert back is not None
            back = back[..., ::-1]
            # Beside a strong colour, float32 holds the darkest codes of another less finely.
            assert np.abs(back.astype(int) - codes).max() <= tolerance, name


def test_srgb_by_another_name_is_left_alone(tmp_path: Path, codes: Any) -> None:
    columns = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    icc = rgb_profile(columns, parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    for data in (icc, SRGB):
        Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=data)
        grid = convnd.io.read(tmp_path / "a.png")
        np.testing.assert_array_equal(hwc(grid), codes.astype(np.float32) / np.float32(255))
        assert grid.header["icc"] == data


def test_colours_that_srgb_has_not_come_back(tmp_path: Path) -> None:
    codes = np.zeros((2, 2, 3), np.uint8)
    codes[..., 1] = 255  # the green of P3
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=P3)
    grid = convnd.io.read(tmp_path / "a.png")
    assert grid.values.min() < 0
    convnd.io.write(tmp_path / "b.png", grid)
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.array(image), codes)


def test_a_format_without_profiles_gets_srgb(tmp_path: Path, codes: Any) -> None:
    codes = codes // 2 + 60
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=P3)
    convnd.io.write(tmp_path / "b.bmp", convnd.io.read(tmp_path / "a.png"))
    with Image.open(tmp_path / "b.bmp") as image:
        assert np.abs(np.array(image).astype(int) - reference(codes, P3)).max() <= 1


def test_grey_of_every_depth_is_one_value_and_its_profile_is_dropped(tmp_path: Path) -> None:
    codes = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    small = (codes >> 8).astype(np.uint8)
    Image.fromarray(small).save(tmp_path / "8.png", icc_profile=GREY)
    Image.fromarray(small).save(tmp_path / "8.jpg", icc_profile=GREY, quality=100)
    Image.fromarray(codes).save(tmp_path / "16.png", icc_profile=GREY)
    tifffile.imwrite(tmp_path / "16.tif", codes, iccprofile=GREY)
    tifffile.imwrite(tmp_path / "32.tif", (codes / 65535).astype("f4"), iccprofile=GREY)
    alpha = np.dstack([small, np.full_like(small, 200)])
    Image.fromarray(alpha, "LA").save(tmp_path / "alpha.png", icc_profile=GREY)
    rows = np.dstack([codes, np.full_like(codes, 51400)]).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 64, 48, 16, 4, 0, 0, 0)
    embedded = chunk(b"iCCP", b"grey\0\0" + zlib.compress(GREY))
    parts = chunk(b"IHDR", header) + embedded + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "alpha16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    expected = np.array(Image.fromarray(reference_grey(small)))
    for path in sorted(tmp_path.iterdir()):
        grid = convnd.io.read(path)
        assert np.abs(hwc(grid)[8:] * 255 - expected[8:]).max() < 3, path.name
        convnd.io.write(tmp_path.with_name("b.png"), grid, overwrite=True)
        with Image.open(tmp_path.with_name("b.png")) as image:
            assert "icc_profile" not in image.info, path.name


def reference_grey(codes: np.ndarray) -> np.ndarray:
    linear = codes[..., None].repeat(3, 2) / 255
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rounded: np.ndarray = np.rint(encoded * 255).astype(np.uint8)
    return rounded


def test_a_grey_curve_may_give_lightness(tmp_path: Path) -> None:
    icc = profile(b"GRAY", {b"kTRC": curve()}, pcs=b"Lab ")
    Image.new("L", (4, 4), 128).save(tmp_path / "a.png", icc_profile=icc)
    # L* of 50.2 is 119 or 120 of sRGB.
    assert hwc(convnd.io.read(tmp_path / "a.png"))[0, 0, 0] * 255 == pytest.approx(119.4, abs=0.5)


def test_grey_with_the_curve_of_srgb_is_left_alone(tmp_path: Path) -> None:
    tone = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    Image.new("L", (4, 4), 100).save(
        tmp_path / "a.png", icc_profile=profile(b"GRAY", {b"kTRC": tone})
    )
    values = convnd.io.read(tmp_path / "a.png").values
    assert values.unique().tolist() == [np.float32(100) / np.float32(255)]


@pytest.mark.parametrize(("mode", "icc"), [("RGB", GREY), ("CMYK", P3), ("RGB", P3[:150])])
def test_profiles_that_do_not_fit_are_dropped(tmp_path: Path, mode: str, icc: Any) -> None:
    image = Image.new("RGB", (4, 4), (200, 100, 50)).convert(mode)
    image.save(tmp_path / "a.tif", icc_profile=icc)
    grid = convnd.io.read(tmp_path / "a.tif")
    assert np.rint(hwc(grid)[0, 0] * 255).tolist() == [200, 100, 50]
    assert "icc" not in grid.header


def test_grey_pixels_with_a_profile_of_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 100).save(tmp_path / "a.png", icc_profile=PROPHOTO)
    expected = reference(np.full((1, 1, 3), 100, np.uint8), PROPHOTO)[0, 0]
    grid = convnd.io.read(tmp_path / "a.png")
    assert np.abs(hwc(grid)[0, 0] * 255 - expected).max() < 0.7
    convnd.io.write(tmp_path / "b.png", grid)
    with Image.open(tmp_path / "b.png") as image:
        assert (image.mode, image.info["icc_profile"]) == ("RGB", PROPHOTO)
        assert np.array(image)[0, 0].tolist() == [100] * 3


@pytest.mark.parametrize("depth", [8, 16])
def test_tables_go_through_8_bits_and_say_so(tmp_path: Path, depth: int) -> None:
    codes = np.full((4, 4, 3), 200, np.uint8)
    icc = tables_profile()
    if depth == 8:
        Image.fromarray(codes).save(tmp_path / "a.tif", icc_profile=icc)
    else:
        tifffile.imwrite(
            tmp_path / "a.tif", codes.astype("u2") * 257, photometric="rgb", iccprofile=icc
        )
    grid = convnd.io.read(tmp_path / "a.tif")
    expected = reference(codes, icc)[0, 0]
    assert expected[0] < 100  # this profile inverts
    assert np.abs(hwc(grid)[0, 0] * 255 - expected).max() <= 1
    assert grid.header["depth"] == depth
    assert "icc" not in grid.header
    assert ("notes" in grid.header) == (depth == 16)


def test_cmyk_goes_through_its_tables(tmp_path: Path) -> None:
    icc = tables_profile(b"CMYK")
    for suffix in (".jpg", ".tif"):
        Image.new("CMYK", (8, 8), (51, 9, 9, 9)).save(tmp_path / f"a{suffix}", icc_profile=icc)
        grid = convnd.io.read(tmp_path / f"a{suffix}")
        got = hwc(grid)[0, 0] * 255
        assert got[0] > 180, suffix
        assert np.ptp(got) <= 2, suffix
        assert "icc" not in grid.header


def with_chunk(path: Path, codes: NDArray[Any], *chunks: bytes) -> None:
    """A PNG with further chunks before its pixels."""
    data = io.BytesIO()
    Image.fromarray(codes).save(data, format="PNG")
    path.write_bytes(data.getvalue()[:33] + b"".join(chunks) + data.getvalue()[33:])


def gamma_chunk(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def places_chunk(*places: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(place * 100_000) for place in places)))


P3_PLACES = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([gamma_chunk(1.0)], [188.0, 137.0, 188.0]),  # linear light
        ([gamma_chunk(0.45455)], [128.0, 64.0, 128.0]),
        ([chunk(b"sRGB", b"\0"), gamma_chunk(1.0)], [128.0, 64.0, 128.0]),
        ([places_chunk(*P3_PLACES), gamma_chunk(0.45455)], None),
        ([chunk(b"cICP", bytes([12, 13, 0, 1]))], None),
        ([chunk(b"cICP", bytes([1, 13, 0, 1])), gamma_chunk(1.0)], [128.0, 64.0, 128.0]),
    ],
)
def test_chunks_of_png(tmp_path: Path, chunks: Any, expected: list[float] | None) -> None:
    codes = np.full((4, 4, 3), (128, 64, 128), np.uint8)
    with_chunk(tmp_path / "a.png", codes, *chunks)
    if expected is None:
        srgb_curve = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        expected = reference(codes, rgb_profile(_COLUMNS, srgb_curve))[0, 0]
    grid = convnd.io.read(tmp_path / "a.png")
    assert np.abs(hwc(grid)[0, 0] * 255 - expected).max() < 1.2


def test_codes_of_a_png_count_before_its_profile(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (128, 64, 128)).save(data, format="PNG", icc_profile=SWAPPED)
    coded = chunk(b"cICP", bytes([1, 13, 0, 1]))
    (tmp_path / "a.png").write_bytes(data.getvalue()[:33] + coded + data.getvalue()[33:])
    grid = convnd.io.read(tmp_path / "a.png")
    assert np.rint(hwc(grid)[0, 0] * 255).tolist() == [128, 64, 128]
    assert "icc" not in grid.header


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_by_name(tmp_path: Path, codes: Any, transfer: int) -> None:
    with_chunk(tmp_path / "a.png", codes, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    with raises(InputFileError, operation="a.png", expected="HDR", got="primaries"):
        convnd.io.read(tmp_path / "a.png")


def test_codes_of_avif(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.new("RGB", (16, 16), (200, 64, 128)).save(path, quality=100)
    data = path.read_bytes()
    place = data.index(b"colrnclx") + 8
    with Image.open(path) as image:
        stored = np.array(image)
    np.testing.assert_allclose(hwc(convnd.io.read(path)) * 255, stored, atol=0.01)
    path.write_bytes(data[:place] + struct.pack(">2H", 12, 13) + data[place + 4 :])
    space = coded_space(12, 13)
    assert space is not None
    expected = named_space(*space).to_srgb(stored)
    np.testing.assert_allclose(hwc(convnd.io.read(path)), expected, atol=1e-5)
    path.write_bytes(data[:place] + struct.pack(">2H", 9, 16) + data[place + 4 :])
    with raises(InputFileError, operation="a.avif", expected="HDR"):
        convnd.io.read(path)


def test_a_cameras_adobe_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    Image.new("RGB", (16, 16), (200, 64, 128)).save(tmp_path / "a.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = reference(np.array(image), ADOBE)
    grid = convnd.io.read(tmp_path / "a.jpg")
    assert np.abs(hwc(grid).clip(0, 1) * 255 - expected).max() < 1.2
    convnd.io.write(tmp_path / "b.jpg", grid)
    with Image.open(tmp_path / "b.jpg") as image:  # sRGB, and nothing says otherwise
        assert 0xA001 not in image.getexif().get_ifd(0x8769)


def test_alpha_is_not_converted(tmp_path: Path) -> None:
    codes = np.full((4, 4, 4), (200, 100, 50, 77), np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=P3)
    grid = convnd.io.read(tmp_path / "a.png")
    assert np.rint(grid.header["alpha"].numpy() * 255).max() == 77  # type: ignore[attr-defined]
    convnd.io.write(tmp_path / "b.png", grid)
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.array(image), codes)
