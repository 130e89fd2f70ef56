"""The nearest of many vectors, in float32 compiled from C where that is installed."""

from __future__ import annotations

import torch
from torch import Tensor

from convnd.backbones.kernels.native import divide_work, is_available, library, run_in_threads
from convnd.backbones.kernels.winograd import scratch

__all__ = ["nearest_rows"]

_PANEL = 16  # keys that are compared at once
_ROWS = 96  # queries that are compared at once
_MOST_DISTANCES = 1 << 20  # that are in memory at once without the compiled module


def nearest_rows(queries: Tensor, keys: Tensor) -> Tensor:
    """Find the key of the smallest Euclidean distance to each query.

    In float32, rounding may decide between two keys that are almost equally near. Of equal
    distances, the compiled module finds the first.

    Args:
        queries: ``(N, C)``.
        keys: ``(K, C)``, at least one.

    Returns:
        Rows of ``keys``, ``(N,)``.

    >>> import torch
    >>> nearest_rows(torch.tensor([[7.0], [1.0]]), torch.tensor([[0.0], [9.0]]))
    tensor([1, 0])
    """
    tensors = queries, keys
    if not len(queries):
        return torch.zeros(0, dtype=torch.long, device=queries.device)
    if is_available() and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors):
        return _native_nearest(queries.contiguous(), keys.contiguous())
    lengths = keys.square().sum(1)
    found = [
        torch.addmm(lengths, part, keys.mT, alpha=-2).argmin(1)
        for part in queries.split(max(1, _MOST_DISTANCES // len(keys)))
    ]
    return torch.cat(found)


def _native_nearest(queries: Tensor, keys: Tensor) -> Tensor:
    """Do the same in C; each distance is compared as soon as it is computed."""
    channels, panels = keys.shape[1], -(-len(keys) // _PANEL)
    lengths = keys.new_full((panels * _PANEL,), torch.inf)
    lengths[: len(keys)] = keys.square().sum(1)
    factors = (-2 * keys).mT.contiguous()
    packed = keys.new_empty(library.kernel_floats(1, channels, len(keys)))
    library.pack(1, factors.data_ptr(), channels, len(keys), packed.data_ptr())
    rows = torch.zeros(len(queries), dtype=torch.long)

    def work(first: int, last: int, _panel: int, _end: int) -> None:
        buffer = scratch("nearest", keys, _ROWS * (channels + 3 * _PANEL))
        library.find_nearest(
            queries.data_ptr(),
            (packed.data_ptr(), lengths.data_ptr(), panels),
            *(channels, rows.data_ptr(), (first, last), buffer.data_ptr()),
        )

    run_in_threads(work, divide_work(len(queries), 1, _ROWS))
    return rows
