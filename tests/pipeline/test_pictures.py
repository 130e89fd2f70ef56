"""Pictures through the whole pipeline: colour spaces, transparency, and what files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from profiles import GREY, P3, SWAPPED

from convnd import io
from convnd.io.images.color import profile_space

Run = Callable[..., tuple[int, str, str]]
Codes = NDArray[np.uint8]


@pytest.fixture
def content(rng: np.random.Generator) -> Codes:
    return smooth(rng)


@pytest.fixture
def style(rng: np.random.Generator) -> Codes:
    return smooth(rng)


def smooth(rng: np.random.Generator) -> Codes:
    """Colours without the extremes, which some spaces do not share."""
    small = Image.fromarray(rng.integers(60, 190, (8, 8, 3), dtype=np.uint8))
    return np.array(small.resize((32, 32), Image.Resampling.BICUBIC))


def in_space(codes: Codes, icc: bytes) -> Codes:
    """The same colours in another space."""
    space = profile_space(icc)
    assert space is not None
    converted: Codes = np.rint(space.from_srgb(codes / np.float32(255)) * 255).astype(np.uint8)
    return converted


def save(path: Path, codes: NDArray[Any], **options: Any) -> str:
    Image.fromarray(codes).save(path, **options)
    return str(path)


def result_codes(path: Path) -> NDArray[Any]:
    return io.read(path).values[0].permute(1, 2, 0).numpy() * 255


def stylize(run: Run, content: str, style: str, out: str, *arguments: str) -> NDArray[Any]:
    quick = (
        "--backbone",
        "compact",
        "--precision",
        "float32",
        "--steps",
        "2",
        "--scales",
        "1",
        "--size",
        "0",
        "-q",
    )
    code, _, err = run("stylize", content, style, "-o", out, *quick, *arguments)
    assert code == 0, err
    return result_codes(Path(out))


@pytest.mark.parametrize("role", ["content", "style", "init"])
@pytest.mark.parametrize(("icc", "colors"), [(P3, "style"), (SWAPPED, "match"), (P3, "luminance")])
def test_the_colour_space_of_an_input_changes_nothing(
    run: Run, content: Codes, style: Codes, icc: bytes, role: str, colors: str
) -> None:
    codes = {"content": content, "style": style, "init": content[::-1].copy()}
    plain = {name: save(Path(f"{name}.png"), pixels) for name, pixels in codes.items()}
    tagged = save(Path("tagged.png"), in_space(codes[role], icc), icc_profile=icc)
    results = []
    for number, files in enumerate((plain, plain | {role: tagged})):
        init = ("--init", files["init"]) if role == "init" else ()
        out = f"result{number}.png"
        results.append(
            stylize(run, files["content"], files["style"], out, "--colors", colors, *init)
        )
    # Codes are rounded in another space, which the optimisation makes a little larger.
    assert np.abs(results[0] - results[1]).mean() < 2
    assert np.abs(results[0] - content).max() > 10
    with Image.open("result1.png") as image:
        assert image.info.get("icc_profile") == (icc if role == "content" else None)


def test_kept_pixels_keep_their_codes_in_the_contents_space(
    run: Run, content: Codes, style: Codes
) -> None:
    content[:16] = (255, 0, 30)  # P3 has this red, sRGB has not
    mask = np.zeros((32, 32), np.uint8)
    mask[20:] = 255
    save(Path("content.png"), content, icc_profile=P3)
    save(Path("style.png"), style)
    save(Path("mask.png"), mask, icc_profile=GREY)
    stylize(run, "content.png", "style.png", "result.png", "--mask", "mask.png")
    with Image.open("result.png") as image:
        assert image.info["icc_profile"] == P3
        stored = np.array(image)
    np.testing.assert_array_equal(stored[:20], content[:20])
    assert np.abs(stored[20:].astype(int) - content[20:]).max() > 10


def test_a_result_of_grey_has_no_grey_profile(run: Run, content: Codes, style: Codes) -> None:
    save(Path("content.png"), content[..., 0], icc_profile=GREY)
    save(Path("style.png"), style)
    stylize(run, "content.png", "style.png", "result.png")
    with Image.open("result.png") as image:
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info


def test_strip_leaves_out_what_the_file_says(run: Run, content: Codes, style: Codes) -> None:
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x10F], exif[0x8825] = "Camera", {1: "N", 2: (50.0, 30.0, 0.0)}
    text.add_text("Author", "Someone")
    path = save(Path("content.png"), content, exif=exif, pnginfo=text, icc_profile=P3, dpi=(99, 99))
    save(Path("style.png"), style)
    for arguments, told in (
        ((), True),
        (("--strip",), False),
        (("--strip", "--no-metadata"), False),
    ):
        out = f"{len(arguments)}.png"
        stylize(run, path, "style.png", out, *arguments)
        with Image.open(out) as image:
            image.load()
            assert bool(image.getexif()) == told
            assert ("Author" in image.info) == told
            assert ("convnd:record" in image.info) == (len(arguments) < 2)
            assert image.info["icc_profile"] == P3  # without it, the colours would be others


def test_strip_is_for_pictures(run: Run) -> None:
    code, _, err = run("stylize", "--dim", "1", "--strip", "-q", "--steps", "1")
    assert (code, err.count("\n")) == (2, 1), err
    assert "--strip" in err
