"""Transfer of the statistics of values alone, such as the colours of a picture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from convnd.feedforward import AffineMap, monge_map
from convnd.optimize import ProcessGroup
from convnd.stats import CovarianceStatistic, Sums, blend
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.regions import fit_share
from convnd.transfer.resizing import Resizer

__all__ = ["ColorTransfer"]

_COVARIANCE = CovarianceStatistic()

_RIDGE = 1e-3
"""Of the mean variance: a colour that varies 30 times less than others is amplified no further."""


class ColorTransfer(OnePassTransfer):
    r"""Transfers the mean and the covariance of the channels, by one affine map of all positions.

    .. math:: y = T (x - \mu_C) + \mu_S

    with the matrix :math:`T` of least mean square change (`convnd.feedforward.monge_map`; for
    colours see Pitié and Kokaram, 2007, "The linear Monge-Kantorovitch linear colour mapping").
    Patterns stay as they are. No network is used.

    Args:
        options: options, of which ``style_weights`` and ``device`` are used.

    >>> content = torch.tensor([0.0, 0.2, 0.4]).view(1, 1, 3)
    >>> style = torch.tensor([0.5, 0.6, 0.7]).view(1, 1, 3)
    >>> (progress,) = ColorTransfer(TransferOptions()).run(TransferProblem(content, [style]))
    >>> [round(value, 3) for value in progress.values.flatten().tolist()]
    [0.5, 0.6, 0.7]
    """

    draws_strokes = False

    def __init__(self, options: TransferOptions) -> None:
        super().__init__(options)
        self._maps: list[AffineMap] = []

    @property
    def network(self) -> nn.Module:
        """No network: the identity."""
        return nn.Identity()

    def stylize(
        self,
        problem: TransferProblem,
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """See `OnePassTransfer.stylize`; each process of a group computes the whole result."""
        del group, on_message
        content = Resizer(content.device).resize(content, problem.size)
        maps = self._maps or self._match(problem, [content])
        return torch.cat([one(item[None]) for one, item in zip(maps, content, strict=True)])

    def for_frames(
        self, styles: Sequence[Tensor], frames: Sequence[Tensor], masks: Sequence[Tensor] = ()
    ) -> ColorTransfer:
        """Return a transfer with one map for all frames, see `OnePassTransfer.for_frames`."""
        transfer = copy.copy(self)
        transfer._maps = self._match(TransferProblem(frames[0], styles), frames, masks)
        return transfer

    def _match(
        self, problem: TransferProblem, contents: Sequence[Tensor], masks: Sequence[Tensor] = ()
    ) -> list[AffineMap]:
        """Compute the map of each item of the batch."""
        self.options.check_style_weights(len(problem.styles))
        region = problem.regions[0] if problem.regions else None
        shares = [None] * len(problem.styles) if region is None else region.style_shares
        sums = []
        for style, share in zip(problem.styles, shares, strict=True):
            fitted = None if share is None else fit_share(share, style.shape[2:])
            sums.append(_COVARIANCE.sums(style, weight=fitted))
        target = _COVARIANCE.summary(
            blend(sums, self.options.style_weights or (1.0,) * len(problem.styles))
        )
        shared_mask = None
        if problem.mask is not None:
            shared_mask = fit_share(problem.mask.to(contents[0]), contents[0].shape[2:])
        total: Sums | None = None
        weights: Sequence[Tensor | None] = masks or [shared_mask] * len(contents)
        for content, weight in zip(contents, weights, strict=True):
            part = _COVARIANCE.sums(content, weight=weight)
            total = part if total is None else total + part
        assert total is not None
        return [
            monge_map(one, style, ridge=_RIDGE)
            for one, style in zip(_COVARIANCE.summary(total), target, strict=True)
        ]
