"""Encoding of arrays of any rank: from their units to values of about ``[0, 1]``, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from convnd.errors import InputFileError
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.value_range import value_range

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.transfer.options import TransferOptions

__all__ = ["Continuation", "prepare"]


def prepare(inputs: TransferInputs, options: TransferOptions) -> PreparedInputs:
    """Encode arrays as values that span about ``[0, 1]``.

    The range between the 0.5th and 99.5th percentile becomes ``[0, 1]``, for content and style
    separately. The result is in the content's units, and nothing is clipped. Gaps (NaN) in the
    content are gaps in the result. Channels are independent fields and become the batch. Axes that
    are too short for the network are continued by their mirror image, see `Continuation`.

    Args:
        inputs: content and starting point ``(1, C, *S)``; styles ``(1, C, *S_i)``, or with one
            channel that serves all.
        options: options, of which ``size`` and ``seamless`` are used.

    Raises:
        InputFileError: an axis of a texture without seams is too short, channels do not match, a
            style has gaps, or nothing is finite.
    """
    import torch

    from convnd.nn import resize_nd
    from convnd.transfer.scales import fit_size

    template = inputs.template
    channels = template.values.shape[1]
    size = fit_size(template.shape, options.size)
    _check(inputs, template, size, seamless=options.seamless)

    def scale(values: Tensor, low: float, high: float) -> Tensor:
        fields = ((values - low) / (high - low)).movedim(1, 0)  # (C, 1, *S)
        return fields.expand(channels, *fields.shape[1:])

    low, high = value_range(template.values)
    gaps = ~torch.isfinite(template.values)
    filled_values = template.values.masked_fill(gaps, (low + high) / 2)
    continuation = Continuation.of(template.shape, size)
    of_styles = [Continuation.of(style.shape, style.shape) for style in inputs.styles]

    def decode(values: Tensor) -> Grid:
        values = continuation.crop(values).movedim(0, 1) * (high - low) + low
        if bool(gaps.any()):
            same_size = tuple(values.shape[2:]) == template.shape
            mask = gaps.float()
            mask = mask if same_size else resize_nd(mask, values.shape[2:], mode="nearest")
            values = values.masked_fill(mask > 0, float("nan"))
        return template.with_values(values)

    def encode_style_share(number: int, share: Tensor | None) -> Tensor | None:
        return None if share is None else of_styles[number].extend(share)

    return PreparedInputs(
        content=None
        if inputs.content is None
        else continuation.extend(scale(filled_values, low, high)),
        styles=[
            longer.extend(scale(style.values, *value_range(style.values)))
            for style, longer in zip(inputs.styles, of_styles, strict=True)
        ],
        init=None
        if inputs.init is None
        else continuation.extend(scale(inputs.init.values, low, high)),
        size=continuation.extended(size),
        decode=decode,
        encode_share=lambda share: continuation.extend(share.movedim(1, 0)),
        encode_style_share=encode_style_share,
        spacing=tuple(
            step * old / new
            for step, old, new in zip(template.spacing, template.shape, size, strict=True)
        ),
    )


@dataclass(frozen=True)
class Continuation:
    """Continues short axes by their mirror image, so that every layer of a network has positions.

    Args:
        copies: number of images of the field along each axis, one of which is the field itself.

    >>> Continuation.of((20, 3, 1), (20, 3, 1)).copies
    (1, 6, 1)
    """

    copies: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], size: Sequence[int]) -> Self:
        """Return the continuation of a field so that it and its result have `MIN_EXTENT` samples.

        Args:
            shape: samples of the field along each axis; an axis of one sample stays.
            size: samples of the result along each axis.
        """
        return cls(
            tuple(
                1 if extent == 1 else -(-MIN_EXTENT // min(extent, new))
                for extent, new in zip(shape, size, strict=True)
            )
        )

    def extended(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the extents of the continued field."""
        return tuple(extent * count for extent, count in zip(size, self.copies, strict=True))

    def extend(self, values: Tensor) -> Tensor:
        """Continue ``(B, C, *S)`` on both sides; ``values`` itself if no axis is short."""
        from convnd.nn.pad import wrapped_crop

        parts = [
            slice(-extent * self._before(count), extent * (count - self._before(count)))
            for extent, count in zip(values.shape[2:], self.copies, strict=True)
        ]
        return wrapped_crop(values, parts, mirror=True)

    def crop(self, values: Tensor) -> Tensor:
        """Cut the field out of ``(B, C, *S)`` at any size."""
        for axis, count in enumerate(self.copies, start=2):
            extent = values.shape[axis]
            start = round(extent * self._before(count) / count)
            values = values.narrow(axis, start, max(1, round(extent / count)))
        return values

    @staticmethod
    def _before(count: int) -> int:
        return (count - 1) // 2


def _check(
    inputs: TransferInputs, template: Grid, size: tuple[int, ...], *, seamless: bool
) -> None:
    """Check extents, channels and values of the inputs."""
    import torch

    channels = template.values.shape[1]
    labelled = inputs.labelled()
    extents = [*((label, grid.shape) for _, grid, label in labelled), ("result", size)]
    for label, extent in extents if seamless else ():
        long_axes = [n for n, whole in zip(extent, template.shape, strict=True) if whole > 1]
        if min(long_axes, default=MIN_EXTENT) < MIN_EXTENT:
            raise InputFileError(
                label,
                expected=f"at least {MIN_EXTENT} samples along each axis of a field without seams",
                got="x".join(map(str, extent)),
                remedy="use more, or leave --seamless out",
            )
    for role, grid, label in labelled:
        channel_counts = {1, channels} if role in ("style", "mask") else {channels}
        if grid.values.shape[1] not in channel_counts:
            raise InputFileError(
                label,
                expected=" or ".join(map(str, sorted(channel_counts))) + " channels",
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
