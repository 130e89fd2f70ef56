"""Training of a `TransformNet` with the objective of style transfer, as a generator of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from convnd.errors import NumericalError
from convnd.feedforward.transform_net import INPUT, TransformNet, field_statistics
from convnd.losses import Term, tile_index
from convnd.optimize import Evaluator, evaluate_whole, evaluate_within
from convnd.optimize.base import is_count, is_number
from convnd.optimize.muon import Muon
from convnd.optimize.state import state_errors
from convnd.transfer.objective import TransferObjective
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress

__all__ = ["Contents", "TrainingPlan", "train_network"]

Contents = Callable[[torch.Generator], TransferProblem]
"""Draws a content at random, and returns it with its styles."""

_WARM_UP = 20
"""Steps over which the learning rate rises from 0."""

_LAST_RATE = 0.05
"""Learning rate at the last step, relative to the highest."""

_AVERAGED = 0.98
"""Share of the average of the weights that is kept at each step."""

_WINDOW = 100
"""Steps whose mean loss is compared with that of as many earlier steps, for the tolerance."""

_LONGEST_SHIFT, _BORDER = 6, 8
"""Samples that a content is shifted by at most, and that are left out at the border, for the
motion loss."""

_MOST_TERMS = 8
"""Sets of styles whose statistics are kept."""


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
    trainer = _Trainer(network, contents, objective, plan)
    if resume is not None:
        trainer.resume(resume)
    while trainer.step < plan.steps and not trainer.has_settled():
        yield trainer.advance()


class _Trainer:
    """The state of a training: weights, their average, the optimizer and the losses."""

    def __init__(
        self,
        network: TransformNet,
        contents: Contents,
        objective: TransferObjective,
        plan: TrainingPlan,
    ) -> None:
        self.network, self.plan = network, plan
        self.step = 0
        self.losses: list[float] = []
        self._contents = contents
        self._crops = _CropLoss(network, objective, plan.crop, plan.motion_weight)
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
            problem = self._contents(generator)
            output, terms = self._crops.backward(problem, generator, 1 / plan.batch)
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
        self.losses = [*self.losses, loss][-2 * _WINDOW :]
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
        if self.plan.tolerance <= 0 or len(self.losses) < 2 * _WINDOW:
            return False
        before, after = sum(self.losses[:_WINDOW]), sum(self.losses[_WINDOW:])
        return before - after < self.plan.tolerance * before

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "losses": list(self.losses),
            "weights": self._weights,
            "average": self._average,
            "optimizer": self._optimizer.state,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that was read from a file."""
        with state_errors():
            losses = state["losses"]
            valid = is_count(state["step"]) and isinstance(losses, list) and len(losses) < 1000
            if not valid or not all(map(is_number, losses)):
                raise ValueError("no state of a training")
            for name in ("weights", "average"):
                stored = state[name]
                if stored.shape != self._weights.shape or stored.dtype != torch.float32:
                    raise ValueError(f"{name} of another network")
            self._optimizer.load(dict(state["optimizer"]))
            self.step, self.losses = state["step"], [*losses]
            self._weights.copy_(state["weights"])
            self._average.copy_(state["average"])
            vector_to_parameters(self._average.clone(), self._parameters)


@dataclass
class _CropLoss:
    """Evaluates a network on crops of contents.

    Args:
        network: the network.
        objective: makes the objective of a crop.
        crop: samples of a crop along each axis; axes that are shorter stay whole.
        motion_weight: weight of the motion loss.
    """

    network: TransformNet
    objective: TransferObjective
    crop: int
    motion_weight: float
    _terms: list[tuple[tuple[int, ...], list[Tensor], list[Term]]] = field(default_factory=list)

    def backward(
        self, problem: TransferProblem, generator: torch.Generator, weight: float
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Add the gradient of one crop's loss to that of the weights.

        Args:
            problem: content and styles.
            generator: source of the position of the crop.
            weight: weight of the crop's loss.

        Returns:
            The output of the network, and the weighted terms of the loss by name.
        """
        content = problem.content
        assert content is not None
        source = content if problem.initial is None else problem.initial(content)
        statistics = {INPUT: field_statistics(source, self.network.basis)}
        slices = self._window(problem.size, generator)
        window = tile_index(slices)
        target = content[window].contiguous()
        origin = [part.start for part in slices]
        output: Tensor = self.network(source[window], statistics, origin)
        whole = tuple(target.shape[2:]) == problem.size
        extra_terms = problem.extra_terms(problem.size) if problem.extra_terms and whole else ()
        objective = self.objective.objective(
            target,
            problem.styles,
            problem.spacing,
            style_terms=self._style_terms(problem),
            extra_terms=extra_terms,
        )
        evaluate: Evaluator = evaluate_whole
        if problem.bounds is not None:
            evaluate = evaluate_within(evaluate_whole, problem.bounds)
        evaluation = evaluate(objective, output.detach())
        roots, gradients = [output], [evaluation.gradient.to(output) * weight]
        parts = dict(evaluation.parts)
        if self.motion_weight > 0:
            shift = self._shift(slices, problem.size, generator)
            shifted = [slice(s.start + n, s.stop + n) for s, n in zip(slices, shift, strict=True)]
            # As in a video, the pattern's coordinates are those of the frame and do not move.
            moved = self.network(source[tile_index(shifted)], statistics, origin)
            motion = self.motion_weight * self._motion(output, moved, shift)
            roots.append(motion)
            gradients.append(torch.full_like(motion, weight))
            parts["motion"] = motion.item()
        torch.autograd.backward(roots, gradients)
        return output.detach(), parts

    @staticmethod
    def _shift(
        window: Sequence[slice], size: Sequence[int], generator: torch.Generator
    ) -> list[int]:
        """Draw a shift along each axis that leaves the window inside of the field."""
        shift = []
        for part, extent in zip(window, size, strict=True):
            low = max(-_LONGEST_SHIFT, -part.start)
            high = min(_LONGEST_SHIFT, extent - part.stop)
            shift.append(low + int(torch.randint(high - low + 1, (1,), generator=generator)))
        return shift

    def _motion(self, output: Tensor, moved: Tensor, shift: Sequence[int]) -> Tensor:
        """Compute the mean square difference of two outputs where they show the same content."""
        for axis, step in enumerate(shift, 2):
            extent = output.shape[axis] - abs(step)
            border = min(_BORDER, (extent - 1) // 2)
            length = extent - 2 * border
            output = output.narrow(axis, max(step, 0) + border, length)
            moved = moved.narrow(axis, max(-step, 0) + border, length)
        variance = self.network.style_deviation.square().mean().clamp_min(1e-12)
        return (output - moved).square().mean() / variance

    def _window(self, size: Sequence[int], generator: torch.Generator) -> list[slice]:
        slices = []
        for extent in size:
            length = min(extent, self.crop)
            step = self.network.shape.stride  # positions of the pattern are multiples of it
            start = step * int(
                torch.randint((extent - length) // step + 1, (1,), generator=generator)
            )
            slices.append(slice(start, start + length))
        return slices

    def _style_terms(self, problem: TransferProblem) -> list[Term]:
        """Return the terms of the styles, which contents of one size with equal styles share."""
        for size, styles, terms in self._terms:
            if size == problem.size and _are_equal(styles, problem.compared_styles):
                return terms
        objective = self.objective
        resize = partial(
            objective.resizer.style_at, size=problem.size, style_grid=problem.style_grid
        )
        terms = objective.style_terms(
            [resize(style) for style in problem.compared_styles],
            value_styles=[resize(style) for style in problem.styles],
            known_bandwidth=problem.known_bandwidth,
        )
        entry = problem.size, list(problem.compared_styles), terms
        self._terms = [*self._terms[1 - _MOST_TERMS :], entry]
        return terms


def _hidden_matrices(network: TransformNet) -> list[tuple[int, tuple[int, int]]]:
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


def _are_equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(
        one is other or (one.shape == other.shape and bool(torch.equal(one, other)))
        for one, other in zip(first, second, strict=True)
    )


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
