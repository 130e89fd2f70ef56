"""The optimiser of the student in the distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.training.distill_networks import TAPS, Student, parts


class WhitenedAdam:
    """Adam on weights, in coordinates in which the input channels are uncorrelated.

    The inputs of a layer are positive and similar, so a step of plain Adam moves the outputs mostly
    along one direction, their mean. Let ``A`` be the second moments of the input channels of a
    convolution. Then Adam works on ``V`` in ``W = W0 + V A^(-1/2)``, with the same ``A`` at every
    place in the kernel's window.

    Args:
        student: the network whose convolutions and taps the steps change.
        crops: batches of pictures for the moments.
        ridge: addition to ``A``, relative to its mean diagonal.
    """

    def __init__(self, student: Student, crops: Sequence[Tensor], ridge: float = 1e-3) -> None:
        self.weights: dict[str, Tensor] = {}
        self.whiteners: dict[str, Tensor] = {}
        maps = list(crops)
        for name, layer, pool in student.net.steps():
            maps = [F.max_pool2d(m, 2) for m in maps] if pool else maps
            for part, conv in parts(name, layer):
                self.weights[part] = conv.weight
                self.whiteners[part] = _whitener(maps, ridge)
                if conv.bias is not None:
                    self.weights[f"{part}.bias"] = conv.bias
                maps = [conv(m) for m in maps]
            maps = [F.relu(m) for m in maps]
            tap = name.replace("conv", "relu")
            if tap in TAPS:
                self.weights[tap] = student.taps[tap]
                self.whiteners[tap] = _whitener(maps, ridge)
        self.moves = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.begun = {name: w.detach().clone() for name, w in self.weights.items()}
        # n inputs that change by one step each move an output by sqrt(n) steps.
        self.adam = torch.optim.Adam(
            [
                {"params": [move], "share": math.sqrt(300 / max(300, move[0].numel()))}
                for move in self.moves.values()
            ],
            betas=(0.9, 0.99),
        )

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step with the gradients that the student's parameters hold."""
        for group in self.adam.param_groups:
            group["lr"] = rate * group["share"]
        for name, move in self.moves.items():
            gradient = self.weights[name].grad
            assert gradient is not None
            move.grad = self._whitened(name, gradient)
        self.adam.step()
        for name, move in self.moves.items():
            self.weights[name].copy_(self.begun[name] + self._whitened(name, move))

    def _whitened(self, name: str, value: Tensor) -> Tensor:
        white = self.whiteners.get(name)
        if white is None:
            return value
        whitened: Tensor = torch.tensordot(value, white, ([1], [0])).movedim(-1, 1)
        return whitened

    def state(self) -> dict[str, Any]:
        """The state that a later run needs to continue."""
        state = {"whiteners": self.whiteners, "begun": self.begun, "adam": self.adam.state_dict()}
        return state | {"moves": self.moves}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.whiteners, self.begun = state["whiteners"], state["begun"]
        for name, move in self.moves.items():
            move.copy_(state["moves"][name])
        self.adam.load_state_dict(state["adam"])


def _whitener(maps: Sequence[Tensor], ridge: float) -> Tensor:
    """The inverse square root of the channels' second moments (C, C)."""
    rows = torch.cat([m.permute(0, 2, 3, 1).flatten(0, 2) for m in maps])
    moment = (rows.T @ rows / len(rows)).double()
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(0) + ridge * moment.diagonal().mean()
    white: Tensor = ((vectors * values.rsqrt()) @ vectors.T).float()
    return white
