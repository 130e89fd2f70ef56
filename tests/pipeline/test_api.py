"""`convnd.stylize` and `convnd.evaluate`, on files and on data in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.pipeline.in_memory import as_grid
from error_fields import raises
from PIL import Image
from profiles import GREY, P3
from torch import Tensor

import convnd
from convnd.errors import (
    InputFileError,
    OutputExistsError,
    ShapeError,
    UnknownNameError,
    UsageError,
)
from convnd.grid import Grid

QUICK: dict[str, Any] = {"backbone": "compact", "steps": 1, "scales": 1, "size": 0}


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (40, 36, 3), np.uint8)


@functools.cache
def of_grids(pixels: bytes) -> Tensor:
    """The result for a picture and itself upside down, both given as grids."""
    picture = np.frombuffer(pixels, np.uint8).reshape(40, 36, 3)
    values: Tensor = convnd.stylize(
        as_grid(picture.copy()), as_grid(picture[::-1].copy()), **QUICK
    ).values
    return values


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        lambda pixels: pixels,
        torch.from_numpy,
        lambda pixels: torch.from_numpy(pixels).movedim(-1, 0) / 255,
        lambda pixels: (torch.from_numpy(pixels).movedim(-1, 0) / 255)[None],
        as_grid,
    ],
    ids=["PIL", "array", "bytes", "tensor", "batch", "grid"],
)
def test_pictures_of_every_type_give_the_same(
    convert: Callable[[Any], Any], pixels: np.ndarray
) -> None:
    style = convert(pixels[::-1].copy())
    result = convnd.stylize(convert(pixels), style, dim=2, **QUICK)
    assert result.values.shape == (1, 3, 40, 36)
    assert 0 <= result.values.min() <= result.values.max() <= 1
    torch.testing.assert_close(result.values, of_grids(pixels.tobytes()), atol=1e-3, rtol=0)
    assert (result.steps, result.path) == (1, None)
    assert len(result.losses["total"]) >= 1
    png = result._repr_png_()
    assert png is not None
    assert png.startswith(b"\x89PNG")


def test_files_in_and_out(tmp_path: Path, pixels: np.ndarray) -> None:
    photo, painting = tmp_path / "photo.png", tmp_path / "painting.png"
    Image.fromarray(pixels).save(photo)
    Image.fromarray(pixels[::-1]).save(painting)
    steps: list[int] = []
    out = tmp_path / "out.png"
    result = convnd.stylize(
        photo, [str(painting)], out=out, on_progress=lambda p: steps.append(p.step), **QUICK
    )
    assert steps == [0, 1]
    assert result.path == out
    values = convnd.read(out).values
    torch.testing.assert_close(values, result.values, atol=0.51 / 255, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.png",
        "painting.png",
        "photo.png",
    ]
    with pytest.raises(OutputExistsError):
        convnd.stylize(photo, painting, out=out, **QUICK)
    with pytest.raises(OutputExistsError):
        result.save(out)
    assert result.save(tmp_path / "again.png").exists()


@pytest.mark.parametrize(
    "shape", [(200,), (2, 200), (30, 28), pytest.param((1, 2, 18, 17, 16), marks=pytest.mark.slow)]
)
def test_arrays_of_every_rank(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    content = rng.normal(5, 2, shape)
    dim = len(shape) if len(shape) < 3 and shape[0] != 2 else {2: 1, 5: 3}[len(shape)]
    result = convnd.stylize(content, content[..., ::-1], dim=dim, **QUICK)
    channels = shape[-dim - 1] if len(shape) > dim else 1
    assert result.values.shape == (1, channels, *shape[-dim:])
    assert 3 < result.values.mean() < 7


def test_arrays_of_any_order_in_memory_give_the_same(rng: np.random.Generator) -> None:
    content, style = rng.normal(5, 2, (2, 200)).astype(np.float32), np.ones(200, np.float32)
    style[::7] = 3
    whole = convnd.stylize(content, style, dim=1, **QUICK).values
    for other in (content.astype(">f4"), content[:, ::-1].copy()[:, ::-1], content.T.copy().T):
        assert torch.equal(convnd.stylize(other, style, dim=1, **QUICK).values, whole)
    with torch.inference_mode():
        tensor = torch.from_numpy(content).clone()
        assert torch.equal(convnd.stylize(tensor, style, dim=1, **QUICK).values, whole)


def test_data_without_a_style_take_a_built_in_one(pixels: np.ndarray) -> None:
    messages: list[str] = []
    result = convnd.stylize(pixels, on_message=messages.append, **QUICK)
    assert "no style given, using the built-in one: waves" in messages
    waves = samples.style("waves", spatial_dims=2)
    assert torch.equal(result.values, convnd.stylize(pixels, waves, **QUICK).values)


def test_a_spacing_may_be_an_array(rng: np.random.Generator) -> None:
    scan = rng.normal(size=(18, 17, 16))
    spacing = np.array([0.7, 0.7, 3.0])
    result = convnd.stylize(scan, scan[::-1], spacing=spacing, steps=1)
    assert isinstance(result.result, Grid)
    assert result.result.spacing == (0.7, 0.7, 3.0)


def test_a_video_takes_styles_from_files(tmp_path: Path, pixels: np.ndarray) -> None:
    with raises(UsageError, operation="stylize", got="data in memory"):
        convnd.stylize(tmp_path / "clip.mp4", pixels, **QUICK)


def test_a_texture_has_no_content(pixels: np.ndarray) -> None:
    result = convnd.stylize(None, pixels, **{**QUICK, "size": 32})
    assert result.values.shape[:2] == (1, 3)
    with pytest.raises(UsageError, match="--mask|--strength|--colors"):
        convnd.stylize(None, pixels, strength=0.5, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("gone.png", "waves"), {}, InputFileError, "gone.png"),
        (("waves", "cells"), {}, UsageError, "content: expected an existing file"),
        (
            (torch.rand(30, 30), torch.rand(30, 30)),
            {"stepz": 3},
            UnknownNameError,
            "did you mean 'steps'",
        ),
        ((torch.rand(30, 30), torch.rand(30, 30)), {"steps": -1}, UsageError, "steps"),
        ((torch.rand(30, 30), torch.rand(30, 30)), {"rate": "5"}, UsageError, "--rate"),
        ((torch.rand(3, 30, 30), torch.rand(3, 30, 30)), {}, UsageError, "dim"),
        ((torch.rand(9, 9), torch.rand(9, 9)), {"dim": 3}, ShapeError, "3 to 5 axes"),
        ((torch.rand(2, 1, 200), torch.rand(200)), {"dim": 1}, ShapeError, "batch of 1"),
        ((None, []), {}, UsageError, "at least one style"),
        ((b"bytes", torch.rand(30, 30)), {}, UsageError, "array of real numbers, got bytes"),
        ((np.ones(200) * 1j, np.ones(200)), {"dim": 1}, UsageError, "real numbers"),
        (
            (torch.rand(30, 30), torch.rand(30, 30)),
            {"mask": torch.ones(30, 30)},
            UsageError,
            "mask",
        ),
    ],
)
def test_errors_name_what_is_wrong(
    arguments: tuple[Any, Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        convnd.stylize(*arguments, **{**QUICK, **options})
    assert not list(tmp_path.iterdir())


def test_a_folder_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with raises(UsageError, operation="stylize", got="a folder"):
        convnd.stylize(tmp_path, "waves", **QUICK)


def test_a_result_is_measured(tmp_path: Path, rng: np.random.Generator) -> None:
    content, style = (as_grid(rng.normal(size=(2, 600)), 1) for _ in range(2))
    result = convnd.stylize(content, style, rate=100, **QUICK).result
    assert isinstance(result, Grid)
    assert (result.spacing, result.units) == ((0.01,), ("s",))
    with raises(InputFileError, operation="evaluate", got="one that does not"):
        convnd.evaluate(content, as_grid(result.values, 1), style)
    measures = convnd.evaluate(content, result, style, rate=100)
    assert measures
    assert all(measure.name == name for name, measure in measures.items())
    for name, grid in (("c", content), ("r", result), ("s", style)):
        convnd.write(tmp_path / f"{name}.npz", grid)
    paths = [tmp_path / f"{name}.npz" for name in "crs"]
    from_files = convnd.evaluate(*paths, dim=1, rate="100")
    for name, measure in measures.items():
        assert from_files[name].value == pytest.approx(measure.value, rel=1e-4, nan_ok=True), name
    mixed = convnd.evaluate(content, paths[1], [style], rate=100)
    assert mixed.keys() == measures.keys()


# Pictures in memory


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["last", "first", "batch", "tensor"])
def test_codes_of_a_picture_are_scaled(dtype: type, order: str, rng: np.random.Generator) -> None:
    white = np.iinfo(dtype).max
    codes: Any = rng.integers(0, white + 1, (20, 24, 4)).astype(dtype)
    data: Any = codes if order == "last" else np.moveaxis(codes, -1, 0)
    data = data[None] if order == "batch" else data
    data = torch.from_numpy(data.copy()) if order == "tensor" else data
    grid = as_grid(data, 2)
    expected = codes[..., :3].astype(np.float32) / np.float32(white)
    np.testing.assert_array_equal(grid.values[0].permute(1, 2, 0), expected)
    assert grid.channels == ("R", "G", "B")
    assert grid.header["depth"] == 8 * codes.itemsize
    alpha: Any = grid.header["alpha"]
    np.testing.assert_allclose(alpha[0, 0], codes[..., 3] / white, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint32])
def test_other_integers_of_three_channels_are_refused(dtype: type) -> None:
    codes: Any = np.full((3, 20, 24), 200, dtype)
    with raises(InputFileError, operation="stylize", expected="0 to 1,"):
        convnd.stylize(codes, codes, dim=2, **QUICK)
    assert as_grid(codes[:1], 2).values.max() == 200  # one channel has units of its own


@pytest.mark.parametrize("scale", [255.0, 65535.0, 1.01])
def test_floats_of_a_picture_beyond_one_are_refused(scale: float) -> None:
    values = torch.linspace(0, scale, 3 * 20 * 24).reshape(3, 20, 24)
    with raises(InputFileError, operation="stylize", expected="0 to 1", got="values from 0 to"):
        convnd.stylize(values, values, dim=2, **QUICK)
    assert as_grid(values / scale, 2).channels == ("R", "G", "B")
    assert as_grid(values[1:], 2).values.max() == scale  # two channels have units of their own
    assert as_grid(convnd.Grid(values=values[None])).channels == ("0", "1", "2")


def test_floats_may_have_their_colours_last(rng: np.random.Generator) -> None:
    values = rng.random((20, 24, 3))
    grid = as_grid(values, 2)
    assert grid.channels == ("R", "G", "B")
    np.testing.assert_allclose(grid.values[0].permute(1, 2, 0), values, rtol=1e-6)


def test_evaluation_has_the_options_of_reading_alone() -> None:
    wave = torch.linspace(0, 99, 600).sin()
    with raises(UnknownNameError, operation="option", got="'steps'"):
        convnd.evaluate(wave, wave, dim=1, rate=100, steps=3)
    with pytest.raises(UsageError, match="tone-map applies to videos"):
        convnd.evaluate(wave, wave, dim=1, rate=100, tone_map=True)


def test_a_picture_of_pillow_is_what_its_file_is(tmp_path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[274] = 6
    alpha = np.dstack([pixels, pixels[..., 0]])
    grey = (pixels[..., 0].astype(np.uint16) * 257) + 5
    palette = Image.fromarray(pixels).quantize(9)
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "alpha.png": (Image.fromarray(alpha), {"exif": exif, "icc_profile": P3}),
        "grey.png": (Image.fromarray(grey), {"icc_profile": GREY}),
        "palette.png": (palette, {"transparency": 3}),
        "cmyk.tif": (Image.fromarray(pixels).convert("CMYK"), {}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(tmp_path / name, **options)
        expected = convnd.read(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            grid = as_grid(opened)
        torch.testing.assert_close(grid.values, expected.values, atol=1e-6, rtol=0)
        assert grid.header.keys() - {"dpi"} == expected.header.keys(), name
        assert ("alpha" in grid.header) == (name in ("alpha.png", "palette.png"))
    result = convnd.stylize(Image.fromarray(alpha), pixels, **QUICK)
    result.save(tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as written:
        np.testing.assert_array_equal(np.array(written)[..., 3], alpha[..., 3])
