"""Convolutions whose weights are laid out once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from convnd.backbones.kernels import PrepackedConv

CONVS = (F.conv1d, F.conv2d, F.conv3d)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("relu", [False, True])
def test_values_are_those_of_torch(
    ndim: int, taps: int, relu: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    weight = torch.randn(24, 20, *[taps] * ndim, generator=generator).to(dtype)
    bias = torch.randn(24, generator=generator).to(dtype)
    conv = PrepackedConv(weight, bias)
    for size in ([9, 1, 4], [5, 8, 7], [1, 1, 1]):  # the first call must not bind the others
        x = torch.randn(2, 20, *size[:ndim], generator=generator).to(dtype)
        if ndim > 1:  # the layout in which features are
            layout = (torch.channels_last, torch.channels_last_3d)[ndim - 2]
            x = x.contiguous(memory_format=layout)
        expected = CONVS[ndim - 1](x.double(), weight.double(), bias.double(), padding=taps // 2)
        expected = expected.clamp(min=0) if relu else expected
        result = conv(x, relu=relu)
        assert result.dtype == dtype
        # The result is rounded once; a sum of n terms, of bfloat16 in float32, as their root.
        summed = torch.promote_types(dtype, torch.float32)
        atol = torch.finfo(summed).eps * weight[0].numel() ** 0.5 * expected.abs().max().item()
        rtol = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(result.double(), expected, rtol=rtol, atol=atol)


def test_without_bias_and_of_another_type(generator: torch.Generator) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    x = torch.randn(1, 3, 6, 5, generator=generator)
    torch.testing.assert_close(PrepackedConv(weight)(x), F.conv2d(x, weight, padding=1))
    with pytest.raises(RuntimeError, match="type"):
        PrepackedConv(weight)(x.double())


@pytest.mark.filterwarnings("ignore:TF32")  # of torch's, whatever one switches
def test_torchs_switch_is_heeded(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=generator).bfloat16()
    x = torch.randn(1, 3, 6, 5, generator=generator).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    conv = PrepackedConv(weight)
    called: list[int] = []

    def record(*_: Any, **__: Any) -> torch.Tensor:
        called.append(1)
        return expected

    expected = conv(x)
    monkeypatch.setattr("convnd.backbones.kernels.prepacked.conv_nd", record)
    with torch.backends.mkldnn.flags(enabled=False):
        assert conv(x) is expected
    conv(x)
    assert len(called) == (1 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 2)


def test_many_axes_and_an_empty_batch(generator: torch.Generator) -> None:
    weight = torch.randn(2, 1, 3, 3, 3, 3, generator=generator)
    x = torch.zeros(1, 1, 4, 4, 4, 4)
    x[0, 0, 1, 2, 1, 2] = 1  # an impulse gives the kernel, reversed
    result = PrepackedConv(weight)(x)[0, :, 0:3, 1:4, 0:3, 1:4]
    torch.testing.assert_close(result, weight[:, 0].flip((1, 2, 3, 4)))
    assert PrepackedConv(torch.zeros(2, 3, 3))(torch.zeros(0, 3, 7)).shape == (0, 2, 7)
