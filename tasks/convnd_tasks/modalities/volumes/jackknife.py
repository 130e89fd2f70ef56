"""The jackknife: standard errors of statistics of voxels that are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["jackknife"]


def jackknife(statistic: Callable[[Tensor], Tensor], groups: Sequence[Tensor]) -> Tensor:
    """Compute the standard error of a statistic, from its values without each group in turn.

    Neighbouring voxels are alike, so groups should be parts of a scan (Efron and Stein, 1981).

    Args:
        statistic: a function of samples ``(..., n)``.
        groups: samples of each part, at least two.

    >>> parts = torch.tensor([1.0, 2.0, 3.0, 4.0]).split(1)
    >>> error = jackknife(lambda part: part.mean(-1), parts)
    >>> torch.testing.assert_close(error, torch.cat(parts).std() / 4**0.5)
    """
    others = torch.stack(
        [
            statistic(torch.cat([*groups[:number], *groups[number + 1 :]], -1))
            for number in range(len(groups))
        ]
    )
    return ((len(groups) - 1) * others.var(0, correction=0)).sqrt()
