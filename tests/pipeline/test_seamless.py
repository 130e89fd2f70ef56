"""Results that repeat, by the command line and in Python, in one to three dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from error_fields import check_error, raises
from PIL import Image

import convnd
import convnd.io
from convnd.errors import UsageError

FAST = ("--backbone", "compact", "--style-layers", "relu1_1,relu2_1,relu3_1")


def seam(values: torch.Tensor, axis: int, step: int = 4) -> float:
    """Differences across the seam, relative to those across other lines of the network's grid."""
    other_axes = [other for other in range(values.ndim) if other != axis]
    differences = (values - values.roll(1, axis)).abs().mean(other_axes)
    return float(differences[0] / differences[step::step].mean())


@pytest.fixture
def gravel(tmp_path: Path, rng: Any) -> Path:
    """Blobs of a few pixels, darker to the right: the ends of the picture do not fit."""
    noise = rng.normal(size=(24, 24)).astype(np.float32)
    picture = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
    values = np.clip(128 + 50 * np.asarray(picture) + np.linspace(60, -60, 96), 0, 255)
    path = tmp_path / "gravel.png"
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def test_a_picture(run: Run, gravel: Path, tmp_path: Path) -> None:
    options = ("--texture", "gravel.png", "--size", "64", "--steps", "25", "--scales", "2", *FAST)
    ratios = {}
    for name, more in (("plain", ()), ("seamless", ("--seamless",))):
        assert run("stylize", *options, *more, "-o", f"{name}.png")[0] == 0
        values = convnd.io.read(tmp_path / f"{name}.png").values
        ratios[name] = max(seam(values, axis) for axis in (2, 3))
    assert ratios["seamless"] < 1.35 < 1.6 < ratios["plain"], ratios
    record = convnd.io.read_provenance(tmp_path / "seamless.png")
    assert record["convnd:seamless"] == "True"
    code, out, _ = run("rerun", "seamless.png")
    assert (code, "the same bytes" in out) == (0, True)


def test_tiles_change_nothing(gravel: Path) -> None:
    results = [
        convnd.stylize(
            None, str(gravel), seamless=True, size=48, steps=3, scales=1, backbone="compact",
            style_layers=("relu1_1", "relu2_1"), precision="float32", tile=tile,
        ).values
        for tile in ("off", "16")
    ]  # fmt: skip
    torch.testing.assert_close(*results, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 480), (1, 16, 18, 20)], ids=len)
def test_signals_and_solids(shape: tuple[int, ...], rng: Any) -> None:
    style = rng.normal(size=shape).astype(np.float32).cumsum(-1)
    result = convnd.stylize(
        None, style, dim=len(shape) - 1, seamless=True, steps=12, backbone="compact", scales=1,
        style_layers=("relu1_1", "relu2_1"),
    )  # fmt: skip
    values = result.values
    for axis in range(2, values.ndim):
        differences = (values - values.roll(1, axis)).abs().movedim(axis, 0).flatten(1).mean(1)
        assert differences[0] < 4 * differences[1:].mean()


def test_a_content_that_repeats_stays_so(rng: Any) -> None:
    wave = torch.sin(torch.arange(64) * 2 * torch.pi / 32)
    content = (0.5 + 0.25 * (wave[:, None] + wave)).expand(1, 3, 64, 64)
    style = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"seamless": True, "steps": 4, "scales": 1, "size": 0, "backbone": "compact"}
    results = [
        convnd.stylize(content.roll(shift, 3), style, dim=2, precision="float32", **options).values
        for shift in (0, 16)
    ]
    torch.testing.assert_close(results[0].roll(16, 3), results[1], atol=5e-3, rtol=0)


@pytest.mark.parametrize("seamless", [False, True])
def test_textures_do_not_show_the_grid_of_a_coarser_size(seamless: bool, rng: Any) -> None:
    style = rng.random((3, 96, 96)).astype(np.float32)
    values = convnd.stylize(
        None, style, dim=2, size=128, scales=2, steps=4, backbone="compact", seamless=seamless
    ).values
    # Interpolated pixels differ less inside a pixel of the coarser size than from the next one.
    differences = (values[..., 1:] - values[..., :-1]).abs().mean((0, 1, 2))
    even, odd = differences[0::2].mean(), differences[1::2].mean()
    assert float(max(even / odd, odd / even)) < 1.1


def test_a_signal_with_regions_repeats(run: Run, tmp_path: Any, monkeypatch: Any, rng: Any) -> None:
    monkeypatch.chdir(tmp_path)
    times = np.arange(256) / 100
    for name, values in (
        ("loop", np.sin(times * 25 * np.pi / 32)),
        ("noise", rng.normal(size=256)),
    ):
        lines = [f"{time:.2f},{value:.5f}" for time, value in zip(times, values, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["time,a", *lines]))
    (tmp_path / "map.csv").write_text("start,end,label\n0,1.28,one\n1.28,2.56,two\n")
    words = ("stylize", "loop.csv", "--seamless", "--regions", "map.csv", "-o", "out.csv")
    code, _, err = run(*words, "--region", "one=noise.csv,two=keep", "--steps", "2", *FAST)
    assert code == 0, err
    assert "mask of the regions" not in err
    content, result = (
        np.loadtxt(f"{name}.csv", delimiter=",", skiprows=1) for name in ("loop", "out")
    )
    assert (result[130:, -1] == content[130:, -1]).all()
    assert np.abs(result[:120, -1] - content[:120, -1]).max() > 0


def test_what_does_not_repeat(run: Run, gravel: Path) -> None:
    for words in (
        ("stylize-volume", "chest", "--seamless"),
        ("stylize-video", "--seamless"),
    ):
        code, _, err = run(*words)
        assert (code != 0, "seamless" in err) == (True, True)
    code, _, err = run("stylize", "gravel.png", "waves", "--seamless", "--instant")
    check_error(err, operation="seamless")
    with raises(UsageError, operation="seamless", got="torch.nn:Conv2d"):
        convnd.stylize("town", "waves", seamless=True, backbone="torch.nn:Conv2d")
    with raises(UsageError, operation="--affine-weight", got="--texture"):
        convnd.stylize(None, "waves", dim=2, affine_weight=1)
