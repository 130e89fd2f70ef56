"""Changes of a block of frames, averaged along the motion of the input.

A block is optimised in variables ``z`` instead of its values ``x = c + A z``, with the starting
point ``c`` and a mean ``A`` over frames along motion trajectories. A change of one frame therefore
also changes the frames around it, where the flow is consistent. A video as style adds its
trajectories, along which a second part of the change moves. The objective and its evaluation do not
change; the gradient in ``z`` is ``Aᵀ`` times the gradient in ``x``.
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
from convnd_tasks.modalities.video.flow import FlowPair, warp

__all__ = ["BlockStyleTransfer", "MotionCompensatedMean"]

_LONG = 5.0
"""Number of frames, weighted by the decay, from which a trajectory counts as long. Pixels on
shorter ones, as at borders, are hardly averaged. They change more slowly: at the same rate they
became specks."""

_FIRST_CHANGE = 1 / 25600
"""Mean change of a value in the first step. L-BFGS begins with a gradient of length 1 over all
values. That change would be lost in 16 bits, and the first estimate of the curvature wrong."""


class MotionCompensatedMean:
    r"""The mean over frames along motion trajectories, whose weights decay with the distance.

    .. math:: x_t = \frac{\sum_s a^{|t - s|} m_{ts} W_{ts} z_s}{\sum_s a^{|t - s|} m_{ts}}

    with the warp :math:`W_{ts}` from frame ``s`` to ``t``, frame by frame, and the mask
    :math:`m_{ts}` of positions where the flow is consistent in all of these frames.

    Args:
        flows: flows of ``T`` frames: ``T − 1`` from each frame to the frame before, ``(2, H, W)``,
            and ``T − 1`` from each frame to the next.
        masks: masks of the consistent flows, ``(1, 1, H, W)`` each.
        decay: ``a``, from 0 (frames are independent) to 1 (all frames have equal weight).

    Attributes:
        step_scale: factor of the change of each position, ``(1, 1, T, H, W)`` in ``(0, 1]``.
    """

    def __init__(
        self,
        flows: tuple[Sequence[Tensor], Sequence[Tensor]],
        masks: tuple[Sequence[Tensor], Sequence[Tensor]],
        decay: float,
    ) -> None:
        self._flows, self._masks, self._decay = flows, masks, decay
        ones = torch.ones_like(masks[0][0]) if masks[0] else torch.ones(1, 1, 1, 1)
        frames = 1 + len(flows[0])
        self._count = self._sum(ones[:, :, None].expand(-1, -1, frames, -1, -1))
        self.step_scale = (self._count / _LONG).clamp(max=1)

    @classmethod
    def from_flows(cls, flows: Sequence[FlowPair], decay: float) -> MotionCompensatedMean:
        """Make the mean over frames from the flows between neighbours."""
        return cls(
            ([pair.backward for pair in flows], [pair.forward for pair in flows]),
            (
                [x.visible_backward for x in flows],
                [x.visible_forward for x in flows],
            ),
            decay,
        )

    def resized(self, size: Sequence[int], device: torch.device) -> MotionCompensatedMean:
        """Resize the flows and masks for frames of another size.

        Args:
            size: height and width.
            device: device of the values.
        """

        def resize_flow(flow: Tensor) -> Tensor:
            ratio = [new / old for new, old in zip(size, flow.shape[1:], strict=True)]
            small = resize_nd(flow[None], size, mode="linear", antialias=True)[0]
            return (small * small.new_tensor(ratio)[:, None, None]).to(device)

        def resize_mask(mask: Tensor) -> Tensor:
            return resize_nd(mask, size, mode="linear", antialias=True).gt(0.5).float().to(device)

        backward, forward = self._flows
        valid_backward, valid_forward = self._masks
        return MotionCompensatedMean(
            ([resize_flow(flow) for flow in backward], [resize_flow(flow) for flow in forward]),
            (
                [resize_mask(mask) for mask in valid_backward],
                [resize_mask(mask) for mask in valid_forward],
            ),
            self._decay,
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Compute ``A z`` for ``z`` ``(1, C, T, H, W)``."""
        return self._sum(values) / self._count

    def extrapolate(self, values: Tensor, known: Sequence[bool], default: Tensor) -> Tensor:
        """Fill unknown frames with the known ones, moved along the trajectories.

        Args:
            values: frames ``(1, C, T, H, W)``.
            known: whether each frame is known.
            default: values for positions that no trajectory connects with a known frame.
        """
        is_known = torch.tensor(known, dtype=values.dtype).view(1, 1, -1, 1, 1)
        weight = self._sum(is_known * torch.ones_like(values[:, :1]))
        mean = self._sum(is_known * values) / weight.clamp(min=1e-12)
        return torch.where(is_known > 0, values, torch.where(weight > 1e-6, mean, default))

    def _sum(self, values: Tensor) -> Tensor:
        """Compute the numerator of the mean, by one recursion forwards and one backwards."""
        frames = values.unbind(2)
        earlier, later = [frames[0]], [frames[-1]]
        backward, forward = self._flows
        valid_backward, valid_forward = self._masks
        for index in range(1, len(frames)):
            warped_sum = warp(earlier[-1], backward[index - 1]) * valid_backward[index - 1]
            earlier.append(frames[index] + self._decay * warped_sum)
            warped_sum = warp(later[-1], forward[-index]) * valid_forward[-index]
            later.append(frames[-1 - index] + self._decay * warped_sum)
        return torch.stack(earlier, 2) + torch.stack(later[::-1], 2) - values


class BlockStyleTransfer(StyleTransfer):
    """Style transfer of frames as one block, see `StyleTransfer`.

    Attributes:
        trajectories: weights ``w`` and means ``A`` of the current block, along which its frames
            change together: ``x = c + Σ w A z``, with separate variables ``z`` for each mean.
    """

    trajectories: Sequence[tuple[float, MotionCompensatedMean]] = ()

    def optimize(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **options: Any
    ) -> Iterator[Step]:
        """Optimise the variables ``z``, see `StyleTransfer.optimize`."""
        size, device = start.shape[3:], start.device
        means = [(weight, mean.resized(size, device)) for weight, mean in self.trajectories]
        scale = _FIRST_CHANGE * start.numel()

        def to_frames(z: Tensor) -> Tensor:
            x = start
            for (weight, mean), part in zip(means, torch.split(z, 1), strict=True):
                x = x + scale * weight * mean.step_scale * mean(part)
            return x

        def evaluate_variables(objective: Objective, z: Tensor) -> Evaluation:
            z = z.detach().requires_grad_()
            with torch.enable_grad():
                x = to_frames(z)
            evaluation = evaluate(objective, x.detach())
            (gradient,) = torch.autograd.grad(x, z, evaluation.gradient)
            return dataclasses.replace(evaluation, gradient=gradient.contiguous())

        zeros = torch.zeros_like(start).repeat(len(means), 1, 1, 1, 1)
        for step in super().optimize(objective, zeros, evaluate=evaluate_variables, **options):
            yield dataclasses.replace(step, values=to_frames(step.values))
