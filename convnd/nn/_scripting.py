# ruff: noqa: RUF005 - TorchScript cannot unpack lists
"""The layers in the part of Python that TorchScript supports, for ``torch.jit.script``.

TorchScript supports no recursion, no dataclasses and no functions as values. So these functions are
plain sums over taps, and maxima and means axis by axis. The layers run other, faster code outside
of TorchScript; the tests compare the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._jit_internal import is_scripting  # torch.jit's, which type checkers do not see there

__all__ = [
    "is_scripting",
    "script_avg_pool",
    "script_batch_norm",
    "script_blur",
    "script_conv",
    "script_conv_transpose",
    "script_interpolate",
    "script_max_pool",
    "script_pad",
    "script_per_axis",
]


def script_pad(x: Tensor, padding: list[int], mode: str, value: float) -> Tensor:
    """Pad ``(B, C, *S)``; ``padding`` lists ``low, high`` for each axis in order."""
    for axis in range(len(padding) // 2):
        low, high = padding[2 * axis], padding[2 * axis + 1]
        if low != 0 or high != 0:
            x = x.movedim(2 + axis, -1)
            shape = x.shape
            rows = x.reshape(1, -1, shape[-1])
            inner = [max(low, 0), max(high, 0)]
            if mode == "zeros" or mode == "constant":
                rows = F.pad(rows, inner, "constant", value)
            else:
                rows = F.pad(rows, inner, mode)
            rows = rows[:, :, max(-low, 0) : rows.shape[-1] - max(-high, 0)]
            x = rows.reshape(list(shape[:-1]) + [rows.shape[-1]]).movedim(-1, 2 + axis)
    return x


def script_blur(x: Tensor, sigma: list[float], mode: str, truncate: float) -> Tensor:
    """Convolve with a Gaussian along one axis after the other; a deviation of 0 keeps an axis."""
    for axis in range(len(sigma)):
        radius = int(truncate * sigma[axis] + 0.5)
        if radius > 0:
            places = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float64)
            kernel = torch.exp(-0.5 * (places / sigma[axis]) ** 2)
            kernel = (kernel / kernel.sum()).to(x.dtype).reshape(1, 1, -1)
            lines = x.movedim(2 + axis, -1)
            rows = lines.reshape(-1, 1, lines.shape[-1])
            rows = F.conv1d(script_pad(rows, [radius, radius], mode, 0.0), kernel)
            x = rows.reshape(lines.shape).movedim(-1, 2 + axis)
    return x


def script_batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    batches: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | None,
    eps: float,
) -> Tensor:
    """Normalise a batch, and update the running statistics in training."""
    factor = 0.0
    if momentum is not None:
        factor = momentum
    if training and batches is not None:
        batches.add_(1)
        if momentum is None:
            factor = 1.0 / float(batches)
    from_input = training or mean is None
    return F.batch_norm(x, mean, variance, weight, bias, from_input, factor, eps)


def script_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    padding_mode: str,
) -> Tensor:
    """Convolve ``(B, C, *S)``: add up the 3-D convolutions of all taps along the leading axes."""
    x = script_pad(x, padding, padding_mode, 0.0)
    ndim = weight.dim() - 2
    if ndim == 1:
        return torch.conv1d(x, weight, bias, stride, [0], dilation, groups)
    if ndim == 2:
        return torch.conv2d(x, weight, bias, stride, [0, 0], dilation, groups)
    if ndim == 3:
        return torch.conv3d(x, weight, bias, stride, [0, 0, 0], dilation, groups)
    lead = ndim - 3
    taps = 1
    for axis in range(lead):
        taps *= weight.shape[2 + axis]
    order = [0] + [2 + axis for axis in range(lead)] + [1]
    order = order + [2 + axis for axis in range(lead, ndim)]
    result = torch.empty(0)
    for tap in range(taps):
        part, kernel, remaining_tap = x, weight, tap
        for axis in range(lead):
            place = remaining_tap % weight.shape[2 + axis]
            remaining_tap = remaining_tap // weight.shape[2 + axis]
            start = place * dilation[axis]
            reach = (weight.shape[2 + axis] - 1) * dilation[axis]
            stop = x.shape[2 + axis] - reach + start
            part = torch.ops.aten.slice(part, 2 + axis, start, stop, stride[axis])
            kernel = kernel.select(2, place)
        rows = part.permute(order).flatten(0, lead)
        y = torch.conv3d(
            rows,
            kernel,
            bias if tap == 0 else None,
            stride[lead:],
            [0, 0, 0],
            dilation[lead:],
            groups,
        )
        result = y if tap == 0 else result + y
    sizes = [x.shape[0]]
    for axis in range(lead):
        reach = (weight.shape[2 + axis] - 1) * dilation[axis]
        sizes.append((x.shape[2 + axis] - reach - 1) // stride[axis] + 1)
    result = result.reshape(sizes + list(result.shape[1:]))
    back = [0, 1 + lead] + [1 + axis for axis in range(lead)]
    return result.permute(back + [2 + axis for axis in range(lead, ndim)])


def script_conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Transpose a convolution: every tap adds its multiple of the input to its output positions."""
    ndim = weight.dim() - 2
    sizes = [x.shape[0], weight.shape[1] * groups]
    taps = 1
    for axis in range(ndim):
        taps *= weight.shape[2 + axis]
        reach = (weight.shape[2 + axis] - 1) * dilation[axis]
        sizes.append((x.shape[2 + axis] - 1) * stride[axis] + reach + 1 + output_padding[axis])
    result = torch.zeros(sizes, dtype=x.dtype, device=x.device)
    channel_groups = x.reshape([x.shape[0], groups, x.shape[1] // groups, -1])
    for tap in range(taps):
        kernel, target, remaining_tap = weight, result, tap
        for axis in range(ndim):
            place = remaining_tap % weight.shape[2 + axis]
            remaining_tap = remaining_tap // weight.shape[2 + axis]
            kernel = kernel.select(2, place)
            start = place * dilation[axis]
            stop = start + (x.shape[2 + axis] - 1) * stride[axis] + 1
            target = torch.ops.aten.slice(target, 2 + axis, start, stop, stride[axis])
        matrix = kernel.reshape([groups, x.shape[1] // groups, weight.shape[1]]).transpose(1, 2)
        target.add_((matrix @ channel_groups).reshape(target.shape))
    for axis in range(ndim):
        low, high = padding[2 * axis], padding[2 * axis + 1]
        result = result.narrow(2 + axis, low, result.shape[2 + axis] - low - high)
    if bias is not None:
        result = result + bias.reshape([1, -1] + [1] * ndim)
    return result


def script_per_axis(x: Tensor, kind: str, sizes: list[int]) -> Tensor:
    """Pool adaptively (``"max"`` or ``"avg"``) to ``sizes``, axis by axis; 0 keeps an axis."""
    for axis in range(len(sizes)):
        x = x.movedim(2 + axis, -1)
        shape = x.shape
        rows = x.reshape(1, -1, shape[-1])
        count = sizes[axis] if sizes[axis] > 0 else shape[-1]
        if kind == "max":
            rows = F.adaptive_max_pool1d(rows, count)
        else:
            rows = F.adaptive_avg_pool1d(rows, count)
        x = rows.reshape(list(shape[:-1]) + [count]).movedim(-1, 2 + axis)
    return x


def script_interpolate(
    x: Tensor,
    size: list[int],
    factors: list[float],
    mode: str,
    align_corners: bool | None,
    recompute: bool | None,
) -> Tensor:
    """Interpolate axis by axis, by torch's operators of two axes; a factor of 0 means ``size``."""
    for axis in range(x.dim() - 2):
        x = x.movedim(2 + axis, -1)
        shape = x.shape
        rows = x.reshape(1, -1, 1, shape[-1])
        if factors[0] == 0.0:
            rows = F.interpolate(rows, size=[1, size[axis]], mode=mode, align_corners=align_corners)
        else:
            rows = F.interpolate(
                rows,
                scale_factor=[1.0, factors[axis]],
                mode=mode,
                align_corners=align_corners,
                recompute_scale_factor=recompute,
            )
        x = rows.reshape(list(shape[:-1]) + [rows.shape[-1]]).movedim(-1, 2 + axis)
    return x


def script_max_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Tensor:
    """Compute the maximum of every window, axis by axis."""
    for axis in range(len(kernel)):
        low, high = padding[2 * axis], padding[2 * axis + 1]
        x = x.movedim(2 + axis, -1)
        shape = x.shape
        reach = (kernel[axis] - 1) * dilation[axis]
        rows = _pad_rows(x, low, high, reach, stride[axis], ceil_mode, float("-inf"))
        rows = F.max_pool1d(rows, kernel[axis], stride[axis], 0, dilation[axis])
        x = rows.reshape(list(shape[:-1]) + [rows.shape[-1]]).movedim(-1, 2 + axis)
    return x


def script_avg_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
) -> Tensor:
    """Divide the sum of every window by its number of samples, or by ``divisor`` if it is not 0."""
    for axis in range(len(kernel)):
        low, high = padding[2 * axis], padding[2 * axis + 1]
        x = x.movedim(2 + axis, -1)
        shape = x.shape
        rows = _pad_rows(x, low, high, kernel[axis] - 1, stride[axis], ceil_mode, 0.0)
        rows = F.avg_pool1d(rows, kernel[axis], stride[axis]) * kernel[axis]
        if divisor == 0:
            starts = stride[axis] * torch.arange(rows.shape[-1], device=x.device) - low
            stops = (starts + kernel[axis]).clamp(max=shape[-1] + high)
            if not count_include_pad:
                starts, stops = starts.clamp(min=0), stops.clamp(max=shape[-1])
            rows = rows / (stops - starts)
        x = rows.reshape(list(shape[:-1]) + [rows.shape[-1]]).movedim(-1, 2 + axis)
    return x / divisor if divisor != 0 else x


def _pad_rows(
    x: Tensor, low: int, high: int, reach: int, step: int, ceil_mode: bool, value: float
) -> Tensor:
    """Pad the last axis, also for the last window of ``ceil_mode``; returns rows ``(1, N, S)``."""
    samples = x.shape[-1]
    remainder = samples + low + high - reach - 1
    if ceil_mode and remainder % step != 0 and (remainder // step + 1) * step < samples + low:
        high += step - remainder % step
    return F.pad(x.reshape(1, -1, samples), [low, high], "constant", value)
