"""The decoder of `ArbitraryStyleNet`: from features of a style to a change of the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.backbones import Backbone
from convnd.backbones.kernels import ConvOptions
from convnd.backbones.operations import Convolution
from convnd.nn.layout import channels_last
from convnd.shapes import Layer, ReceptiveField

__all__ = [
    "CONVOLUTIONS",
    "IMAGE",
    "LEVELS",
    "convolve",
    "decode",
    "load_convolutions",
    "receptive_fields",
]

LEVELS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""The layers of the encoder that the decoder reads, from shallow to deep."""

IMAGE = "image"
"""Name of the decoder's output."""

_AXES = (0, 1)
"""Spatial axes, along which convolutions repeat the outermost values: zeros would draw a frame."""

CONVOLUTIONS: Mapping[str, Sequence[str]] = {
    "relu1_1": ("relu1_1",),
    "relu2_1": ("relu2_1", "relu2_1b"),
    "relu3_1": ("relu3_1", "relu3_1b", "relu3_1c"),
    "relu4_1": ("relu4_1", "relu4_1b", "relu4_1c"),
}
"""Names of the decoder's convolutions at each level."""


def decode(
    decoder: nn.ModuleDict, matched: Mapping[str, Tensor], nearest: Mapping[str, Tensor]
) -> Tensor:
    """Compute the change of the picture, from the deepest level to the image.

    Args:
        decoder: convolutions by name.
        matched: features of the content with the style's statistics ``(1, C_l, *S_l)``, by level.
        nearest: features of the style's patches, which may lack a last row or column.

    Returns:
        ``(1, 3, H, W)``.
    """
    hidden: list[Tensor] = []
    for level in reversed(LEVELS):
        size = matched[level].shape[2:]
        detail = _extend(nearest[level], size)
        parts = [*(_extend(_double(x), size) for x in hidden), matched[level], detail]
        x = channels_last(torch.cat(parts, 1))
        for name in CONVOLUTIONS[level]:
            x = convolve(decoder[name], x, relu=True)
        hidden = [x]
    return convolve(decoder[IMAGE], hidden[0])


def load_convolutions(state: Mapping[str, Tensor], group: str) -> nn.ModuleDict:
    """Make the convolutions whose weights are stored as ``group.NAME.weight``."""
    modules = nn.ModuleDict()
    for key, weight in state.items():
        start, _, rest = key.partition(".")
        name, _, kind = rest.rpartition(".")
        if start == group and kind == "weight":
            bias = state.get(f"{group}.{name}.bias")
            module = Convolution(tuple(weight.shape), None, bias=bias is not None)
            module.weight.data = weight.float()
            if module.bias is not None and bias is not None:
                module.bias.data = bias.float()
            modules[name] = module
    return modules


def convolve(convolution: nn.Module, x: Tensor, *, relu: bool = False) -> Tensor:
    """Apply a convolution of `load_convolutions`, which may be followed by a ReLU."""
    y: Tensor
    options = ConvOptions(relu=relu, winograd=True, padded_axes=_AXES)
    y, _ = convolution(x, (), x.dtype, options)
    return y


def _double(x: Tensor) -> Tensor:
    """Double the positions along both axes, by linear interpolation."""
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def _extend(x: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last row and column up to a size, since poolings round sizes down."""
    for axis, extent in enumerate(size, 2):
        if extent > x.shape[axis]:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            x = torch.cat([x, *[last] * (extent - x.shape[axis])], axis)
    return x


def receptive_fields(encoder: Backbone) -> dict[str, ReceptiveField]:
    """Compute receptive field and stride of each level and of the output."""
    fields = {name: encoder.receptive_fields[name] for name in LEVELS}
    conv = Layer.build("conv", 2, kernel=3, padding=1, channels=1)
    field = fields[LEVELS[-1]]
    for level in reversed(LEVELS):
        for _ in CONVOLUTIONS[level]:
            field = field.compose(conv)
        if level != LEVELS[0]:
            field = _doubled(field)
    fields[IMAGE] = field.compose(conv)
    return fields


def _doubled(field: ReceptiveField) -> ReceptiveField:
    """Return the field after `_double`: positions 2k and 2k + 1 lie between k - 1 and k + 1."""
    stride = [int(step) for step in field.stride]
    return ReceptiveField(
        tuple(size + 3 * step // 2 for size, step in zip(field.size, stride, strict=True)),
        tuple(step // 2 for step in stride),
        tuple(offset - step for offset, step in zip(field.offset, stride, strict=True)),
    )
