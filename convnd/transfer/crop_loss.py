"""The loss of a network on crops of contents, with which `convnd.transfer.training` trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from convnd.feedforward.network_shape import INPUT
from convnd.feedforward.transform_net import TransformNet, field_statistics
from convnd.losses import Term, tile_index
from convnd.optimize import Evaluator, evaluate_whole, evaluate_within
from convnd.transfer.objective import TransferObjective
from convnd.transfer.problem import TransferProblem

__all__ = ["CropLoss"]

_LONGEST_SHIFT, _BORDER = 6, 8
"""Samples that a content is shifted by at most, and that are left out at the border, for the
motion loss."""

_MOST_TERMS = 8
"""Sets of styles whose statistics are kept."""


@dataclass
class CropLoss:
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
        content, source = (values.to(self.objective.device) for values in (content, source))
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


def _are_equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(
        one is other or (one.shape == other.shape and bool(torch.equal(one, other)))
        for one, other in zip(first, second, strict=True)
    )
