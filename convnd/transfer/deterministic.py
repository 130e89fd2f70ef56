"""Determinism: equal bytes in every run, or an error that names the operation.

On one CPU with a fixed number of threads, runs gave equal bytes in all tests without this module.
On GPUs some operations of torch add up numbers in the order in which threads finish.
"""

from __future__ import annotations

import os

from convnd.errors import ConvndError, UsageError

__all__ = ["determinism_error", "make_deterministic"]


def make_deterministic(enabled: bool) -> None:
    """Restrict torch to deterministic algorithms, for the rest of the process.

    The function also fixes the number of threads to its current value: sums are split among the
    threads, and MKL would otherwise choose their number for every product.

    Args:
        enabled: whether torch is restricted; False leaves torch's settings as they are.
    """
    if not enabled:
        return
    import torch

    # cuBLAS reads this variable when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(torch.get_num_threads())


def determinism_error(error: RuntimeError) -> ConvndError | None:
    """Translate torch's error about an operation without a deterministic algorithm.

    Args:
        error: an error of torch.

    Returns:
        The error to report, or None if ``error`` has another cause.

    >>> print(determinism_error(RuntimeError("out of memory")))
    None
    """
    text, match, _ = str(error).partition(" does not have a deterministic implementation")
    if not match:
        return None
    return UsageError(
        "deterministic",
        expected="operations with a deterministic algorithm on this device",
        got=text.split()[-1],
        remedy="use --device cpu, or leave the option out",
    )
