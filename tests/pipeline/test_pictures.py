"""Pictures through the whole pipeline: colour spaces, transparency, and what files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from command_line import Run
from convnd_tasks.modalities import options_class
from convnd_tasks.modalities.figures import draw_comparison
from convnd_tasks.modalities.images import codec
from convnd_tasks.modalities.images.hidden import fill_hidden
from convnd_tasks.modalities.images.metrics import measure_all as evaluate_pictures
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.inputs import TransferInputs
from error_fields import check_error, raises
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from profiles import GREY, P3, SWAPPED

from convnd import io
from convnd.errors import UnknownNameError
from convnd.grid import Grid
from convnd.io.images.color import profile_space
from convnd.transfer.resizing import Resizer

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


@pytest.mark.parametrize(
    ("role", "icc", "colors"),
    [
        *(
            pytest.param(role, icc, colors, marks=pytest.mark.slow)
            for role in ("content", "style", "init")
            for icc, colors in ((P3, "style"), (P3, "luminance"))
        ),
        ("content", SWAPPED, "match"),
        *(
            pytest.param(role, SWAPPED, "match", marks=pytest.mark.slow)
            for role in ("style", "init")
        ),
    ],
)
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
    for arguments, described in (
        ((), True),
        (("--strip",), False),
        (("--strip", "--no-metadata"), False),
    ):
        out = f"{len(arguments)}.png"
        stylize(run, path, "style.png", out, *arguments)
        with Image.open(out) as image:
            image.load()
            assert bool(image.getexif()) == described
            assert ("Author" in image.info) == described
            assert ("convnd:record" in image.info) == (len(arguments) < 2)
            assert image.info["icc_profile"] == P3  # without it, the colours would be others


def test_strip_is_for_pictures(run: Run) -> None:
    code, _, err = run("stylize", "--dim", "1", "--strip", "-q", "--steps", "1")
    assert (code, err.count("\n")) == (2, 1), err
    assert "--strip" in err


# What nobody sees


def with_alpha(codes: Codes, alpha: Codes, hidden: tuple[int, int, int]) -> Codes:
    """A picture with these colours where it is transparent."""
    codes = codes.copy()
    codes[alpha == 0] = hidden
    return np.dstack([codes, alpha])


@pytest.fixture
def alpha() -> Codes:
    y, x = np.mgrid[:32, :32]
    distance = np.hypot(y - 14, x - 17)
    opacity: Codes = np.clip((12.5 - distance) * 100, 0, 255).astype(np.uint8)
    return opacity


@pytest.mark.parametrize("role", ["content", "style", pytest.param("init", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        pytest.param(("--colors", "match"), marks=pytest.mark.slow),
        pytest.param(("--colors", "luminance"), marks=pytest.mark.slow),
        pytest.param(("--size", "20", "--strength", "0.5"), marks=pytest.mark.slow),
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_hidden_colours_have_no_influence(
    run: Run, content: Codes, style: Codes, alpha: Codes, role: str, arguments: tuple[str, ...]
) -> None:
    codes = {"content": content, "style": style, "init": content[::-1].copy()}
    results = []
    for number, color in enumerate([(0, 0, 0), (255, 0, 255)]):
        files = {name: save(Path(f"{name}.png"), pixels) for name, pixels in codes.items()}
        files[role] = save(Path("cut.png"), with_alpha(codes[role], alpha, color))
        init = ("--init", files["init"]) if role == "init" else ()
        out = f"result{number}.png"
        stylize(run, files["content"], files["style"], out, *init, *arguments)
        with Image.open(out) as image:
            results.append(np.array(image))
    if role == "content":
        assert results[0].shape[2] == 4
        visible = results[0][..., 3] > 0
        assert 0.3 < visible.mean() < 0.9
        results = [result[visible] for result in results]
    np.testing.assert_array_equal(results[0], results[1])


def test_hidden_colours_of_a_mask_have_no_influence(
    run: Run, content: Codes, style: Codes, alpha: Codes
) -> None:
    save(Path("content.png"), content)
    save(Path("style.png"), style)
    white = np.full_like(content, 255)
    results = []
    for number, color in enumerate([(0, 0, 0), (255, 255, 255)]):
        save(Path("mask.png"), with_alpha(white, alpha, color))
        results.append(
            stylize(run, "content.png", "style.png", f"{number}.png", "--mask", "mask.png")
        )
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0][alpha == 0], content[alpha == 0])
    assert np.abs(results[0] - content).max() > 10


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("palette", "transparent colour")),
        "16 bits",
        "premultiplied",
    ],
)
def test_every_kind_of_transparency(
    run: Run, content: Codes, style: Codes, alpha: Codes, kind: str
) -> None:
    """The kinds hide by a palette, by a colour, by 16 bits of alpha, and by multiplied colours."""
    hidden = alpha < 128
    save(Path("style.png"), style)
    results = []
    for number, color in enumerate([(0, 0, 0), (255, 0, 255)]):
        codes = content.copy()
        codes[hidden] = color
        opaque = np.where(hidden, 0, 255).astype(np.uint8)
        path = Path("content.tif" if kind == "premultiplied" else "content.png")
        if kind == "palette":
            palette = Image.fromarray(np.where(hidden, 0, 1 + codes[..., 0] // 8).astype(np.uint8))
            palette.putpalette([*color, *(x for k in range(32) for x in (8 * k, 4 * k, 9))])
            palette.save(path, transparency=0)
        elif kind == "transparent colour":
            Image.fromarray(codes).save(path, transparency=color)
        elif kind == "16 bits":
            deep = np.dstack([codes, opaque]).astype(np.uint16) * 257
            cv2.imwrite(str(path), deep[..., [2, 1, 0, 3]])
        else:
            codes[hidden] = 0 if number == 0 else 3  # below what the alpha lets through
            pixels = np.dstack([codes, opaque]).astype(np.uint16) * 257
            tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[1])
        stylize(run, str(path), "style.png", f"{number}.png")
        with Image.open(f"{number}.png") as image:
            results.append(np.array(image.convert("RGBA")))
        path.unlink()
    assert (results[0][..., 3] == 0).any()
    np.testing.assert_array_equal(results[0][~hidden], results[1][~hidden])


def test_a_picture_that_is_transparent_everywhere_is_refused(run: Run, content: Codes) -> None:
    nothing = np.dstack([content, np.zeros((32, 32), np.uint8)])
    save(Path("content.png"), content)
    save(Path("nothing.png"), nothing)
    for files in (("nothing.png", "content.png"), ("content.png", "nothing.png")):
        code, _, err = run("stylize", *files, "--backbone", "compact", "-q", "-o", "result.png")
        assert (code, err.count("\n")) == (3, 1), err
        check_error(err, got="transparent everywhere")


def test_hidden_colours_are_not_measured_or_drawn(
    content: Codes, style: Codes, alpha: Codes, tmp_path: Path
) -> None:
    drawn, measured = [], []
    for number, color in enumerate([(0, 0, 0), (255, 0, 255)]):
        pictures = {"content": content, "result": content[::-1].copy(), "style": style}
        grids = {
            name: io.read(save(tmp_path / f"{name}{number}.png", with_alpha(pixels, alpha, color)))
            for name, pixels in pictures.items()
        }
        drawn.append(draw_comparison(grids["content"], [grids["style"]], grids["result"]))
        measures = evaluate_pictures(grids["content"], grids["result"], [grids["style"]])
        measured.append([measure.value for measure in measures])
    assert drawn[0] == drawn[1]
    assert measured[0] == pytest.approx(measured[1], rel=1e-4, nan_ok=True)


def test_what_is_filled_looks_like_what_is_seen(rng: np.random.Generator) -> None:
    hidden = np.zeros((64, 64), bool)
    hidden[:, 24:] = True
    texture = torch.from_numpy(rng.random((1, 3, 64, 64), np.float32))
    filled = fill_hidden(texture, hidden)
    assert torch.equal(filled[..., :24], texture[..., :24])
    assert torch.equal(filled[..., 24:48], texture[..., :24].flip(3))
    assert filled[..., 24:].std().item() == pytest.approx(texture[..., :24].std().item(), rel=0.03)
    only = np.ones((20, 30), bool)
    only[7, 9] = False
    assert torch.unique(fill_hidden(texture[..., :20, :30], only)[0, 0]).numel() == 1


# Textures


def test_a_texture_of_grey_is_grey_and_has_its_contrast(run: Run, style: Codes) -> None:
    grey = style[..., :1].repeat(3, 2)
    save(Path("style.png"), grey)
    quick = ("--backbone", "compact", "--steps", "6", "--size", "48", "-q")
    code, _, err = run("stylize", "--texture", "style.png", "-o", "result.png", *quick)
    assert code == 0, err
    codes = result_codes(Path("result.png"))
    assert codes.shape == (48, 48, 3)
    assert np.ptp(codes, axis=2).max() <= 1
    assert codes.std() == pytest.approx(grey.std(), rel=0.1)
    assert codes.mean() == pytest.approx(grey.mean(), abs=3)


def test_only_the_colours_become_those_of_the_style(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    scales = np.array([[60, 80], [30, 100], [10, 150]])
    for name, (low, spread) in zip(("photo", "style"), ((20, 60), (90, 40)), strict=True):
        shared = rng.uniform(0, 1, (48, 56, 1))
        pixels = low + spread * (0.6 * shared + 0.4 * rng.uniform(0, 1, (48, 56, 3)))
        pixels = pixels + (scales[:, 0] if name == "style" else 0) / 2
        Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(f"{name}.png")
    command = ("stylize", "photo.png", "style.png", "--colors", "only", "--size", "0", "-q")
    code, _, err = run(*command, "-o", "out.png")
    assert code == 0, err
    photo, style, out = (
        np.asarray(Image.open(f"{name}.png")).reshape(-1, 3).astype(float)
        for name in ("photo", "style", "out")
    )
    # Rounding to codes has a variance of 1/12, and the ridge is a thousandth of the variance.
    np.testing.assert_allclose(out.mean(0), style.mean(0), atol=0.6)
    np.testing.assert_allclose(np.cov(out.T), np.cov(style.T), rtol=0.02, atol=2)
    # One affine map of all colours: three and a constant explain the result up to rounding.
    design = np.c_[photo, np.ones(len(photo))]
    residual = out - design @ np.linalg.lstsq(design, out, rcond=None)[0]
    # Rounding is at most half a code, which also moves the fitted map a little.
    assert np.abs(residual).max() <= 0.6
    for option in (("--instant",), ("--steps", "5"), ("--style-weight", "3")):
        code, _, err = run(*command, *option)
        assert code == 2, option
        assert err.count("\n") == 1


def test_a_look_sets_options_that_are_not_typed() -> None:
    assert ImageOptions.for_dim(2, look="subtle").strength == 0.5
    assert ImageOptions.for_dim(2, look="subtle", strength=0.8).strength == 0.8
    assert ImageOptions.for_dim(2, look="subtle", strength=None).strength == 0.5
    assert ImageOptions.for_dim(2, look="colors").is_instant
    for look, options in ImageOptions.looks().items():
        made = ImageOptions.for_dim(2, look=look)
        assert made.look == look
        assert all(getattr(made, name) == value for name, value in options.items())
    with raises(UnknownNameError, got="'strogn'", remedy="strong"):
        ImageOptions.for_dim(2, look="strogn")


@pytest.mark.parametrize("kind", ["signals", "arrays", "volumes", "videos"])
def test_every_kind_of_data_has_looks(kind: str) -> None:
    options = options_class(kind)
    assert options.for_dim(3, look="subtle").strength == 0.5
    default = options.for_dim(3)
    assert options.for_dim(3, look="strong").style_weight == 5 * default.style_weight
    assert options.for_dim(3, look="photo").affine_weight == 3000
    if kind != "videos":
        with raises(UnknownNameError, got="'colors'", remedy="choose"):
            options.for_dim(3, look="colors")


def test_strokes_have_the_size_of_the_picture_or_of_its_pixels() -> None:
    style, content = (
        Grid(values=torch.rand(1, 3, side, side), channels=("R", "G", "B")) for side in (64, 32)
    )
    inputs = TransferInputs(content=content, styles=[style], names=["content", "style"])
    resizer = Resizer(torch.device("cpu"))
    for stroke_size, extents in (("share", (32, 64)), ("pixels", (64, 64))):
        sizes = []
        for size in (32, 64):
            options = ImageOptions(size=size, stroke_size=stroke_size)
            prepared = codec.prepare(inputs, options)
            sizes.append(resizer.style_size((64, 64), prepared.size, prepared.style_grid)[0])
        assert tuple(sizes) == extents, stroke_size
