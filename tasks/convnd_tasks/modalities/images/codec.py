"""Encoding of pictures as values for a style transfer, and decoding of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from convnd.errors import InputFileError
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.images.hidden import visible_weight
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = [
    "LUMA",
    "Moments",
    "color_moments",
    "keep_luminance_only",
    "match_colors",
    "pooled_moments",
    "prepare",
]

LUMA = (0.299, 0.587, 0.114)
"""Luma of ITU-R BT.601: the weights of the Y in YIQ and YCbCr."""


def prepare(inputs: TransferInputs, options: ImageOptions) -> PreparedInputs:
    """Encode pictures as values for `convnd.transfer.style_transfer.StyleTransfer`.

    Colours outside sRGB are clamped, since the networks were not trained with them.

    Args:
        inputs: grids ``(1, 3, H, W)`` of any size, with the colours of hidden pixels replaced.
        options: options, of which ``colors``, ``size``, ``stroke_size`` and ``style_weights``
            are used.

    Raises:
        InputFileError: a picture is too small, or too thin at this size.
    """
    size = _result_size(inputs, options)
    content = inputs.content
    values = None if content is None else content.values.clamp(0, 1)
    pictures = [style.values.clamp(0, 1) for style in inputs.styles]
    moments = [
        color_moments(picture, visible_weight(style))
        for picture, style in zip(pictures, inputs.styles, strict=True)
    ]
    if options.colors == "match" and content is not None and values is not None:
        reference = color_moments(values, visible_weight(content))
        pictures = [
            match_colors(picture, reference, picture_moments)
            for picture, picture_moments in zip(pictures, moments, strict=True)
        ]

    def decode(result: Tensor) -> Grid:
        if content is None or values is None:
            # No loss holds the colours exactly, so that a grey style would give a tinted texture.
            targets = pooled_moments(moments, options.style_weights)
            return inputs.styles[0].with_values(match_colors(result, targets))
        if options.colors == "luminance":
            result = keep_luminance_only(result, values)
        return content.with_values(result.clamp(0, 1))

    return PreparedInputs(
        content=values,
        styles=pictures,
        init=None if inputs.init is None else inputs.init.values.clamp(0, 1),
        size=size,
        decode=decode,
        same_grid=options.stroke_size == "pixels",
        visible_content=content,
        bounds=None if content is None else (0.0, 1.0),
        opacity=None if content is None else visible_weight(content),
        style_opacities=[visible_weight(style) for style in inputs.styles],
        messages=tuple(
            f"{label}: {note}"
            for _, grid, label in inputs.labelled()
            for note in cast("tuple[str, ...]", grid.header.get("notes", ()))
        ),
    )


def _result_size(inputs: TransferInputs, options: ImageOptions) -> tuple[int, ...]:
    """Height and width of the result; checks that no picture is too small."""
    from convnd.transfer.scales import fit_size

    for _, grid, label in inputs.labelled():
        if min(grid.shape) < MIN_EXTENT:
            raise InputFileError(
                label,
                expected=f"a picture of at least {MIN_EXTENT}x{MIN_EXTENT} pixels",
                got=f"{grid.shape[1]}x{grid.shape[0]}",
                remedy="use a larger one",
            )
    if inputs.content is None:
        size: tuple[int, ...] = (options.size or ImageOptions.size,) * 2
    else:
        size = fit_size(inputs.content.shape, options.size)
    if min(size) < MIN_EXTENT:
        raise InputFileError(
            "result",
            expected=f"at least {MIN_EXTENT} pixels along each side",
            got=f"{size[1]}x{size[0]} at --size {options.size}",
            remedy="use a larger --size, or crop",
        )
    return size


class Moments(NamedTuple):
    """Mean ``(3, 1)`` and covariance ``(3, 3)`` of the colours of a picture, float64."""

    mean: Tensor
    covariance: Tensor


def color_moments(picture: Tensor, weight: Tensor | None = None) -> Moments:
    """Compute mean and covariance of the colours of a picture.

    Args:
        picture: ``(1, 3, *S)``.
        weight: weight of each pixel ``(1, 1, *S)``, for example its opacity; None is 1.
    """
    import torch

    flat = picture[0].flatten(1).double()
    if weight is None:
        return Moments(flat.mean(1, keepdim=True), torch.cov(flat, correction=0))
    shares = weight.flatten().double()
    mean = (flat @ shares / shares.sum())[:, None]
    return Moments(mean, torch.cov(flat, correction=0, aweights=shares))


def pooled_moments(moments: Sequence[Moments], weights: Sequence[float] = ()) -> Moments:
    """Compute mean and covariance of the colours of several pictures together.

    Args:
        moments: moments of each picture.
        weights: weight of each picture; empty weights them equally.
    """
    import torch

    shares = torch.tensor(weights or [1.0] * len(moments), dtype=torch.float64)
    shares = (shares / shares.sum()).view(-1, 1, 1)
    means = torch.stack([one.mean for one in moments])
    mean = (shares * means).sum(0)
    mean_covariance = (shares * torch.stack([one.covariance for one in moments])).sum(0)
    return Moments(mean, mean_covariance + (shares * (means - mean) @ (means - mean).mT).sum(0))


def match_colors(picture: Tensor, reference: Moments, moments: Moments | None = None) -> Tensor:
    r"""Give a picture the mean and covariance of a reference's colours.

    .. math:: x' = \Sigma_r^{1/2} \Sigma_x^{-1/2} (x - \mu_x) + \mu_r

    with the mean :math:`\mu` and the covariance :math:`\Sigma` of picture and reference (Gatys et
    al., 2016, "Preserving color in neural artistic style transfer"). Square roots are symmetric,
    which changes colours nearly as little as a linear map with these moments can.

    Args:
        picture: ``(1, 3, *S)``.
        reference: moments that the result gets, see `color_moments`.
        moments: moments of the picture; None computes them.

    Returns:
        ``(1, 3, *S)``, clamped to ``[0, 1]``.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = torch.rand(1, 3, 50, generator=g) / 9, torch.rand(1, 3, 70, generator=g) / 2 + 0.2
    >>> matched = match_colors(a, color_moments(b))
    >>> (matched.mean() - b.mean()).abs().item() < 1e-3
    True
    """
    import torch

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        # A picture of one colour has no covariance to invert.
        result: Tensor = (vectors * values.clamp_min(1e-8) ** exponent) @ vectors.mT
        return result

    moments = color_moments(picture) if moments is None else moments
    change = power(reference.covariance, 0.5) @ power(moments.covariance, -0.5)
    flat = picture[0].flatten(1).double()
    matched_values = change @ (flat - moments.mean) + reference.mean
    return matched_values.view(picture.shape).clamp(0, 1).to(picture.dtype)


def keep_luminance_only(values: Tensor, reference: Tensor) -> Tensor:
    """Combine the luminance of one picture with the chrominance of another.

    Luminance is the luma of BT.601, and chrominance is the difference of a colour from its luma.

    Args:
        values: picture whose luminance is kept, ``(1, 3, H, W)``.
        reference: picture whose chrominance is kept, ``(1, 3, H', W')``; resized if necessary.

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
