"""Style transfer over any number of spatial axes, as a generator of optimisation steps.

The kinds of data differ in how they are read and written. They share this optimisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from convnd.losses import Objective
from convnd.optimize import Evaluator, ProcessGroup, Step, minimize
from convnd.transfer.adjustment import Adjust
from convnd.transfer.objective import TransferObjective
from convnd.transfer.options import TransferOptions
from convnd.transfer.phases import PhaseRunner
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress

__all__ = ["StyleTransfer"]


class StyleTransfer(TransferObjective):
    """Transfers by optimisation, any number of them with the same options and networks.

    Several networks work in turn: each continues the result of the one before, and computes its own
    targets. The attributes of `TransferObjective` are those of the last network.

    Args:
        options: options of the transfers.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.
        fixed_axes: number of leading axes that keep their length at every scale, such as time. A
            style with one sample along them is not compared along them.
        planes: planes that a network of two axes sees of data of more axes, see
            `convnd.backbones.MultiPlanar`.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.

    >>> import torch
    >>> options = TransferOptions(backbone="compact", size=0, steps=1, scales=1)
    >>> transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    >>> wave = torch.linspace(0, 6, 64).sin().view(1, 1, 64)
    >>> problem = TransferProblem(wave, [wave.flip(2)])
    >>> [progress.step for progress in transfer.run(problem)]
    [0, 1]
    """

    def __init__(
        self,
        options: TransferOptions,
        *,
        spatial_dims: int,
        in_channels: int,
        fixed_axes: int = 0,
        planes: Collection[tuple[int, ...]] | None = None,
    ) -> None:
        *earlier, last = (dataclasses.replace(options, backbone=name) for name in options.backbones)
        shared: Any = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "fixed_axes": fixed_axes,
            "planes": planes,
        }
        earlier_networks = [TransferObjective(one_network, **shared) for one_network in earlier]
        super().__init__(last, **shared)
        self.networks = (*earlier_networks, self)
        shortest = max(network.resizer.shortest for network in self.networks)
        self.resizer = dataclasses.replace(self.resizer, shortest=shortest)

    def run(
        self,
        problem: TransferProblem,
        *,
        resume: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
        options: TransferOptions | None = None,
        adjust: Adjust | None = None,
    ) -> Iterator[Progress]:
        """Optimise from coarse to fine, and yield every evaluated step.

        Args:
            problem: inputs of the transfer.
            resume: `Progress.state` of an earlier run with the same problem.
            group: the processes that share the work, each with the same problem; None is this one
                alone.
            on_message: is called with one line when the work is cut into tiles, when memory runs
                out, and when steps are rejected.
            options: options of this transfer, of which the `LIVE_OPTIONS` of
                `convnd.transfer.adjustment` count; None is the attribute.
            adjust: is asked after every step whether problem or options change. The phase then
                begins again, from the values of the step, which is evaluated once more. None
                changes nothing.

        Raises:
            UsageError: there are more or fewer weights than styles.
            ShapeError: the tensors do not fit the backbone.
            ResourceError: there is not enough memory; this is checked before any work.
            NumericalError: loss or gradient is not finite, see `convnd.optimize.minimize`.
        """
        options = self.options if options is None else options
        options.check_style_weights(len(problem.styles))
        for values in (problem.content, problem.init, *problem.styles):
            if values is not None:
                self.backbone.check(values, ())
        for network in self.networks:
            network.resolve_layers(problem.size)
        runner = PhaseRunner(
            problem,
            [network.with_live_options(options) for network in self.networks],
            dataclasses.replace(self.resizer, style_scale=options.style_scale),
            self.optimize,
            ProcessGroup() if group is None else group,
            (lambda _: None) if on_message is None else on_message,
            adjust,
        )
        yield from runner.run(resume)

    def optimize(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **more: Any
    ) -> Iterator[Step]:
        """Yield the steps of one phase, see `convnd.optimize.minimize`."""
        return minimize(
            objective,
            start,
            optimizer=self.options.optimizer,
            learning_rate=self.options.learning_rate,
            evaluate=evaluate,
            **more,
        )
