"""Style transfer in one pass of a network."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from convnd.backbones import choose_device
from convnd.errors import UsageError
from convnd.optimize import ProcessGroup
from convnd.optimize.evaluation.tiles import OnTile
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.regions import StyleRegion, fit_share
from convnd.transfer.resizing import Resizer
from convnd.transfer.scales import fit_size

__all__ = ["OnePassTransfer"]

_MEASURED_EXTENT = 512
"""Longest axis of the result whose time is measured: the styles then have as many patches as are
compared at any larger size."""


class OnePassTransfer(ABC):
    """Transfers in one pass, any number of them with the same options.

    The class has the interface of `convnd.transfer.style_transfer.StyleTransfer`.

    Args:
        options: options of the transfers; those of losses and optimisation have no effect.

    Attributes:
        device: device of the network.
        draws_strokes: whether the result has patterns that the content has not.
        reads_styles: whether the result depends on the styles of a problem.
        on_tile: is called after each tile, with the number of tiles that are done and of all tiles,
            if there are several; None is nobody.
    """

    draws_strokes: ClassVar[bool] = True
    reads_styles: ClassVar[bool] = True
    on_tile: OnTile | None = None

    def __init__(self, options: TransferOptions) -> None:
        make_deterministic(options.deterministic)
        self.options = options
        self.device = choose_device(options.device)

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network, on the device."""

    def run(
        self,
        problem: TransferProblem,
        *,
        resume: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """Yield the result, as the only step.

        Args:
            problem: the inputs, of which content, styles, starting point and size are read.
            resume: not used, since there is only one step.
            group: the processes that share the job; None is this one alone.
            on_message: is called with one line where the content is cut into tiles.

        Raises:
            UsageError: there is no content (a texture), or a starting point of its own.
            ResourceError: there is not enough memory.
        """
        del resume
        if problem.content is None or problem.init is not None:
            raise UsageError(
                "one pass of a network",
                expected="a content to start from",
                got="none, for a texture"
                if problem.content is None
                else "another starting point (--init)",
                remedy="give --steps and another --init"
                if problem.content is None
                else "leave it out",
            )
        if len(problem.regions) > 1:
            parts = [self._part(problem, region) for region in problem.regions]
            yield from self.run_parts(parts, problem.content, group=group, on_message=on_message)
            return
        transfer, one = self, problem
        if problem.regions:
            transfer, one = self._part(problem, problem.regions[0])
        group, report = group or ProcessGroup(), on_message or _ignore
        yield Progress.of_one_pass(transfer.stylize(one, problem.content, group, report))

    def estimate_seconds(
        self,
        problem: TransferProblem,
        *,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> float:
        """Return the likely duration of a transfer in seconds, from that of a smaller result.

        Args:
            problem: as for `run`.
            group: as for `run`.
            on_message: as for `run`.

        Raises:
            UsageError: as for `run`.
            ResourceError: there is not enough memory for the whole result.
        """
        size = problem.size
        smaller = replace(problem, size=fit_size(size, min(_MEASURED_EXTENT, max(size))))
        seconds = 0.0
        for _ in range(2):  # the first time loads the network
            began = time.perf_counter()
            for _ in self.run(smaller, group=group):
                seconds = time.perf_counter() - began
        self.check_memory(problem, group or ProcessGroup(), on_message or _ignore)
        return seconds * math.prod(size) / math.prod(smaller.size)

    def check_memory(
        self, problem: TransferProblem, group: ProcessGroup, on_message: Callable[[str], None]
    ) -> None:
        """Check that the memory for a transfer is free, and report its tiles; here nothing.

        Args:
            problem: as for `run`.
            group: as for `run`.
            on_message: as for `run`.

        Raises:
            ResourceError: there is not enough.
        """
        del problem, group, on_message

    def run_parts(
        self,
        parts: Sequence[tuple[Self, TransferProblem]],
        content: Tensor,
        *,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """Yield a result whose parts have styles of their own, as the only step.

        Args:
            parts: for each part a transfer, and a problem whose mask is the part.
            content: the content, which stays where no part is; any size.
            group: as for `run`.
            on_message: as for `run`.

        Raises:
            ResourceError: there is not enough memory.
        """
        group, report = group or ProcessGroup(), on_message or _ignore
        size = parts[0][1].size
        content = Resizer(self.device).resize(content, size)
        shares = [
            torch.ones_like(content[:, :1])
            if problem.mask is None
            else fit_share(problem.mask, size).to(content)
            for _, problem in parts
        ]
        values = self.stylize_parts(parts, shares, content, group, report)
        covered = torch.stack(shares).sum(0) > 0
        yield Progress.of_one_pass(torch.where(covered, values, content.to(values)))

    def _part(self, problem: TransferProblem, region: StyleRegion) -> tuple[Self, TransferProblem]:
        """Return a transfer and a problem for one region."""
        part_problem = replace(
            problem,
            styles=[problem.styles[number] for number in region.styles],
            feature_styles=None,
            mask=region.share,
            regions=(replace(region, styles=tuple(range(len(region.styles)))),),
        )
        return self.with_styles(region.styles), part_problem

    def stylize_parts(
        self,
        parts: Sequence[tuple[Self, TransferProblem]],
        shares: Sequence[Tensor],
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """Compute one result for each part, and average them by the parts' shares.

        Args:
            parts: as for `run_parts`.
            shares: share of each position that belongs to the part, ``(1, 1, *S)``.
            content: ``(1, C, *S)``, at the size of the result and on the device.
            group: as for `run`.
            on_message: as for `run`.

        Returns:
            ``(1, C, *S)``; any values where no part is.
        """
        total: Tensor | None = None
        for (transfer, problem), share in zip(parts, shares, strict=True):
            values = transfer.stylize(problem, content, group, on_message)
            total = share * values if total is None else total + share * values
        assert total is not None
        return total / torch.stack(list(shares)).sum(0).clamp_min(1e-6)

    def with_styles(self, numbers: Sequence[int]) -> Self:
        """Return a transfer with the weights of some of the styles only.

        Args:
            numbers: indices of these styles.
        """
        transfer = copy.copy(self)
        weights = self.options.style_weights
        if weights:
            chosen = tuple(weights[number] for number in numbers)
            transfer.options = replace(self.options, style_weights=chosen)
        return transfer

    @abstractmethod
    def for_frames(
        self, styles: Sequence[Tensor], frames: Sequence[Tensor], masks: Sequence[Tensor] = ()
    ) -> OnePassTransfer:
        """Return a transfer that treats all frames of a video alike, so that nothing flickers.

        Args:
            styles: ``(1, C, H_i, W_i)`` each.
            frames: some frames of the video ``(1, C, H, W)``, whose statistics are pooled.
            masks: for each frame, the share of each position that counts, ``(1, 1, H, W)``; empty
                is 1.
        """

    @abstractmethod
    def stylize(
        self,
        problem: TransferProblem,
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """Compute the result.

        Args:
            problem: the inputs.
            content: the content of the problem.
            group: as for `run`.
            on_message: as for `run`.
        """


def _ignore(message: str) -> None:
    """Take a line that nobody asked for."""
