"""Style made visible: which channels are active together, before and after a transfer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from convnd.stats import gram_matrix
from convnd_tasks.pipeline import plots

__all__ = ["gram_figure", "gram_rows"]


def gram_figure(features: Mapping[str, Tensor], *, title: str, units: int = 64) -> bytes:
    r"""Gram matrices side by side, as a PNG.

    Shown is :math:`G_{kk'}/\sqrt{G_{kk}G_{k'k'}}`, the cosine between channels: 1 where they are
    active at the same places in the same proportion, 0 where never together. Channels are in one
    order for all, so that those which go together in the second entry (the style) are neighbours.

    Args:
        features: for each name features ``(1, C, *S)`` of one layer, of any sizes; say before,
            style and after.
        title: stands above.
        units: the most channels shown, those with most energy in the second entry.
    """
    grams = {name: _cosines(each) for name, each in features.items()}
    energies = [gram_matrix(each.float())[0].diagonal() for each in features.values()]
    lead = min(1, len(energies) - 1)
    strong = energies[lead].argsort(descending=True, stable=True)[:units]
    matrix = list(grams.values())[lead][strong][:, strong]
    # The second eigenvector of what is alike puts what goes together side by side.
    laplacian = torch.diag(matrix.sum(1)) - matrix
    _, vectors = torch.linalg.eigh(laplacian.double())
    order = strong[vectors[:, min(1, len(strong) - 1)].argsort(stable=True)]
    figure, axes = plots.new_figure(3.1 * len(grams) + 0.6, 3.5, columns=len(grams))
    figure.suptitle(title, x=0.01, ha="left")
    rows = gram_rows(features)
    for axis, (name, gram), (_, away) in zip(axes[0], grams.items(), rows, strict=True):
        picture = axis.imshow(gram[order][:, order].numpy(), vmin=0, vmax=1, cmap="magma")
        far = "" if away == 0 else f"\ndistance from the style {away:.2g}"
        axis.set_title(name + far, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(picture, ax=axes[0].tolist(), shrink=0.8, label="cosine between channels")
    return plots.encode(figure)


def gram_rows(features: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    r"""For each entry the distance of its Gram matrix from the second entry's (the style's).

    :math:`\lVert G/P - G_S/P_S\rVert_F^2 / \lVert G_S/P_S\rVert_F^2`, which is what the balanced
    style loss measures.
    """
    means = {
        name: gram_matrix(each.float())[0] / each[0, 0].numel() for name, each in features.items()
    }
    style = list(means.values())[min(1, len(means) - 1)]
    return [
        (name, ((mean - style).square().sum() / style.square().sum()).item())
        for name, mean in means.items()
    ]


def _cosines(features: Tensor) -> Tensor:
    gram = gram_matrix(features.float())[0].cpu()
    length = gram.diagonal().sqrt().clamp_min(1e-12)
    return gram / length / length[:, None]
