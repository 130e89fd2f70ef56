"""A convolution that is pooled at once, against torch's two operators, in whole numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones import load
from convnd.backbones.kernels import ConvOptions, FrozenWeights, frozen_conv_pool, native
from convnd.backbones.kernels.native_conv_pool import can_convolve_pool

needs_native = pytest.mark.skipif(
    not native.is_available(), reason="installed without the compiled module, or no AVX2"
)
CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
OPTIONS = ConvOptions(relu=True, mask_grad=False, winograd=True)
CASES = [
    ((2, 13, 64, 50), (2, 2), 48),
    ((1, 16, 65, 51), (2, 2), 24),
    ((3, 9, 1001), (4,), 40),
    ((2, 8, 9, 10, 11), (2, 2, 2), 16),
    ((1, 144, 20, 20), (2, 2), 512),
    ((1, 8, 7, 8), (1, 3), 8),
    ((1, 40, 2, 3), (2, 3), 96),
    ((1, 8, 3, 700), (1, 300), 8),
]


def draw(size: tuple[int, ...], outputs: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Whole numbers whose sums of products float32 holds exactly."""
    ones = [1] * (len(size) - 2)
    x = torch.randint(-4, 5, size, generator=generator).float()
    weight = torch.randint(-4, 5, (outputs, size[1], *ones), generator=generator).float()
    return x, weight, torch.randint(-9, 10, (outputs,), generator=generator).float()


@needs_native
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("size", "kernel", "outputs"), CASES)
def test_values_and_gradients_are_those_of_both_operators(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    outputs: int,
    threads: int,
    generator: torch.Generator,
) -> None:
    x, weight, bias = draw(size, outputs, generator)
    weights = FrozenWeights(weight, bias)
    x.requires_grad_()
    rank = len(kernel)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pooled = frozen_conv_pool(x, weights, OPTIONS, kernel)
        seed = torch.randint(-4, 5, pooled.shape, generator=generator).float()
        (slope,) = torch.autograd.grad(pooled, x, seed, retain_graph=True)
        (again,) = torch.autograd.grad(pooled, x, seed, create_graph=True)
    finally:
        torch.set_num_threads(before)
    assert can_convolve_pool(x, weight, kernel) == (300 not in kernel)
    expected = POOLS[rank](CONVS[rank](x, weight, bias).relu(), kernel)
    assert torch.equal(pooled, expected)
    assert torch.equal(slope, torch.autograd.grad(expected, x, seed)[0])
    assert torch.equal(again, slope)


@needs_native
def test_second_derivatives_pass_the_windows_too(generator: torch.Generator) -> None:
    x, weight, bias = draw((1, 8, 10, 12), 16, generator)
    x.requires_grad_()
    seed = torch.randn((1, 16, 5, 6), generator=generator, requires_grad=True)
    direction = torch.randint(-4, 5, x.shape, generator=generator).float()

    def second(pooled: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(pooled, x, seed, create_graph=True)
        (curvature,) = torch.autograd.grad((slope * direction).sum(), seed)
        return curvature

    ours = second(frozen_conv_pool(x, FrozenWeights(weight, bias), OPTIONS, (2, 2)))
    assert torch.equal(ours, second(F.max_pool2d(F.conv2d(x, weight, bias).relu(), 2)))


@needs_native
def test_a_network_pools_the_features_that_nobody_asked_for_at_once() -> None:
    net = load("compact", layers=["relu2_1"])
    net.winograd = True
    x = torch.rand(1, 3, 32, 32, requires_grad=True)

    def nodes(layers: list[str]) -> list[str]:
        node, names = net(x, layers)["relu2_1"].grad_fn, []
        while node is not None:
            names.append(type(node).__name__)
            node = node.next_functions[0][0] if node.next_functions else None
        return names

    assert "_ConvPoolBackward" in nodes(["relu2_1"])
    assert "_ConvPoolBackward" not in nodes(["relu1_2", "relu2_1"])
