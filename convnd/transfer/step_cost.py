"""The time of an optimisation step as a function of the network and of the size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.backbones.kernels import kernel_bytes, winograd_is_faster
from convnd.losses import Objective, StyleLoss

__all__ = [
    "count_statistics",
    "count_transformed_weights",
    "fixed_share",
    "fixed_share_of_step",
    "multiplications_per_sample",
    "step_cost",
]

_FIXED = {torch.bfloat16: 0.6e9, torch.float32: 0.15e9}
"""Multiplications of a forward pass that take as long as the fixed part of a step: starting some
hundred operators forwards and backwards, and the optimizer. Measured with one thread of a Zen 4,
which computes bfloat16 twice as fast; the fixed part is known to about a factor of 1.5."""

_KERNEL = 250.0
"""The same for the transform of a kernel by Winograd's algorithm, for each of its weights."""


_KEPT_KERNEL = 21.0
"""The same for reading a kernel that was transformed once, for each of its numbers."""

_STATISTIC = 60.0
"""The same for each number of the statistics that are compared, such as Gram matrices."""

_COST_POWER = 0.62


def step_cost(backbone: Backbone, layers: Sequence[str]) -> float:
    """Return the part of the time of a step that grows with the size, relative to other networks.

    Part of it is arithmetic, which grows with the number of weights, and part is traffic of memory,
    which grows with the number of features. A power of their product gives 0.28 for compact
    relative to VGG-19. With one thread of a Zen 4, between 128² and 256², 0.27 was measured in
    bfloat16, 0.28 in float32, and 0.29 with AVX2.

    Args:
        backbone: the network.
        layers: layers whose features are computed.
    """
    weights = sum(parameter.numel() for parameter in backbone.parameters())
    features = backbone.activation_bytes([64] * backbone.spatial_dims, layers)
    return math.pow(max(1, weights) * max(1, features), _COST_POWER)


def fixed_share_of_step(
    backbone: Backbone, precision: Precision, samples: int, statistics: int = 0
) -> float:
    """Return the `fixed_share` of a step with a network.

    Args:
        backbone: the network.
        precision: number format of its features.
        samples: number of positions of the input, of all items of the batch together.
        statistics: number of numbers in the statistics that are compared.
    """
    work = multiplications_per_sample(backbone) * samples
    transformed_weights = kept_numbers = 0
    if precision.winograd:
        transformed_weights = count_transformed_weights(backbone)
        kept_numbers = sum(kernel_bytes(w) // 4 for w in backbone.parameters() if w.ndim > 2)
    return fixed_share(work, precision.dtype, transformed_weights, kept_numbers, statistics)


def fixed_share(
    multiplications: float,
    dtype: torch.dtype = torch.float32,
    transformed_weights: int = 0,
    kept_numbers: int = 0,
    statistics: int = 0,
) -> float:
    """Return the share of a step's time that does not depend on the size, from 0 to 1.

    Args:
        multiplications: number of multiplications of a forward pass; 0 if it is not known.
        dtype: number format of the features.
        transformed_weights: see `count_transformed_weights`.
        kept_numbers: number of numbers in the kernels that were transformed once.
        statistics: number of numbers in the statistics that are compared.
    """
    fixed = _FIXED.get(dtype, _FIXED[torch.float32]) + _KERNEL * transformed_weights
    fixed += _KEPT_KERNEL * kept_numbers + _STATISTIC * statistics
    return fixed / (fixed + multiplications) if multiplications > 0 else 0.0


def count_transformed_weights(backbone: Backbone) -> int:
    """Return the number of weights that Winograd's algorithm transforms at every evaluation."""
    return sum(
        weight.numel()
        for weight in backbone.parameters()
        if weight.ndim > 2
        and not kernel_bytes(weight)  # transformed once
        and set(weight.shape[2:]) == {3}
        and winograd_is_faster((64,) * (weight.ndim - 2), weight.shape[1], weight.shape[0])
    )


def multiplications_per_sample(backbone: Backbone) -> float:
    """Return the multiplications of a forward pass for one sample; 0 for unknown networks.

    A kernel is applied at every position of its layer, and the stride of the layer is the number of
    samples for each position.
    """
    count = 0.0
    for name, weight in [*backbone.named_parameters(), *backbone.named_buffers()]:
        layer = next((word for word in name.split(".") if word in backbone.receptive_fields), None)
        if isinstance(weight, Tensor) and weight.ndim > 2 and layer is not None:
            stride = backbone.receptive_fields[layer].stride
            count += weight.numel() / math.prod(max(1, int(step)) for step in stride)
    return count


def count_statistics(objective: Objective) -> int:
    """Count the numbers in the statistics that an objective compares at every step.

    Args:
        objective: the objective.
    """
    losses = (term.loss for term in objective.terms)
    return sum(loss.target.numel() for loss in losses if isinstance(loss, StyleLoss))
