"""Pooling of frozen networks, piece by piece, against torch's in one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convnd.backbones.kernels import pooling
from convnd.nn.layout import channels_last, is_channels_last

PLAIN = {2: F.max_pool2d, 3: F.max_pool3d}


@pytest.mark.parametrize("piece", [1, 50, 700, 2**21])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel"),
    [
        ((3, 4, 8, 6), (2, 2)),
        ((1, 1, 9, 7), (2, 2)),
        ((2, 3, 1, 11), (1, 2)),
        ((1, 5, 7, 6), (3, 2)),
        ((2, 3, 6, 5, 4), (2, 2, 2)),
        ((1, 2, 5, 1, 9), (2, 1, 2)),
    ],
)
def test_pieces_have_the_values_and_gradients_of_the_whole(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    inner: bool,
    piece: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pooling, "_CHUNK", piece)
    x = F.relu(torch.randn(size, generator=generator))
    x = (channels_last(x) if inner else x).requires_grad_()
    reference = PLAIN[len(kernel)](x, kernel)
    pooled = pooling.frozen_max_pool(x, kernel, mask_grad=True)
    torch.testing.assert_close(pooled, reference, rtol=0, atol=0)
    assert is_channels_last(pooled) == is_channels_last(reference)
    seed = torch.randn(reference.shape, generator=generator)
    (slope,) = torch.autograd.grad(pooled, x, seed)
    (expected,) = torch.autograd.grad(reference, x, seed * (reference > 0))
    torch.testing.assert_close(slope, expected, rtol=0, atol=0)


def test_places_of_wide_planes_are_kept_in_more_bytes(generator: torch.Generator) -> None:
    x = torch.rand((1, 1, 4, 40_000), generator=generator, requires_grad=True)
    pooled = pooling.frozen_max_pool(x, (2, 2))
    (slope,) = torch.autograd.grad(pooled.sum(), x)
    (expected,) = torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)
    assert slope.equal(expected)
