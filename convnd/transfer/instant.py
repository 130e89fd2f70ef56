"""Style transfer in one pass, by the shipped network for any style."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Self

import torch
from torch import Tensor

from convnd.backbones.weights import load_state
from convnd.errors import ResourceError, UsageError
from convnd.feedforward import AffineMap, ArbitraryStyleNet, StylePart, StyleTargets
from convnd.losses import INPUT
from convnd.optimize import ProcessGroup, Tiler
from convnd.transfer.byte_size import gib
from convnd.transfer.memory import usable_bytes
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.regions import fit_share
from convnd.transfer.resizing import Resizer
from convnd.transfer.tiling_plan import size_text

__all__ = ["InstantTransfer"]

_LOG = logging.getLogger(__name__)

_SMALLEST_CROP = 256
"""Samples of a tile with its halo along an axis, below which the halo is most of it."""


class InstantTransfer(OnePassTransfer):
    """Transfers by the network for any style.

    Args:
        options: see `OnePassTransfer`.
        spatial_dims: number of spatial axes, 2.
        in_channels: channels of the values, 3.

    Raises:
        UsageError: another number of axes or channels.

    >>> import torch
    >>> transfer = InstantTransfer(TransferOptions(), spatial_dims=2, in_channels=3)
    >>> content, style = torch.rand(1, 3, 32, 40), torch.rand(1, 3, 48, 32)
    >>> [progress.values.shape for progress in transfer.run(TransferProblem(content, [style]))]
    [torch.Size([1, 3, 32, 40])]
    """

    def __init__(self, options: TransferOptions, *, spatial_dims: int, in_channels: int) -> None:
        if (spatial_dims, in_channels) != (2, 3):
            raise UsageError(
                "instant",
                expected="pictures of 3 channels, which its network was trained on",
                got=f"{spatial_dims} axes and {in_channels} channels",
                remedy="give --steps and another --init",
            )
        super().__init__(options)
        self.resizer = Resizer(self.device, style_scale=options.style_scale, shortest=16)
        self._matching: tuple[StyleTargets, Mapping[str, AffineMap]] | None = None

    @property
    def network(self) -> ArbitraryStyleNet:
        """The network, loaded at its first use."""
        return _load_network(self.device)

    def stylize(
        self,
        problem: TransferProblem,
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """See `OnePassTransfer.stylize`; each process of a group computes the whole result.

        Raises:
            UsageError: there are more or fewer weights than styles.
            ResourceError: there is not enough memory.
        """
        content = self.resizer.resize(content, problem.size)
        tiler = self._tiler(problem.size, group, on_message)
        share = None if problem.mask is None else fit_share(problem.mask.to(content), problem.size)
        parts = [self._style_part(problem, share, tiler)]
        return self._compute(content, parts, tiler)

    def check_memory(
        self, problem: TransferProblem, group: ProcessGroup, on_message: Callable[[str], None]
    ) -> None:
        """See `OnePassTransfer.check_memory`."""
        self._tiler(problem.size, group, on_message)

    def stylize_parts(
        self,
        parts: Sequence[tuple[Self, TransferProblem]],
        shares: Sequence[Tensor],
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """Average the features of the parts, and decode them once.

        See `OnePassTransfer.stylize_parts`.
        """
        tiler = self._tiler(tuple(content.shape[2:]), group, on_message)
        style_parts = [
            transfer._style_part(problem, share, tiler)
            for (transfer, problem), share in zip(parts, shares, strict=True)
        ]
        return self._compute(content, style_parts, tiler)

    def _compute(self, content: Tensor, parts: Sequence[StylePart], tiler: Tiler) -> Tensor:
        seed, on_tile = self.options.seed, self.on_tile
        return self.network.stylize(content, parts, tiler, seed=seed, on_tile=on_tile)

    def _style_part(
        self, problem: TransferProblem, share: Tensor | None, tiler: Tiler
    ) -> StylePart:
        """Read the styles for a part of the content, unless `for_frames` has read them."""
        targets, maps = self._matching or (self._read_styles(problem, tiler), None)
        return StylePart(targets, share, maps)

    def for_frames(
        self, styles: Sequence[Tensor], frames: Sequence[Tensor], masks: Sequence[Tensor] = ()
    ) -> InstantTransfer:
        """Return a transfer that treats all frames of a video alike, so that nothing flickers.

        The statistics are those of some frames together, and the styles are read once.

        Args:
            styles: ``(1, 3, H_i, W_i)`` each.
            frames: some frames of the video ``(1, 3, H, W)``, at the size of the result.
            masks: for each frame, the share of each position whose statistics are matched,
                ``(1, 1, H, W)``, see `ArbitraryStyleNet.match`; empty is 1.

        Raises:
            UsageError: there are more or fewer weights than styles.
            ResourceError: there is not enough memory.
        """
        transfer = copy.copy(self)
        contents = [frame.to(self.device) for frame in frames]
        tiler = self._tiler(tuple(contents[0].shape[2:]), ProcessGroup())
        targets = self._read_styles(TransferProblem(contents[0], styles), tiler)
        masks = [mask.to(self.device) for mask in masks]
        transfer._matching = targets, self.network.match(contents, targets, tiler, masks=masks)
        return transfer

    def _read_styles(self, problem: TransferProblem, tiler: Tiler) -> StyleTargets:
        """Read the styles at the size at which they are compared with the result."""
        self.options.check_style_weights(len(problem.styles))
        resize = partial(self.resizer.style_at, size=problem.size, style_grid=problem.style_grid)
        styles = [resize(style) for style in problem.styles]
        weights = self.options.style_weights or (1.0,) * len(styles)
        return self.network.read_styles(styles, weights, tiler)

    def _tiler(
        self,
        size: tuple[int, ...],
        group: ProcessGroup,
        on_message: Callable[[str], None] | None = None,
    ) -> Tiler:
        """Make the tiler for a size, whose tiles fit in the memory that is free."""
        free = usable_bytes(self.options.memory, self.device, group)
        free -= 12 * math.prod(size) * 3 // 2  # the result, and the noise
        if self.network.peak_bytes((_SMALLEST_CROP,) * 2, ()) > free:
            raise ResourceError(
                "instant",
                expected=f"memory for a result of {size_text(size)} and a tile",
                got=gib(max(0, free)),
                remedy="allow more (--memory), or use a smaller --size",
            )

        def fits(crop: tuple[int, ...], layers: Sequence[str]) -> bool:
            return self.network.peak_bytes(crop, layers) <= free

        tile = self.options.tile
        tiler = Tiler(
            tile=int(tile) if tile.isdecimal() else None, fits=None if tile == "off" else fits
        )
        if self._matching is None:  # not for each frame of a video
            _log_memory(self.network.peak_bytes(size, ()), free, size)
            tiling = tiler.make_tiling(self.network, (INPUT, *self.network.layers), size)
            if len(tiling) > 1 and on_message is not None:
                on_message(f"{len(tiling)} tiles of {size_text(tiling.tile)}")
        return tiler


def _log_memory(whole: int, free: int, size: Sequence[int]) -> None:
    """Log the memory of one pass, which is that of the whole, or of tiles that fill what is free.

    Args:
        whole: bytes of one pass without tiles.
        free: bytes that the network may use.
        size: samples of the result along each axis.
    """
    needed = min(whole, free)
    _LOG.info(
        "%s in one pass, about %s of %s",
        *(size_text(size), gib(needed), gib(free)),
        extra={"figures": {"memory_needed": needed, "memory_free": free}},
    )


@cache
def _load_network(device: torch.device) -> ArbitraryStyleNet:
    """Load the network, once for all transfers of a process: its weights take 4 MiB."""
    network = ArbitraryStyleNet(load_state("instant"))
    network.to(device)
    return network
