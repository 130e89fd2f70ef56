"""Detects when torch transforms the running code, so that hand-written operators step aside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["apply_function", "autocast_dtype", "full_precision", "hides_values", "is_transformed"]

_functorch_is_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: False
)

_functorch: Any = getattr(torch._C, "_functorch", None)
_jit: Any = torch.jit  # without type hints
_is_tracing: Callable[[], bool] = _jit.is_tracing
_is_batched: Callable[[Tensor], bool] = getattr(_functorch, "is_batchedtensor", lambda _: False)


def is_transformed() -> bool:
    """Whether ``torch.func``, forward mode, ``torch.compile`` or ``torch.jit.trace`` runs this.

    The fast operators of frozen networks and statistics have a hand-written backward pass, work in
    place and cache layouts. Transforms support none of that, so these operators then compute the
    same values with torch's own operators.

    >>> is_transformed(), torch.func.vmap(lambda x: x + is_transformed())(torch.zeros(2)).tolist()
    (False, [1.0, 1.0])
    """
    return (
        _functorch_is_active()
        or torch.compiler.is_compiling()
        or _is_tracing()
        or getattr(forward_ad, "_current_level", -1) >= 0
    )


def hides_values(x: Tensor) -> bool:
    """Whether Python cannot read the values of a tensor: under ``vmap``, or in a compiler.

    A trace of ``torch.jit`` would keep what Python reads for all inputs to come.

    >>> hides_values(torch.zeros(2)), torch.func.vmap(lambda x: x + hides_values(x))(torch.zeros(2))
    (False, tensor([1., 1.]))
    """
    return torch.compiler.is_compiling() or _is_tracing() or _is_batched(x)


def apply_function(function: type[torch.autograd.Function], *arguments: object) -> Any:
    """Call ``function.apply``, for which torch has no types."""
    return function.apply(*arguments)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the number format of convolutions of ``x`` under autocast; None without autocast."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context in which autocast does not round the products of statistics to 16 bits.

    Autocast computes torch's own losses in float32, but not the matrix products of statistics.
    """
    if autocast_dtype(x) is None:
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
