from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd.backbones import VGG, VGG19, Precision, VGGPlan
from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.losses import (
    INPUT,
    NORMALIZATIONS,
    ContentLoss,
    EventLoss,
    Objective,
    StyleLoss,
    TemporalLoss,
    Term,
    TotalVariationLoss,
    total_variation,
)
from convnd.optimize import evaluate_whole
from convnd.stats import STATISTICS, Sums

MakeObjective = Callable[[int], tuple[Objective, torch.Tensor]]

# Two channels over two positions; Gram matrices worked by hand.
STYLE = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])  # G = [[1, 2], [2, 5]]
RESULT = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]])  # G = [[2, 2], [2, 4]]
# The difference is [[1, 0], [0, -1]]: its squared Frobenius norm is 2. n_c = 2, P = 2.


def style_loss(normalization: str, style: torch.Tensor = STYLE, statistic: str = "gram") -> float:
    target = STATISTICS[statistic].sums(style)
    loss = StyleLoss(target, layer="relu1_1", statistic=statistic, normalization=normalization)
    return loss.value(loss.sums(RESULT)).item()


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("lecture", 2 / (2 * 2 * 2)),  # ‖D‖² / (2 · n_h n_w · n_c)
        ("gatys", 2 / (4 * 2**2 * 2**2)),  # ‖D‖² / (4 N² M²)
        ("mean", (2 / 2**2) / 4),  # entries of D / P squared, averaged over 4 entries
        ("balanced", 2 / (1 + 4 + 4 + 25)),  # ‖D‖² / ‖G(S)‖², P cancels
    ],
)
def test_style_loss_by_hand(normalization: str, expected: float) -> None:
    assert style_loss(normalization) == pytest.approx(expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_larger_style_of_the_same_texture_is_the_same_style(normalization: str) -> None:
    larger = torch.cat([STYLE, STYLE, STYLE], 2)
    assert style_loss(normalization, larger) == pytest.approx(style_loss(normalization))


@pytest.mark.parametrize(
    ("normalization", "expected"),
    # Differences 0, 1, -2, 1: squares add up to 6; the content's own to 6; 4 entries.
    [("lecture", 3.0), ("gatys", 3.0), ("mean", 1.5), ("balanced", 1.0)],
)
def test_content_loss_by_hand(normalization: str, expected: float) -> None:
    loss = ContentLoss(STYLE, normalization=normalization)
    assert loss.value(loss.sums(RESULT)).item() == pytest.approx(expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_ranks_agree(normalization: str, ndim: int, generator: torch.Generator) -> None:
    """A length-1 axis changes no loss and no gradient."""
    x, target = torch.rand(2, 1, 3, *[4] * ndim, generator=generator, dtype=torch.float64)

    def losses(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.clone().requires_grad_()
        content = ContentLoss(target, normalization=normalization)
        style = StyleLoss(STATISTICS["gram"].sums(target), layer="a", normalization=normalization)
        smooth = TotalVariationLoss([0.5] * (x.ndim - 2))
        value = sum(loss.value(loss.sums(x)) for loss in (content, style, smooth))
        (gradient,) = torch.autograd.grad(value, x)  # type: ignore[arg-type]
        return value.detach(), gradient  # type: ignore[union-attr]

    value, gradient = losses(x, target)
    thicker, thick_gradient = losses(x.unsqueeze(2), target.unsqueeze(2))
    torch.testing.assert_close(thicker, value)
    torch.testing.assert_close(thick_gradient.squeeze(2), gradient)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_fields_side_by_side_weigh_content_and_style_alike(normalization: str) -> None:
    """Three leads as a batch change the ratio of the two terms no more than their sums do."""
    one, three = RESULT, RESULT.expand(3, -1, -1)
    ratios = []
    for x, target in ((one, STYLE), (three, STYLE.expand(3, -1, -1))):
        content = ContentLoss(target, normalization=normalization)
        style = StyleLoss(STATISTICS["gram"].sums(target), layer="a", normalization=normalization)
        ratios.append(content.value(content.sums(x)).item() / style.value(style.sums(x)).item())
    assert ratios[1] == pytest.approx(ratios[0])


def test_total_variation_by_hand() -> None:
    # Along y (spacing 2): 3-1, 1-1 over 2 -> 1 + 0. Along x (spacing 0.5): 0, -2 over .5 -> 0 + 16.
    x = torch.tensor([[[[1.0, 1.0], [3.0, 1.0]]]])
    assert total_variation(x, spacing=[2.0, 0.5]).item() == pytest.approx((1 + 16) / 4)


def test_total_variation_measures_the_field_not_the_samples() -> None:
    """Half the spacing, twice the samples of one ramp: the same slope, the same value."""
    coarse = torch.linspace(0, 1, 101, dtype=torch.float64).view(1, 1, -1)
    fine = torch.linspace(0, 1, 1001, dtype=torch.float64).view(1, 1, -1)
    values = [total_variation(coarse, [0.01]).item(), total_variation(fine, [0.001]).item()]
    assert values == pytest.approx([1, 1], rel=0.02)


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_zero_targets_have_a_finite_loss(statistic: str) -> None:
    target = STATISTICS[statistic].sums(torch.zeros(1, 2, 4))
    style = StyleLoss(target, layer="a", statistic=statistic)
    content = ContentLoss(torch.zeros(1, 2, 2))
    assert torch.isfinite(style.value(style.sums(RESULT)))
    assert torch.isfinite(content.value(content.sums(RESULT)))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_objective_gradient(ndim: int, make_objective: MakeObjective) -> None:
    objective, x = make_objective(ndim)

    def value(x: torch.Tensor) -> torch.Tensor:
        return objective.value(objective.sums(objective.features(x)))[0]

    assert torch.autograd.gradcheck(value, x.requires_grad_(), fast_mode=True)


def test_objective_adds_up_from_tiles(make_objective: MakeObjective) -> None:
    """Sums over tiles of the features, their positions named, are the sums over the whole."""
    objective, x = make_objective(2)
    objective.terms = objective.terms[:3]  # smoothness looks across the edges of tiles
    features = objective.features(x)
    whole = objective.sums(features)
    added: list[Sums] | None = None
    for top, left in itertools.product(range(2), range(2)):
        windows = {}
        for name, values in features.items():
            half = [extent // 2 for extent in values.shape[2:]]
            windows[name] = tuple(
                slice(0, cut) if side == 0 else slice(cut, None)
                for side, cut in zip((top, left), half, strict=True)
            )
        tile = {name: values[(..., *windows[name])] for name, values in features.items()}
        sums = objective.sums(tile, windows)
        added = sums if added is None else [a + b for a, b in zip(added, sums, strict=True)]
    assert added is not None
    torch.testing.assert_close(objective.value(added)[0], objective.value(whole)[0])


@pytest.mark.parametrize("statistic", ["gram", "covariance"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_products_before_a_tap_are_mapped_instead_of_all_positions(
    ndim: int, statistic: str, generator: torch.Generator
) -> None:
    plan = VGGPlan(widths=((5,), (6,)), projections={"relu1_1": 4, "relu2_1": 7})
    net = VGG(plan, spatial_dims=ndim, in_channels=2, generator=generator).double()
    x, style = torch.rand(2, 1, 2, *[6] * ndim, generator=generator).double()
    target = net(style, ["relu1_1"])["relu1_1"]
    content = Term("content", 1.0, ContentLoss(net(style, ["relu2_1"])["relu2_1"], layer="relu2_1"))
    evaluations = []
    for projection in (None, net.projection("relu1_1")):
        sums = STATISTICS[statistic].sums(target)
        loss = StyleLoss(sums, layer="relu1_1", statistic=statistic, projection=projection)
        objective = Objective(
            net, [Term("style", 2.0, loss), content], precision=Precision(torch.float64)
        )
        evaluations.append(evaluate_whole(objective, x))
        channels = {name: len(feature[0]) for name, feature in objective.features(x).items()}
        assert channels == {"relu1_1": 4 if projection is None else 5, "relu2_1": 7, INPUT: 2}
    behind, before = evaluations
    assert abs(before.loss / behind.loss - 1) < 1e-12
    torch.testing.assert_close(before.gradient, behind.gradient)


def test_errors(generator: torch.Generator) -> None:
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1, generator=generator)
    with raises(UnknownNameError, operation="normalization", got="'balance'"):
        ContentLoss(STYLE, normalization="balance")
    with raises(UsageError, operation="StyleLoss", got="'moments'"):
        style_loss("lecture", statistic="moments")
    with raises(ShapeError, operation="ContentLoss", expected="(1, 2"):
        ContentLoss(STYLE).sums(torch.ones(1, 2, 3))
    with raises(ShapeError, operation="StyleLoss", expected="(1, 2"):
        style = StyleLoss(STATISTICS["gram"].sums(STYLE), layer="relu1_1")
        style.value(style.sums(torch.ones(1, 3, 2)))
    with raises(ShapeError, operation="total_variation", expected="2 spatial", got="1"):
        total_variation(torch.ones(1, 1, 2, 2), [1.0])
    with raises(UsageError, operation="Objective", got="none"):
        Objective(net, [])
    for weight in (-1.0, float("nan"), float("inf")):
        with raises(UsageError, operation="style", expected="a finite weight of"):
            Term("style", weight, TotalVariationLoss([1.0]))
    assert INPUT not in net.layers
    gram = STATISTICS["gram"].sums(torch.ones(1, 64, 3))
    tapped = StyleLoss(gram, layer="relu1_1", projection=torch.eye(64))
    content = ContentLoss(torch.ones(1, 64, 3), layer="relu1_1")
    with raises(UsageError, operation="Objective", got="content after it"):
        Objective(net, [Term("style", 1.0, tapped), Term("content", 1.0, content)])


def test_temporal_loss_by_hand() -> None:
    # Two channels, three positions, the middle one not relied on and the last by half.
    target = torch.tensor([[[1.0, 5.0, 2.0], [0.0, 5.0, 1.0]]])
    mask = torch.tensor([[[1.0, 0.0, 0.5]]])
    x = torch.tensor([[[3.0, 9.0, 1.0], [1.0, 9.0, 4.0]]], requires_grad=True)
    loss = TemporalLoss(target, mask, reference=5.0)
    value = loss.value(loss.sums(x))
    value.backward()
    # (2² + 1²) · 1 + (1² + 3²) · ½ = 10, over 3 positions and the reference 5
    assert value.item() == pytest.approx(10 / 15)
    expected = torch.tensor([[[2 * 2.0, 0.0, -1.0], [2 * 1.0, 0.0, 3.0]]]) / 15
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected)
    tiles = [slice(0, 2), slice(2, None)]
    parts = [loss.sums(x[..., tile].detach(), [tile]) for tile in tiles]
    total = Sums(parts[0].total + parts[1].total, parts[0].count + parts[1].count)
    assert loss.value(total).item() == pytest.approx(10 / 15)
    with raises(ShapeError, operation="TemporalLoss", expected="a mask"):
        TemporalLoss(target, mask[..., :2])
    with raises(ShapeError, operation="TemporalLoss", expected="(1, 2"):
        loss.sums(x[..., :2])


@pytest.mark.parametrize(
    ("size", "width"), [((40,), (7,)), ((12, 15), (4, 3)), ((6, 7, 8), (2, 3, 4))]
)
def test_events_are_the_mean_over_their_windows(
    size: tuple[int, ...], width: tuple[int, ...], rng: np.random.Generator
) -> None:
    x, target = rng.normal(size=(2, 1, *size)), rng.normal(size=(2, 1, *width))
    places = np.stack([rng.integers(0, n - w + 1, 9) for n, w in zip(size, width, strict=True)], 1)
    windows = [
        x[(..., *(slice(a, a + w) for a, w in zip(place, width, strict=True)))]  # type: ignore[arg-type]
        for place in places
    ]
    axes = tuple(range(2, 2 + len(size)))
    mean, aim = (
        window - window.mean(axes, keepdims=True) for window in (np.mean(windows, 0), target)
    )
    loss = EventLoss(torch.tensor(target), torch.tensor(places), size=size)
    whole = loss.sums(torch.tensor(x))
    assert loss.value(whole).item() == pytest.approx(np.sum((mean - aim) ** 2) / np.sum(aim**2))
    cut = size[0] // 2
    rest = [slice(0, None)] * (len(size) - 1)
    parts = loss.sums(torch.tensor(x[:, :, :cut]), [slice(0, cut), *rest])
    parts = parts + loss.sums(torch.tensor(x[:, :, cut:]), [slice(cut, None), *rest])
    torch.testing.assert_close(parts.total, whole.total)
    assert parts.count == whole.count
    for positions, expected in (
        ([size], "windows"),
        ([[0] * (len(size) + 1)], "positions"),
        (torch.empty(0, len(size)).long().tolist() or torch.empty(0, len(size)), "at least one"),
    ):
        with pytest.raises(ShapeError) as caught:
            EventLoss(torch.tensor(target), torch.as_tensor(positions), size=size)
        assert caught.value.operation == "EventLoss"
        assert caught.value.expected.startswith(expected)
