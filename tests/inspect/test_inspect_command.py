"""``convnd patches`` as people type it, and the views beside patches."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.inspect import (
    channel_maps,
    explain,
    gram_figure,
    load_network,
    maximize_activation,
    network_from_module,
)
from convnd_tasks.inspect.grams import gram_distances
from convnd_tasks.inspect.job import estimate_patches, run_patches
from convnd_tasks.inspect.options import PatchOptions
from error_fields import raises
from PIL import Image
from torch import nn

from convnd import io
from convnd.errors import (
    ConvndError,
    InputFileError,
    OutputExistsError,
    UnknownNameError,
    UsageError,
)
from convnd.nn import ConvNd


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("waves", "cells", "ink"):
        io.write(folder / f"{name}.png", samples.style(name, spatial_dims=2, size=(40, 56)))
    return folder


def _run(
    folder: Path, names: list[str], dim: int | None = None, **options: object
) -> dict[str, object]:
    chosen = {"layers": ("relu2_1",), "units": "0-3"} | options
    run_patches(names, dim, PatchOptions(**chosen), folder, report=folder.with_suffix(".html"))  # type: ignore[arg-type]
    record: dict[str, object] = json.loads((folder / "patches.json").read_text())
    return record


def test_folder_of_pictures(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (photos / "notes.txt").write_text("not a picture")
    record = _run(out, [str(photos)], explain="guided", optimal=True, steps=2)
    assert sorted(path.name for path in out.iterdir()) == [
        "patches.csv",
        "patches.json",
        "relu2_1.npz",
        "relu2_1.png",
        "relu2_1_guided.png",
        "relu2_1_optimal.png",
    ]
    places = record["patches"]
    assert isinstance(places, list)
    with (out / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(places) > 9
    cut = np.load(out / "relu2_1.npz")
    for place in places:
        pixels = np.asarray(Image.open(place["input"]).convert("RGB"), np.float32) / 255
        (top, left), (bottom, right) = place["start"], place["stop"]
        np.testing.assert_allclose(
            cut[f"unit{place['unit']:04d}_{place['rank']}"],
            pixels[top:bottom, left:right].transpose(2, 0, 1),
            atol=1e-6,
        )
    page = out.with_suffix(".html").read_text()
    assert page.count("<img") == 3


def test_an_estimate_names_the_files_and_leaves_none(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")  # comes first
    out, report = tmp_path / "out", tmp_path / "r.html"
    options = PatchOptions(layers=("relu2_1",), units="0-3", optimal=True, steps=6)
    estimate = estimate_patches([str(photos)], None, options, out, report=report)
    assert not out.exists()
    assert not report.exists()
    run_patches([str(photos)], None, options, out, report=report)
    assert estimate.outputs == [*sorted(map(str, out.iterdir())), str(report)]
    assert estimate.seconds is not None
    assert estimate.seconds > 0
    with pytest.raises(OutputExistsError):
        estimate_patches([str(photos)], None, options, out)


@pytest.mark.parametrize("exists", [False, True])
def test_a_report_may_lie_in_the_folder(photos: Path, tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "out"
    if exists:
        folder.mkdir()
    options = PatchOptions(layers=("relu1_1",), units="0")
    run_patches([str(photos)], 2, options, folder, report=folder / "report.html")
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "patches.json").exists()
    with raises(UsageError, operation="report", expected="a name ending in .html"):
        run_patches([str(photos)], 2, options, tmp_path / "b", report=tmp_path / "b" / "report.txt")
    assert not (tmp_path / "b").exists()


def test_a_mixed_folder_gives_what_has_as_many_axes(photos: Path, tmp_path: Path) -> None:
    (photos / "table.csv").write_text("time,I\n0,1\n1,2\n")
    assert _run(tmp_path / "out", [str(photos)], 2, units="0")["inputs"] == 3
    assert _run(tmp_path / "most", [str(photos)], units="0")["inputs"] == 3
    with raises(UsageError, operation="inputs", got="and 1 of"):
        _run(tmp_path / "other", [str(photos), str(photos / "table.csv")])
    with raises(InputFileError, operation="photos", expected="3 spatial", got="none"):
        _run(tmp_path / "other", [str(photos)], 3)


@pytest.mark.slow
def test_damaged_file_among_many(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    command = [sys.executable, "-m", "convnd", "patches", str(photos), "--layer", "relu1_1"]
    done = subprocess.run(
        [*command, "--units", "0", "-o", "out", "--report", "r.html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "broken.png: expected a picture" in done.stderr
    assert "1 of 4 failed" in done.stderr
    assert "Inputs left out" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "out" / "relu1_1.png").exists()


def test_volume_patches_lie_where_they_lay(tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0, 0, 5], [0, 0.6, 0.1, -3], [0, 0, 2, 40], [0, 0, 0, 1]])
    data = np.random.default_rng(1).normal(0, 300, (20, 22, 18)).astype(np.float32)
    image = nib.Nifti1Image(data, affine)
    image.header.set_sform(affine, 1)
    nib.save(image, tmp_path / "scan.nii.gz")
    record = _run(tmp_path / "out", [str(tmp_path / "scan.nii.gz")], units="0,1")
    places = record["patches"]
    assert isinstance(places, list)
    assert places
    for place in places:
        name = f"unit{place['unit']:04d}_{place['rank']}.nii.gz"
        part: Any = nib.load(tmp_path / "out" / "relu2_1" / name)
        box = tuple(slice(a, b) for a, b in zip(place["start"], place["stop"], strict=True))
        np.testing.assert_array_equal(part.get_fdata().astype(np.float32), data[box])
        np.testing.assert_allclose(
            part.affine @ [0, 0, 0, 1], affine @ [*place["start"], 1], atol=1e-4
        )


@pytest.mark.parametrize("dim", [1, 3])
def test_built_in_inputs_of_other_ranks(dim: int, tmp_path: Path) -> None:
    names = {1: ["ecg"], 3: [samples.contents(3)[0]]}[dim]
    size = {1: 400, 3: 20}[dim]
    record = _run(tmp_path / "out", names, dim, units="random:2", size=size, top=4)
    assert record["inputs"] == 1
    assert (tmp_path / "out" / "relu2_1.png").exists()


def test_own_module_and_views(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 3))\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    three = [str(photos / f"{name}.png") for name in ("waves", "cells", "ink")]
    record = _run(
        tmp_path / "out",
        [str(photos)],
        backbone="mine:net",
        layers=("2", "1"),
        units="all",
        channel_maps=three[0],
        gram=tuple(three),
    )
    fields = record["receptive_fields"]
    assert isinstance(fields, dict)
    assert fields["2"] == {"span": [7, 7], "size": [7, 7], "stride": [1, 1], "offset": [0, 0]}
    assert {"1_gram.png", "2_channels.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    for name, words in (
        (
            "nowhere:net",
            {"operation": "backbone nowhere:net", "got": "'No module named 'nowhere''"},
        ),
        ("mine:nit", {"operation": "backbone mine", "got": "'nit'", "remedy": "'net'"}),
        (
            "mine:number",
            {"operation": "backbone mine:number", "expected": "a torch.nn.Module", "got": "int"},
        ),
    ):
        with raises(ConvndError, **words):
            _run(tmp_path / "bad", [str(photos)], backbone=name, layers=("2",))


def test_wrong_usage_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    folder = str(photos)
    for names, options, kind, message in (
        ([folder], {"layers": ("relu9_1",)}, UnknownNameError, "layer: expected one of conv1_1"),
        ([folder], {"units": "96"}, UsageError, "--units: expected numbers from 0 to 95"),
        ([folder], {"explain": "magic"}, UnknownNameError, "--explain: expected one of guided"),
        ([folder], {"suppress": "x"}, UnknownNameError, "--suppress: expected one of overlap"),
        (["nosuch"], {}, UnknownNameError, "or a built-in sample .convnd samples., got 'nosuch'"),
        ([folder, "nosuch"], {}, UnknownNameError, "input: expected an existing file or folder"),
        ([folder], {"channel_maps": folder}, InputFileError, "expected one file, got a folder"),
        ([f"{folder}/no.png"], {}, InputFileError, "expected an existing file, got none"),
    ):
        with pytest.raises(kind, match=message):
            _run(tmp_path / "out", names, **options)
    assert set(tmp_path.rglob("*")) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with raises(OutputExistsError, operation="out", got="one with files in it"):
        _run(tmp_path / "out", [folder])


def _spots(ndim: int) -> nn.Module:
    """One filter that looks for a cross of ones between zeros."""
    weight = -torch.ones(1, 1, *[3] * ndim)
    weight[(0, 0, *[1] * ndim)] = 3.0**ndim
    conv = ConvNd(1, 1, 3, spatial_dims=ndim, bias=False)
    conv.load_state_dict({"weight": weight})
    return nn.Sequential(conv, nn.ReLU())


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_optimal_input_excites_more_than_its_start(ndim: int) -> None:
    network = network_from_module(_spots(ndim), ["1"])
    size = [16] * ndim
    best = maximize_activation(network, "1", [0], size=size, steps=60, blur=0.0)
    assert best.shape == (1, 1, *size)
    assert 0 <= best.min() <= best.max() <= 1
    # Of the same kind of spectrum and contrast, before anything is learnt.
    start = maximize_activation(network, "1", [0], size=size, steps=1, blur=0.0, learning_rate=1e-9)
    before, after = (network(x, ["1"])["1"].mean().item() for x in (start, best))
    assert after > 1.5 * before
    again = maximize_activation(network, "1", [0], size=size, steps=60, blur=0.0)
    torch.testing.assert_close(best, again, rtol=0, atol=0)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_what_goes_back_through_rectifiers(ndim: int) -> None:
    # Two rectified branches of one sample: one on with a positive weight, one off, one negative.
    first, second = (ConvNd(a, b, 1, spatial_dims=ndim, bias=False) for a, b in ((1, 3), (3, 1)))
    ones = [1] * ndim
    first.load_state_dict({"weight": torch.tensor([2.0, -3.0, 5.0]).view(3, 1, *ones)})
    second.load_state_dict({"weight": torch.tensor([1.0, 7.0, -0.1]).view(1, 3, *ones)})
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    network = network_from_module(net, ["3"])
    x = torch.ones(1, 1, *[4] * ndim)
    position = (2,) * ndim
    expected = {"gradient": 2 - 0.5, "guided": 2.0, "deconvnet": 2.0 - 21.0}
    for method, value in expected.items():
        got = explain(network, x, "3", 0, position, method=method)
        assert got[(0, 0, *position)].item() == pytest.approx(value)
        assert got.count_nonzero() == 1
    with raises(UnknownNameError, operation="explain: method", got="'other'"):
        explain(network, x, "3", 0, position, method="other")


def test_rectifiers_of_the_backbones_are_met() -> None:
    network = load_network("compact", ["relu2_1"], spatial_dims=1, in_channels=1)
    x = torch.rand(1, 1, 32, generator=torch.Generator().manual_seed(0))
    features = network(x, ["relu2_1"])["relu2_1"][0]
    unit, place = divmod(int(features.argmax()), features.shape[1])
    gradients = {
        m: explain(network, x, "relu2_1", unit, (place,), method=m)
        for m in ("guided", "gradient", "deconvnet")
    }
    plain = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(plain, ["relu2_1"])["relu2_1"][0, unit, place], plain)
    torch.testing.assert_close(gradients["gradient"], gradient)
    assert not torch.allclose(gradients["guided"], gradient)
    assert not torch.allclose(gradients["deconvnet"], gradients["guided"])


def test_channel_maps_are_the_features() -> None:
    network = network_from_module(_spots(2), ["1"])
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 6] = 1
    maps = channel_maps(network, x, "1", [0])
    assert maps.shape == (1, 9, 9)
    assert divmod(int(maps.argmax()), 9) == (4, 7)  # position (3, 5) of the 7 x 7 features
    assert int((maps > 0).sum()) < 9
    with raises(UsageError, operation="units", expected="0 to 0", got="1"):
        channel_maps(network, x, "1", [1])


def test_gram_of_the_style_is_at_no_distance() -> None:
    g = torch.Generator().manual_seed(0)
    features = {name: torch.rand(1, 6, 20, generator=g) for name in ("before", "style", "after")}
    rows = dict(gram_distances(features))
    a, s = (features[name][0].double().numpy() for name in ("after", "style"))
    by_hand = ((a @ a.T - s @ s.T) ** 2).sum() / ((s @ s.T) ** 2).sum()
    assert rows["style"] == 0
    assert rows["after"] == pytest.approx(by_hand, rel=1e-5)
    assert gram_figure(features, title="relu1_1").startswith(b"\x89PNG")
