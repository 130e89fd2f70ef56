"""The network for any style."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from convnd.backbones.weights import load_state
from convnd.feedforward import ArbitraryStyleNet, StylePart
from convnd.optimize import Tiler


@pytest.fixture(scope="module")
def network() -> ArbitraryStyleNet:
    net = ArbitraryStyleNet(load_state("instant"))
    return net.double()


def smooth(seed: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, 7, 9), generator=generator, dtype=torch.float64)
    values = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    noise = 0.1 * torch.rand((1, 3, *size), generator=generator, dtype=torch.float64)
    return (values + noise).clamp(0, 1)


def stylize(
    network: ArbitraryStyleNet, styles: list[Tensor], weights: list[float], tile: int | None
) -> Tensor:
    tiler = Tiler(tile=tile)
    return network.stylize(
        smooth(0, 131, 85), [StylePart(network.read_styles(styles, weights, tiler))], tiler
    )


def test_tiles_give_the_same_picture(network: ArbitraryStyleNet) -> None:
    # In float64, where no rounding decides between two patches.
    style = smooth(1, 90, 150)
    whole = stylize(network, [style], [1.0], None)
    assert whole.shape == (1, 3, 131, 85)
    torch.testing.assert_close(stylize(network, [style], [1.0], 64), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("matched", [False, True])
def test_tiles_of_both_passes_are_counted(network: ArbitraryStyleNet, matched: bool) -> None:
    content, tiler = smooth(0, 131, 85), Tiler(tile=64)
    targets = network.read_styles([smooth(1, 48, 48)], [1.0], tiler)
    maps = network.match([content], targets, tiler) if matched else None
    counts: list[tuple[int, int]] = []
    part = StylePart(targets, None, maps)
    network.stylize(content, [part], tiler, on_tile=lambda *count: counts.append(count))
    total = 6 if matched else 12  # 3 by 2 tiles; with known maps there is one pass
    assert counts == [(done, total) for done in range(1, total + 1)]
    counts.clear()
    network.stylize(content, [part], Tiler(), on_tile=lambda *count: counts.append(count))
    assert not counts


def test_maps_of_a_content_serve_others(network: ArbitraryStyleNet) -> None:
    style, contents = smooth(1, 90, 96), [smooth(0, 64, 64), smooth(2, 64, 64)]
    targets = network.read_styles([style], [1.0], Tiler())
    alone = network.stylize(contents[0], [StylePart(targets)], Tiler())
    maps = network.match(contents[:1], targets, Tiler(tile=48))
    same = network.stylize(contents[0], [StylePart(targets, maps=maps)], Tiler())
    torch.testing.assert_close(same, alone, rtol=0, atol=1e-9)
    # A darker frame of the same scene stays darker.
    both = network.match(contents, targets, Tiler())
    both_parts = [StylePart(targets, maps=both)]
    mean = [network.stylize(c, both_parts, Tiler()).mean() for c in contents]
    dark = network.stylize(0.5 * contents[1], both_parts, Tiler()).mean()
    assert dark < min(mean) - 0.02


@pytest.mark.parametrize("tile", [None, 48])
def test_a_mask_chooses_what_is_matched(network: ArbitraryStyleNet, tile: int | None) -> None:
    style, content = smooth(1, 90, 96), smooth(0, 80, 96)
    content[..., 48:] *= 0.2
    mask = torch.zeros(1, 1, 80, 96, dtype=torch.float64)
    mask[..., :48] = 0.7
    targets = network.read_styles([style], [1.0], Tiler())
    maps = network.match([content], targets, Tiler(tile=tile), masks=[mask])
    mapped = maps["input"](content)
    inside = mapped[..., :48].flatten(2)
    torch.testing.assert_close(inside.mean(2), style.flatten(2).mean(2), rtol=0, atol=1e-6)
    assert mapped[..., 48:].mean() < mapped.mean() - 0.1
    same = network.match([content], targets, Tiler(), masks=[torch.ones_like(mask)])
    alone = network.match([content], targets, Tiler())
    torch.testing.assert_close(same["relu3_1"].matrix, alone["relu3_1"].matrix)


def halves(network: ArbitraryStyleNet, *, soft: bool) -> list[StylePart]:
    """Two styles, one for the left and one for the right of a content of 131x192."""
    left = torch.linspace(1.5, -0.5, 192, dtype=torch.float64) if soft else torch.arange(192) < 96
    share = left.clamp(0, 1).double().expand(1, 1, 131, -1)
    styles = [smooth(1, 90, 96), 0.5 * smooth(2, 80, 120)]
    targets = [network.read_styles([style], [1.0], Tiler()) for style in styles]
    return [StylePart(targets[0], share), StylePart(targets[1], 1 - share)]


def test_each_part_takes_its_own_style(network: ArbitraryStyleNet) -> None:
    content, parts = smooth(0, 131, 192), halves(network, soft=False)
    both = network.stylize(content, parts, Tiler())
    for part, inner in zip(parts, (slice(0, 8), slice(184, 192)), strict=True):
        # Beyond the receptive field of the border between them, it is as if the part were alone.
        alone = network.stylize(content, [part], Tiler())
        torch.testing.assert_close(both[..., inner], alone[..., inner], rtol=0, atol=1e-9)
    assert (both[..., :8].mean() - both[..., 184:].mean()).abs() > 0.1


def test_parts_that_overlap_are_the_same_in_tiles(network: ArbitraryStyleNet) -> None:
    content, parts = smooth(0, 131, 192), halves(network, soft=True)
    whole = network.stylize(content, parts, Tiler())
    tiles = network.stylize(content, parts, Tiler(tile=64))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-9)
    first = parts[0].targets
    maps = network.match([content], first, Tiler())
    same = [replace(part, targets=first, maps=maps) for part in parts]
    torch.testing.assert_close(
        network.stylize(content, same, Tiler()),
        network.stylize(content, [StylePart(first)], Tiler()),
        rtol=0,
        atol=1e-9,
    )


def test_a_style_of_weight_0_does_not_count(network: ArbitraryStyleNet) -> None:
    first, second = smooth(1, 64, 72), smooth(2, 48, 80)
    alone = stylize(network, [first], [3.0], None)
    torch.testing.assert_close(
        stylize(network, [first, second], [1.0, 0.0], None), alone, rtol=0, atol=1e-9
    )
    both = stylize(network, [first, second], [1.0, 1.0], None)
    assert (both - alone).abs().mean() > 0.01


def test_the_result_takes_the_styles_colours(network: ArbitraryStyleNet) -> None:
    tint = torch.tensor([0.9, 0.2, 0.1], dtype=torch.float64).view(1, 3, 1, 1)
    style = 0.5 * tint + 0.5 * tint * smooth(3, 96, 96)
    content = smooth(0, 131, 85)
    result = stylize(network, [style], [1.0], None)
    means = [x.mean((2, 3)) for x in (content, style, result)]
    assert (means[2] - means[1]).abs().max() < 0.3 * (means[0] - means[1]).abs().max()


@pytest.mark.parametrize("contrast", [0.0, 1e-7, 1e-3])
def test_a_flat_content_gives_a_picture(contrast: float) -> None:
    net = ArbitraryStyleNet(load_state("instant"))
    content = (0.6 + contrast * smooth(0, 64, 64)).float()
    style = smooth(1, 90, 96).float()
    result = net.stylize(content, [StylePart(net.read_styles([style], [1.0], Tiler()))], Tiler())
    assert -0.5 < result.min() < result.max() < 1.5
