"""Convolutions whose weights do not change any more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convnd.nn.conv import conv_nd
from convnd.nn.layout import channels_last, is_channels_last

__all__ = ["PrepackedConv"]


class PrepackedConv:
    """Convolution with odd taps and zero padding that keeps the extent, called many times.

    On a CPU, in bfloat16, oneDNN reads weights in blocks and in an order of its own, which depends
    on the size of the input; torch brings them into it at each call, which for many channels and
    few positions takes as long as the convolution. Here that is done once for each run of inputs of
    one size, and ReLU becomes part of the convolution. The values are those of
    `convnd.nn.conv_nd`.

    Args:
        weight: ``(O, C, *K)``, odd taps; must not be changed afterwards.
        bias: ``(O,)``.

    >>> conv = PrepackedConv(torch.ones(1, 1, 3))
    >>> conv(torch.tensor([[[1.0, 2.0, -5.0]]]), relu=True)
    tensor([[[3., 0., 0.]]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self._padding = [taps // 2 for taps in weight.shape[2:]]
        self._last: tuple[Any, Any] = None, None  # what weights were packed for, and they

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """``(B, C, *S)``, of the weights' type, to ``(B, O, *S)``; not differentiable.

        Args:
            x: the input.
            relu: end with ``max(0, y)``.
        """
        if not self._packable or x.dtype != self.weight.dtype or not x.numel() or not _fits(x):
            y: Tensor = conv_nd(x, self.weight, self.bias, padding=self._padding)
            return y.relu_() if relu else y
        flat = x.ndim == 3
        x = channels_last(x.unsqueeze(2) if flat else x)
        ones, padding = [1] * (x.ndim - 2), [0] * flat + self._padding
        # Weights in an order that does not fit are reordered at each call, and slowly.
        now = x.shape, torch.get_num_threads()
        if self._last[0] != now:
            weight = (self.weight.unsqueeze(2) if flat else self.weight).to_mkldnn()
            self._last = now, _packer(x.ndim - 2)(weight, padding, ones, ones, 1, x.shape)
        after = "relu" if relu else "none"
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self._last[1], self.bias, padding, ones, ones, 1, after, [], ""
        )
        return y.squeeze(2) if flat else y

    @property
    def _packable(self) -> bool:
        # Float32 stays with torch, whose choice of kernels its users can compare with.
        return (
            self.weight.device.type == "cpu"
            and self.weight.dtype == torch.bfloat16
            and _packer(max(2, self.weight.ndim - 2)) is not None
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
            and torch._C._get_mkldnn_enabled()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )


def _fits(x: Tensor) -> bool:
    """Whether channels are innermost; rows of one axis are cheap to bring into that order."""
    return x.ndim == 3 or is_channels_last(x)


def _packer(ndim: int) -> Any:
    """Torch's function that lays weights out; None where it has none."""
    return getattr(torch._C._nn, f"mkldnn_reorder_conv{ndim}d_weight", None)
