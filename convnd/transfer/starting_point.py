"""The values that the optimisation of a transfer starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from convnd.nn import resize_nd
from convnd.optimize import ProcessGroup
from convnd.transfer.instant import InstantTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.random_phase import random_phase_noise
from convnd.transfer.resizing import Resizer

__all__ = ["starting_point"]


def starting_point(
    problem: TransferProblem,
    options: TransferOptions,
    resizer: Resizer,
    content: Tensor | None,
    styles: Sequence[Tensor],
    size: Sequence[int],
    group: ProcessGroup,
) -> Tensor:
    """Return the values that the first phase starts from, see `TransferOptions.init`.

    Args:
        problem: inputs of the transfer.
        options: options of the transfer.
        resizer: resizes the inputs.
        content: the content ``(B, C, *S)`` at the size of the phase; None is a texture.
        styles: ``(B, C, *S_i)`` each, at that size.
        size: samples along each axis.
        group: the processes that share the work.

    Returns:
        ``(B, C, *S)``, the whole field in every process.
    """
    if problem.init is not None:
        return resizer.resize_field(problem.init, size)
    if options.init == "instant":
        instant = InstantTransfer(options, spatial_dims=len(size), in_channels=styles[0].shape[1])
        (progress,) = instant.run(replace(problem, content=content, size=tuple(size)), group=group)
        return progress.values
    if options.init == "style":
        return resize_nd(styles[0], size, mode="linear", antialias=True)
    # Drawn on the CPU, so that a seed means the same on every device.
    generator = torch.Generator().manual_seed(options.seed)
    if options.init != "content":
        return torch.rand((*styles[0].shape[:2], *size), generator=generator).to(resizer.device)
    if content is None:
        weights = options.style_weights
        content = random_phase_noise(styles, size, weights=weights, generator=generator)
    return content if problem.initial is None else problem.initial(content)
