"""Measures of pictures and arrays: against independent references, and what they react to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.arrays import metrics as array_metrics
from convnd_tasks.modalities.images import features, similarity
from convnd_tasks.modalities.images.metrics import measure_all
from convnd_tasks.modalities.metrics import Measure
from error_fields import raises
from PIL import Image
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

from convnd import io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.optimize import tiled_sums

RGB = ("R", "G", "B")


def picture(seed: int, height: int = 48, width: int = 40) -> Grid:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    values = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    values = (values + 0.1 * torch.rand(values.shape, generator=generator)).clamp(0, 1)
    return Grid(values=values, channels=RGB)


def with_opacity(grid: Grid, alpha: torch.Tensor) -> Grid:
    return Grid(values=grid.values, channels=RGB, header={"alpha": alpha})


def figures(content: Grid, result: Grid, *styles: Grid) -> dict[str, Measure]:
    return {measure.name: measure for measure in measure_all(content, result, styles)}


def test_structural_similarity_is_that_of_scikit_image() -> None:
    one, other = picture(0).values, picture(1).values
    luma = [
        np.tensordot([0.299, 0.587, 0.114], values[0].double().numpy(), 1)
        for values in (one, other)
    ]
    expected = structural_similarity(
        *luma, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    value = similarity.luma_similarity(one, other, torch.ones(1, 1, 48, 40))
    assert value == pytest.approx(expected, abs=1e-9)


def test_colours_in_cielab_are_those_of_scikit_image() -> None:
    values = picture(0).values
    expected = rgb2lab(values[0].movedim(0, -1).double().numpy())
    lab = similarity.srgb_to_lab(values.double())[0].movedim(0, -1).numpy()
    assert np.abs(lab - expected).max() < 0.01  # its white point has fewer digits


def test_style_energy_is_that_of_gram_matrices_computed_by_hand() -> None:
    content, style = picture(0), picture(1)
    measures = figures(content, content, style)
    network = features._network()
    device = next(network.parameters()).device
    expected = []
    for layer in features.STYLE_LAYERS:
        grams = []
        for grid in (content, style):
            flat = network(grid.values.to(device), [layer])[layer].flatten(2)[0].double().cpu()
            grams.append(flat @ flat.T / flat.shape[1])
        change = grams[0] - grams[1]
        expected.append((change.square().sum() / grams[1].square().sum()).item())
    assert measures["style_energy"].value == pytest.approx(np.mean(expected), rel=1e-4)
    assert measures["style_energy"].before == measures["style_energy"].value
    assert [*measures["style_energy"].parts] == [*features.STYLE_LAYERS]


def test_the_content_itself_keeps_everything() -> None:
    content = picture(0)
    measures = figures(content, content)
    assert measures["content_energy"].value == 0
    assert measures["ssim"].value == pytest.approx(1)
    assert measures["edges_kept"].value == pytest.approx(1)
    assert measures["color_distance"].value == 0
    assert measures["border_change"].value == 0


def test_the_style_itself_has_no_distance_to_it() -> None:
    content, style = picture(0), picture(1)
    measures = figures(content, style, style)
    assert measures["style_energy"].value == pytest.approx(0, abs=1e-9)
    assert (measures["style_energy"].before or 0) > 0.01
    assert measures["color_distribution"].value == pytest.approx(0, abs=1e-6)
    assert (measures["color_distribution"].before or 0) > 1
    assert measures["content_energy"].value > 0.1


def test_tiles_of_shallow_layers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STYLE_LAYERS", ("relu1_1", "relu2_1"))
    monkeypatch.setattr(features, "CONTENT_LAYER", "relu2_2")
    content, result = picture(0, 96, 16).values, picture(1, 96, 16).values
    opacity = torch.linspace(0.2, 1, 96).view(1, 1, 96, 1).expand(1, 1, 96, 16)
    energy, grams = features.content_and_style(result, content, opacity)
    counts = []

    def count(values: Any, pictures: Any, tiling: Any, statistics: Any) -> Any:
        counts.append(len(list(tiling)))
        return tiled_sums(values, pictures, tiling, statistics)

    monkeypatch.setattr(features, "tiled_sums", count)
    monkeypatch.setattr(features, "_MAX_CROP", 64 * 16)
    cut_energy, cut_grams = features.content_and_style(result, content, opacity)
    assert counts[0] > 1
    assert cut_energy == pytest.approx(energy, rel=1e-5)
    for layer, gram in grams.items():
        torch.testing.assert_close(cut_grams[layer], gram, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    content, result, style = picture(0, 352, 32), picture(1, 352, 32), picture(2)
    whole = figures(content, result, style)
    monkeypatch.setattr(features, "_MAX_CROP", 256 * 32)
    cut = figures(content, result, style)
    for name in ("style_energy", "content_energy"):
        assert cut[name].value == pytest.approx(whole[name].value, rel=1e-4)


def test_transparent_pixels_do_not_count() -> None:
    alpha = torch.ones(1, 1, 64, 64)
    alpha[..., 32:] = 0
    content, result, style = picture(0, 64, 64), picture(1, 64, 64), picture(2)
    hidden = picture(3, 64, 64).values
    other = [
        Grid(values=torch.where(alpha > 0, grid.values, hidden), channels=RGB)
        for grid in (content, result)
    ]
    one = figures(with_opacity(content, alpha), result, style)
    two = figures(with_opacity(other[0], alpha), other[1], style)
    assert {name: m.value for name, m in one.items()} == pytest.approx(
        {name: m.value for name, m in two.items()}, rel=1e-5, abs=1e-6
    )
    with raises(InputFileError, operation="evaluate: content", got="transparent ones only"):
        figures(with_opacity(content, alpha * 0), result)


def test_a_paler_border_shows() -> None:
    content = picture(0)
    result = content.values.clone()
    pale = 0.5 + result / 2
    result[..., :1], result[..., -1:] = pale[..., :1], pale[..., -1:]
    measure = figures(content, Grid(values=result, channels=RGB))["border_change"]
    assert measure.parts["lightness"] > 1 > -0.1 > measure.parts["chroma"]
    evenly = Grid(values=content.values * 0.9, channels=RGB)
    assert figures(content, evenly)["border_change"].value < measure.value / 10


def test_a_content_of_another_size_is_resized_and_the_meaning_says_so() -> None:
    measures = figures(picture(0, 96, 80), picture(0, 48, 40), picture(1))
    against = [measure for measure in measures.values() if measure.against == "content"]
    assert against
    assert all("resized to 40x48" in measure.meaning for measure in against)


def test_a_picture_too_small_is_refused() -> None:
    small = Grid(values=torch.rand(1, 3, 8, 30), channels=RGB)
    with raises(InputFileError, operation="evaluate: result", expected="1 or 3", got="3 of 30x8"):
        figures(picture(0), small)


def test_evaluate_measures_pictures(tmp_path: Path, run: Run) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1)):
        pixels = (picture(seed).values[0].movedim(0, -1) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / name)
    code, out, err = run("evaluate", "a.png", "b.png", "--style", "b.png", "--json")
    assert code == 0, err
    measures = json.loads(out)["measures"]
    assert [*measures] == [
        *("style_energy", "content_energy", "ssim", "edges_kept", "color_distance"),
        *("border_change", "color_distribution"),
    ]
    assert all(entry["better"] and entry["meaning"] for entry in measures.values())
    code, out, _ = run("evaluate", "a.png", "b.png", "--style", "b.png")
    assert out.splitlines()[0].split()[:2] == ["measure", "result"]
    assert len(out.splitlines()) == 8


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_arrays_of_any_rank_are_measured(ndim: int, rng: np.random.Generator) -> None:
    size = [48, 24, 16, 6][:ndim]
    content = Grid(values=torch.from_numpy(rng.normal(size=(1, 2, *size))).float())
    noise = torch.from_numpy(rng.normal(size=(1, 2, *size))).float()
    result = Grid(values=content.values + 0.5 * noise)
    style = Grid(values=torch.from_numpy(rng.uniform(size=(1, 1, *size))).float())
    measures = {m.name: m for m in array_metrics.measure_all(content, result, [style])}
    one, other = content.values.double().numpy(), result.values.double().numpy()
    assert measures["rmse"].parts["0"] == pytest.approx(
        np.sqrt(np.mean((one - other)[0, 0] ** 2)), rel=1e-6
    )
    assert measures["correlation"].parts["1"] == pytest.approx(
        np.corrcoef(one[0, 1].ravel(), other[0, 1].ravel())[0, 1], rel=1e-6
    )
    assert all(np.isfinite(measure.value) for measure in measures.values())
    same = {m.name: m for m in array_metrics.measure_all(style, style, [style])}
    assert [same[name].value for name in ("rmse", "spectrum_distance")] == [0, 0]
    assert same["distribution_distance"].value == 0


def test_gaps_of_arrays_do_not_count(rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.normal(size=(1, 1, 40, 40))).float()
    gappy = values.clone()
    gappy[..., 3:9] = float("nan")
    gappy[..., 20:] += 1
    measures = {
        m.name: m for m in array_metrics.measure_all(Grid(values=values), Grid(values=gappy), [])
    }
    assert measures["rmse"].value == pytest.approx(np.sqrt(20 / 34), rel=1e-5)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_evaluate_measures_arrays(tmp_path: Path, run: Run, dim: int) -> None:
    grid = samples.content(samples.contents(dim)[0], spatial_dims=dim, size=20)
    io.write(tmp_path / "a.npz", grid)
    code, out, err = run("evaluate", "a.npz", "a.npz", "--style", "a.npz", "--dim", dim, "--json")
    assert code == 0, err
    assert json.loads(out)["measures"]["rmse"]["value"] == 0
