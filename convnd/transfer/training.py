"""Training of networks, such as a `TransformNet` with the objective of style transfer, in steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from convnd.errors import NumericalError
from convnd.feedforward.transform_net import TransformNet
from convnd.optimize.base import is_count, is_number
from convnd.optimize.muon import Muon
from convnd.optimize.state import state_errors
from convnd.transfer.crop_loss import CropLoss
from convnd.transfer.objective import TransferObjective
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress

__all__ = [
    "Contents",
    "CropBackward",
    "TrainingPlan",
    "losses_so_far",
    "minimize_crop_losses",
    "train_network",
]

Contents = Callable[[torch.Generator], TransferProblem]
"""Draws a content at random, and returns it with its styles."""

CropBackward = Callable[[torch.Generator, float], tuple[Tensor, Mapping[str, float]]]
"""Draws a crop, adds the gradient of its loss, multiplied by a weight, to that of a network's
weights, and returns the network's output and the terms of the loss by name."""

_WARM_UP = 20
"""Steps over which the learning rate rises from 0."""

_LAST_RATE = 0.05
"""Learning rate at the last step, relative to the highest."""

_AVERAGED = 0.98
"""Share of the average of the weights that is kept at each step."""

_WINDOW = 100
"""Steps whose mean loss is compared with that of as many earlier steps, for the tolerance."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Steps, crops and learning rate of a training.

    Args:
        steps: number of updates of the weights.
        crop: samples of a crop along each axis; axes that are shorter stay whole.
        batch: number of crops for each update.
        learning_rate: highest learning rate, see `convnd.optimize.muon.Muon`; it rises over the
            first steps and falls along a cosine to the last.
        motion_weight: weight of the motion loss, see `train_network`.
        tolerance: relative decrease of the mean loss over 100 steps below which the training ends;
            0 takes all steps.
        seed: seed of the crops.
    """

    steps: int
    crop: int
    batch: int = 1
    learning_rate: float = 4e-3
    motion_weight: float = 0.0
    tolerance: float = 0.0
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1.

        >>> plan = TrainingPlan(steps=1000, crop=128, learning_rate=1.0)
        >>> plan.rate_at(1), plan.rate_at(20) > 0.9, round(plan.rate_at(1000), 6)
        (0.05, True, 0.05)
        """
        falling = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        share = _LAST_RATE + (1 - _LAST_RATE) * falling
        return self.learning_rate * min(share, step / _WARM_UP)


def train_network(
    network: TransformNet,
    contents: Contents,
    objective: TransferObjective,
    plan: TrainingPlan,
    *,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[Progress]:
    r"""Train a network so that its outputs have a low objective of style transfer.

    .. math:: \min_\theta \; \mathbb{E}_x \, L\big(f_\theta(x);\, x\big)

    where :math:`L` is the objective that an optimisation minimises for one content (Johnson et al.,
    2016). With a motion weight :math:`w`, the network also learns that its pattern follows a shift
    :math:`T` of the content by a few samples, as between two frames of a video (Eilertsen et al.,
    "Single-frame regularization for temporally stable CNNs", 2019); :math:`\sigma_s^2` is the mean
    variance of the style's channels:

    .. math:: w\, \frac{1}{N \sigma_s^2} \lVert f_\theta(T x) - T f_\theta(x) \rVert^2

    The crops of a step depend on the seed and on the number of the step, so that a resumed
    run draws the same ones. After each step the network holds the average of its weights over the
    last steps (Polyak and Juditsky, 1992).

    Args:
        network: the network, whose weights are the starting point and change.
        contents: draws a content.
        objective: makes the objective of a crop.
        plan: steps, crops and learning rate.
        resume: `Progress.state` of an earlier run with the same arguments.

    Yields:
        `Progress` after each step: ``values`` is the last crop's output, ``loss`` the mean over the
        crops of the step.

    Raises:
        InputFileError: the state to resume from is not that of such a training.
        NumericalError: a loss is not finite.
    """
    crops = CropLoss(network, objective, plan.crop, plan.motion_weight)

    def backward(generator: torch.Generator, weight: float) -> tuple[Tensor, Mapping[str, float]]:
        return crops.backward(contents(generator), generator, weight)

    yield from minimize_crop_losses(network, backward, plan, resume=resume)


def minimize_crop_losses(
    network: nn.Module,
    backward: CropBackward,
    plan: TrainingPlan,
    *,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[Progress]:
    """Train a network on a loss of crops, with the steps of `train_network`.

    Args:
        network: the network, whose weights are the starting point and change.
        backward: adds the gradient of one crop's loss.
        plan: steps and learning rate.
        resume: as for `train_network`.

    Yields:
        `Progress` after each step, as `train_network` does.

    Raises:
        InputFileError: the state to resume from is not that of such a training.
        NumericalError: a loss is not finite.
    """
    trainer = _Trainer(network, backward, plan)
    if resume is not None:
        trainer.resume(resume)
    while trainer.step < plan.steps and not trainer.has_settled():
        yield trainer.advance()


class _Trainer:
    """The state of a training: weights, their average, the optimizer and the losses."""

    def __init__(
        self,
        network: nn.Module,
        backward: CropBackward,
        plan: TrainingPlan,
    ) -> None:
        self.network, self.plan = network, plan
        self.step = 0
        self.losses: dict[str, list[float]] = {}
        self._backward = backward
        self._parameters = [*network.parameters()]
        self._weights = parameters_to_vector(self._parameters).detach().clone()
        self._average = self._weights.clone()
        matrices = _hidden_matrices(network)
        self._optimizer = Muon(self._weights, plan.learning_rate, matrices=matrices)

    def advance(self) -> Progress:
        """Take one step."""
        plan, self.step = self.plan, self.step + 1
        generator = torch.Generator().manual_seed((plan.seed << 24) + self.step)
        vector_to_parameters(self._weights, self._parameters)
        self.network.zero_grad()
        parts: dict[str, float] = {}
        for _ in range(plan.batch):
            output, terms = self._backward(generator, 1 / plan.batch)
            for name, value in terms.items():
                parts[name] = parts.get(name, 0.0) + value / plan.batch
        loss = sum(parts.values())
        gradient = torch.cat([_gradient(weight).flatten() for weight in self._parameters])
        if not (math.isfinite(loss) and bool(torch.isfinite(gradient).all())):
            raise NumericalError(
                "train",
                expected="finite losses",
                got=f"{loss} at step {self.step}",
                remedy="use a smaller --learning-rate",
            )
        self._weights.grad = gradient
        self._optimizer.lr = plan.rate_at(self.step)
        self._optimizer.step()
        share = min(_AVERAGED, self.step / (self.step + 10))
        self._average.lerp_(self._weights, 1 - share)
        vector_to_parameters(self._average.clone(), self._parameters)
        for name, value in {"total": loss, **parts}.items():
            self.losses.setdefault(name, []).append(value)
        return Progress(
            step=self.step,
            steps=plan.steps,
            phase=1,
            phases=1,
            fraction_done=self.step / plan.steps,
            loss=loss,
            parts=parts,
            values=output,
            state=self._state,
        )

    def has_settled(self) -> bool:
        """Whether the mean loss falls no faster than the tolerance allows."""
        last = self.losses.get("total", [])[-2 * _WINDOW :]
        if self.plan.tolerance <= 0 or len(last) < 2 * _WINDOW:
            return False
        before, after = sum(last[:_WINDOW]), sum(last[_WINDOW:])
        return before - after < self.plan.tolerance * before

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "losses": {name: list(values) for name, values in self.losses.items()},
            "weights": self._weights,
            "average": self._average,
            "optimizer": self._optimizer.state,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that was read from a file."""
        self.losses = losses_so_far(state)
        with state_errors():
            if not is_count(state["step"]):
                raise ValueError("no state of a training")
            for name in ("weights", "average"):
                stored = state[name]
                if stored.shape != self._weights.shape or stored.dtype != torch.float32:
                    raise ValueError(f"{name} of another network")
            self._optimizer.load(dict(state["optimizer"]))
            self.step = state["step"]
            self._weights.copy_(state["weights"])
            self._average.copy_(state["average"])
            vector_to_parameters(self._average.clone(), self._parameters)


def losses_so_far(state: Mapping[str, Any]) -> dict[str, list[float]]:
    """Read the objective ("total") and its terms at every step out of `Progress.state`.

    Raises:
        InputFileError: the state is not that of a training.
    """
    with state_errors():
        losses, steps = state["losses"], state["step"]
        for values in losses.values():
            if len(values) > steps or not all(map(is_number, values)):
                raise ValueError("no losses of a training")
        return {name: [*values] for name, values in losses.items()}


def _hidden_matrices(network: nn.Module) -> list[tuple[int, tuple[int, int]]]:
    """List start and shape of the convolutions between the first and the last one.

    The start is the place in the vector of all weights; the rows of a matrix are output channels.
    """
    matrices, start = [], 0
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and name.partition(".")[0] in ("down", "blocks", "up"):
            rows = weight.shape[0]
            matrices.append((start, (rows, weight.numel() // rows)))
        start += weight.numel()
    return matrices


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
