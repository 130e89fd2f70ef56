r"""Closed forms that match features of a content to those of a style.

`monge_map` matches mean and covariance. `StylePatches` replaces features by the nearest ones of the
style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones.kernels import nearest_rows
from convnd.stats import CovarianceStatistic, Sums, transport_matrix

__all__ = ["COVARIANCE", "AffineMap", "StylePatches", "monge_map", "monge_maps"]

COVARIANCE = CovarianceStatistic()
"""The statistic whose sums `monge_maps` reads."""


@dataclass(frozen=True)
class AffineMap:
    r"""The map :math:`y \mapsto M y + b` of the channels of each position.

    Args:
        matrix: :math:`M`, ``(C, C)``.
        offset: :math:`b`, ``(C,)``.
    """

    matrix: Tensor
    offset: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Map features ``(1, C, *S)`` to features of the same shape."""
        # Channels are innermost, as convolutions read them.
        values = features.movedim(1, -1)
        mapped = F.linear(values, self.matrix.to(features), self.offset.to(features))
        return mapped.movedim(-1, 1)


def monge_map(content: Tensor, style: Tensor, *, ridge: float) -> AffineMap:
    r"""Compute the map that gives a content the mean and covariance of a style.

    Among all such maps it is the one of least mean square change.

    .. math:: y \mapsto T (y - \mu_C) + \mu_S

    with the matrix :math:`T` of `convnd.stats.transport_matrix`; for features of networks see Lu et
    al., "A closed-form solution to universal style transfer", 2019.

    Args:
        content: covariance :math:`C` of the content, and in a last column its mean,
            ``(c, c + 1)``; see `convnd.stats.CovarianceStatistic`.
        style: covariance and mean of the style, in the same form.
        ridge: number that is added to the diagonal of :math:`C`, relative to its mean variance. A
            direction in which the content is constant is amplified by at most the square root of
            1 / ridge.

    Returns:
        The map of features.

    >>> covariance = torch.tensor([[1.0, 0.0, 5.0], [0.0, 4.0, 5.0]])
    >>> wider = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    >>> matched = monge_map(covariance, wider, ridge=0.0)
    >>> [[round(value, 4) for value in row] for row in matched.matrix.tolist()]
    [[2.0, 0.0], [0.0, 1.0]]
    >>> [round(value, 4) for value in matched.offset.tolist()]
    [-10.0, -5.0]
    """
    covariance, content_mean = content.double()[:, :-1], content.double()[:, -1]
    target, style_mean = style.double()[:, :-1], style.double()[:, -1]
    # A covariance is a difference of sums, whose rounding grows with the square of the mean.
    rounding = torch.finfo(torch.float32).eps * content_mean.square().mean()
    floor = ridge * covariance.diagonal().mean().clamp_min(0) + rounding
    floor = floor.clamp_min(torch.finfo(torch.float32).tiny)
    covariance = covariance + floor * torch.eye(len(covariance)).to(covariance)
    matrix = transport_matrix(covariance, target, least=floor)
    return AffineMap(matrix, style_mean - matrix @ content_mean)


def monge_maps(
    content: Mapping[str, Sums], style: Mapping[str, Sums], ridges: Mapping[str, float]
) -> dict[str, AffineMap]:
    """Compute `monge_map` for several layers.

    Args:
        content: sums of `COVARIANCE` of the content, by layer.
        style: the same of the style.
        ridges: see `monge_map`, by layer.
    """
    return {
        name: monge_map(
            COVARIANCE.summary(content[name])[0], COVARIANCE.summary(style[name])[0], ridge=ridge
        )
        for name, ridge in ridges.items()
    }


@dataclass(frozen=True)
class StylePatches:
    """Features of a style in blocks, one for each position of its coarsest layer.

    Args:
        coarsest: name of the layer whose positions are compared.
        blocks: features ``(K, *B_l, C_l)`` of each layer in the areas of K positions. In finer
            layers the mean over the area is subtracted, so that the edges between blocks of
            different colours do not show.

    >>> patches = StylePatches("deep", {"deep": torch.tensor([0.0, 9.0]).view(2, 1, 1)})
    >>> patches.nearest(torch.tensor([[[7.0, 1.0, 8.0]]]))["deep"]
    tensor([[[9., 0., 9.]]])
    """

    coarsest: str
    blocks: Mapping[str, Tensor]

    @classmethod
    def cut(
        cls, features: Mapping[str, Tensor], coarsest: str, extents: Mapping[str, int]
    ) -> StylePatches:
        """Cut features of a style into blocks.

        Args:
            features: features ``(1, C_l, *S_l)`` of each layer.
            coarsest: name of the layer whose positions are compared.
            extents: positions of a block along each axis, for each layer; 1 in the coarsest.
        """
        positions = features[coarsest].shape[2:]
        blocks = {}
        for name, values in features.items():
            blocks[name] = _blocks(values, positions, extents[name])
            if name != coarsest:
                axes = tuple(range(1, values.ndim - 1))
                blocks[name] = blocks[name] - blocks[name].mean(axes, keepdim=True)
        return cls(coarsest, blocks)

    def every(self, step: int) -> StylePatches:
        """Copy the patches of every n-th position; the memory of the others can then be freed.

        Args:
            step: distance in positions.
        """
        picked = {name: blocks[::step].clone() for name, blocks in self.blocks.items()}
        return StylePatches(self.coarsest, picked)

    @classmethod
    def join(cls, parts: Sequence[StylePatches]) -> StylePatches:
        """Join the patches of several parts of styles."""
        return cls(
            parts[0].coarsest,
            {name: torch.cat([part.blocks[name] for part in parts]) for name in parts[0].blocks},
        )

    def nearest(
        self, features: Tensor, noise: Tensor | None = None, share: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Replace each position of a content by the block of the style's most similar position.

        Args:
            features: features ``(1, C, *S)`` of the content in the coarsest layer.
            noise: noise ``(1, C, *S)`` in standard deviations of the style, which is added to
                ``features``, so that a flat area does not repeat one block; None adds none.
            share: positions of share 0 need no right block and take any, ``(1, 1, *S)``; None is 1.

        Returns:
            ``(1, C_l, *S_l)`` for each layer; ``S_l`` is ``S`` times the extent of a block.
        """
        keys = self.blocks[self.coarsest].flatten(1)
        queries = features.movedim(1, -1).reshape(-1, features.shape[1])
        if noise is not None:
            spread = keys.std(0, correction=0)
            queries = queries + noise.movedim(1, -1).reshape(queries.shape).to(queries) * spread
        chosen = slice(None) if share is None else share.flatten().nonzero()[:, 0]
        queries = queries[chosen]
        size = tuple(features.shape[2:])
        rows = torch.zeros(math.prod(size), dtype=torch.long, device=keys.device)
        rows[chosen] = nearest_rows(queries, keys)
        return {name: _assemble(blocks[rows], size) for name, blocks in self.blocks.items()}


def _blocks(values: Tensor, positions: Sequence[int], extent: int) -> Tensor:
    """Cut ``(1, C, *S)`` into ``(K, *B, C)``, one block of ``extent`` for each position."""
    dims = len(positions)
    values = values[0].movedim(0, -1)[tuple(slice(count * extent) for count in positions)]
    split = values.reshape(*(n for count in positions for n in (count, extent)), -1)
    outer, inner = range(0, 2 * dims, 2), range(1, 2 * dims, 2)
    return split.permute(*outer, *inner, 2 * dims).flatten(0, dims - 1)


def _assemble(blocks: Tensor, positions: Sequence[int]) -> Tensor:
    """Put blocks together to ``(1, C, *S)``: the reverse of `_blocks`."""
    dims = len(positions)
    extents = blocks.shape[1:-1]
    split = blocks.view(*positions, *blocks.shape[1:])
    order = [axis for pair in zip(range(dims), range(dims, 2 * dims), strict=True) for axis in pair]
    size = [count * extent for count, extent in zip(positions, extents, strict=True)]
    return split.permute(*order, 2 * dims).reshape(1, *size, -1).movedim(-1, 1)
