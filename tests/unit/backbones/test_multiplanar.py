"""A network for few axes on the planes of data of more axes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from error_fields import raises

from convnd.backbones import VGG, MultiPlanar, Precision, VGGPlan
from convnd.errors import UnknownNameError, UsageError
from convnd.losses import INPUT, ContentLoss, Objective, StyleLoss, Term
from convnd.optimize import TiledEvaluation, Tiler, evaluate_whole
from convnd.optimize.evaluation import tiler as tiler_module
from convnd.stats import GramStatistic, gram_matrix
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

PLAN = VGGPlan(widths=((6, 5), (7,)), projections={"relu1_1": 4}, ranks={"conv1_2": (3, 3)})
ASKED = ["relu1_1", "pool1", "relu2_1"]


def network(n: int, generator: torch.Generator, channels: int = 2) -> VGG:
    return VGG(PLAN, spatial_dims=n, in_channels=channels, generator=generator)


@pytest.mark.parametrize(
    ("n", "size"), [(1, (6, 9)), (2, (5, 8, 7)), (1, (4, 5, 6)), (2, (4,) * 4)]
)
def test_each_plane_is_seen_alone(
    n: int, size: tuple[int, ...], generator: torch.Generator
) -> None:
    net = network(n, generator)
    planes = MultiPlanar(net, spatial_dims=len(size))
    x = torch.rand(2, 2, *size, generator=generator)
    features = planes(x, planes.plane_layers(ASKED), raw=["relu1_1@" + "01"[:n]])
    for axes in itertools.combinations(range(len(size)), n):
        others = [axis for axis in range(len(size)) if axis not in axes]
        choice = "".join(map(str, axes))
        for position in itertools.product(*(range(size[axis]) for axis in others)):
            cut = tuple(
                position[others.index(axis)] if axis in others else slice(None)
                for axis in range(len(size))
            )
            raw = ["relu1_1"] if choice == "01"[:n] else []
            expected = net(x[(..., *cut)], ASKED, raw=raw)
            for name in ASKED:
                torch.testing.assert_close(
                    features[f"{name}@{choice}"][(..., *cut)], expected[name]
                )


def test_fields_are_where_gradients_are(generator: torch.Generator) -> None:
    planes = MultiPlanar(network(2, generator), spatial_dims=3).double()
    x = torch.rand(1, 2, 9, 11, 10, generator=generator).double().requires_grad_()
    for name in planes.plane_layers(["relu2_1"]):
        features = planes(x, [name])[name]
        middle = [extent // 2 for extent in features.shape[2:]]
        place: Any = (0, slice(None), *middle)
        (slope,) = torch.autograd.grad(features[place].square().sum(), x)
        windows = planes.receptive_fields[name].region(middle, x.shape[2:])
        inside = torch.zeros_like(slope, dtype=torch.bool)
        region: Any = (..., *windows)
        inside[region] = True
        assert not slope[~inside].any()
        for axis in range(3):  # and not larger than need be
            near = (
                slope.abs()
                .sum([other_axis for other_axis in range(5) if other_axis != axis + 2])
                .nonzero()
            )
            assert (int(near.min()), int(near.max()) + 1) == (
                windows[axis].start,
                windows[axis].stop,
            )


def test_tiles_give_the_whole(generator: torch.Generator) -> None:
    planes = MultiPlanar(network(2, generator), spatial_dims=3).double()
    x = torch.rand(1, 2, 17, 13, 19, generator=generator).double()
    style = torch.rand(1, 2, 12, 12, 12, generator=generator).double()
    layers = planes.plane_layers(["relu1_1", "relu2_1"])
    targets = planes(style, layers)
    contents = planes(x.flip(2), layers[:3])
    terms = [Term(n, 1.0, StyleLoss(GramStatistic().sums(f), layer=n)) for n, f in targets.items()]
    terms += [Term(f"content {n}", 0.5, ContentLoss(f, layer=n)) for n, f in contents.items()]
    objective = Objective(planes, terms, precision=Precision(torch.float64))
    whole = evaluate_whole(objective, x)
    tiled = TiledEvaluation(Tiler(tile=8))(objective, x)
    assert abs(float(whole.loss - tiled.loss)) < 1e-10 * float(whole.loss)
    assert float((whole.gradient - tiled.gradient).norm()) < 1e-10 * float(whole.gradient.norm())


def test_tiles_along_planes_have_no_halo(generator: torch.Generator) -> None:
    planes = MultiPlanar(network(2, generator), spatial_dims=3)
    size = (17, 13, 19)
    groups = planes.independent_groups(planes.plane_layers(["relu1_1", "relu2_1"]))
    assert [len(group) for group in groups] == [2, 2, 2]
    for group, across in zip(groups, (2, 1, 0), strict=True):
        slice_ = [extent if axis != across else 1 for axis, extent in enumerate(size)]
        most = math.prod(slice_)
        tiler = Tiler(fits=lambda crop, _, most=most: bool(math.prod(crop) <= most))  # type: ignore[misc]
        tiling = tiler.make_tiling(planes, (*group, INPUT), size)
        assert tiling.overhead == 1
        assert [*tiling.largest_crop] == slice_


def test_slabs_are_cut_for_the_cache_where_all_is_kept(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiler_module, "_CACHE_POSITIONS", 500)
    planes = MultiPlanar(network(2, generator), spatial_dims=3)
    size = (17, 13, 19)
    for group, across in zip(
        planes.independent_groups(planes.plane_layers(["relu1_1"])), (2, 1, 0), strict=True
    ):
        for rest, some in ((None, False), (lambda *_: math.inf, True)):
            tiling = Tiler(spare_bytes=rest).make_tiling(planes, (*group, INPUT), size)
            assert (len(tiling) > 1) == some
            assert tiling.overhead == 1
        cut = [part != whole for part, whole in zip(tiling.largest_crop, size, strict=True)]
        assert [axis for axis, is_cut in enumerate(cut) if is_cut] == [across]
        assert math.prod(tiling.largest_crop) <= 500
        # Sums that look further would see a halo.
        whole = Tiler(spare_bytes=rest).make_tiling(planes, (*group, INPUT), size, {group[0]: 1})
        assert len(whole) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gram_of_any_order_of_positions(dtype: torch.dtype, generator: torch.Generator) -> None:
    lying = torch.randn(2, 3, 4, 5, 6, generator=generator).to(dtype)
    for order in itertools.permutations(range(1, 5)):
        features = lying.permute(0, *order).detach().requires_grad_()
        rows = features.double().flatten(2)
        reference = rows @ rows.mT
        gram = gram_matrix(features)
        near: dict[str, Any] = (
            {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.5}
        )
        torch.testing.assert_close(gram.double(), reference, **near)
        seed = torch.randn(gram.shape, generator=generator).double()
        (slope,) = torch.autograd.grad(gram, features, seed.to(gram.dtype))
        expected = ((seed + seed.mT) @ rows).view(features.shape)
        torch.testing.assert_close(slope.double(), expected, **near)


def test_a_transfer_uses_them_in_three_axes(generator: torch.Generator) -> None:
    options = TransferOptions(
        backbone="compact",
        content_layers=("relu2_1",),
        style_layers=("relu1_1", "relu2_1"),
        style_layer_weights=(1.0, 3.0),
        steps=3,
        scales=1,
    )
    transfer = StyleTransfer(options, spatial_dims=3, in_channels=1)
    assert isinstance(transfer.backbone, MultiPlanar)
    assert transfer.options.style_layer_weights == (1.0,) * 3 + (3.0,) * 3
    content, style = torch.rand(2, 1, 1, 12, 14, 10, generator=generator)
    *_, last = transfer.run(TransferProblem(content, [style]))
    first, *_ = transfer.run(TransferProblem(content, [style]))
    assert last.loss < 0.8 * first.loss


@pytest.mark.slow  # that of planes; `test_precision.py` has the quick ones
def test_bfloat16_is_near_float32(generator: torch.Generator) -> None:
    content, style, x = torch.rand(3, 1, 1, 16, 17, 16, generator=generator)
    evaluations = []
    for precision in ("float32", "bfloat16"):
        options = TransferOptions(backbone="compact", scales=1, precision=precision)
        transfer = StyleTransfer(options, spatial_dims=3, in_channels=1)
        evaluations.append(evaluate_whole(transfer.objective(content, [style], [1.0] * 3), x))
    exact, rough = evaluations
    assert rough.loss == pytest.approx(exact.loss, rel=0.03)
    assert torch.cosine_similarity(rough.gradient.flatten(), exact.gradient.flatten(), 0) > 0.98
    assert not torch.equal(rough.gradient, exact.gradient)


def test_wrong_use(generator: torch.Generator) -> None:
    net = network(2, generator)
    with raises(UsageError, operation="MultiPlanar", expected="2 < spatial_dims", got="2"):
        MultiPlanar(net, spatial_dims=2)
    planes = Precision(torch.float32).apply(MultiPlanar(net, spatial_dims=3))
    with raises(UnknownNameError, operation="layer", expected="01", got="'relu1_1'"):
        planes(torch.zeros(1, 2, 4, 4, 4), ["relu1_1"])
    for ndim in (2, 3):
        with raises(UsageError, operation="inflation", got="'plane'"):
            StyleTransfer(
                TransferOptions(backbone="compact", inflation="plane"),
                spatial_dims=ndim,
                in_channels=1,
            )


def test_the_content_of_planes_is_cut_without_halo(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (16, 16, 16)
    options = TransferOptions(backbone="compact", precision="float32", size=0)
    transfer = StyleTransfer(options, spatial_dims=3, in_channels=1)
    content = torch.rand(1, 1, *size, generator=generator)
    shapes: list[tuple[int, ...]] = []
    forward = MultiPlanar.forward

    def noted(
        net: MultiPlanar, x: torch.Tensor, *more: Any, **named: Any
    ) -> dict[str, torch.Tensor]:
        shapes.append(tuple(x.shape[2:]))
        return forward(net, x, *more, **named)

    whole = transfer.objective(content, [], [1.0] * 3, style_terms=[])
    monkeypatch.setattr(MultiPlanar, "forward", noted)
    tiler = Tiler(fits=lambda crop, _: math.prod(crop) <= 8 * 16 * 16)
    tiled = transfer.objective(content, [], [1.0] * 3, tiler=tiler, style_terms=[])
    assert sorted(shapes) == sorted([(8, 16, 16), (16, 8, 16), (16, 16, 8)] * 2)
    assert evaluate_whole(tiled, content * 0.9).loss == pytest.approx(
        evaluate_whole(whole, content * 0.9).loss, rel=1e-5
    )
