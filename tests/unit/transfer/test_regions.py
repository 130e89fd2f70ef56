"""Parts of a result with styles of their own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from error_fields import raises
from torch import Tensor

from convnd.backbones import Precision
from convnd.errors import UsageError
from convnd.optimize import TiledEvaluation, Tiler, evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.regions import StyleRegion
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = TransferOptions(
    backbone="compact",
    precision="float32",
    style_layers=("relu1_1", "relu2_1"),
    content_layers=("relu2_2",),
    steps=30,
    scales=1,
    size=0,
)
SIZES = [(120,), (40, 48), (16, 20, 24)]


def field(*extent: int, seed: int = 0, smooth: bool = False) -> Tensor:
    """Noise, or noise of low frequencies."""
    values = torch.rand(1, 1, *extent, generator=torch.Generator().manual_seed(seed))
    for axis in range(2, values.ndim) if smooth else ():
        values = (values + values.roll(1, axis) + values.roll(2, axis) + values.roll(3, axis)) / 4
    return values


def halves(extent: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The first and the second half along the last axis."""
    first = torch.zeros(1, 1, *extent)
    first[..., : extent[-1] // 2] = 1
    return first, 1 - first


def result(options: TransferOptions, problem: TransferProblem) -> Tensor:
    transfer = StyleTransfer(options, spatial_dims=len(problem.size), in_channels=1)
    return [*transfer.run(problem)][-1].values


def distance(values: Tensor, style: Tensor) -> float:
    """Style energy of values relative to a style, from the objective without content."""
    options = dataclasses.replace(OPTIONS, content_weight=0.0)
    transfer = StyleTransfer(options, spatial_dims=values.ndim - 2, in_channels=1)
    objective = transfer.objective(None, [style], [1.0] * (values.ndim - 2))
    return evaluate_whole(objective, values).loss


@pytest.mark.parametrize("extent", SIZES)
def test_each_region_takes_its_style(extent: tuple[int, ...]) -> None:
    content, rough, fine = (
        field(*extent, seed=1) * 0.2 + 0.4,
        field(*extent, seed=2),
        field(*extent, seed=3, smooth=True),
    )
    first, second = halves(extent)
    regions = (StyleRegion(first, (0,)), StyleRegion(second, (1,)))
    values = result(OPTIONS, TransferProblem(content, [rough, fine], regions=regions))
    parts = values.split(extent[-1] // 2, -1)
    for number, styles in enumerate(((rough, fine), (fine, rough))):
        own, other = (distance(parts[number], style) for style in styles)
        assert own < 0.5 * other


@pytest.mark.parametrize("extent", SIZES)
def test_one_region_of_all_positions_is_no_region(extent: tuple[int, ...]) -> None:
    content, style = field(*extent), field(*extent, seed=2)
    everywhere = (StyleRegion(torch.ones(1, 1, *extent), (0,)),)
    transfer = StyleTransfer(OPTIONS, spatial_dims=len(extent), in_channels=1)
    spacing = [1.0] * len(extent)
    plain = evaluate_whole(transfer.objective(content, [style], spacing), content + 0.1)
    guided = evaluate_whole(
        transfer.objective(content, [style], spacing, regions=everywhere), content + 0.1
    )
    assert guided.loss == pytest.approx(plain.loss, rel=1e-5)
    error = (guided.gradient - plain.gradient).norm() / plain.gradient.norm()
    assert error < 1e-4


@pytest.mark.parametrize("pooling", ["max", pytest.param("avg", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("extent", "tile"),
    [((120,), 32), ((40, 48), 16), pytest.param((16, 20, 24), 8, marks=pytest.mark.slow)],
)
def test_tiles_give_the_gradient_of_one_piece(
    extent: tuple[int, ...], tile: int, pooling: str
) -> None:
    # float64: in float32 a unit may lie so near the kink of its ReLU that rounding decides.
    options = dataclasses.replace(OPTIONS, pooling=pooling)
    transfer = StyleTransfer(options, spatial_dims=len(extent), in_channels=1)
    transfer.precision = Precision(torch.float64)
    transfer.precision.apply(transfer.backbone)
    first, second = halves(extent)
    regions = [StyleRegion(first, (0,)), StyleRegion(second, (1,))]
    content, rough, fine = (field(*extent, seed=n, smooth=n == 3).double() for n in (1, 2, 3))
    objective = transfer.objective(content, [rough, fine], [1.0] * len(extent), regions=regions)
    tiler, x = Tiler(tile=tile), rough.flip(-1)
    layers = objective.layers
    assert len(tiler.make_tiling(objective.backbone, layers, extent, objective.overlaps)) > 1
    whole, tiled = evaluate_whole(objective, x), TiledEvaluation(tiler)(objective, x)
    assert tiled.loss == pytest.approx(whole.loss, rel=1e-13)
    error = (tiled.gradient - whole.gradient).abs().max() / whole.gradient.abs().max()
    assert error.item() < 1e-13


@pytest.mark.parametrize("extent", SIZES)
def test_nothing_changes_outside_of_the_mask(extent: tuple[int, ...]) -> None:
    content, style = field(*extent), field(*extent, seed=2)
    first, second = halves(extent)
    problem = TransferProblem(content, [style], mask=first)
    assert [region.styles for region in problem.regions] == [(0,)]
    values = result(OPTIONS, problem)
    assert torch.equal(values * second, content * second)
    assert (values - content)[first > 0].abs().mean() > 0.01


def test_a_part_of_a_style_is_read() -> None:
    halved = torch.cat([field(60, seed=2), field(60, seed=3, smooth=True)], -1)
    content = field(100) * 0.2 + 0.4
    first, second = halves((120,))
    everywhere = torch.ones(1, 1, 100)
    rough, fine = (
        result(
            OPTIONS,
            TransferProblem(content, [halved], regions=(StyleRegion(everywhere, (0,), (share,)),)),
        )
        for share in (first, second)
    )
    assert distance(rough, halved[..., :60]) < 0.5 * distance(fine, halved[..., :60])
    assert distance(fine, halved[..., 60:]) < 0.5 * distance(rough, halved[..., 60:])


def test_weights_of_regions_are_their_areas() -> None:
    transfer = StyleTransfer(OPTIONS, spatial_dims=1, in_channels=1)
    share = torch.zeros(1, 1, 100)
    share[..., :25] = 1
    regions = (StyleRegion(share, (0,)), StyleRegion(1 - share, (1,)))
    terms = transfer.style_terms([field(50), field(60)], regions=regions)
    weights = [term.weight for term in terms]
    assert sum(weights) == pytest.approx(OPTIONS.style_weight)
    assert sum(weights[:2]) == pytest.approx(OPTIONS.style_weight / 4)


def test_an_axis_of_one_sample_changes_nothing() -> None:
    first, _ = halves((96,))
    losses = []
    for shape in ((96,), (1, 96), (1, 1, 96)):
        content, style, share = (
            values.view(1, 1, *shape) for values in (field(96), field(96, seed=2), first)
        )
        transfer = StyleTransfer(OPTIONS, spatial_dims=len(shape), in_channels=1)
        regions = (StyleRegion(share, (0,)),)
        objective = transfer.objective(content, [style], [1.0] * len(shape), regions=regions)
        losses.append(evaluate_whole(objective, content * 0.9).loss)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)


def test_errors() -> None:
    with raises(UsageError, operation="sky", got="none"):
        StyleRegion(torch.ones(1, 1, 4), (), name="sky")
    with raises(UsageError, operation="sky", got="empty"):
        StyleRegion(torch.zeros(1, 1, 4), (0,), name="sky")
    with raises(UsageError, operation="sky", expected="1"):
        region = StyleRegion(torch.ones(1, 1, 4), (1,), name="sky")
        TransferProblem(torch.zeros(1, 1, 4), [torch.zeros(1, 1, 4)], regions=(region,))


@pytest.mark.parametrize("extent", [(200,), (40, 48)])
def test_strength_is_the_share_of_the_way_to_the_style(extent: tuple[int, ...]) -> None:
    content, style = field(*extent, seed=1, smooth=True) * 0.5 + 0.25, field(*extent, seed=2)
    options = dataclasses.replace(OPTIONS, content_weight=0.0, steps=60)
    whole = distance(content, style)
    left = {}
    for strength in (0.25, 0.5, 0.75, 1.0):
        values = result(options, TransferProblem(content, [style], strength=strength))
        left[strength] = distance(values, style) / whole
    assert sorted(left.values(), reverse=True) == [*left.values()]
    for strength in (0.25, 0.5, 0.75):
        assert left[strength] == pytest.approx((1 - strength) ** 2, abs=0.06)


def test_a_strength_applies_in_each_region() -> None:
    content, style = field(200, seed=1, smooth=True) * 0.5 + 0.25, field(200, seed=2)
    first, _ = halves((200,))
    options = dataclasses.replace(OPTIONS, content_weight=0.0, steps=60)
    problem = TransferProblem(content, [style], strength=0.5, mask=first)
    values = result(options, problem)[..., :100]
    share = distance(values, style) / distance(content[..., :100], style)
    assert share == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("extent", [(40, 48), pytest.param((5, 40, 48), marks=pytest.mark.slow)])
def test_a_region_smaller_than_a_receptive_field_is_reported(extent: tuple[int, ...]) -> None:
    content, style = field(*extent), field(*extent, seed=2)
    share = torch.zeros(1, 1, *extent)
    share[..., 20:24, 20:24] = 1
    small = StyleRegion(share, (0,), name="region eye")
    large = StyleRegion(1 - share, (0,), name="region rest")
    options = dataclasses.replace(OPTIONS, steps=0)
    transfer = StyleTransfer(options, spatial_dims=len(extent), in_channels=1)
    messages: list[str] = []
    problem = TransferProblem(content, [style], regions=(small, large))
    list(transfer.run(problem, on_message=messages.append))
    (message,) = [text for text in messages if text.startswith("region")]
    assert message.endswith("relu2_1: its surroundings count there, too")
    assert "@" not in message
