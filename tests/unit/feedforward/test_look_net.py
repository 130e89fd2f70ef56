"""Networks for the look of scans: what they keep by construction in every rank, and files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from convnd.errors import ShapeError, UsageError
from convnd.feedforward.look_net import LookNet, LookShape
from convnd.feedforward.network_file import (
    StyleNetwork,
    is_look_network,
    network_rank,
    read_network,
    write_network,
)
from convnd.grid import Grid

RANKS = [1, 2, 3, pytest.param(4, marks=pytest.mark.slow)]


def random_network(rank: int, thick: int = 0) -> LookNet:
    network = LookNet(LookShape(spatial_dims=rank, width=3, noises=2, taps=5, thick=thick))
    generator = torch.Generator().manual_seed(rank)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return network.eval().requires_grad_(requires_grad=False)


def fields(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """A scan whose first samples along the last axis are padding, and white noise."""
    generator = torch.Generator().manual_seed(9)
    size = {1: (60,), 2: (30, 24), 3: (14, 24, 20), 4: (1, 20, 18, 20)}[rank]
    scan, noise = (torch.randn(1, 1, *size, generator=generator) for _ in range(2))
    valid = torch.ones_like(scan)
    valid[..., :6] = 0
    return scan, valid, noise


@pytest.mark.parametrize("rank", RANKS)
def test_a_new_network_changes_nothing(rank: int) -> None:
    scan, valid, noise = fields(rank)
    assert torch.equal(LookNet(LookShape(spatial_dims=rank))(scan, valid, noise), scan)


@pytest.mark.parametrize("rank", RANKS)
def test_padding_stays_and_has_no_influence(rank: int) -> None:
    network = random_network(rank)
    scan, valid, noise = fields(rank)
    other = torch.where(valid == 0, scan + 7, scan)
    first, second = network(scan, valid, noise), network(other, valid, noise)
    assert torch.equal(first[valid == 0], scan[valid == 0])
    torch.testing.assert_close(first[valid == 1], second[valid == 1])
    assert float((first - scan)[valid == 1].abs().mean()) > 0.1


@pytest.mark.parametrize("rank", RANKS)
def test_the_filter_of_sharpness_keeps_constant_fields(rank: int) -> None:
    network = random_network(rank)
    _, valid, noise = fields(rank)
    change = network.channels(5 * valid, valid, noise).sharpness
    # Sums of up to 5^rank products of 5 and weights of about 0.3, in float32.
    assert float((valid * change).abs().max()) < 1e-3


def test_a_known_filter_is_that_of_a_convolution() -> None:
    network = random_network(1)
    with torch.no_grad():
        network.filter.weight.copy_(torch.tensor([0, 0.25, -0.5, 0.25, 0]).view(1, 1, 5))
    scan = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(2))
    made = network.channels(scan, torch.ones_like(scan), scan).sharpness[0, 0, 1:-1]
    inner = scan[0, 0]
    expected = 0.25 * inner[:-2] - 0.5 * inner[1:-1] + 0.25 * inner[2:]
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("rank", RANKS)
def test_no_sample_sees_further_than_the_receptive_field(rank: int) -> None:
    network = random_network(rank)
    scan, valid, noise = fields(rank)
    reach = network.shape.receptive_field.size[0] // 2
    other, again = scan.clone(), noise.clone()
    other[..., -1] += 1
    again[..., -1] += 1
    difference = network(other, valid, again) - network(scan, valid, noise)
    near = slice(scan.shape[-1] - 1 - reach, None)
    assert float(difference[..., near].abs().max()) > 0
    assert not bool(difference[..., : -1 - reach].any())


def test_filters_do_not_mix_thick_slices() -> None:
    network = random_network(3, thick=1)
    scan, valid, noise = fields(3)
    other, again = scan.clone(), noise.clone()
    other[:, :, 3] += 1
    again[:, :, 3] += 1
    first, second = network.channels(scan, valid, noise), network.channels(other, valid, again)
    difference = second.sharpness - first.sharpness
    assert bool(difference[:, :, 3].any())
    assert not bool(difference[:, :, 2].any())
    assert network.filter.weight.shape == (1, 1, 1, 5, 5)


@pytest.mark.parametrize("rank", RANKS)
def test_a_network_comes_back(tmp_path: Path, rank: int) -> None:
    network, path = random_network(rank, thick=1 if rank == 3 else 0), tmp_path / "look.safetensors"
    style = Grid(values=torch.rand(1, 1, *[6] * rank))
    trained = StyleNetwork(network=network, kind="volumes", styles=[style], record={"a": "b"})
    write_network(path, trained, overwrite=False)
    again = read_network(path)
    assert isinstance(again.network, LookNet)
    assert again.network.shape == network.shape
    assert torch.equal(again.network(*fields(rank)), network(*fields(rank)))
    assert (network_rank(path), is_look_network(path)) == (rank, True)


def test_faults_of_the_caller() -> None:
    with pytest.raises(ShapeError):
        LookShape(spatial_dims=2, taps=4)
    for numbers in ({"thick": 4}, {"width": 0}, {"noises": 1000}):
        with pytest.raises(UsageError):
            LookShape(spatial_dims=2, **numbers)
    with pytest.raises(ShapeError):
        random_network(2)(*fields(1))
