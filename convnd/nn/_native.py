"""Torch's operators by rank, and separable operators of any rank built from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from convnd.errors import ShapeError

__all__ = [
    "NATIVE",
    "NO_NODE",
    "Native",
    "apply_separably",
    "cached",
    "check_batched",
    "trace_as_leaf",
    "traced_as_leaf",
]

M = TypeVar("M", bound=nn.Module)
P = ParamSpec("P")
R = TypeVar("R")


class Native(NamedTuple):
    """Torch's operators of one rank."""

    conv: Callable[..., Tensor]
    conv_transpose: Callable[..., Tensor]
    max_pool: Callable[..., Tensor]
    max_pool_with_indices: Callable[..., tuple[Tensor, Tensor]]
    avg_pool: Callable[..., Tensor]
    adaptive_max_pool: Callable[..., tuple[Tensor, Tensor]]
    adaptive_avg_pool: Callable[..., Tensor]


def _native(rank: int) -> Native:
    return Native(
        conv=getattr(torch, f"conv{rank}d"),
        conv_transpose=getattr(torch, f"conv_transpose{rank}d"),
        max_pool=getattr(torch, f"max_pool{rank}d"),
        max_pool_with_indices=getattr(F, f"max_pool{rank}d_with_indices"),
        avg_pool=getattr(F, f"avg_pool{rank}d"),
        adaptive_max_pool=getattr(F, f"adaptive_max_pool{rank}d_with_indices"),
        adaptive_avg_pool=getattr(F, f"adaptive_avg_pool{rank}d"),
    )


NATIVE = {rank: _native(rank) for rank in (1, 2, 3)}  # the only place that lists ranks


def check_batched(operation: str, x: Tensor, ndim: int, *, channels: int | None = None) -> None:
    """Check that a tensor is ``(B, C, *S)``.

    Args:
        operation: name of the operation, for the message.
        x: the tensor.
        ndim: expected number of spatial axes.
        channels: expected number ``C`` of channels; None is any.

    Raises:
        ShapeError: the rank differs, for example without a batch axis, or the channels differ.
    """
    if x.ndim != ndim + 2 or ndim < 1:
        remedy = "add the batch axis: x[None]" if x.ndim == ndim + 1 else "check spatial_dims"
        raise ShapeError(
            operation,
            expected=f"x of rank {ndim + 2} (B, C, *S)",
            got=f"shape {tuple(x.shape)}",
            remedy=remedy,
        )
    if channels is not None and x.shape[1] != channels:
        raise ShapeError(
            operation,
            expected=f"{channels} channels in axis 1",
            got=f"shape {tuple(x.shape)}",
            remedy="bring the axes into the order (B, C, *S), or change the weight or groups",
        )


def cached(function: Callable[..., R]) -> Callable[..., R]:
    """Cache the results of a function of small arguments, such as the geometry of a layer.

    Computing the geometry takes ten times as long as a small pooling. ``torch.compile`` runs the
    function itself, once for each compilation.
    """
    cache = lru_cache(maxsize=1024)(function)

    @wraps(function)
    def call(*args: Any) -> R:
        if torch.compiler.is_dynamo_compiling():
            return function(*args)
        try:
            return cache(*args)
        except TypeError:  # lists have no hash
            return function(*args)

    return call


NO_NODE: Any = None
"""The result of `trace_as_leaf` where nothing is traced."""


def trace_as_leaf(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """Make one node of a whole module while ``torch.fx`` traces, as it does for torch's layers.

    Args:
        module: the layer, loss, statistic or network.
        inputs: its arguments: tensors, or proxies while ``torch.fx`` traces; or constants.
        options: its arguments by name.

    Returns:
        The node; `NO_NODE` if nothing is traced, or if the traced module is this one itself.
    """
    for x in (*inputs, *options.values()):
        if isinstance(x, fx.Proxy):
            tracer: Any = x.tracer
            name = tracer.path_of_module(module)
            return tracer.create_proxy("call_module", name, inputs, options) if name else NO_NODE
    return NO_NODE


def traced_as_leaf(forward: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Decorate a forward pass with `trace_as_leaf`; layers, which TorchScript reads, call that."""

    @wraps(forward)
    def call(self: M, /, *inputs: P.args, **options: P.kwargs) -> R:
        node = trace_as_leaf(self, *inputs, **options)
        if node is not NO_NODE:
            return cast("R", node)
        return forward(self, *inputs, **options)

    return call


def apply_separably(
    x: Tensor, apply: Callable[[Tensor, tuple[int | None, ...]], Tensor], *, max_rank: int = 3
) -> Tensor:
    """Apply a separable operator of any rank by operators of at most ``max_rank`` axes.

    First the last ``max_rank`` axes are processed together, with the axes before them folded into
    the channels. Then each of the other axes is processed separately, with all axes after it folded
    into a second axis that stays unchanged. Both foldings are views of a contiguous tensor.

    Args:
        x: ``(B, C, *S)``.
        apply: the operator. Its arguments are a tensor ``(B, C', *S')``, and for each spatial axis
            of it the axis of ``x`` that it stands for, or None for an axis to leave unchanged.
        max_rank: largest number of axes that ``apply`` supports, at least 2.
    """
    ndim = x.ndim - 2
    if ndim <= max_rank:
        return apply(x, tuple(range(ndim)))
    lead_rank = ndim - max_rank
    lead, last = x.shape[2 : 2 + lead_rank], tuple(range(lead_rank, ndim))
    channels = x.shape[1]
    x = apply(x.flatten(1, 1 + lead_rank), last)
    x = x.reshape(x.shape[0], channels, *lead, *x.shape[2:])
    for axis in reversed(range(lead_rank)):
        shape = x.shape
        folded_x = x.flatten(3 + axis).flatten(1, 1 + axis)  # (B, C·lead, S_axis, trail)
        x = apply(folded_x, (axis, None))
        x = x.reshape(*shape[: 2 + axis], x.shape[2], *shape[3 + axis :])
    return x
