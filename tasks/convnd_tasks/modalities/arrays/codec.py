"""Encoding of grids of any rank: from their own units to about ``[0, 1]``, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.modalities.base import SMALLEST, PreparedInputs, TransferInputs

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.transfer.options import TransferOptions

__all__ = ["prepare", "same_units", "value_range"]


def prepare(inputs: TransferInputs, options: TransferOptions) -> PreparedInputs:
    """Encode values in their own units as values that span about ``[0, 1]``.

    The range between the 0.5th and 99.5th percentile becomes ``[0, 1]``, for content and style
    separately. The result is in the content's units, and nothing is clipped. Gaps (NaN) in the
    content stay gaps. Channels are independent fields: channels become the batch.

    Args:
        inputs: content and start ``(1, C, *S)``; styles ``(1, C, *S_i)``, or one channel that
            serves all.
        options: reads ``size``.

    Raises:
        InputFileError: an axis is too short, channels do not match, a style has gaps, or nothing
            is finite.
    """
    import torch

    from convnd.nn import resize_nd
    from convnd.transfer.scales import fit_size

    template = inputs.styles[0] if inputs.content is None else inputs.content
    channels = template.values.shape[1]
    size = fit_size(template.shape, options.size)
    _check(inputs, template, size)

    def scaled(values: Tensor, low: float, high: float) -> Tensor:
        fields = ((values - low) / (high - low)).movedim(1, 0)  # (C, 1, *S)
        return fields.expand(channels, *fields.shape[1:])

    low, high = value_range(template.values)
    gaps = ~torch.isfinite(template.values)
    filled = template.values.masked_fill(gaps, (low + high) / 2)

    def decode(values: Tensor) -> Grid:
        values = values.movedim(0, 1) * (high - low) + low
        if bool(gaps.any()):
            same_size = tuple(values.shape[2:]) == template.shape
            mask = gaps.float()
            mask = mask if same_size else resize_nd(mask, values.shape[2:], mode="nearest")
            values = values.masked_fill(mask > 0, float("nan"))
        return template.with_values(values)

    return PreparedInputs(
        content=None if inputs.content is None else scaled(filled, low, high),
        styles=[scaled(style.values, *value_range(style.values)) for style in inputs.styles],
        init=None if inputs.init is None else scaled(inputs.init.values, low, high),
        size=size,
        decode=decode,
        spacing=tuple(
            step * old / new
            for step, old, new in zip(template.spacing, template.shape, size, strict=True)
        ),
    )


def _check(inputs: TransferInputs, template: Grid, size: tuple[int, ...]) -> None:
    """Check extents, channels and values of the inputs."""
    import torch

    channels = template.values.shape[1]
    labelled = inputs.labelled()
    extents = [*((label, grid.shape) for _, grid, label in labelled), ("result", size)]
    for label, extent in extents:
        short = [now for now, before in zip(extent, template.shape, strict=True) if before > 1]
        if min(short, default=SMALLEST) < SMALLEST:
            raise InputFileError(
                label,
                expected=f"at least {SMALLEST} samples along each axis",
                got="x".join(map(str, extent)),
                remedy="use more",
            )
    for role, grid, label in labelled:
        channel_counts = (1, channels) if role == "style" else (channels,)
        if grid.values.shape[1] not in channel_counts:
            raise InputFileError(
                label,
                expected=f"{' or '.join(map(str, channel_counts))} channels",
                got=grid.values.shape[1],
                remedy="select channels",
            )
        finite = torch.isfinite(grid.values)
        if not bool(finite.any()):
            raise InputFileError(
                str(label), expected="some finite values", got="none", remedy="check the file"
            )
        if role != "content" and not bool(finite.all()):
            raise InputFileError(
                label,
                expected="finite values",
                got="some that are not",
                remedy="fill or cut the gaps",
            )


def same_units(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two ranges may be in the same units: they overlap and have similar widths.

    Args:
        first: low and high end.
        second: low and high end.

    >>> same_units((-1000, 1000), (-160, 240)), same_units((-1000, 1000), (751, 13014))
    (True, False)
    """
    narrow, wide = sorted((first[1] - first[0], second[1] - second[0]))
    overlap = min(first[1], second[1]) - max(first[0], second[0])
    return narrow > wide / 20 and overlap > narrow / 4


def value_range(values: Tensor) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile of the finite values; their range where these coincide.

    Raises:
        InputFileError: no value is finite.

    >>> import torch
    >>> value_range(torch.arange(201.0))
    (1.0, 199.0)
    >>> value_range(torch.tensor([0.0] * 999 + [7.0]))
    (0.0, 7.0)
    """
    import numpy as np

    finite = values.detach().cpu().numpy()
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        raise InputFileError(
            "values", expected="some finite ones", got="none", remedy="check the file"
        )
    # As np.percentile does it, to the last bit and seven times as quickly for short signals.
    exact = [(finite.size - 1) * share for share in (0.005, 0.995)]
    neighbours = [(int(place), min(int(place) + 1, finite.size - 1)) for place in exact]
    finite = np.partition(finite, sorted({place for pair in neighbours for place in pair}))
    low, high = (
        _between(float(finite[a]), float(finite[b]), float(finite[b] - finite[a]), place - a)
        for place, (a, b) in zip(exact, neighbours, strict=True)
    )
    if high > low:
        return low, high
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _between(a: float, b: float, difference: float, share: float) -> float:
    return a + difference * share if share < 0.5 else b - difference * (1 - share)
