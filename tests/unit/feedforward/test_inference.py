"""Trained networks with frozen convolutions compute the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from convnd.backbones.kernels import native
from convnd.feedforward.inference import freeze_convolutions
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.nn import ConvNd
from convnd.transfer.network_transfer import NetworkTransfer
from convnd.transfer.options import TransferOptions

SIZES = [(1, (70,)), (2, (33, 50)), (2, (4, 130)), (3, (9, 12, 10))]


def draw_network(rank: int) -> TransformNet:
    network = TransformNet(NetworkShape(spatial_dims=rank, channels=2, width=8, levels=2, blocks=2))
    network.initialize(3)
    return network


def rounding(network: TransformNet) -> float:
    """The most that rounding may change, relative to the largest value.

    Winograd's algorithm: five standard deviations for each layer, as in test_native.py, relative to
    a sum of nine products for each channel.
    """
    inputs = [layer.in_channels for layer in network.modules() if isinstance(layer, ConvNd)]
    half = torch.finfo(torch.float32).eps / 2
    return sum(half * 5 * 94.33 * math.sqrt((channels + 24) / 9) for channels in inputs)


@pytest.mark.parametrize(("rank", "size"), SIZES)
def test_the_values_are_those_of_the_network(
    rank: int, size: tuple[int, ...], generator: torch.Generator
) -> None:
    network, x = draw_network(rank), torch.rand(2, 2, *size, generator=generator)
    exact = copy.deepcopy(network).double()(x.double()).detach()
    frozen = freeze_convolutions(network)
    y = frozen(x)
    assert float((y - exact).abs().max()) <= rounding(network) * float(exact.abs().max())
    assert not y.requires_grad
    assert all(weight.requires_grad for weight in network.parameters())
    replaced = sum(isinstance(layer, ConvNd) for layer in network.modules()) - sum(
        isinstance(layer, ConvNd) for layer in frozen.modules()
    )
    has_kernels = rank == 2 and native.is_available()
    assert replaced == (6 if has_kernels else 0)
    activations = sum(isinstance(layer, torch.nn.ReLU) for layer in frozen.modules())
    assert activations == (0 if has_kernels else network.shape.blocks)


def test_later_training_leaves_a_transfer_as_it_is(generator: torch.Generator) -> None:
    network, x = draw_network(2), torch.rand(1, 2, 20, 24, generator=generator)
    transfer = NetworkTransfer(network, TransferOptions())
    before = transfer.network(x)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    assert torch.equal(transfer.network(x), before)
