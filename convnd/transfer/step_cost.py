"""How the time of an optimisation step divides into a fixed part and one that grows with size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.backbones.kernels.winograd import winograd_is_faster

__all__ = ["count_transformed_weights", "fixed_share", "multiplications_per_sample"]

_FIXED = {torch.bfloat16: 0.6e9, torch.float32: 0.2e9}
"""Multiplications of a forward pass that take as long as the fixed part of a step: starting some
hundred operators forwards and backwards, and the optimizer. Measured with one thread of a Zen 4,
which computes bfloat16 twice as fast; the fixed part is known to about a factor of 1.5."""

_KERNEL = 250.0
"""The same for the transform of a kernel by Winograd's algorithm, for each of its weights."""


def fixed_share(
    multiplications: float, dtype: torch.dtype = torch.float32, transformed_weights: int = 0
) -> float:
    """Return the share of a step's time that does not depend on the size, from 0 to 1.

    Args:
        multiplications: of a forward pass; 0 where they are not known.
        dtype: number format of the features.
        transformed_weights: see `count_transformed_weights`.
    """
    fixed = _FIXED.get(dtype, _FIXED[torch.float32]) + _KERNEL * transformed_weights
    return fixed / (fixed + multiplications) if multiplications > 0 else 0.0


def count_transformed_weights(backbone: Backbone) -> int:
    """Return the number of weights that Winograd's algorithm transforms at every evaluation."""
    return sum(
        weight.numel()
        for weight in backbone.parameters()
        if weight.ndim > 2
        and set(weight.shape[2:]) == {3}
        and winograd_is_faster((64,) * (weight.ndim - 2), weight.shape[1], weight.shape[0])
    )


def multiplications_per_sample(backbone: Backbone) -> float:
    """Return the multiplications of a forward pass for one sample; 0 for unknown networks.

    A kernel is applied once for every position of its layer, and the stride of a layer says how
    many samples have one position.
    """
    count = 0.0
    for name, weight in [*backbone.named_parameters(), *backbone.named_buffers()]:
        layer = next((word for word in name.split(".") if word in backbone.receptive_fields), None)
        if isinstance(weight, Tensor) and weight.ndim > 2 and layer is not None:
            stride = backbone.receptive_fields[layer].stride
            count += weight.numel() / math.prod(max(1, int(step)) for step in stride)
    return count
