"""Frames of a block change together, along the motion of the input.

A block is optimised in other variables than its values: ``x = c + A z`` with the start ``c`` and
``A`` a mean over frames along the lines of motion, so that what is done to one frame is done to
those around it, where the flow can be relied on. A clip as style brings lines of its own, along
which a second part of the change moves on. The objective stays as it is, and so does the way it is
evaluated; its gradient in ``z`` is ``Aᵀ`` times that in ``x``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.losses import Objective
from convnd.nn import resize_nd
from convnd.optimize import Evaluation, Evaluator, Step
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.video.flow import Motion, reliable, warp

__all__ = ["AlongMotion", "BlockStyleTransfer"]

_SHORT = 5.0
"""Frames, counted with their fading, from which on a line of motion changes as fast as any. What is
seen in fewer, as at borders, is not smoothed by the mean: at the same rate it became specks."""


_FIRST = 1 / 25600
"""What the first step changes on the average, about: L-BFGS begins with a gradient of length 1 in
all, spread over the values. Less is lost in 16 bits, and what it learns of the curvature wrong."""


class AlongMotion:
    r"""The mean over frames along lines of motion, which fades with their distance.

    .. math:: x_t = \frac{\sum_s a^{|t - s|} m_{ts} W_{ts} z_s}{\sum_s a^{|t - s|} m_{ts}}

    with ``W`` the warp from frame ``s`` to ``t``, step by step, and ``m`` whether all of its steps
    can be relied on.

    Args:
        flows: of ``T`` frames, the ``T − 1`` flows back from each but the first ``(2, H, W)``, and
            those from each but the last to the next.
        masks: of both, where they can be relied on ``(1, 1, H, W)``.
        fading: ``a``, from 0 (each frame by itself) to 1 (all count alike).

    Attributes:
        share: ``(1, 1, T, H, W)``, how fast each position may change.
    """

    def __init__(
        self,
        flows: tuple[Sequence[Tensor], Sequence[Tensor]],
        masks: tuple[Sequence[Tensor], Sequence[Tensor]],
        fading: float,
    ) -> None:
        self._flows, self._masks, self._fading = flows, masks, fading
        ones = torch.ones_like(masks[0][0]) if masks[0] else torch.ones(1, 1, 1, 1)
        frames = 1 + len(flows[0])
        self._count = self._summed(ones[:, :, None].expand(-1, -1, frames, -1, -1))
        self.share = (self._count / _SHORT).clamp(max=1)

    @classmethod
    def between(cls, motions: Sequence[Motion], fading: float) -> AlongMotion:
        """Of frames with these motions from each to the next."""
        return cls(
            ([each.backward for each in motions], [each.forward for each in motions]),
            (
                [reliable(each.backward, each.forward, borders=True) for each in motions],
                [reliable(each.forward, each.backward, borders=True) for each in motions],
            ),
            fading,
        )

    def at(self, plane: Sequence[int], device: torch.device) -> AlongMotion:
        """The same for frames of another size."""

        def flow(each: Tensor) -> Tensor:
            ratio = [new / old for new, old in zip(plane, each.shape[1:], strict=True)]
            small = resize_nd(each[None], plane, mode="linear", antialias=True)[0]
            return (small * small.new_tensor(ratio)[:, None, None]).to(device)

        def mask(each: Tensor) -> Tensor:
            return resize_nd(each, plane, mode="linear", antialias=True).gt(0.5).float().to(device)

        back, fore = self._flows
        seen_before, seen_after = self._masks
        return AlongMotion(
            ([flow(each) for each in back], [flow(each) for each in fore]),
            ([mask(each) for each in seen_before], [mask(each) for each in seen_after]),
            self._fading,
        )

    def __call__(self, values: Tensor) -> Tensor:
        """``A z`` of ``(1, C, T, H, W)``."""
        return self._summed(values) / self._count

    def filled(self, values: Tensor, known: Sequence[bool], otherwise: Tensor) -> Tensor:
        """Frames that are known, moved on to those that are not.

        Args:
            values: ``(1, C, T, H, W)``.
            known: which of the frames are.
            otherwise: values of positions that no line of motion leads to from a known frame.
        """
        given = torch.tensor(known, dtype=values.dtype).view(1, 1, -1, 1, 1)
        weight = self._summed(given * torch.ones_like(values[:, :1]))
        mean = self._summed(given * values) / weight.clamp(min=1e-12)
        return torch.where(given > 0, values, torch.where(weight > 1e-6, mean, otherwise))

    def _summed(self, values: Tensor) -> Tensor:
        frames = values.unbind(2)
        earlier, later = [frames[0]], [frames[-1]]
        back, fore = self._flows
        seen_before, seen_after = self._masks
        for at in range(1, len(frames)):
            moved = warp(earlier[-1], back[at - 1]) * seen_before[at - 1]
            earlier.append(frames[at] + self._fading * moved)
            moved = warp(later[-1], fore[-at]) * seen_after[-at]
            later.append(frames[-1 - at] + self._fading * moved)
        return torch.stack(earlier, 2) + torch.stack(later[::-1], 2) - values


class BlockStyleTransfer(StyleTransfer):
    """Style transfer of frames as one block; see `StyleTransfer`.

    Attributes:
        lines: along which the frames of the present block change together, and how much each kind
            of lines counts: ``x = c + Σ w A z``, with a ``z`` of its own for each.
    """

    lines: Sequence[tuple[float, AlongMotion]] = ()

    def optimize(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **options: Any
    ) -> Iterator[Step]:
        """See `StyleTransfer.walk`."""
        plane, device = start.shape[3:], start.device
        lines = [(weight, along.at(plane, device)) for weight, along in self.lines]

        scale = _FIRST * start.numel()

        def frames(z: Tensor) -> Tensor:
            x = start
            for (weight, along), each in zip(lines, torch.split(z, 1), strict=True):
                x = x + scale * weight * along.share * along(each)
            return x

        def inside(objective: Objective, z: Tensor) -> Evaluation:
            z = z.detach().requires_grad_()
            with torch.enable_grad():
                x = frames(z)
            found = evaluate(objective, x.detach())
            (gradient,) = torch.autograd.grad(x, z, found.gradient)
            return dataclasses.replace(found, gradient=gradient.contiguous())

        still = torch.zeros_like(start).repeat(len(lines), 1, 1, 1, 1)
        for step in super().optimize(objective, still, evaluate=inside, **options):
            yield dataclasses.replace(step, values=frames(step.values))
