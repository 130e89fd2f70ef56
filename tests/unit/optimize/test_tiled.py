"""Evaluation tile by tile against evaluation in one piece."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from error_fields import raises
from rounding import network_rounding
from tiles import ALL, LAYERS, Difference, assert_equal, objective_for
from torch import Tensor, nn

from convnd.backbones import VGG, VGG19, ModuleBackbone, Precision
from convnd.errors import ResourceError, ShapeError, UsageError
from convnd.losses import (
    INPUT,
    ContentLoss,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
)
from convnd.nn import ConvNd, MaxPoolNd, PadNd
from convnd.optimize import (
    RecomputedContent,
    TiledEvaluation,
    Tiler,
    evaluate_whole,
    tiled_features,
    tiled_sums,
)
from convnd.optimize.evaluation.two_pass import backward_pass, forward_pass, grad_wrt_sums
from convnd.shapes import Layer, ReceptiveField, Tiling
from convnd.stats import STATISTICS, Sums


@pytest.mark.parametrize(
    ("size", "tile", "pieces"),
    [
        ((131,), 4, 33),
        ((130,), 32, 5),
        ((129,), 128, 2),
        ((37, 45), 16, 9),
        ((64, 1), 20, 4),
        ((17, 18, 11), 8, 18),
        ((20, 1, 17), 8, 9),
        pytest.param((9, 10, 8, 11), 4, 54, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("pooling", ["max", pytest.param("avg", marks=pytest.mark.slow)])
def test_vgg(
    size: tuple[int, ...], tile: int, pieces: int, pooling: str, generator: torch.Generator
) -> None:
    layers = LAYERS if len(size) < 4 else LAYERS[:2]
    plan = VGG19.truncate(layers)
    narrow = type(plan)(widths=tuple(tuple(4 for _ in block) for block in plan.widths))
    net = VGG(narrow, spatial_dims=len(size), in_channels=2, pooling=pooling, generator=generator)
    objective, x = objective_for(net, layers, size, generator)
    assert_equal(objective, x, Tiler(tile=tile), 1e-10, pieces)


@pytest.mark.parametrize("normalization", ["lecture", "gatys", "mean"])
def test_normalizations(normalization: str, generator: torch.Generator) -> None:
    net = VGG(VGG19.truncate(["relu2_1"]), spatial_dims=1, in_channels=1, generator=generator)
    objective, x = objective_for(net, LAYERS[:2], (50,), generator, normalization=normalization)
    assert_equal(objective, x, Tiler(tile=10), 1e-10)


@pytest.mark.parametrize("size", [(200,), (40, 50), (12, 13, 10)])
def test_float32(size: tuple[int, ...], generator: torch.Generator) -> None:
    net = VGG(
        VGG19.truncate(["relu2_1"]), spatial_dims=len(size), in_channels=1, generator=generator
    )
    objective, x = objective_for(net, LAYERS[:2], size, generator, torch.float32)
    assert_equal(objective, x, Tiler(tile=8), 4 * network_rounding(net))  # see test_split


def build(ndim: int, mode: str, kernels: Sequence[int], strides: Sequence[int]) -> ModuleBackbone:
    """A network of the user's: convolutions with gaps and strides, pooling, padding on its own."""
    g = torch.Generator().manual_seed(1)
    modules: list[nn.Module] = []
    layers: list[Layer] = []
    channels = 2
    for kernel, stride in zip(kernels, strides, strict=True):
        conv = ConvNd(
            channels,
            5,
            kernel,
            spatial_dims=ndim,
            stride=stride,
            padding="same",
            padding_mode=mode,
            generator=g,
        )
        modules += [conv, nn.Tanh()]
        layers += [conv.layer, conv.layer]
        channels = 5
    pool = MaxPoolNd(3, spatial_dims=ndim, stride=2, padding=1)
    modules += [pool, PadNd(2, "constant" if mode == "zeros" else mode, spatial_dims=ndim)]
    last = ConvNd(channels, 4, 3, spatial_dims=ndim, dilation=2, generator=g)
    modules.append(last)
    field = ReceptiveField.identity(ndim)
    fields = {}
    for index, layer in enumerate(layers):
        if index % 2 == 0:
            field = field.compose(layer)
        else:
            fields[str(index)] = field
    field = field.compose(Layer.build("maxpool", ndim, kernel=3, stride=2, padding=1))
    padded = Layer.build("conv", ndim, kernel=3, dilation=2, padding=2, channels=4)
    fields[str(len(modules) - 1)] = field.compose(padded)
    net = nn.Sequential(*modules)
    return ModuleBackbone(
        net, list(fields), spatial_dims=ndim, in_channels=2, receptive_fields=fields
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((150,), 9),
        ((151,), 30),
        ((61, 58), 12),
        pytest.param((41, 38, 33), 12, marks=pytest.mark.slow),
    ],
)
def test_networks_of_users(
    mode: str, size: tuple[int, ...], tile: int, generator: torch.Generator
) -> None:
    net = build(len(size), mode, [4, 3], [3, 1])
    objective, x = objective_for(net, net.layers, size, generator)
    assert_equal(objective, x, Tiler(tile=tile), 1e-10)


def test_mirrors_reach_further_than_fields(generator: torch.Generator) -> None:
    """Padding on one side only shows samples that lie behind the hull of the field."""
    conv = ConvNd(2, 3, 7, spatial_dims=1, padding=((6, 0),), padding_mode="reflect")
    fields = {"0": ReceptiveField.identity(1).compose(conv.layer)}
    net = ModuleBackbone(
        nn.Sequential(conv), ["0"], spatial_dims=1, in_channels=2, receptive_fields=fields
    )
    objective, x = objective_for(net, ["0"], (40,), generator)
    assert_equal(objective, x, Tiler(tile=3), 1e-10)


def test_circular_padding_is_refused_unless_whole(generator: torch.Generator) -> None:
    net = build(1, "circular", [3], [1])
    objective, x = objective_for(net, net.layers, (100,), generator)
    with raises(UsageError, operation="tiles", got="circular"):
        TiledEvaluation(Tiler(tile=20))(objective, x)
    evaluation = TiledEvaluation(Tiler(tile=100))(objective, x)
    assert evaluation.gradient.equal(evaluate_whole(objective, x).gradient)


def test_valid_convolutions_and_a_refining_network(generator: torch.Generator) -> None:
    g = torch.Generator().manual_seed(2)
    down = ConvNd(2, 3, 4, spatial_dims=1, stride=2, generator=g)
    up = nn.ConvTranspose1d(3, 3, 4, stride=2)
    field = ReceptiveField.identity(1).compose(down.layer)
    fine = field.compose(Layer.build("convtranspose", 1, kernel=4, stride=2, channels=3))
    net = ModuleBackbone(
        nn.Sequential(down, nn.Tanh(), up),
        ["1", "2"],
        spatial_dims=1,
        in_channels=2,
        receptive_fields={"1": field, "2": fine},
    )
    objective, x = objective_for(net, ["1", "2"], (60,), generator)
    assert_equal(objective, x, Tiler(tile=7), 1e-10)


def test_wrong_fields_and_means_over_positions_are_refused(generator: torch.Generator) -> None:
    conv = ConvNd(2, 3, 5, spatial_dims=1, padding=2)
    field = ReceptiveField.identity(1)
    right = field.compose(conv.layer)
    for module, claimed in (
        (conv, field),
        (nn.Sequential(conv, nn.InstanceNorm1d(3)), right),
    ):
        name = "" if module is conv else "1"
        wrapped = nn.Sequential(module) if module is conv else module
        name = "0" if module is conv else "1"
        net = ModuleBackbone(
            wrapped, [name], spatial_dims=1, in_channels=2, receptive_fields={name: claimed}
        )
        objective, x = objective_for(net, [name], (60,), generator)
        with raises(UsageError, operation="tiles", got="others"):
            TiledEvaluation(Tiler(tile=10))(objective, x)


def test_unknown_fields_are_refused(generator: torch.Generator) -> None:
    net = ModuleBackbone(nn.Sequential(nn.Conv1d(2, 3, 5)), ["0"], spatial_dims=1, in_channels=2)
    objective, x = objective_for(net, ["0"], (60,), generator)
    with raises(UsageError, operation="tiles", got="none from ModuleBackbone"):
        TiledEvaluation(Tiler(tile=10))(objective, x)
    TiledEvaluation(Tiler())(objective, x)


@pytest.mark.parametrize(("size", "tile", "pieces"), [((1500,), 160, 10), ((300, 20), 16, 30)])
@pytest.mark.parametrize("statistic", ["autocorrelation", "spectrum"])
def test_statistics_that_look_further_than_their_tile(
    statistic: str, size: tuple[int, ...], tile: int, pieces: int, generator: torch.Generator
) -> None:
    net = VGG(
        VGG19.truncate(["relu1_1"]), spatial_dims=len(size), in_channels=1, generator=generator
    )
    x, style = torch.rand((2, 2, 1, *size), generator=generator, dtype=torch.float64)
    target = STATISTICS[statistic].sums(style)
    terms = [
        Term("fact", 1.0, StyleLoss(target, layer=INPUT, statistic=statistic)),
        Term("smooth", 0.5, TotalVariationLoss([0.7] * len(size))),
    ]
    assert_equal(Objective(net, terms), x, Tiler(tile=tile), 1e-8, pieces)


@pytest.mark.parametrize(
    ("size", "tile", "pieces"),
    [((133,), 16, 9), pytest.param((133, 20), 16, 18, marks=pytest.mark.slow), ((5, 90), 16, 6)],
)
@pytest.mark.parametrize("statistic", ["autocorrelation", "spectrum"])
def test_features_that_look_further_than_their_tile(
    statistic: str, size: tuple[int, ...], tile: int, pieces: int, generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Last tiles of one position or none in the deep layer, in the target and in the result."""
    # Of few lags, or every tile would see everything.
    monkeypatch.setattr(STATISTICS[statistic], "lags", 3)
    taper = 0 if statistic == "autocorrelation" else 2
    monkeypatch.setattr(STATISTICS[statistic], "taper", taper)
    overlap = 3 + taper
    monkeypatch.setattr(STATISTICS[statistic], "overlap", overlap)
    plan = VGG19.truncate(LAYERS)
    narrow = type(plan)(widths=tuple(tuple(2 for _ in block) for block in plan.widths))
    net = VGG(narrow, spatial_dims=len(size), in_channels=1, generator=generator).double()
    x, style = torch.rand((2, 1, 1, *size), generator=generator, dtype=torch.float64)
    tiling = Tiler(tile=tile).make_tiling(net, LAYERS, size, dict.fromkeys(LAYERS, overlap))
    with torch.no_grad():
        whole = {
            name: STATISTICS[statistic].sums(feature)
            for name, feature in net(style, LAYERS).items()
        }
    asked = dict.fromkeys(LAYERS, STATISTICS[statistic])
    targets = tiled_sums(lambda x: net(x, LAYERS), style, tiling, asked)
    for name in LAYERS:
        assert targets[name].count == whole[name].count
        torch.testing.assert_close(targets[name].total, whole[name].total, rtol=1e-9, atol=1e-9)
    terms = [
        Term("style", 1.0, StyleLoss(targets[name], layer=name, statistic=statistic))
        for name in LAYERS
    ]
    precision = Precision(torch.float64)
    objective = Objective(net, terms, precision=precision)
    assert_equal(objective, x, Tiler(tile=tile), 1e-8, pieces)


def test_terms_that_do_not_add_up_are_refused(generator: torch.Generator) -> None:
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1, generator=generator)
    loss = Difference(torch.zeros(1, 1, 9), torch.ones(1, 1, 9))
    loss.additive = False
    objective = Objective(net, [Term("median", 1.0, loss)])
    x = torch.ones(1, 1, 9)
    with raises(UsageError, operation="tiles", got="the term median"):
        TiledEvaluation(Tiler(tile=3))(objective, x)
    assert TiledEvaluation(Tiler())(objective, x).loss == 1

    class Median:
        additive = False

        def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
            del weight
            return Sums(features.flatten(2).median(2).values, 1)

        def summary(self, sums: Sums) -> Tensor:
            return sums.total

    style = StyleLoss(Sums(torch.ones(1, 1), 1), layer=INPUT, statistic=Median())
    with raises(UsageError, operation="tiles", got="the term style"):
        TiledEvaluation(Tiler(tile=3))(Objective(net, [Term("style", 1.0, style)]), x)
    tiling = Tiler(tile=3).make_tiling(net, [INPUT], (9,))
    with raises(UsageError, operation="tiles", got="Median"):
        tiled_sums(lambda x: {INPUT: x}, x, tiling, {INPUT: Median()})


def test_targets_tile_by_tile(generator: torch.Generator) -> None:
    net = VGG(
        VGG19.truncate(["relu3_1"]), spatial_dims=2, in_channels=1, generator=generator
    ).double()
    x = torch.rand(1, 1, 50, 43, generator=generator).double()
    tiling = Tiler(tile=16).make_tiling(net, LAYERS, x.shape[2:])
    assert len(tiling) == 12

    def features(crop: Tensor) -> Mapping[str, Tensor]:
        return net(crop, LAYERS)  # type: ignore[no-any-return]

    whole = net(x, LAYERS)
    for name, values in tiled_features(features, x, tiling, LAYERS).items():
        torch.testing.assert_close(values, whole[name], rtol=1e-10, atol=1e-12)
    for statistic in ALL:
        targets = tiled_sums(features, x, tiling, dict.fromkeys(LAYERS, STATISTICS[statistic]))
        for name, sums in targets.items():
            expected = STATISTICS[statistic].sums(whole[name])
            assert sums.count == expected.count
            torch.testing.assert_close(sums.total, expected.total, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_content_recomputed_tile_by_tile(mode: str, generator: torch.Generator) -> None:
    net = build(2, mode, [4, 3], [3, 1])
    net.double()
    x, content = torch.rand(2, 1, 2, 61, 50, generator=generator).double()
    for name in net.layers:
        tiler = Tiler(tile=12)

        def features(crop: Tensor, name: str = name) -> Mapping[str, Tensor]:
            return net(crop, [name])  # type: ignore[no-any-return]

        loss = ContentLoss(features(content)[name], layer=name)
        source = RecomputedContent(
            features, content, tiler.make_tiling(net, [name], (61, 50)), name
        )
        again = ContentLoss(source, layer=name)
        expected = evaluate_whole(
            Objective(net, [Term("c", 1.0, loss)], precision=Precision(torch.float64)), x
        )
        objective = Objective(net, [Term("c", 1.0, again)], precision=Precision(torch.float64))
        assert_equal(objective, x, tiler, 1e-10)
        evaluation = TiledEvaluation(tiler)(objective, x)
        torch.testing.assert_close(evaluation.gradient, expected.gradient, rtol=1e-9, atol=1e-14)
        assert evaluation.loss == pytest.approx(expected.loss, rel=1e-12)


class Counted(VGG):
    """Crops that features are computed of."""

    crops = 0

    def forward(self, *arguments: Any, **named: Any) -> dict[str, Tensor]:
        self.crops += 1
        return super().forward(*arguments, **named)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "tile"), [((130,), 32), ((37, 45), 16), ((17, 12, 10), 8)])
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_kept_of_the_first_pass_is_not_computed_again(
    size: tuple[int, ...], tile: int, cut: bool, generator: torch.Generator
) -> None:
    plan = VGG19.truncate(LAYERS)
    narrow = type(plan)(widths=tuple(tuple(4 for _ in block) for block in plan.widths))
    net = Counted(narrow, spatial_dims=len(size), in_channels=2, generator=generator)
    objective, x = objective_for(net, LAYERS, size, generator)
    deep = Tiler() if cut else None
    tiling = Tiler(tile=tile, deep_tiler=deep).make_tiling(
        net, objective.layers, size, objective.overlaps
    )
    evaluations = []  # type: ignore[var-annotated]
    for room in (0.0, 1.0, *(2.0**power for power in range(13, 24)), math.inf):
        tiler = Tiler(tile=tile, spare_bytes=lambda *_, room=room: room, deep_tiler=deep)
        if not evaluations:  # the others are compared with it
            assert_equal(objective, x, tiler, 1e-10)
        net.crops = 0
        evaluated = TiledEvaluation(tiler)(objective, x)
        evaluations.append((net.crops, evaluated))
    counts = [count for count, _ in evaluations]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[1] == 1  # the first is kept before it is known how large one is
    assert any(counts[1] > count > counts[-1] for count in counts)
    for _, evaluation in evaluations[1:]:
        assert evaluation.loss == evaluations[0][1].loss
        assert evaluation.gradient.equal(evaluations[0][1].gradient)
    if not cut:
        assert counts[-1] == len(tiling)


def test_tiles_that_are_kept_are_let_go(generator: torch.Generator) -> None:
    plan = VGG19.truncate(LAYERS)
    net = VGG(plan, spatial_dims=2, in_channels=2, generator=generator)
    objective, x = objective_for(net, LAYERS, (37, 45), generator)
    tiles = list(Tiler(tile=16).make_tiling(net, (*LAYERS, INPUT), (37, 45), objective.overlaps))
    before = forward_pass(objective, x, tiles, spare_bytes=math.inf)
    leaves = [weakref.ref(saved.crop) for saved in before.saved]
    assert len(leaves) == len(tiles)
    backward_pass(objective, x, tiles, before, grad_wrt_sums(objective, before.totals))
    assert not before.saved
    assert not any(leaf() is not None for leaf in leaves)


def test_running_out_of_memory_makes_tiles_smaller(generator: torch.Generator) -> None:
    net = VGG(VGG19.truncate(["relu2_1"]), spatial_dims=2, in_channels=1, generator=generator)
    objective, x = objective_for(net, LAYERS[:2], (40, 40), generator)
    expected = evaluate_whole(objective, x)
    forward = net.forward
    most = 600

    def scarce(values: Tensor, layers: Sequence[str], **options: Any) -> dict[str, Tensor]:
        if values[0, 0].numel() > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(values, layers, **options)

    net.forward = scarce  # type: ignore[assignment, method-assign]
    tilings: list[Tiling] = []
    evaluate = TiledEvaluation(Tiler(on_shrink=tilings.append))
    evaluation = evaluate(objective, x)
    torch.testing.assert_close(evaluation.gradient, expected.gradient, rtol=1e-9, atol=1e-12)
    sizes = [math.prod(tiling.largest_crop) for tiling in tilings]
    assert sizes[0] == 1600
    assert sizes == sorted(sizes, reverse=True)
    evaluate(objective, x)
    assert len(tilings) == len(sizes)  # it remembers
    most = 3
    with raises(ResourceError, operation="tiles", got="too little"):
        evaluate(objective, x)

    def broken(values: Tensor, layers: Sequence[str], **options: Any) -> dict[str, Tensor]:
        raise RuntimeError("something else")

    net.forward = broken  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError, match="something else"):
        evaluate(objective, x)


@pytest.mark.parametrize("size", [(4096, 4096), (512, 512, 512), (10**8,), (64, 64, 64, 64)])
def test_chosen_tiles_waste_least_halo(size: tuple[int, ...]) -> None:
    field = ReceptiveField((156,) * len(size), (16,) * len(size), (-70,) * len(size))
    most = {1: 10**6, 2: 1200**2, 3: 320**3, 4: 170**4}[len(size)]
    tiling = Tiling.choose(size, {"deep": field}, lambda crop: math.prod(crop) <= most)
    assert math.prod(tiling.largest_crop) <= most
    for tile in (64, 128, 256, 512, 1024, 4096, 10**6):
        other = Tiling.cut(size, tile, {"deep": field})
        if math.prod(other.largest_crop) <= most:
            assert tiling.overhead <= other.overhead * (1 + 1e-9)


@pytest.mark.parametrize(("pieces", "count"), [(None, 1), ((2, 1), 2)])
def test_what_fits_is_one_tile_unless_pieces_are_asked_for(
    pieces: tuple[int, int] | None, count: int
) -> None:
    field = ReceptiveField((156, 156), (16, 16), (-70, -70))
    tiling = Tiling.choose(
        (250, 77), {"deep": field}, lambda _: True, align=(32, 32), pieces=pieces
    )
    assert len(tiling) == count
    windows = [tile.windows["deep"] for tile in tiling]
    assert windows[0][0].start == 0
    assert windows[-1][0].stop is None
    if count == 1:
        assert (tiling[0].crop, tiling.overhead) == ((slice(0, 250), slice(0, 77)), 1)


@pytest.mark.parametrize("extent", [1, 2, 15, 16, 17, 31, 33, 100])
@pytest.mark.parametrize("tile", [1, 16, 32, 50, 1000])
def test_every_position_belongs_to_one_tile(extent: int, tile: int) -> None:
    fields = {
        "a": ReceptiveField((3,), (1,), (-1,)),
        "b": ReceptiveField((20,), (4,), (-8,)),
        "c": ReceptiveField((60,), (16,), (-22,)),
    }
    counts = {"a": extent, "b": extent // 4, "c": extent // 16}
    owners = {name: [0] * count for name, count in counts.items()}
    for piece in Tiling.cut((extent,), tile, fields):
        (crop,) = piece.crop
        assert 0 <= crop.start < crop.stop <= extent
        assert crop.start % 16 == 0
        for name, count in counts.items():
            (window,), (inside,) = piece.windows[name], piece.crop_windows[name]
            positions = range(count)[window]
            for position in positions:
                owners[name][position] += 1
            stride = int(fields[name].stride[0])
            have = (crop.stop - crop.start) // stride  # positions in the features of the crop
            assert [k + crop.start // stride for k in range(have)[inside]] == list(positions)
            if positions:
                (region,) = fields[name].region(
                    (range(positions[0], positions[-1] + 1),), (extent,)
                )
                assert crop.start <= region.start
                assert region.stop <= crop.stop
    assert all(set(piece) <= {1} for piece in owners.values())


def test_shape_errors() -> None:
    field = ReceptiveField((3,), (1,), (-1,))
    with raises(ShapeError, operation="tiles", expected="(4, 4", got="fields of 1 axes"):
        Tiling.cut((4, 4), 2, {"a": field})
    with raises(ShapeError, operation="tiles", got="none"):
        Tiling.choose((4,), {}, lambda _: True)
    with raises(ShapeError, operation="tiles", expected="1 sample", got="0"):
        Tiling.cut((4,), 0, {"a": field})
    with raises(UsageError, operation="tile", expected="1 sample", got="0"):
        Tiler(tile=0)
