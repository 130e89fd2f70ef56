"""Convolutions whose weights do not change any more."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from convnd.nn.conv import conv_nd

__all__ = ["FixedConv"]

_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


class FixedConv:
    """Convolution with odd taps and zero padding that keeps the extent, called many times.

    On a CPU oneDNN reads weights in blocks and in an order of its own; torch brings them into it
    at each call, which for many channels and few positions takes as long as the convolution. Here
    that is done once, at the first call, and ReLU becomes part of the convolution. The values are
    those of `convnd.nn.conv_nd`.

    Args:
        weight: ``(O, C, *K)``, odd taps; must not be changed afterwards.
        bias: ``(O,)``.

    >>> conv = FixedConv(torch.ones(1, 1, 3))
    >>> conv(torch.tensor([[[1.0, 2.0, -5.0]]]), relu=True)
    tensor([[[3., 0., 0.]]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self._padding = [taps // 2 for taps in weight.shape[2:]]

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """``(B, C, *S)``, of the weights' type, to ``(B, O, *S)``; not differentiable.

        Args:
            x: the input.
            relu: end with ``max(0, y)``.
        """
        usable = x.dtype == self.weight.dtype and x.numel() > 0 and torch._C._get_mkldnn_enabled()
        y: Tensor
        if self._packed is None or not usable:
            y = conv_nd(x, self.weight, self.bias, padding=self._padding)
            return y.relu_() if relu else y
        flat = x.ndim == 3
        x = (x.unsqueeze(2) if flat else x).contiguous(memory_format=_LAYOUTS[max(2, x.ndim - 2)])
        ones, padding = [1] * (x.ndim - 2), [0] * flat + self._padding
        after = "relu" if relu else "none"
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self.bias, padding, ones, ones, 1, after, [], ""
        )
        return y.squeeze(2) if flat else y

    @cached_property
    def _packed(self) -> Any:
        """The weights in oneDNN's order; None where that is not to be had."""
        weight = self.weight if self.weight.ndim > 3 else self.weight.unsqueeze(2)
        ndim = weight.ndim - 2
        pack: Callable[..., Any] | None = getattr(
            torch._C._nn, f"mkldnn_reorder_conv{ndim}d_weight", None
        )
        if (
            pack is None
            or not hasattr(torch.ops.mkldnn, "_convolution_pointwise")
            or not torch._C._has_mkldnn
            or weight.device.type != "cpu"
            or weight.dtype not in (torch.float32, torch.bfloat16)
            or (weight.dtype == torch.bfloat16 and not _has_bfloat16())
        ):
            return None
        padding = [taps // 2 for taps in weight.shape[2:]]
        return pack(weight.detach().to_mkldnn(), padding, [1] * ndim, [1] * ndim, 1, None)


def _has_bfloat16() -> bool:
    has: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return has
