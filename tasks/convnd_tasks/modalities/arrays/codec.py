"""Encoding of arrays of any rank: from their units to values of about ``[0, 1]``, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.value_range import value_range

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.transfer.options import TransferOptions

__all__ = ["prepare"]


def prepare(inputs: TransferInputs, options: TransferOptions) -> PreparedInputs:
    """Encode arrays as values that span about ``[0, 1]``.

    The range between the 0.5th and 99.5th percentile becomes ``[0, 1]``, for content and style
    separately. The result is in the content's units, and nothing is clipped. Gaps (NaN) in the
    content are gaps in the result. Channels are independent fields and become the batch.

    Args:
        inputs: content and starting point ``(1, C, *S)``; styles ``(1, C, *S_i)``, or with one
            channel that serves all.
        options: options, of which ``size`` is used.

    Raises:
        InputFileError: an axis is too short, channels do not match, a style has gaps, or nothing
            is finite.
    """
    import torch

    from convnd.nn import resize_nd
    from convnd.transfer.scales import fit_size

    template = inputs.template
    channels = template.values.shape[1]
    size = fit_size(template.shape, options.size)
    _check(inputs, template, size)

    def scale(values: Tensor, low: float, high: float) -> Tensor:
        fields = ((values - low) / (high - low)).movedim(1, 0)  # (C, 1, *S)
        return fields.expand(channels, *fields.shape[1:])

    low, high = value_range(template.values)
    gaps = ~torch.isfinite(template.values)
    filled_values = template.values.masked_fill(gaps, (low + high) / 2)

    def decode(values: Tensor) -> Grid:
        values = values.movedim(0, 1) * (high - low) + low
        if bool(gaps.any()):
            same_size = tuple(values.shape[2:]) == template.shape
            mask = gaps.float()
            mask = mask if same_size else resize_nd(mask, values.shape[2:], mode="nearest")
            values = values.masked_fill(mask > 0, float("nan"))
        return template.with_values(values)

    return PreparedInputs(
        content=None if inputs.content is None else scale(filled_values, low, high),
        styles=[scale(style.values, *value_range(style.values)) for style in inputs.styles],
        init=None if inputs.init is None else scale(inputs.init.values, low, high),
        size=size,
        decode=decode,
        encode_share=lambda share: share.movedim(1, 0),
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
        long_axes = [n for n, whole in zip(extent, template.shape, strict=True) if whole > 1]
        if min(long_axes, default=MIN_EXTENT) < MIN_EXTENT:
            raise InputFileError(
                label,
                expected=f"at least {MIN_EXTENT} samples along each axis",
                got="x".join(map(str, extent)),
                remedy="use more",
            )
    for role, grid, label in labelled:
        channel_counts = (1, channels) if role in ("style", "mask") else (channels,)
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
                label, expected="some finite values", got="none", remedy="check the file"
            )
        if role != "content" and not bool(finite.all()):
            raise InputFileError(
                label,
                expected="finite values",
                got="some that are not",
                remedy="fill or cut the gaps",
            )
