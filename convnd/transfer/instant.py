"""Style transfer in one pass, by the shipped network for any style."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from convnd.backbones import choose_device
from convnd.backbones.weights import load_state
from convnd.errors import ResourceError, UsageError
from convnd.feedforward import ArbitraryStyleNet
from convnd.optimize import ProcessGroup, Tiler
from convnd.transfer.byte_size import gib
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.memory import usable_bytes
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.resizing import Resizer
from convnd.transfer.tiling_plan import size_text

__all__ = ["InstantTransfer"]

_SMALLEST_CROP = 256
"""Samples of a tile with its halo along an axis, below which the halo is most of it."""


class InstantTransfer:
    """Transfers by the network for any style, any number of them with the same options.

    Args:
        options: options of the transfers; those of losses and optimisation have no effect.
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
        make_deterministic(options.deterministic)
        self.options = options
        self.device = choose_device(options.device)
        self.resizer = Resizer(self.device, style_scale=options.style_scale, shortest=16)

    @property
    def network(self) -> ArbitraryStyleNet:
        """The network, loaded at its first use."""
        return _load_network(self.device)

    def run(
        self,
        problem: TransferProblem,
        *,
        resume: Mapping[str, Any] | None = None,  # noqa: ARG002
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,  # noqa: ARG002
    ) -> Iterator[Progress]:
        """Yield the result, as the only step.

        Args:
            problem: content and styles.
            resume: not used, since there is only one step.
            group: the processes that share the job; each computes the whole result.
            on_message: not used.

        Raises:
            UsageError: there are more or fewer weights than styles, or no content (a texture).
            ResourceError: there is not enough memory.
        """
        self.options.check_style_weights(len(problem.styles))
        content = None
        if problem.content is not None:
            content = self.resizer.resize(problem.content, problem.size)
        styles = [self.resizer.style_at(style, problem.size) for style in problem.styles]
        yield Progress.of_one_pass(
            self.start(content, styles, ProcessGroup() if group is None else group)
        )

    def start(
        self, content: Tensor | None, styles: Sequence[Tensor], group: ProcessGroup
    ) -> Tensor:
        """Give a content the styles, without a change of sizes.

        Args:
            content: ``(1, 3, H, W)``; None, as for a texture, is an error.
            styles: ``(1, 3, H_i, W_i)`` each.
            group: the processes that share the memory of the machine.

        Returns:
            ``(1, 3, H, W)``.

        Raises:
            UsageError: there is no content.
            ResourceError: there is not enough memory.
        """
        if content is None:
            raise UsageError(
                "instant",
                expected="a content",
                got="none, for a texture",
                remedy="give --steps and another --init",
            )
        weights = self.options.style_weights or (1.0,) * len(styles)
        free = usable_bytes(self.options.memory, self.device, group)
        free -= content.nbytes * 3 // 2  # the result, and the noise
        if self.network.peak_bytes((_SMALLEST_CROP,) * 2, ()) > free:
            raise ResourceError(
                "instant",
                expected=f"memory for a result of {size_text(content.shape[2:])} and a tile",
                got=gib(max(0, free)),
                remedy="allow more (--memory), or use a smaller --size",
            )

        def fits(crop: tuple[int, ...], layers: Sequence[str]) -> bool:
            return self.network.peak_bytes(crop, layers) <= free

        tile = self.options.tile
        tiler = Tiler(
            tile=int(tile) if tile.isdecimal() else None, fits=None if tile == "off" else fits
        )
        targets = self.network.read_styles(styles, weights, tiler)
        return self.network.stylize(content, targets, tiler, seed=self.options.seed)


@cache
def _load_network(device: torch.device) -> ArbitraryStyleNet:
    """Load the network, once for all transfers of a process: its weights take 4 MiB."""
    network = ArbitraryStyleNet(load_state("instant"))
    network.to(device)
    return network
