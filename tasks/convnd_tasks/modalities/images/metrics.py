"""Measures of a stylised picture against its content and its styles.

Sources: style and content energy after Gatys et al. (2016), "Image style transfer using
convolutional neural networks"; structural similarity after Wang et al. (2004); colours in CIELAB
(CIE 1976). The energies are those of the original VGG-19, whichever network made the result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.io.images.formats import opacity
from convnd.nn import resize_nd
from convnd.transfer.scales import compared_style_size
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.images import features, similarity
from convnd_tasks.modalities.metrics import Measure

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["measure_all"]


class _Picture(NamedTuple):
    """Values of a picture, and the opacity of its pixels."""

    values: Tensor  # (1, 3, H, W)
    opacity: Tensor  # (1, 1, H, W)


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a stylised picture.

    Transparent pixels of the content, of the result and of the styles do not count. A content of
    another size than the result is resized to it, and the measures say so.

    Args:
        content: ``(1, 3, H, W)`` in ``[0, 1]``, or one channel of grey.
        result: picture of the same kind, of any size.
        styles: pictures of the same kind, of any size. The style energy compares with the mean of
            their Gram matrices; distances of colours are averaged over them.

    Raises:
        InputFileError: a picture is too small, has other channels, has values that are not finite,
            or is transparent everywhere.
        DependencyError: the package with the weights of VGG-19 is missing.
    """
    result_picture = _to_picture(result, "result")
    content_picture = _to_picture(content, "content")
    resize_note = ""
    if content.shape != result.shape:
        content_picture = _resize(content_picture, result.shape)
        resize_note = "; the content is resized to {1}x{0}".format(*result.shape)
    visible = torch.minimum(content_picture.opacity, result_picture.opacity)
    if not bool((visible > 0).any()):
        raise InputFileError(
            "evaluate",
            expected="pixels that are visible in content and result",
            got="none",
            remedy="give files that belong together",
        )
    content_picture, result_picture = (
        _fill_transparent(picture, content_picture, visible)
        for picture in (content_picture, result_picture)
    )
    references = [_to_picture(style, "style") for style in styles]
    content_energy, grams = features.content_and_style(
        result_picture.values, content_picture.values, visible
    )
    measures = [
        Measure(
            "content_energy",
            content_energy,
            better="lower",
            against="content",
            meaning="squared change of VGG-19's features (relu4_2), relative to the content's"
            + resize_note,
        ),
        *_content_measures(content_picture, result_picture, resize_note),
    ]
    if references:
        measures.insert(0, _style_energy(grams, references, result.shape))
        measures.append(_color_distribution(content_picture, result_picture, references))
    return measures


def _content_measures(content: _Picture, result: _Picture, resize_note: str) -> list[Measure]:
    """Compare a result with its content; ``resize_note`` is appended to the explanations."""
    pictures = content.values, result.values, result.opacity
    border = similarity.border_change(*pictures)
    measures = [
        (
            Measure("ssim", similarity.luma_similarity(*pictures)),
            "higher",
            "structural similarity of the luma to the content, 1 is equal",
        ),
        (
            Measure("edges_kept", similarity.edge_correlation(*pictures)),
            "higher",
            "correlation of the strength of edges with the content's",
        ),
        (
            Measure("color_distance", similarity.color_difference(*pictures), unit="ΔE"),
            "lower",
            "mean difference of colours from the content in CIELAB",
        ),
        (
            Measure("border_change", math.hypot(*border.values()), unit="ΔE", parts=border),
            "lower",
            "change of the outermost 2 pixels, beyond that of the 6 next to them",
        ),
    ]
    return [
        dataclasses.replace(
            measure, better=better, against="content", meaning=meaning + resize_note
        )
        for measure, better, meaning in measures
    ]


def _style_energy(
    grams: dict[str, Tensor], styles: Sequence[_Picture], size: Sequence[int]
) -> Measure:
    shortest = 2 ** (len(features.STYLE_LAYERS) - 1)  # the stride of the deepest layer
    targets = []
    for style in styles:
        extent = compared_style_size(style.values.shape[2:], size, shortest=shortest)
        targets.append(features.mean_grams(*_resize(style, extent)))
    after, before = (
        features.style_distances({name: gram[index] for name, gram in grams.items()}, targets)
        for index in (slice(0, 1), slice(1, 2))
    )
    return Measure(
        "style_energy",
        sum(after) / len(after),
        before=sum(before) / len(before),
        better="lower",
        against="style",
        meaning="squared distance of VGG-19's Gram matrices to the style's, relative to those, "
        "mean over 5 layers",
        parts=dict(zip(features.STYLE_LAYERS, after, strict=True)),
    )


def _color_distribution(content: _Picture, result: _Picture, styles: Sequence[_Picture]) -> Measure:
    value, content_value = (
        sum(
            similarity.color_distribution_distance(
                picture.values, style.values, picture.opacity, style.opacity
            )
            for style in styles
        )
        / len(styles)
        for picture in (result, content)
    )
    return Measure(
        "color_distribution",
        value,
        before=content_value,
        unit="ΔE",
        better="lower",
        against="style",
        meaning="distance of the distribution of colours to the style's in CIELAB",
    )


def _to_picture(grid: Grid, role: str) -> _Picture:
    """Check a grid, and take its colours and its opacity."""
    values = grid.values.detach().cpu().float()
    if values.shape[1] not in (1, 3) or min(grid.shape) < MIN_EXTENT:
        raise InputFileError(
            f"evaluate: {role}",
            expected=f"1 or 3 channels of at least {MIN_EXTENT}x{MIN_EXTENT} pixels",
            got=f"{values.shape[1]} of {grid.shape[1]}x{grid.shape[0]}",
            remedy="give another picture",
        )
    if not bool(values.isfinite().all()):
        raise InputFileError(
            f"evaluate: {role}",
            expected="finite values",
            got="some that are not",
            remedy="check the file",
        )
    alpha = opacity(grid)
    if alpha is None:
        alpha = values.new_ones((1, 1, *grid.shape))
    picture = _Picture(values.clamp(0, 1).expand(1, 3, -1, -1), alpha)
    if not bool((alpha > 0).any()):
        raise InputFileError(
            f"evaluate: {role}",
            expected="visible pixels",
            got="transparent ones only",
            remedy="give another picture",
        )
    return _fill_transparent(picture, picture, alpha)


def _resize(picture: _Picture, size: Sequence[int]) -> _Picture:
    values, alpha = (resize_nd(part, size, mode="linear").clamp(0, 1) for part in picture)
    return _Picture(values, alpha)


def _fill_transparent(picture: _Picture, reference: _Picture, visible: Tensor) -> _Picture:
    """Put the mean colour of a reference behind the transparent pixels of a picture.

    Without it, invisible colours would reach visible pixels through the receptive fields of the
    network and the windows of the structural similarity.
    """
    if bool((visible == 1).all()):
        return _Picture(picture.values, visible)
    mean = (reference.values * visible).sum((2, 3), keepdim=True) / visible.sum()
    return _Picture(mean + visible * (picture.values - mean), visible)
