"""``--deterministic``: the same bytes each time, or a line that says why not.

On one machine, with one number of threads, all that runs on a CPU is so anyway, as far as it was
tested; on GPUs some operations of torch add up in whatever order their threads arrive.
"""

from __future__ import annotations

import os

from convnd.errors import ConvndError, UsageError

__all__ = ["make_deterministic", "no_deterministic_way"]


def make_deterministic(asked: bool) -> None:
    """Leave torch only algorithms that give the same bits each time; for the rest of the process.

    The number of threads is fixed to what it is (sums are split among them, and MKL would choose
    anew for every product); records tell it, see `convnd_tasks.pipeline.provenance.versions`.

    Args:
        asked: False changes nothing: the process may belong to somebody who has chosen.
    """
    if not asked:
        return
    import torch

    # Read by cuBLAS when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(torch.get_num_threads())


def no_deterministic_way(error: RuntimeError) -> ConvndError | None:
    """What to say if an error of torch's is that of an operation without such an algorithm.

    >>> print(no_deterministic_way(RuntimeError("out of luck")))
    None
    """
    what, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found:
        return None
    return UsageError(
        f"--deterministic: expected operations that have a way to give the same bits on this "
        f"device, got {what.split()[-1]}; use --device cpu, or leave it out"
    )
