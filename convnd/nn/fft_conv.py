"""Convolution by Fourier transforms, for large kernels over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from convnd.nn._native import check_batched
from convnd.nn._rounding import in_floating_point, to_type
from convnd.nn.conv import conv_geometry, conv_nd
from convnd.nn.pad import pad_by_pairs
from convnd.shapes import Padding, output_size

__all__ = ["fft_conv_nd", "fft_length"]


def fft_conv_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    r"""Convolve as `conv_nd` does, by Fourier transforms: faster where kernels are large.

    .. math:: y_o = b_o + \mathcal{F}^{-1}\Big(\sum_c \mathcal{F}(x_c)\,
              \overline{\mathcal{F}(w_{oc})}\Big)

    The work hardly depends on the number of taps, nor on the stride. The transform of every kernel
    is as large as the padded input: ``O · C / groups`` times its pixels, in 8 bytes each. Measured
    on a CPU, it takes less time from about 9 taps along each axis for a single channel of two axes,
    5 of three axes, and 15 for depthwise convolutions; with 16 channels, 31 of two axes and about
    200 of one. ``conv_nd`` and `ConvNd` never choose it, since they give torch's own values.

    The arguments are those of `conv_nd`.

    Returns:
        ``(B, O, *S')``, of the type of ``x``. 16-bit types are computed in float32. The rounding
        error is relative to the largest values of a channel, and not to each value, as it is in
        every method of Fourier transforms.

    Raises:
        ShapeError: ranks, channels or sizes do not fit, or ``x`` has no batch axis.
        UnknownNameError: no such padding mode.
        UsageError: the padding is causal, and the padding mode reads later samples.

    >>> x, weight = torch.arange(6.0).view(1, 1, 6), torch.ones(1, 1, 3)
    >>> fft_conv_nd(x, weight, padding="same").round().flatten().tolist()
    [1.0, 3.0, 6.0, 9.0, 12.0, 9.0]
    """
    if has_torch_function((x, weight)):
        options = stride, padding, dilation, groups
        result: Tensor = handle_torch_function(
            fft_conv_nd, (x, weight), x, weight, bias, *options, padding_mode=padding_mode
        )
        return result
    layer, _ = conv_geometry(
        tuple(weight.shape[2:]), stride, padding, dilation, weight.shape[0], groups, padding_mode
    )
    check_batched("fft_conv", x, layer.ndim, channels=weight.shape[1] * groups)
    counts = output_size(x.shape[2:], layer)
    if len(x) == 0:  # torch has no Fourier transform of nothing
        options = stride, padding, dilation, groups
        return conv_nd(x, weight, bias, *options, padding_mode=padding_mode)
    values = pad_by_pairs(x, layer.padding, padding_mode)
    kernel = in_floating_point(_spread(weight, layer.dilation))
    y = _correlate(in_floating_point(values), kernel, groups)
    for axis, (count, step) in enumerate(zip(counts, layer.stride, strict=True), start=2):
        y = y.narrow(axis, 0, (count - 1) * step + 1)
        if step > 1:
            y = y[(slice(None),) * axis + (slice(None, None, step),)]
    if bias is not None:
        y = y + bias.view(-1, *[1] * layer.ndim)
    return to_type(y, x.dtype)


def fft_length(least: int) -> int:
    """The smallest product of 2, 3 and 5 that is at least ``least``: a fast Fourier length.

    >>> fft_length(67)
    72
    """
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _spread(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """Put zeros between the taps of a dilated kernel."""
    for axis, gap in enumerate(dilation, start=2):
        if gap > 1:
            taps = weight.shape[axis]
            lines = F.pad(weight.movedim(axis, -1).unsqueeze(-1), (0, gap - 1)).flatten(-2)
            weight = lines.narrow(-1, 0, (taps - 1) * gap + 1).movedim(-1, axis)
    return weight


def _correlate(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Cross-correlate; the windows that go beyond the end wrap around, and are to be left out."""
    axes = tuple(range(-(x.ndim - 2), 0))
    size = [fft_length(int(extent)) for extent in x.shape[2:]]
    wide = torch.promote_types(x.dtype, torch.float32)
    spectrum = torch.fft.rfftn(x.to(wide), size, axes).unflatten(1, (groups, -1))
    kernel = torch.fft.rfftn(weight.to(wide), size, axes).conj().unflatten(0, (groups, -1))
    if weight.shape[1] == 1:  # depthwise
        product = spectrum * kernel[:, :, 0]
    else:
        product = torch.einsum("bgi...,goi...->bgo...", spectrum, kernel)
    result: Tensor = torch.fft.irfftn(product.flatten(1, 2), size, axes)
    return result
