"""How far rounding alone may part two ways of computing the same features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def network_rounding(network: nn.Module, dtype: torch.dtype = torch.float32) -> float:
    """Rounding of a network's features, relative to the largest of them.

    The error of a sum of ``n`` products grows as the root of ``n`` (Higham and Mary, 2019), and the
    errors of the layers add up. It is relative to the terms and not to the sum, which may cancel.
    """
    weights = [getattr(module, "weight", None) for module in network.modules()]
    lengths = [weight[0].numel() for weight in weights if isinstance(weight, Tensor)]
    return torch.finfo(dtype).eps * sum(math.sqrt(length) for length in lengths)
