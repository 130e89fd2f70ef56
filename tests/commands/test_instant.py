"""``--instant``: one pass of the network for any style."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from error_fields import raises, read_fields
from PIL import Image

import convnd
from convnd import io
from convnd.errors import UsageError

SIZE = ("--size", "64")


def picture(path: Path, size: tuple[int, int], seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return picture(tmp_path / "photo.png", (60, 40), 0), picture(tmp_path / "art.png", (70, 60), 1)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), float)


def test_one_pass_gives_a_picture_without_a_loss(run: Run) -> None:
    io.write("town.png", samples.content("town", spatial_dims=2, size=(64, 96)))
    io.write("waves.png", samples.style("waves", spatial_dims=2, size=96))
    words = ("--instant", *SIZE, "-o", "result.png")
    code, out, err = run("stylize", "town.png", "waves.png", *words)
    assert (code, err) == (0, "")
    assert out.startswith("result.png  64x43, one pass, ")
    code, out, _ = run("stylize", "town.png", "waves.png", *words, "--overwrite", "--json")
    result = json.loads(out)["results"][0]
    assert (result["steps"], result["loss"]) == (0, None)
    with Image.open("result.png") as image:
        text = image.text  # type: ignore[attr-defined]
    assert text["convnd:init"] == "instant"
    assert "convnd:loss" not in text
    measures = convnd.evaluate("town.png", "result.png", "waves.png")
    untouched = convnd.evaluate("town.png", "town.png", "waves.png")
    assert measures["style_energy"].value < 0.8 * untouched["style_energy"].value


def test_the_long_form_and_a_rerun_give_the_same_picture(run: Run, pair: tuple[Path, Path]) -> None:
    for name, words in (("a", ["--instant"]), ("b", ["--init", "instant", "--steps", "0"])):
        assert run("stylize", *pair, *words, *SIZE, "-o", f"{name}.png")[0] == 0
    code, out, err = run("rerun", "a.png", "-o", "c.png")
    assert (code, err) == (0, ""), out
    for name in "bc":
        np.testing.assert_array_equal(pixels(Path("a.png")), pixels(Path(f"{name}.png")))


def test_strength_and_tiles_apply(run: Run, pair: tuple[Path, Path]) -> None:
    cases = {"full": [], "tiles": ["--tile", "40"], "none": ["--strength", "0"]}
    for name, words in cases.items():
        assert (
            run("stylize", *pair, "--instant", "--size", "150", *words, "-o", f"{name}.png")[0] == 0
        )
    difference = np.abs(pixels(Path("full.png")) - pixels(Path("tiles.png")))
    # Rounding may decide between two patches of the style that are equally near.
    assert np.median(difference) <= 1
    content = Image.open(pair[0]).resize((150, 100), Image.Resampling.BILINEAR)
    kept = np.abs(pixels(Path("none.png")) - np.asarray(content, float))
    assert kept.max() < 12


def test_a_masked_part_gets_all_colours_of_the_style(run: Run) -> None:
    content = samples.content("town", spatial_dims=2, size=(96, 96))
    content = content.with_values(torch.cat([0.1 * content.values, content.values], 3))
    mask = torch.zeros_like(content.values)
    mask[..., :96] = 1  # the dark half
    io.write("town.png", content)
    io.write("mask.png", content.with_values(mask))
    words = ("--instant", "--size", "0", "-o")
    assert run("stylize", "town.png", "waves", *words, "whole.png")[0] == 0
    assert run("stylize", "town.png", "waves", "--mask", "mask.png", *words, "part.png")[0] == 0
    whole, part = pixels(Path("whole.png")), pixels(Path("part.png"))
    assert part[:, :96].mean() > whole[:, :96].mean() + 20
    np.testing.assert_array_equal(part[:, 96:], pixels(Path("town.png"))[:, 96:])


def test_options_of_the_optimisation_are_refused(run: Run, pair: tuple[Path, Path]) -> None:
    for words, name in (
        (["--style-weight", "3"], "style_weight"),
        (["--steps", "5"], "instant"),
        (["--init", "random"], "instant"),
    ):
        code, out, err = run("stylize", *pair, "--instant", *words)
        assert (code, out) == (2, "")
        assert read_fields(err).operation == name


def test_a_dry_run_estimates_the_memory(run: Run, pair: tuple[Path, Path]) -> None:
    estimates = []
    for size in ("64", "256"):
        out = run("stylize", *pair, "--instant", "--size", size, "--dry-run", "--json")[1]
        estimates.append(json.loads(out)["dry_run"])
    memory = [estimate["memory"] for estimate in estimates]
    assert 0 < memory[0] < memory[1] < estimates[1]["memory_free"]
    assert not Path("photo_stylized.png").exists()


def test_other_kinds_of_data_are_refused(run: Run, tmp_path: Path) -> None:
    code, _, err = run("stylize", "--dim", "1", "--init", "instant")
    assert code == 2
    assert read_fields(err).got == "signals"
    assert not list(tmp_path.iterdir())
    with raises(UsageError, got="texture"):
        convnd.stylize(None, "waves", texture=True, instant=True, size=32, dim=2)


def test_the_optimisation_starts_from_it() -> None:
    options = {"size": 64, "backbone": "compact", "scales": 1, "steps": 1}
    first = {}
    for init in ("content", "instant"):
        result = convnd.stylize("town", "waves", init=init, **options)
        assert all(math.isfinite(loss) for loss in result.losses["total"])
        first[init] = result.losses["total"][0]
    assert first["instant"] < 0.7 * first["content"]


@pytest.mark.slow
def test_a_large_picture_takes_little_memory(tmp_path: Path) -> None:
    content = picture(tmp_path / "large.png", (1500, 1400), 2)
    # Tests that ran in this process before count as well.
    memory = psutil.Process().memory_info().rss / 2**20 + 700
    result = convnd.stylize(content, "waves", instant=True, size=0, memory=f"{memory:.0f}MiB")
    assert result.values.shape == (1, 3, 1400, 1500)
