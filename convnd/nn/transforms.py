"""Whether torch transforms the running code, and how operators written by hand answer to that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["apply_function", "autocast_dtype", "full_precision", "is_transformed"]

_functorch_is_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: False
)


def is_transformed() -> bool:
    """Whether ``torch.func``, forward-mode differentiation or ``torch.compile`` runs this code.

    The fast operators of frozen networks and statistics have a backward pass written by hand, work
    in place and remember layouts. Transforms can follow none of that. There, the same values come
    from torch's own operators.

    >>> is_transformed(), torch.func.vmap(lambda x: x + is_transformed())(torch.zeros(2)).tolist()
    (False, [1.0, 1.0])
    """
    return (
        _functorch_is_active()
        or torch.compiler.is_compiling()
        or getattr(forward_ad, "_current_level", -1) >= 0
    )


def apply_function(function: type[torch.autograd.Function], *arguments: object) -> Any:
    """Return what ``function.apply`` returns, which torch leaves without a type."""
    return function.apply(*arguments)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The number format that autocast computes convolutions of ``x`` in; None without autocast."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Context in which autocast does not round the products of sums to 16 bits.

    Autocast computes torch's own losses in float32; the products in statistics are no losses to it.
    """
    if autocast_dtype(x) is None:
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
