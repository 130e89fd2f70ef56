"""Convolution whose weights are laid out for oneDNN once instead of at each call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convnd.nn.conv import conv_nd
from convnd.nn.layout import channels_last, is_channels_last

__all__ = ["PrepackedConv"]


class PrepackedConv:
    """Convolution with an odd kernel and zero padding that keeps the extent, called many times.

    On a CPU, in bfloat16, oneDNN reads weights in blocks, in an order that depends on the size of
    the input. Torch brings the weights into that order at each call; with many channels and few
    positions, that takes as long as the convolution itself. This class does it again only when the
    size of the input changes, and fuses ReLU into the convolution. The values are those of
    `convnd.nn.conv_nd`.

    Args:
        weight: ``(O, C, *K)``, odd kernel; must not change afterwards.
        bias: ``(O,)``.

    >>> conv = PrepackedConv(torch.ones(1, 1, 3))
    >>> conv(torch.tensor([[[1.0, 2.0, -5.0]]]), relu=True)
    tensor([[[3., 0., 0.]]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self._padding = [width // 2 for width in weight.shape[2:]]
        self._packed_for: Any = None  # shape of the input and number of threads
        self._kernel: Any = None

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve ``(B, C, *S)`` to ``(B, O, *S)``; not differentiable.

        Args:
            x: the input, in the number format of the weights.
            relu: whether the result is ``max(0, y)``.
        """
        # Channels have to be innermost, or cheap to bring there, as with one axis.
        can_read = x.ndim == 3 or is_channels_last(x)
        if not (self._can_pack and can_read and x.dtype == self.weight.dtype and x.numel()):
            y: Tensor = conv_nd(x, self.weight, self.bias, padding=self._padding)
            return y.relu_() if relu else y
        is_1d = x.ndim == 3  # computed as a picture of one row
        x = channels_last(x.unsqueeze(2) if is_1d else x)
        ones, padding = [1] * (x.ndim - 2), [0] * is_1d + self._padding
        # Weights packed for another size would be reordered at each call, and slowly.
        key = x.shape, torch.get_num_threads()
        if self._packed_for != key:
            weight = (self.weight.unsqueeze(2) if is_1d else self.weight).to_mkldnn()
            self._kernel = _packer(x.ndim - 2)(weight, padding, ones, ones, 1, x.shape)
            self._packed_for = key
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self._kernel, self.bias, padding, ones, ones, 1, "relu" if relu else "none", [], ""
        )
        return y.squeeze(2) if is_1d else y

    @property
    def _can_pack(self) -> bool:
        # Float32 stays with torch, so that results compare with torch's own.
        return (
            self.weight.device.type == "cpu"
            and self.weight.dtype == torch.bfloat16
            and _packer(max(2, self.weight.ndim - 2)) is not None
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
            and torch._C._get_mkldnn_enabled()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )


def _packer(ndim: int) -> Any:
    """Return torch's function that lays out weights; None if this release of torch has none."""
    return getattr(torch._C._nn, f"mkldnn_reorder_conv{ndim}d_weight", None)
