"""The transform network: shapes, receptive field, exact tiles, gradients, export."""

from __future__ import annotations

import math

import pytest
import torch

from convnd.errors import ShapeError, UsageError
from convnd.feedforward.network_shape import INPUT, OUTPUT, NetworkShape
from convnd.feedforward.transform_net import (
    FieldStatistics,
    TransformNet,
    channel_basis,
    field_statistics,
)
from convnd.shapes import Tiling
from convnd.transfer.network_transfer import NetworkTransfer, apply_network
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem

CASES = [
    (1, 1, (403,), 64),
    (2, 3, (97, 130), 32),
    (3, 1, (37, 20, 41), 16),
    pytest.param(4, 1, (9, 14, 7, 12), 4, marks=pytest.mark.slow),
]


def small_network(rank: int, channels: int) -> TransformNet:
    shape = NetworkShape(spatial_dims=rank, channels=channels, width=4, levels=2, blocks=1)
    network = TransformNet(shape)
    network.initialize(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # biases and the last layer count as well
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    network.style_mean.fill_(0.4)
    network.style_deviation.fill_(0.2)
    return network


@pytest.mark.parametrize(("rank", "channels", "size", "tile"), CASES)
def test_tiles_equal_the_whole(rank: int, channels: int, size: tuple[int, ...], tile: int) -> None:
    network = small_network(rank, channels)
    content = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(2))
    fields = network.shape.receptive_fields
    tiling = Tiling.cut(size, tile, fields, align=[network.shape.stride] * rank)
    assert len(tiling) > 1
    with torch.no_grad():
        whole = network(content)
    tiled = apply_network(network, content, tiling)
    # Rounding of float32 sums over the taps and channels of each of the layers.
    layers, terms = 8, 3**rank * 16
    tolerance = layers * math.sqrt(terms) * 2**-24 * float(whole.abs().max()) * 8
    assert float((whole - tiled).abs().max()) <= tolerance


def test_a_tile_without_its_halo_differs() -> None:
    network = small_network(2, 3)
    content = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = network(content)
        part = network(content[..., :32], {INPUT: field_statistics(content, network.basis)})
    assert float((whole[..., :32] - part).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NetworkShape.for_rank(1, 1).receptive_fields)
def test_receptive_fields_are_not_too_small(name: str) -> None:
    network = TransformNet(NetworkShape.for_rank(1, 1))
    network.initialize(0)
    network.double()
    x = torch.rand(1, 1, 512, dtype=torch.float64, requires_grad=True)
    statistics: dict[str, FieldStatistics] = {}
    for layer in network.shape.normalized_layers:
        features = network.features(x.detach(), layer, statistics)
        deviation, mean = torch.std_mean(features.detach(), 2, correction=0)
        statistics[layer] = FieldStatistics(mean, deviation)
    output = network(x, statistics) if name == OUTPUT else network.features(x, name, statistics)
    position = output.shape[2] // 2
    output[0, :, position].sum().backward()
    assert x.grad is not None
    touched = x.grad[0, 0].nonzero().flatten()
    window = network.shape.receptive_fields[name].window((position,))[0]
    assert window.start <= int(touched.min()) <= int(touched.max()) < window.stop


def test_a_new_network_gives_the_style_s_statistics() -> None:
    network = TransformNet(NetworkShape.for_rank(2, 3))
    network.initialize(0)
    with torch.no_grad():
        network.last.weight.zero_()
    style, content = torch.rand(1, 3, 40, 40) * 0.3 + 0.5, torch.rand(1, 3, 50, 60)
    network.set_style([style])
    result = field_statistics(network(content).detach(), network.basis)
    expected = field_statistics(style, network.basis)
    torch.testing.assert_close(result.mean, expected.mean, atol=1e-4, rtol=1e-4)
    # The floor takes a little of the deviation.
    torch.testing.assert_close(result.deviation, expected.deviation, atol=0.0, rtol=0.2)


def test_the_basis_is_orthonormal() -> None:
    for channels in (1, 3, 5):
        basis = channel_basis(channels)
        torch.testing.assert_close(basis @ basis.mT, torch.eye(channels))


def test_batches_and_gradients() -> None:
    network = small_network(2, 3)
    x = torch.rand(2, 3, 21, 18, requires_grad=True)
    both = network(x)
    torch.testing.assert_close(both[1:], network(x[1:]), atol=1e-5, rtol=1e-5)
    both.square().mean().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float(x.grad.abs().max()) > 0


def test_other_ranks_and_channels_are_refused() -> None:
    network = small_network(2, 3)
    for shape in ((1, 3, 40), (1, 1, 40, 40), (3, 40, 40)):
        with pytest.raises(ShapeError):
            network(torch.zeros(shape))


@pytest.mark.parametrize("name", ["width", "levels", "blocks", "channels", "spatial_dims"])
def test_shapes_have_limits(name: str) -> None:
    numbers = NetworkShape.for_rank(2, 3).record()
    for number in (0, 10**9):
        with pytest.raises(UsageError) as error:
            NetworkShape(**{**numbers, name: number})
        assert error.value.operation == name


@pytest.mark.parametrize(
    ("rank", "channels"),
    [
        pytest.param(1, 1, marks=pytest.mark.slow),
        (2, 3),
        pytest.param(3, 1, marks=pytest.mark.slow),
    ],
)
def test_torch_export(rank: int, channels: int) -> None:
    network = small_network(rank, channels).eval()
    x = torch.rand(1, channels, *[18] * rank)
    program = torch.export.export(network, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), network(x), atol=1e-5, rtol=1e-5)


def test_a_transfer_needs_a_content_and_no_start() -> None:
    network, content = small_network(1, 1), torch.rand(1, 1, 64)
    transfer = NetworkTransfer(network, TransferOptions(size=0))
    for problem in (
        TransferProblem(None, [content], size=(64,)),
        TransferProblem(content, [content], init=content),
    ):
        with pytest.raises(UsageError):
            list(transfer.run(problem))


def test_a_transfer_starts_from_the_problem_s_own_start_and_size() -> None:
    network, content = small_network(1, 1), torch.rand(1, 1, 64)
    transfer = NetworkTransfer(network, TransferOptions(size=0))
    problem = TransferProblem(content, [content], size=(40,), initial=lambda values: values + 1)
    (progress,) = transfer.run(problem)
    assert progress.values.shape == (1, 1, 40)
    assert math.isnan(progress.loss)


@pytest.mark.parametrize("tile", ["off", "24", "auto"])
def test_tiles_of_the_options(tile: str) -> None:
    network, content = small_network(2, 3), torch.rand(1, 3, 61, 58)
    messages: list[str] = []
    transfer = NetworkTransfer(network, TransferOptions(size=0, tile=tile))
    (progress,) = transfer.run(TransferProblem(content, [content]), on_message=messages.append)
    with torch.no_grad():
        torch.testing.assert_close(progress.values, network(content), atol=1e-4, rtol=1e-4)
    assert bool(messages) == (tile == "24")
