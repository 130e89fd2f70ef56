"""The values that the optimisation of a transfer starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convnd.nn import resize_nd
from convnd.optimize import ProcessGroup
from convnd.transfer.instant import InstantTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.random_phase import detail_change, random_phase_noise
from convnd.transfer.regions import StyleRegion
from convnd.transfer.resizing import Resizer

__all__ = ["DetailMaker", "starting_point"]


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


@dataclass(frozen=True)
class DetailMaker:
    """Makes the detail that a finer size adds to the values of a coarser one.

    Args:
        problem: inputs of the transfer.
        options: options of the transfer.
        resizer: resizes the inputs.
        regions: parts of the result with styles of their own, at the finer size.
        coarse: samples of the coarser size along each axis.
    """

    problem: TransferProblem
    options: TransferOptions
    resizer: Resizer
    regions: Sequence[StyleRegion]
    coarse: Sequence[int]

    def change(
        self, content: Tensor | None, styles: Sequence[Tensor], values: Tensor
    ) -> Tensor | None:
        """Return what is added to values that were resized, or None for nothing.

        Of a texture it is noise with the spectrum of the styles. Without it the values have no
        detail, their differences show the grid of the coarser size, and the steps leave it there.
        A starting point of its own, such as beats, has other detail than noise.

        Args:
            content: the content ``(B, C, *S)`` at the finer size; None is a texture.
            styles: ``(B, C, *S_i)`` each, at that size.
            values: ``(B, C, *S)``, at that size.
        """
        problem = self.problem
        wanted = problem.initial is None if content is None else problem.matches_detail
        if not wanted:
            return None
        content = values if content is None else content
        weights = self.options.style_weights or (1.0,) * len(styles)
        parts: Sequence[StyleRegion | None] = self.regions or [None]
        detail: Tensor | None = None
        for region in parts:
            numbers = range(len(styles)) if region is None else region.styles
            change = detail_change(
                [styles[number] for number in numbers],
                content,
                self.coarse,
                bandwidth=problem.bandwidth_at(tuple(values.shape[2:])),
                weights=[weights[number] for number in numbers],
                generator=torch.Generator().manual_seed(self.options.seed),
                periodic=self.resizer.periodic,
            )
            share = None if region is None else region.share
            change = change if share is None else change * share
            detail = change if detail is None else detail + change
        return None if detail is None else detail * problem.strength
