"""Float32 convolutions compiled from C for x86-64 processors with AVX2.

The compiled module is optional. `is_available` tells whether this installation has it and this
processor runs it; without it, `frozen_conv` uses torch's operators. ``CONVND_NATIVE=0`` in the
environment turns it off.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from convnd.backbones.kernels.winograd import empty_channels_last, scratch

try:
    from convnd.backbones.kernels import _native as library
except ImportError:  # installed without a compiler
    library = None  # type: ignore[assignment]

__all__ = [
    "POSITIONS",
    "NativeConv",
    "can_convolve",
    "divide_work",
    "is_available",
    "kernel_bytes",
    "library",
    "run_in_threads",
]

POSITIONS = 96
"""Positions that a convolution 1 wide computes at once, so that their data stay in the cache. With
1 MiB of second-level cache, half or twice as many were measured as equally fast."""

_BLOCKS = {1: POSITIONS, 3: 48}  # positions or tiles, by the width of the kernel

_LINES = 8  # lines of a direct convolution that a thread computes at least; it reads two more

_TILE = 4  # outputs of a tile along an axis
_PANELS = 2  # groups of 16 outputs that are computed together
_CHUNKS = 4  # per thread, so that the others take over the chunks of a thread that is held up


@cache
def is_available() -> bool:
    """Whether the compiled module is installed, enabled, and supported by this processor."""
    is_enabled = os.environ.get("CONVND_NATIVE", "1") != "0"
    if not is_enabled or not hasattr(library, "find_nearest"):  # as an older build in a source tree
        return False
    return library.is_supported()


def can_convolve(x: Tensor, weight: Tensor) -> bool:
    """Whether `NativeConv` computes this convolution, with zero padding that keeps the extent.

    Args:
        x: ``(B, C, *S)``.
        weight: ``(O, C, *K)``.
    """
    return x.device.type == "cpu" and x.dtype == torch.float32 and _has_kernel(weight)


def kernel_bytes(weight: Tensor) -> int:
    """Return the bytes of the kernel of `NativeConv`; 0 if it cannot compute the convolution."""
    if not _has_kernel(weight):
        return 0
    outputs, channels, width = weight.shape[:3]
    return 4 * library.kernel_floats(width, channels, outputs)


def _has_kernel(weight: Tensor) -> bool:
    kernel = tuple(weight.shape[2:])
    fits = kernel == (3, 3) or set(kernel) == {1}
    return fits and weight.device.type == "cpu" and weight.dtype == torch.float32 and is_available()


class NativeConv:
    """Convolution in float32 with padding that keeps the extent: 3x3, or 1 wide in any rank.

    The 3x3 convolution uses Winograd's algorithm F(4x4, 3x3) as `winograd_conv_nd` does, with its
    rounding error. All steps of a block of tiles run one after the other while its data are in the
    cache, and the transformed kernel is stored. With at most 3 channels or outputs it is a direct
    convolution: the transforms would take longer than the products. The bytes of a result depend
    neither on the number of threads nor on the blocks.

    Args:
        weight: ``(O, C, *K)``; must not change afterwards, nor must ``bias``.
        bias: ``(O,)``.

    >>> from convnd.backbones.kernels.native import NativeConv, is_available
    >>> x = torch.arange(9.0).view(1, 1, 3, 3)
    >>> NativeConv(torch.ones(1, 1, 1, 1))(x)[0, 0, 0] if is_available() else x[0, 0, 0]
    tensor([0., 1., 2.])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.outputs, self.channels, self.width = weight.shape[:3]
        self.bias = None if bias is None else bias.contiguous()
        weights = weight.movedim((1, 0), (-2, -1)).contiguous()
        size = library.kernel_floats(self.width, self.channels, self.outputs)
        self.kernel = weights.new_empty(size)
        addresses = weights.data_ptr(), self.kernel.data_ptr()
        library.pack(self.width, addresses[0], self.channels, self.outputs, addresses[1])

    def __call__(
        self,
        x: Tensor,
        *,
        gate: Tensor | None = None,
        relu: bool = False,
        replicate: bool = False,
    ) -> Tensor:
        """``(B, C, *S)`` to ``(B, O, *S)``, channels innermost in memory; not differentiable.

        Args:
            x: the input, float32.
            gate: boolean or float32, of the shape of ``x``; where it is not above 0, ``x`` counts
                as 0.
            relu: end with ``max(0, y)``.
            replicate: the outermost samples repeat beyond the border, instead of zeros.
        """
        y = empty_channels_last(x, self.outputs)
        if not y.numel():
            return y
        x = x.movedim(1, -1).contiguous()
        gate = None if gate is None else gate.movedim(1, -1).contiguous()
        if self.width == 1:  # neither items nor axes matter
            x = x.flatten(0, -2).view(1, 1, -1, self.channels)
        self._run(x, gate, y, (relu, replicate))
        return y

    @property
    def addresses(self) -> tuple[int, int]:
        """Addresses of the kernel, as the compiled module reads it, and of the bias, or 0."""
        return self.kernel.data_ptr(), 0 if self.bias is None else self.bias.data_ptr()

    def _run(self, x: Tensor, gate: Tensor | None, y: Tensor, modes: tuple[bool, bool]) -> None:
        """Convolve ``x`` ``(B, H, W, C)`` into the memory of ``y``."""
        items, height, width = x.shape[:3]
        is_direct = library.is_direct(self.width, self.channels, self.outputs)
        block, weights = POSITIONS if is_direct else _BLOCKS[self.width], self.addresses
        sizes = height, width, self.channels, self.outputs
        buffer_size = library.scratch_floats(self.width, *sizes[2:], block)

        def work(first: int, last: int, panel: int, end: int) -> None:
            # The tensors are named here so that they live as long as a thread works on them.
            kind = (0, 0) if gate is None else (gate.data_ptr(), _GATES[gate.dtype])
            data = x.data_ptr(), *kind
            buffer = scratch("native", self.kernel, buffer_size)
            part = first, last, panel, end, block
            library.convolve(
                *(self.width, data, weights, y.data_ptr(), sizes, modes, part, buffer.data_ptr())
            )

        panels = -(-self.outputs // 16)
        if is_direct:
            parts = divide_work(items * height, 1, _LINES)
        elif self.width == 3:
            # Tiles of all items are computed together: deep layers of planes have few of them.
            parts = divide_work(items * -(-height // _TILE) * -(-width // _TILE), panels, block)
        else:
            parts = divide_work(width, panels, block)
        run_in_threads(work, parts)


_GATES = {torch.bool: 1, torch.float32: 2}
"""How the compiled module numbers the types of gates."""


def divide_work(count: int, panels: int, block: int) -> Iterable[tuple[int, int, int, int]]:
    """Divide tiles, positions or lines, and panels of outputs, among threads.

    Args:
        count: number of tiles, positions or lines.
        panels: number of panels, of 16 outputs each.
        block: number of tiles, positions or lines that are computed at once.

    Returns:
        Parts ``(start, stop, first panel, stop panel)``.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [(0, count, 0, panels)]
    blocks = -(-count // block)
    chunk = max(1, blocks // (threads * _CHUNKS)) * block
    starts = range(0, count, chunk)
    # With few positions, threads share the outputs instead, and each transforms the same data.
    split = max(1, threads // len(starts))
    step = -(-panels // split)
    step += -step % _PANELS
    return [
        (start, min(start + chunk, count), panel, min(panel + step, panels))
        for start in starts
        for panel in range(0, panels, step)
    ]


def run_in_threads(work: Callable[..., None], parts: Iterable[tuple[int, ...]]) -> None:
    """Call a function with each of the parts, in as many threads as torch uses.

    Args:
        work: the function.
        parts: its arguments.
    """
    queue = deque(parts)

    def run() -> None:
        while True:
            try:
                part = queue.popleft()
            except IndexError:
                return
            work(*part)

    helpers = min(torch.get_num_threads(), len(queue)) - 1
    futures = [_pool(helpers).submit(run) for _ in range(helpers)]
    try:
        run()
    finally:  # after an interrupt no thread may go on writing
        queue.clear()
        for future in futures:
            if not future.cancel():
                future.result()


class _Pools(threading.local):
    """The pool of helper threads that belongs to each thread."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.key = (0, 0)


_POOLS = _Pools()


def _pool(count: int) -> ThreadPoolExecutor:
    """Return a pool of at least ``count`` threads; a forked process makes a new one."""
    process, size = _POOLS.key
    if _POOLS.pool is None or process != os.getpid() or size < count:
        if _POOLS.pool is not None and process == os.getpid():
            _POOLS.pool.shutdown()
        _POOLS.pool = ThreadPoolExecutor(count, thread_name_prefix="convnd")
        _POOLS.key = os.getpid(), count
    return _POOLS.pool
