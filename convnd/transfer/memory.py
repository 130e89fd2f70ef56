"""The memory that a style transfer may use, and the check that the transfer fits in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import psutil
import torch

from convnd.errors import ResourceError
from convnd.malloc import keep_large_blocks
from convnd.optimize import HISTORY, ProcessGroup
from convnd.stats import STATISTICS, overlap_of
from convnd.transfer.byte_size import gib, parse_memory
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.tiling_plan import (
    MemoryEstimate,
    OnMessage,
    TilingPlan,
    choose_tiling,
    size_text,
)

__all__ = ["MemoryBudget", "check_budgets", "check_estimate", "usable_bytes"]

_LOG = logging.getLogger(__name__)

_SHARE = 0.85
"""Share of the free memory that is used; the rest is for other programs."""

_SMALL = 0.25
"""Share of the free memory up to which a job may take more than its data, and so less time."""

_NOTABLE_WORK = 1.05
"""Work relative to that of one piece above which a message reports the tiles."""


class MemoryBudget:
    """The free memory of this process, and the plans that keep a transfer within it.

    Args:
        model: bytes of the parts of the transfer.
        on_message: is called with a line when an input is cut, and when memory runs out.

    Attributes:
        free: bytes that may be used.

    Raises:
        ResourceError: the program itself takes more than ``--memory`` allows.
    """

    def __init__(self, model: MemoryModel, on_message: OnMessage | None = None) -> None:
        self.model = model
        self.on_message: OnMessage = (lambda _: None) if on_message is None else on_message
        self.free = usable_bytes(model.options.memory, model.device, model.group)

    def plan(self, size: Sequence[int]) -> TilingPlan:
        """Return the plan for one size, see `choose_tiling`.

        Args:
            size: extent along each axis.
        """
        return choose_tiling(self.model, size, self.free, self.on_message)

    def check(self, size: Sequence[int], styles: Sequence[Sequence[int]]) -> TilingPlan:
        """Check that the largest size fits, report tiles that add work, and return its plan.

        Args:
            size: extent of the result along each axis.
            styles: extents of the styles at the size at which they are compared.

        Raises:
            ResourceError: the job needs more memory than is free.
        """
        model, options = self.model, self.model.options
        plan = self.plan(size)
        estimate = plan.estimate()
        if plan.tiler is None:
            estimate = replace(estimate, tiles="no tiles, as asked for")
            for style in styles:  # only forwards, where about half of a crop is alive
                crop = model.crop_bytes(style, options.layers) // 2
                if crop > estimate.total:
                    estimate = replace(estimate, components={"features of a style": crop})
        elif estimate.total <= self.free:
            if estimate.work > _NOTABLE_WORK:
                self.on_message(
                    f"{estimate.tiles}, {estimate.work:.2f} times the work of one piece, "
                    f"about {gib(estimate.total)}"
                )
            if plan.use_disk:
                self.on_message("the optimizer's state is stored in files, in TMPDIR or /var/tmp")
        check_estimate(estimate, size, self.free, self._remedy())
        return plan

    def _remedy(self) -> str:
        options = self.model.options
        remedies = ["a smaller --size"]
        if options.tile == "off":
            remedies = ["--tile auto", "a smaller --size", "a smaller --style-scale"]
        if options.backbone != "compact":
            remedies.append("--backbone compact")
        if options.optimizer == "lbfgs":
            remedies.append("--optimizer adam")
        if overlap_of(STATISTICS[options.style_loss]):  # tiles read far beyond their own
            remedies.append("--style-loss gram")
        return f"use {' or '.join(remedies)}"


def check_budgets(
    budgets: Sequence[MemoryBudget], size: Sequence[int], styles: Sequence[Sequence[int]]
) -> None:
    """Check that the largest size fits with each network, and report what its memory costs.

    Args:
        budgets: the budget of each network.
        size: extent of the result along each axis.
        styles: extents of the styles at the size at which they are compared.

    Raises:
        ResourceError: the job needs more memory than is free.
    """
    plans = [budget.check(size, styles) for budget in budgets]
    keep_large_blocks(
        all(
            plan.estimate().total <= _SMALL * budget.free
            for plan, budget in zip(plans, budgets, strict=True)
        )
    )
    history = min(plan.history for plan in plans)
    if history < HISTORY:
        budgets[-1].on_message(
            f"L-BFGS remembers {history} pairs of steps instead of {HISTORY}, so that the job fits "
            "in memory"
        )


def check_estimate(estimate: MemoryEstimate, size: Sequence[int], free: int, remedy: str) -> None:
    """Log what a transfer needs, and refuse it if that is more than is free.

    Args:
        estimate: bytes of the parts of the transfer.
        size: extent of the result along each axis.
        free: bytes that may be used.
        remedy: advice for the error.

    Raises:
        ResourceError: the transfer needs more than is free.
    """
    needed = estimate.total
    _LOG.info(
        "%s in %s, about %s of %s",
        *(size_text(size), estimate.tiles, gib(needed), gib(free)),
        extra={"figures": {"tiles": estimate.tiles, "memory_needed": needed, "memory_free": free}},
    )
    _LOG.debug("memory:\n%s", estimate.table())
    if needed > free:
        raise ResourceError(
            "style transfer",
            expected=f"at most {gib(free)}, which is free",
            got=f"a job of about {gib(needed)} at {size_text(size)}",
            remedy=remedy,
        )


def usable_bytes(memory: str, device: torch.device, group: ProcessGroup) -> int:
    """Return the bytes that a transfer may use, the same in all processes of its group.

    Args:
        memory: amount of memory as text, or "auto", see `convnd.transfer.byte_size.parse_memory`.
        device: device of the transfer.
        group: the processes that share the work.

    Raises:
        ResourceError: the program itself takes more than ``memory`` allows.
    """
    on_cpu = device.type == "cpu"
    limit = parse_memory(memory)
    if limit is None:
        # Processes that work on files of their own share the machine's memory as well.
        sharing = ProcessGroup.current().local_size if on_cpu else 1
        usable = int(_SHARE * _free_bytes(device)) // sharing
    else:
        usable = limit - (psutil.Process().memory_info().rss if on_cpu else 0)
    # The tiles depend on it, and must be the same in all processes.
    usable = -group.all_reduce_max(-usable)
    if limit is not None and usable <= 0:
        raise ResourceError(
            "memory",
            expected=f"more than the {gib(limit - usable)} that the program and its inputs take",
            got=memory,
            remedy="allow more, or auto",
        )
    return usable


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
