"""Periodic fields: features, losses and gradients do not know where a period begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
import torch
from error_fields import raises
from tiles import LAYERS, assert_equal, objective_for
from torch import Tensor, nn

from convnd.backbones import VGG, VGG19, Backbone, ModuleBackbone, MultiPlanar, Precision, load
from convnd.errors import UsageError
from convnd.losses import (
    INPUT,
    LocalAffineLoss,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
    tile_index,
)
from convnd.nn import resize_nd, resize_period
from convnd.nn.pad import wrapped_crop
from convnd.optimize import (
    RecomputedContent,
    Smoothing,
    TiledEvaluation,
    Tiler,
    evaluate_whole,
    tiled_features,
)
from convnd.optimize.evaluation.tiles import add_crop
from convnd.stats import STATISTICS
from convnd.transfer.options import TransferOptions
from convnd.transfer.regions import StyleRegion
from convnd.transfer.style_transfer import StyleTransfer

DOUBLE = Precision(torch.float64)


def network(ndim: int, generator: torch.Generator, pooling: str = "max") -> VGG:
    plan = VGG19.truncate(LAYERS)
    narrow = dataclasses.replace(plan, widths=tuple((4,) * len(block) for block in plan.widths))
    net = VGG(narrow, spatial_dims=ndim, in_channels=2, pooling=pooling, generator=generator)
    return net.double()


def periodic_objective(
    net: Backbone, layers: Sequence[str], size: Sequence[int], generator: torch.Generator
) -> tuple[Objective, Tensor]:
    """Every kind of term of a periodic field."""
    objective, x = objective_for(net.as_periodic(), layers, size, generator)
    content = torch.rand(2, net.in_channels, *size, generator=generator, dtype=torch.float64)
    affine = Term("local_affine", 1.0, LocalAffineLoss(content, periodic=True))
    return Objective(objective.backbone, [*objective.terms, affine], precision=DOUBLE), x


def texture_objective(
    net: Backbone, layers: Sequence[str], size: Sequence[int], generator: torch.Generator
) -> tuple[Objective, Tensor]:
    """The terms that a texture has: they know no position."""
    style, x = torch.rand(2, 1, net.in_channels, *size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        features = net(style, layers)
    terms = [
        Term("style", 1.0, StyleLoss(STATISTICS["gram"].sums(features[name]), layer=name))
        for name in layers
    ]
    terms.append(Term("smooth", 0.5, TotalVariationLoss([1.0] * len(size))))
    return Objective(net.as_periodic(), terms, precision=DOUBLE), x


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("size", "shift"),
    [((64,), (12,)), ((24, 32), (4, 20)), ((8, 12, 16), (4, 8, 4)), ((1, 32), (0, 8))],
    ids=str,
)
def test_rolling_the_field_rolls_the_gradient(
    size: tuple[int, ...], shift: tuple[int, ...], pooling: str, generator: torch.Generator
) -> None:
    objective, x = texture_objective(
        network(len(size), generator, pooling), LAYERS, size, generator
    )
    axes = [*range(2, x.ndim)]
    first, second = (evaluate_whole(objective, field) for field in (x, x.roll(shift, axes)))
    assert second.loss == pytest.approx(first.loss, rel=1e-12)
    scale = first.gradient.abs().max().item()
    expected = first.gradient.roll(shift, axes)
    torch.testing.assert_close(second.gradient, expected, atol=1e-11 * scale, rtol=0)
    plain = Objective(network(len(size), generator, pooling), objective.terms, precision=DOUBLE)
    first, second = (evaluate_whole(plain, field) for field in (x, x.roll(shift, axes)))
    assert abs(second.loss - first.loss) > 1e-6 * first.loss  # the border is felt without it


@pytest.mark.parametrize("statistic", ["gram", "autocorrelation", "spectrum"])
@pytest.mark.parametrize(("size", "shift"), [((96,), (12,)), ((24, 32), (4, 20))], ids=str)
def test_rolling_a_field_with_regions_rolls_the_gradient(
    size: tuple[int, ...],
    shift: tuple[int, ...],
    statistic: str,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("lags", "overlap"):
        monkeypatch.setattr(STATISTICS["autocorrelation"], name, 3)
    options = TransferOptions(
        backbone="compact", precision="float32", size=0, seamless=True,
        style_loss="gram" if statistic == "spectrum" else statistic,
        value_statistics=() if statistic == "gram" else (statistic,),
        style_layers=("relu1_1", "relu2_1"), content_weight=0.0,
    )  # fmt: skip
    transfer = StyleTransfer(options, spatial_dims=len(size), in_channels=1)
    transfer.resolve_layers(size)
    transfer.backbone.double()
    first, second, x = torch.rand(3, 1, 1, *size, generator=generator, dtype=torch.float64)
    share = torch.zeros(1, 1, *size, dtype=torch.float64)
    share[..., : size[-1] // 2] = 1
    axes, results = [*range(2, x.ndim)], []
    for moved in (False, True):
        parts = [part.roll(shift, axes) if moved else part for part in (share, 1 - share)]
        regions = [StyleRegion(part, (number,)) for number, part in enumerate(parts)]
        terms = transfer.style_terms([first, second], regions=regions)
        objective = Objective(transfer.backbone, terms, precision=DOUBLE)
        results.append(evaluate_whole(objective, x.roll(shift, axes) if moved else x))
    assert results[1].loss == pytest.approx(results[0].loss, rel=1e-9)
    scale = results[0].gradient.abs().max().item()
    expected = results[0].gradient.roll(shift, axes)
    torch.testing.assert_close(results[1].gradient, expected, atol=1e-7 * scale, rtol=0)


@pytest.mark.parametrize("name", ["vgg19", "compact"])
@pytest.mark.parametrize(
    "size", [(48,), (37,), (1, 33), (16, 24), (13, 21), (6, 5, 8), (3,)], ids=str
)
def test_features_are_those_of_the_repeated_field(
    name: str, size: tuple[int, ...], generator: torch.Generator
) -> None:
    """Also of extents that the poolings do not divide."""
    layers = list(LAYERS if len(size) < 3 else LAYERS[:2])
    layers = layers if min(size) > 3 or 1 in size else layers[:1]
    net = load(name, spatial_dims=len(size), in_channels=2, layers=layers).double()
    x = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    margin = 48 if len(size) < 3 else 12
    crop = [slice(0, 1) if n == 1 else slice(-margin, n + margin) for n in size]
    repeated, features = net(wrapped_crop(x, crop), layers), net.as_periodic()(x, layers)
    for layer in layers:
        stride = [int(step) for step in net.receptive_fields[layer].stride]
        inner = [
            slice(0, 1) if n == 1 else slice(margin // step, (margin + n) // step)
            for n, step in zip(size, stride, strict=True)
        ]
        expected = repeated[layer][(..., *inner)][
            (
                ...,
                *(
                    slice(n // step) if n > 1 else slice(1)
                    for n, step in zip(size, stride, strict=True)
                ),
            )
        ]
        scale = expected.abs().max().item()
        torch.testing.assert_close(features[layer], expected, atol=1e-12 * scale, rtol=0)


@pytest.mark.parametrize("size", [(40,), (13, 21), (1, 30), (8, 6, 9)], ids=str)
def test_mirrored_inputs_have_no_border(size: tuple[int, ...], generator: torch.Generator) -> None:
    """The features of a style are those inside of a larger picture."""
    layers = LAYERS if len(size) < 3 else LAYERS[:2]
    net = network(len(size), generator)
    x = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    margin = 48 if len(size) < 3 else 12
    # Made by torch's own reflection, one period after the other.
    larger = x
    for axis, extent in enumerate(size, 2):
        if extent > 1:
            cycle = torch.cat([larger, larger.narrow(axis, 1, extent - 2).flip(axis)], axis)
            period = cycle.shape[axis]
            many = torch.cat([cycle] * (2 * margin // period + 4), axis)
            start = -(-margin // period) * period - margin
            larger = many.narrow(axis, start, extent + 2 * margin)
    with torch.no_grad():
        expected, features = net(larger, layers), net.with_mirrored_border()(x, layers)
    for layer in layers:
        inner = [
            slice(None)
            if n == 1
            else slice(margin // int(step), margin // int(step) + n // int(step))
            for n, step in zip(size, net.receptive_fields[layer].stride, strict=True)
        ]
        torch.testing.assert_close(features[layer], expected[layer][tile_index(inner)])
    tiling = Tiler(tile=8).make_tiling(net, layers, size)
    mirrored = net.with_mirrored_border()
    tiled = tiled_features(lambda crop: mirrored(crop, layers), x, tiling, layers)
    for layer in layers:
        torch.testing.assert_close(tiled[layer], features[layer])


def test_float32_kernels_wrap_as_well(generator: torch.Generator) -> None:
    """Winograd's and the compiled kernels, against float64."""
    x = torch.rand(1, 3, 96, 128, generator=generator)
    net = load("vgg19", layers=["relu3_1"])
    expected = load("vgg19", layers=["relu3_1"]).double().as_periodic()(x.double(), ["relu3_1"])
    fast = Precision(torch.float32, winograd=True)
    features = fast.convert(net.as_periodic())(fast.layout(x), ["relu3_1"])["relu3_1"]
    error = (features - expected["relu3_1"]).abs().max() / expected["relu3_1"].abs().max()
    assert error.item() < 1e-5


@pytest.mark.parametrize(
    ("size", "tile", "pieces"),
    [
        ((128,), 16, 8),
        ((131,), 8, 17),
        ((48, 64), 16, 12),
        ((37, 45), 16, 9),
        ((16, 100), 16, 7),
        ((64, 1), 20, 4),
        ((10, 9, 8), 4, 18),
    ],
    ids=str,
)
@pytest.mark.parametrize("deep", [None, 4])
def test_tiles(
    size: tuple[int, ...], tile: int, pieces: int, deep: int | None, generator: torch.Generator
) -> None:
    """Tiles go on at the other end, also those of a split network, and where one covers an axis."""
    layers = LAYERS if len(size) < 3 else LAYERS[:2]
    objective, x = periodic_objective(network(len(size), generator), layers, size, generator)
    deep_tiler = None if deep is None else Tiler(tile=deep)
    assert_equal(objective, x, Tiler(tile=tile, deep_tiler=deep_tiler), 1e-10, pieces)


def test_slices_of_a_volume(generator: torch.Generator) -> None:
    net = MultiPlanar(network(2, generator), spatial_dims=3)
    layers = net.plane_layers(LAYERS[:2])
    objective, x = texture_objective(net, layers, (8, 12, 16), generator)
    whole = evaluate_whole(objective, x)
    rolled = evaluate_whole(objective, x.roll((4, 2, 6), (2, 3, 4)))
    expected, scale = whole.gradient.roll((4, 2, 6), (2, 3, 4)), whole.gradient.abs().max().item()
    torch.testing.assert_close(rolled.gradient, expected, atol=1e-11 * scale, rtol=0)
    for tiler in (Tiler(tile=4), Tiler(tile=6, deep_tiler=Tiler(tile=4))):
        tiled = TiledEvaluation(tiler)(objective, x)
        torch.testing.assert_close(tiled.gradient, whole.gradient, atol=1e-11 * scale, rtol=0)


@pytest.mark.parametrize("statistic", ["autocorrelation", "spectrum"])
def test_statistics_that_look_further_than_their_tile(
    statistic: str, generator: torch.Generator
) -> None:
    net = network(1, generator)
    x, style = torch.rand(2, 1, 2, 500, generator=generator, dtype=torch.float64)
    terms = [
        Term("fact", 1.0, StyleLoss(STATISTICS[statistic].sums(style), layer=INPUT,
                                    statistic=statistic)),
        Term("smooth", 1.0, TotalVariationLoss([1.0])),
    ]  # fmt: skip
    objective = Objective(net.as_periodic(), terms, precision=DOUBLE)
    assert_equal(objective, x, Tiler(tile=96), 1e-9, 6)
    # As a transfer makes it, the statistic has no ends at which the weight of pairs falls.
    options = TransferOptions(
        backbone="compact", seamless=True, value_statistics=(statistic,), style_weight=0,
        precision="float32",
    )  # fmt: skip
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    objective = transfer.objective(None, [style[:, :1].float()], [1.0])
    one, other = (evaluate_whole(objective, field[:, :1].float()) for field in (x, x.roll(7, 2)))
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    scale = one.gradient.abs().max().item()
    torch.testing.assert_close(other.gradient, one.gradient.roll(7, 2), atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("size", [(61, 50), (16, 100)])
def test_content_recomputed_tile_by_tile(size: tuple[int, int], generator: torch.Generator) -> None:
    net = network(2, generator).as_periodic()
    content = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)

    def features(crop: Tensor, cut_axes: tuple[int, ...] = ()) -> Mapping[str, Tensor]:
        result: Mapping[str, Tensor] = net.cut_along(cut_axes)(crop, [LAYERS[2]])
        return result

    with torch.no_grad():
        whole = features(content)[LAYERS[2]]
    tiling = Tiler(tile=16).make_tiling(net, LAYERS, size)
    source = RecomputedContent(features, content, tiling, LAYERS[2])
    assert source.energy == pytest.approx(whole.square().sum().item(), rel=1e-12)
    torch.testing.assert_close(
        tiled_features(features, content, tiling, LAYERS[2:])[LAYERS[2]], whole
    )
    torch.testing.assert_close(source.features(None), whole)
    for tile in tiling:
        window = tile.windows[LAYERS[2]]
        torch.testing.assert_close(source.features(window), whole[tile_index(window)])


def test_crops_of_many_periods(generator: torch.Generator) -> None:
    x = torch.rand(1, 1, 5, 4, generator=generator)
    crop = [slice(-7, 13), slice(1, 3)]
    values = torch.rand(1, 1, 20, 2, generator=generator)
    total = torch.zeros_like(x)
    add_crop(total, crop, values)
    # The transpose: <crop(x), v> = <x, add(v)>.
    torch.testing.assert_close((wrapped_crop(x, crop) * values).sum(), (x * total).sum())
    assert wrapped_crop(x, crop)[0, 0, :, 0].tolist() == [x[0, 0, n % 5, 1] for n in range(-7, 13)]


def test_smoothing_goes_on_at_the_other_end() -> None:
    field = torch.randn(1, 2, 12, 9, generator=torch.Generator().manual_seed(0)).double()
    smooth = Smoothing((12, 9), periodic=True)
    rolled = smooth(field.roll((5, 4), (2, 3)))
    torch.testing.assert_close(rolled, smooth(field).roll((5, 4), (2, 3)))
    assert not torch.allclose(
        Smoothing((12, 9))(field.roll(5, 2)), Smoothing((12, 9))(field).roll(5, 2)
    )
    other = torch.randn(1, 2, 12, 9, dtype=torch.float64)
    torch.testing.assert_close((smooth(field) * other).sum(), (field * smooth(other)).sum())
    fixed = Smoothing((12, 9), fixed_axes=(0,), periodic=True)(field)
    torch.testing.assert_close(fixed.mean(3), field.mean(3))


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((12,), (24,)),
        ((13,), (7,)),
        ((10, 7), (20, 21)),
        ((30,), (4,)),
        ((1, 9), (1, 18)),
        ((5,), (5,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resizing_goes_on_at_the_other_end(
    size: tuple[int, ...], target: tuple[int, ...], mode: str, generator: torch.Generator
) -> None:
    """As the middle of many periods."""
    x = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    many = wrapped_crop(x, [slice(-6 * n, 7 * n) for n in size])
    expected = resize_nd(many, [13 * n for n in target], mode=mode, antialias=True)
    middle = tile_index([slice(6 * n, 7 * n) for n in target])
    torch.testing.assert_close(resize_period(x, target, mode=mode), expected[middle])


def test_a_network_of_the_user_is_refused() -> None:
    net = ModuleBackbone(nn.Sequential(nn.Conv1d(2, 3, 5)), ["0"], spatial_dims=1, in_channels=2)
    with raises(UsageError, operation="seamless", got="ModuleBackbone"):
        net.as_periodic()
