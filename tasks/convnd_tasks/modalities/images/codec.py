"""Pictures: how they enter a style transfer, and what comes back to their owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from convnd.errors import InputFileError
from convnd_tasks.modalities.base import SMALLEST, PreparedInputs, TransferInputs
from convnd_tasks.modalities.images.options import ImageOptions

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["LUMA", "keep_luminance_only", "match_colors", "prepare"]

LUMA = (0.299, 0.587, 0.114)
"""Luma of ITU-R BT.601: the weights of the Y in YIQ and YCbCr."""


def prepare(inputs: TransferInputs, options: ImageOptions) -> PreparedInputs:
    """Pictures as values for `convnd.transfer.style_transfer.StyleTransfer`.

    Args:
        inputs: grids ``(1, 3, H, W)`` in ``[0, 1]``, of any size.
        options: reads ``colors`` and ``size``.

    Raises:
        InputFileError: a picture is too small, or too thin at this size.
    """
    from convnd.transfer.style_transfer import fit_size

    for _, grid, label in inputs.labelled():
        if min(grid.shape) < SMALLEST:
            raise InputFileError(
                f"{label}: expected a picture of at least {SMALLEST}x{SMALLEST} pixels, got "
                f"{grid.shape[1]}x{grid.shape[0]}; use a larger one"
            )
    content = inputs.content
    if content is None:
        size: tuple[int, ...] = (options.size or ImageOptions.size,) * 2
    else:
        size = fit_size(content.shape, options.size)
    if min(size) < SMALLEST:
        raise InputFileError(
            f"result: expected at least {SMALLEST} pixels along each side, got "
            f"{size[1]}x{size[0]} at --size {options.size}; use a larger --size, or crop"
        )
    pictures = [style.values.clamp(0, 1) for style in inputs.styles]
    if options.colors == "match" and content is not None:
        pictures = [match_colors(picture, content.values.clamp(0, 1)) for picture in pictures]

    def decode(values: Tensor) -> Grid:
        if content is None:
            return inputs.styles[0].with_values(values.clamp(0, 1))
        if options.colors == "luminance":
            values = keep_luminance_only(values, content.values)
        return content.with_values(values.clamp(0, 1))

    notes = [
        f"{label}: {note}"
        for _, grid, label in inputs.labelled()
        for note in cast("tuple[str, ...]", grid.header.get("notes", ()))
    ]
    return PreparedInputs(
        # Colours that sRGB has not are outside of what the networks know.
        content=None if content is None else content.values.clamp(0, 1),
        styles=pictures,
        init=None if inputs.init is None else inputs.init.values.clamp(0, 1),
        size=size,
        decode=decode,
        messages=tuple(notes),
    )


def match_colors(picture: Tensor, reference: Tensor) -> Tensor:
    r"""The picture with the mean and covariance of the reference's colours.

    .. math:: x' = \Sigma_r^{1/2} \Sigma_x^{-1/2} (x - \mu_x) + \mu_r

    Gatys et al. (2016), "Preserving color in neural artistic style transfer", with symmetric
    square roots; of all linear maps that do this, one close to the least change.

    Args:
        picture: ``(1, 3, *S)``.
        reference: ``(1, 3, *S')``.

    Returns:
        ``(1, 3, *S)``, clamped to ``[0, 1]``.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = torch.rand(1, 3, 50, generator=g) / 9, torch.rand(1, 3, 70, generator=g) / 2 + 0.2
    >>> (match_colors(a, b).mean() - b.mean()).abs().item() < 1e-3
    True
    """
    import torch

    def moments(values: Tensor) -> tuple[Tensor, Tensor]:
        flat = values[0].flatten(1).double()
        return flat.mean(1, keepdim=True), torch.cov(flat, correction=0)

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        # A picture of one colour has no covariance to invert.
        result: Tensor = (vectors * values.clamp_min(1e-8) ** exponent) @ vectors.mT
        return result

    mean, covariance = moments(picture)
    wanted_mean, wanted = moments(reference)
    change = power(wanted, 0.5) @ power(covariance, -0.5)
    flat = picture[0].flatten(1).double()
    matched = change @ (flat - mean) + wanted_mean
    return matched.view(picture.shape).clamp(0, 1).to(picture.dtype)


def keep_luminance_only(values: Tensor, reference: Tensor) -> Tensor:
    """The luminance of the one with the chrominance of the other.

    Luminance is the luma of BT.601; chrominance what a colour differs from its luma by.

    Args:
        values: ``(1, 3, H, W)``, gives the luminance.
        reference: ``(1, 3, H', W')``, gives the chrominance; resized when needed.

    Returns:
        ``(1, 3, H, W)``, not clamped.

    >>> import torch
    >>> grey, red = torch.full((1, 3, 1, 1), 0.5), torch.tensor([0.6, 0.2, 0.2]).view(1, 3, 1, 1)
    >>> keep_luminance_only(grey, red).flatten().tolist()
    [0.7804..., 0.3804..., 0.3804...]
    """
    import torch

    from convnd.nn import resize_nd

    reference = reference.to(values.device)
    if reference.shape != values.shape:
        reference = resize_nd(reference, values.shape[2:], mode="linear", antialias=True)
    weights = torch.tensor(LUMA, device=values.device).view(1, 3, 1, 1)
    luma = ((values.clamp(0, 1) - reference) * weights).sum(1, keepdim=True)
    return reference + luma
