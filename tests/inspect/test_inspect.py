"""The search finds the known patches, and cuts what the unit sees."""

from __future__ import annotations

import gc
import itertools
import random
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from convnd_tasks.inspect import (
    Input,
    cut_patches,
    find_patches,
    load_network,
    network_from_module,
    parse_units,
    probe_receptive_field,
)
from convnd_tasks.modalities.value_range import value_range
from error_fields import raises
from rounding import network_rounding
from torch import nn

from convnd import Grid, io
from convnd.backbones import VGG, ModuleBackbone
from convnd.errors import InputFileError, ShapeError, UnknownNameError, UsageError
from convnd.nn import ConvNd, MaxPoolNd
from convnd.shapes import Layer, ReceptiveField

RANKS = (1, 2, 3)


def _named(values: dict[str, np.ndarray]) -> list[Input]:
    def reader(array: np.ndarray) -> Callable[[], Grid]:
        return lambda: Grid(values=torch.from_numpy(array)[None, None].float())

    return [Input(name, reader(array)) for name, array in values.items()]


def _templates(ndim: int) -> np.ndarray:
    """Three known filters of whole numbers, 3 wide, of one energy: the same numbers shuffled."""
    numbers = np.random.default_rng(ndim).permutation(np.arange(3**ndim) - 3**ndim // 2)
    numbers[numbers >= 0] += 1  # a zero at an end would make shifted copies equal
    mixed = [np.roll(numbers, unit).reshape([3] * ndim) for unit in range(3)]
    return np.stack(mixed)[:, None].astype(np.float32)


def _matched(ndim: int) -> nn.Module:
    conv = ConvNd(1, 3, 3, spatial_dims=ndim, bias=False)
    conv.load_state_dict({"weight": torch.from_numpy(_templates(ndim))})
    return nn.Sequential(conv, nn.ReLU())


def _planted(ndim: int) -> tuple[dict[str, np.ndarray], dict[tuple[int, str], tuple[int, ...]]]:
    """Empty fields with one scaled copy of a filter in each, and where."""
    values, places = {}, {}
    rng = np.random.default_rng(7)
    for number, unit in itertools.product(range(4), range(3)):
        field = np.zeros([12] * ndim, np.float32)
        corner = tuple(rng.integers(1, 9, size=ndim))
        field[tuple(slice(i, i + 3) for i in corner)] = (number + 1) * _templates(ndim)[unit, 0]
        values[f"{number}-{unit}"] = field
        places[unit, f"{number}-{unit}"] = tuple(int(i) for i in corner)
    return values, places


@pytest.mark.parametrize("ndim", RANKS)
def test_known_filters_find_their_patches(ndim: int) -> None:
    values, places = _planted(ndim)
    network = network_from_module(_matched(ndim), ["1"])
    inputs = _named(values)
    result = find_patches(network, inputs, {"1": []}, top=2, suppress="input", rescale=False)
    energy = (_templates(ndim) ** 2).reshape(3, -1).sum(1)
    for unit in range(3):
        first = result.hits("1", unit)[0]
        # By Cauchy and Schwarz a filter answers most to itself among patches of one energy;
        # 4 times itself beats every other that was planted here.
        assert first.input == f"3-{unit}"
        assert first.position == places[unit, first.input]
        assert first.value == 4 * energy[unit]
    for patch in cut_patches(result, inputs, rescale=False):
        hit = patch.hit
        region = tuple(slice(i, i + 3) for i in hit.position)
        np.testing.assert_array_equal(patch.grid.values[0, 0].numpy(), values[hit.input][region])


def _positive(ndim: int) -> nn.Sequential:
    """Weights above zero, so that no gradient vanishes by chance."""
    net = nn.Sequential(
        ConvNd(1, 2, 3, spatial_dims=ndim, padding=1),
        nn.ReLU(),
        nn.AvgPool1d(2) if ndim == 1 else [nn.AvgPool2d, nn.AvgPool3d][ndim - 2](2),
        ConvNd(2, 2, 3, spatial_dims=ndim, dilation=2, stride=2),
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    return net


@pytest.mark.parametrize("ndim", RANKS)
def test_what_is_cut_is_where_the_gradient_is_not_zero(ndim: int) -> None:
    net = _positive(ndim)
    network = network_from_module(net, ["3"])
    array = np.random.default_rng(3).random([19] * ndim).astype(np.float32) + 0.1
    inputs = _named({"a": array})
    result = find_patches(network, inputs, {"3": [0, 1]}, suppress="none", top=50, rescale=False)
    hits = list(result.all_hits())
    assert len(hits) > 4
    for hit in hits[:: max(1, len(hits) // 12)]:
        x = torch.from_numpy(array)[None, None].requires_grad_()
        (gradient,) = torch.autograd.grad(net(x)[(0, hit.unit, *hit.position)], x)
        touched = torch.nonzero(gradient[0, 0])
        low, high = touched.amin(0).tolist(), (touched.amax(0) + 1).tolist()
        # With dilation after pooling the hull has no holes, so the box is the set itself.
        assert [(part.start, part.stop) for part in hit.region] == list(zip(low, high, strict=True))
        assert len(touched) == np.prod([b - a for a, b in zip(low, high, strict=True)])
        assert hit.cropped == any(w.start < 0 or w.stop > 19 for w in hit.window)


def _low_rank(ndim: int, seed: int = 0) -> VGG:
    """The compact network, whose convolutions project to few channels, with weights above zero."""
    network = load_network("compact", ["relu2_1"], spatial_dims=ndim, in_channels=1)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            drawn = torch.rand(parameter.shape, generator=generator) + 0.5
            parameter.data.copy_(drawn / parameter[0].numel())
    return network  # type: ignore[return-value]


@pytest.mark.parametrize("ndim", RANKS)
def test_what_is_cut_is_all_that_changes_a_unit_of_low_rank(ndim: int) -> None:
    network = _low_rank(ndim)
    generator = torch.Generator().manual_seed(3)
    size = [14] * ndim
    values = torch.rand(1, 1, *size, generator=generator)
    inputs = [Input("a", lambda: Grid(values=values))]
    result = find_patches(network, inputs, {"relu2_1": [0]}, suppress="none", top=90, rescale=False)
    places = list(itertools.product(*map(range, size)))
    tried = random.Random(1).sample(places, min(100, len(places)))
    raised = values.repeat(len(tried), *[1] * (ndim + 1))
    for row, place in enumerate(tried):
        raised[(row, 0, *place)] += 1000  # a new maximum for every pooling that sees it
    with torch.inference_mode():
        before, after = (network(x, ["relu2_1"])["relu2_1"][:, 0] for x in (values, raised))
    hits = result.hits("relu2_1", 0)
    assert any(hit.cropped for hit in hits)
    for hit in hits:
        index = (slice(None), *hit.position)
        changed = (after[index] - before[index]).abs() > 1e-2
        inside = [
            all(part.start <= i < part.stop for i, part in zip(place, hit.region, strict=True))
            for place in tried
        ]
        assert changed.tolist() == inside


@pytest.mark.parametrize("ndim", RANKS)
def test_order_and_batch_do_not_matter_at_low_rank(ndim: int) -> None:
    size = {1: 90, 2: 20, 3: 10}[ndim]
    network = load_network("compact", ["relu3_1"], spatial_dims=ndim, in_channels=1)
    rng = np.random.default_rng(4)
    values = {f"n{i:02d}": rng.random([size] * ndim).astype(np.float32) for i in range(12)}
    results = []
    for seed, batch in ((0, 1), (1, 5), (2, 0)):
        inputs = _named(values)
        random.Random(seed).shuffle(inputs)
        result = find_patches(network, inputs, {"relu3_1": range(8)}, batch=batch, rescale=False)
        results.append(list(result.all_hits()))
    tolerance = network_rounding(network) * max(hit.value for hit in results[0])
    # Rounding cannot change the order of hits that lie farther apart.
    for _, hits in itertools.groupby(results[0], key=lambda hit: hit.unit):
        assert all(a.value - b.value > 2 * tolerance for a, b in itertools.pairwise(hits))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert (one.unit, one.input) == (two.unit, two.input)
            assert one.value == pytest.approx(two.value, rel=0, abs=tolerance)
            if one.position != two.position:  # two positions of one input may be equally strong
                features = network(torch.from_numpy(values[one.input])[None, None], ["relu3_1"])
                there = features["relu3_1"][(0, one.unit, *two.position)]
                assert float(there) == pytest.approx(one.value, rel=0, abs=2 * tolerance)


def test_one_overflow_costs_no_other_input_its_place() -> None:
    class Overflow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 50, torch.nan, x)

    network = network_from_module(nn.Sequential(nn.Conv1d(1, 1, 1), Overflow()), ["1"])
    values = {f"n{i}": np.full(3, i + 1, np.float32) for i in range(4)}
    conv = next(m for m in network.modules() if isinstance(m, nn.Conv1d))
    conv.weight.data.fill_(1)
    conv.bias.data.zero_()  # type: ignore[union-attr]
    values["over"] = np.full(3, 99, np.float32)
    for batch in (1, 5):
        result = find_patches(
            network, _named(values), {"1": [0]}, top=1, rescale=False, batch=batch
        )
        assert [hit.input for hit in result.hits("1", 0)] == ["n3"]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_probed_fields_are_those_of_the_geometry(ndim: int) -> None:
    stack = [
        Layer.build("conv", ndim, kernel=5, channels=2, stride=2, padding=1),
        Layer.build("maxpool", ndim, kernel=2),
        Layer.build("conv", ndim, kernel=3, channels=2, dilation=2),
    ]
    net = nn.Sequential(
        ConvNd(1, 2, 5, spatial_dims=ndim, stride=2, padding=1),
        MaxPoolNd(2, spatial_dims=ndim),
        ConvNd(2, 2, 3, spatial_dims=ndim, dilation=2),
    )
    with torch.no_grad():
        net[0].weight.zero_()  # type: ignore[operator]  # what a unit is wired to see does not hang on its weights
    expected = ReceptiveField.identity(ndim)
    for layer in stack:
        expected = expected.compose(layer)
    network = ModuleBackbone(net, ["2"], spatial_dims=ndim, in_channels=1)
    assert probe_receptive_field(network, "2") == expected


def test_probing_says_what_it_cannot_tell() -> None:
    whole = nn.Sequential(nn.Conv1d(1, 2, 3), nn.InstanceNorm1d(2))
    with raises(UsageError, operation="layer 1", got="other windows"):
        network_from_module(whole, ["1"])
    with raises(UsageError, operation="from_module", got="none"):
        network_from_module(nn.Sequential(nn.ReLU()), ["0"])


@pytest.mark.parametrize("suppress", ["overlap", "input", "none"])
def test_order_and_batch_do_not_matter(suppress: str) -> None:
    rng = np.random.default_rng(5)
    # Few whole numbers, so that there are ties everywhere, and sums are exact.
    values = {f"n{i:02d}": rng.integers(0, 2, (9, 9)).astype(np.float32) for i in range(20)}
    network = network_from_module(_matched(2), ["1"])
    results = []
    for seed, batch in ((0, 1), (1, 4), (2, 20), (3, 7), (4, 0)):
        inputs = _named(values)
        random.Random(seed).shuffle(inputs)
        result = find_patches(
            network, inputs, {"1": []}, top=5, suppress=suppress, batch=batch, rescale=False
        )
        results.append(list(result.all_hits()))
    assert len(results[0]) == 15
    assert all(result == results[0] for result in results)


def _brute(
    values: dict[str, np.ndarray], suppress: str, top: int
) -> list[list[tuple[object, ...]]]:
    """Every answer of every filter, listed and sorted: slow and plain."""
    lists: list[object] = []
    for filt in _templates(1)[:, 0]:
        rows = []
        for name, signal in values.items():
            rows += [
                (-float((signal[i : i + 3] * filt).sum()), name, i) for i in range(len(signal) - 2)
            ]
        peaks: list[tuple[float, str, int]] = []
        for value, name, i in sorted(rows):
            same = [k for _, n, k in peaks if n == name]
            near = [k for k in same if abs(k - i) < 2]  # sharing 2 or 3 of 3 samples
            if value < 0 and not (near if suppress == "overlap" else same and suppress == "input"):
                peaks.append((value, name, i))
        lists.append([(name, (i,), -value) for value, name, i in peaks[:top]])
    return lists  # type: ignore[return-value]


@pytest.mark.parametrize("suppress", ["overlap", "input", "none"])
def test_as_a_plain_search_finds(suppress: str) -> None:
    rng = np.random.default_rng(8)
    values = {f"n{i}": rng.integers(-2, 3, 40).astype(np.float32) for i in range(4)}
    network = network_from_module(_matched(1), ["1"])
    result = find_patches(network, _named(values), {"1": []}, suppress=suppress, rescale=False)
    got = [[(h.input, h.position, h.value) for h in result.hits("1", unit)] for unit in range(3)]
    assert got == _brute(values, suppress, 9)


def test_memory_holds_positions_only() -> None:
    network = network_from_module(_matched(1), ["1"])
    opened = []

    def make(number: int) -> Grid:
        opened.append(number)
        rng = np.random.default_rng(number)
        return Grid(values=torch.from_numpy(rng.integers(0, 9, (1, 1, 16))).float())

    inputs = (Input(f"{i:05d}", lambda i=i: make(i)) for i in range(3000))  # type: ignore[misc]  # seen once, a stream
    result = find_patches(network, inputs, {"1": []}, top=3, rescale=False, batch=50)
    assert result.inputs == 3000
    assert opened == list(range(3000))
    assert sum(map(len, result.entries.values())) == 9
    assert len(result.shapes) <= 9


def test_memory_does_not_grow_with_the_number_of_inputs() -> None:
    network = network_from_module(_matched(1), ["1"])
    alive: weakref.WeakSet[Grid] = weakref.WeakSet()
    most = [0]

    def make(number: int) -> Grid:
        rng = np.random.default_rng(number)
        grid = Grid(values=torch.from_numpy(rng.integers(0, 9, (1, 1, 16))).float())
        alive.add(grid)
        if number % 50 == 0:
            gc.collect()  # garbage in cycles
        most[0] = max(most[0], len(alive))
        return grid

    def peak_memory(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        inputs = (Input(f"{i:05d}", lambda i=i: make(i)) for i in range(count))  # type: ignore[misc]
        find_patches(network, inputs, {"1": []}, top=3, rescale=False, batch=8)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    gc.collect()
    gc.freeze()  # what other tests left alive: every collection would go through it
    few, many = peak_memory(300), peak_memory(700)
    # Names and shapes of 400 inputs more would take over 50,000 bytes.
    assert many < few + 20_000
    assert most[0] < 10  # the values themselves live outside of what is traced


def test_inputs_that_fail_are_left_out_and_named() -> None:
    def broken() -> Grid:
        raise InputFileError("read x: expected a picture, got noise; save it again")

    network = network_from_module(_matched(2), ["1"])
    good = _named({"good": np.eye(5, dtype=np.float32), "small": np.ones((2, 2), np.float32)})
    flat = _named({"flat": np.ones(5, np.float32)})
    result = find_patches(
        network, [Input("bad", broken), *good, *flat], {"1": []}, rescale=False, suppress="none"
    )
    assert set(result.errors) == {"bad", "small", "flat"}
    assert "expected 2 spatial axes, got 1; use --dim 1" in str(result.errors["flat"])
    assert "small: expected an input that reaches 1" in str(result.errors["small"])
    assert {hit.input for hit in result.all_hits()} == {"good"}


def test_input_smaller_than_the_field_is_marked() -> None:
    network = load_network("compact", ["relu3_1"], spatial_dims=2, in_channels=3)
    grid = Grid(values=torch.rand(1, 3, 12, 40), channels=("R", "G", "B"))
    result = find_patches(network, [Input("small", lambda: grid)], {"relu3_1": [0, 1, 2, 3]})
    hits = list(result.all_hits())
    assert hits
    assert all(hit.cropped for hit in hits)
    assert all(part.stop <= n for hit in hits for part, n in zip(hit.region, (12, 40), strict=True))


def test_compact_shows_its_own_units() -> None:
    network = load_network("compact", ["conv1_1", "relu1_1"], spatial_dims=2, in_channels=3)
    with torch.inference_mode():
        got = network(torch.rand(1, 3, 8, 8), ["conv1_1", "relu1_1"])
    torch.testing.assert_close(got["relu1_1"], got["conv1_1"].clamp_min(0))


def test_channels_of_a_recording_are_fields_of_their_own() -> None:
    network = network_from_module(_matched(1), ["1"])
    quiet, loud = np.zeros(20, np.float32), np.zeros(20, np.float32)
    loud[5:8] = _templates(1)[0, 0]
    grid = Grid(values=torch.from_numpy(np.stack([quiet, loud]))[None], channels=("I", "II"))
    inputs = [Input("ecg", lambda: grid)]
    result = find_patches(network, inputs, {"1": [0]}, top=1, rescale=False)
    (patch,) = cut_patches(result, inputs, rescale=False)
    assert (patch.hit.channel, patch.hit.position, patch.grid.channels) == (1, (5,), ("II",))
    np.testing.assert_array_equal(patch.grid.values[0, 0].numpy(), loud[5:8])


def test_cut_volume_lies_where_it_lay(tmp_path: Path) -> None:
    affine = np.array([[0, -0.7, 0, 5], [0.6, 0, 0.1, -3], [0, 0, 5, 40], [0, 0, 0, 1]])
    data = np.random.default_rng(1).random((8, 9, 7)).astype(np.float32)
    image = nib.Nifti1Image(data, affine)
    image.header.set_sform(affine, 1)
    nib.save(image, tmp_path / "scan.nii")
    part = io.crop(io.read(tmp_path / "scan.nii"), (slice(2, 5), slice(3, 9), slice(1, 2)))
    io.write(tmp_path / "part.nii.gz", part)
    back = nib.load(tmp_path / "part.nii.gz")
    np.testing.assert_array_equal(back.get_fdata().astype(np.float32), data[2:5, 3:9, 1:2])
    np.testing.assert_allclose(back.affine @ [0, 0, 0, 1], image.affine @ [2, 3, 1, 1], atol=1e-5)
    np.testing.assert_allclose(back.affine[:3, :3], image.affine[:3, :3], atol=1e-5)
    with raises(ShapeError, operation="crop", expected="(8, 9"):
        io.crop(io.read(tmp_path / "scan.nii"), (slice(2, 9), slice(0, 1), slice(0, 1)))


def test_values_are_scaled_by_the_percentiles_of_what_is_finite() -> None:
    rng = np.random.default_rng(4)
    for count in (2, 3, 7, 100, 200, 201, 256, 5000):
        values = rng.normal(0, 10.0 ** rng.integers(-4, 4), count + 1).astype(np.float32)
        values[0] = np.nan
        low, high = np.percentile(values[1:], [0.5, 99.5]).tolist()
        assert value_range(torch.from_numpy(values)) == (low, high)


def test_names_and_numbers_that_are_wrong() -> None:
    network = network_from_module(_matched(1), ["1"])
    inputs = _named({"a": np.ones(9, np.float32)})
    with raises(UnknownNameError, operation="layer", expected="one of 1", got="'relu9'"):
        find_patches(network, inputs, {"relu9": []})
    with raises(UsageError, operation="units", expected="0 to 2", got="3"):
        find_patches(network, inputs, {"1": [3]}, rescale=False)
    with raises(UsageError, operation="suppress", got="'some'"):
        find_patches(network, inputs, {"1": []}, suppress="some")
    with raises(UsageError, operation="patches", expected="1 and batch", got="0, 0"):
        find_patches(network, inputs, {"1": []}, top=0)
    for text in ("9", "2-1", "x", "random:", "random:x", "", "1,,2", "-1"):
        with raises(UsageError, operation="--units", expected="0 to 7"):
            parse_units(text, 8, layer="relu1_1")
    assert parse_units("0-2,1,7", 8, layer="x") == [0, 1, 2, 7]
    assert parse_units("random:99", 8, layer="x") == list(range(8))
