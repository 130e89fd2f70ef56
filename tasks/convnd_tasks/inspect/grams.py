"""Style made visible: Gram matrices of a layer before and after a transfer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from convnd.stats import gram_matrix
from convnd_tasks.runtime import plots

__all__ = ["gram_distances", "gram_figure"]

_CHANNELS = 64


def gram_figure(features: Mapping[str, Tensor], *, title: str) -> bytes:
    r"""Draw Gram matrices side by side.

    The figure shows :math:`G_{kk'}/\sqrt{G_{kk}G_{k'k'}}`, the cosine between channels: 1 for
    channels that are active at the same positions in the same proportion, 0 for channels that are
    never active together. It shows the 64 channels of most energy in the style, in one order for
    all matrices, in which channels that are active together in the style are neighbors.

    Args:
        features: features ``(1, C, *S)`` of one layer by name; the second entry is the style.
        title: title of the figure.

    Returns:
        A PNG file.
    """
    cosines = {name: _cosines(values) for name, values in features.items()}
    energies = [gram_matrix(values.float())[0].diagonal() for values in features.values()]
    style = min(1, len(energies) - 1)
    strongest = energies[style].argsort(descending=True, stable=True)[:_CHANNELS]
    similarity = list(cosines.values())[style][strongest][:, strongest]
    # The second eigenvector of the Laplacian orders similar channels next to each other.
    laplacian = torch.diag(similarity.sum(1)) - similarity
    _, vectors = torch.linalg.eigh(laplacian.double())
    order = strongest[vectors[:, min(1, len(strongest) - 1)].argsort(stable=True)]
    figure, axes = plots.new_figure(3.1 * len(cosines) + 0.6, 3.5, columns=len(cosines))
    figure.suptitle(title, x=0.01, ha="left")
    distances = gram_distances(features)
    for axis, (name, matrix), (_, distance) in zip(
        axes[0], cosines.items(), distances, strict=True
    ):
        picture = axis.imshow(matrix[order][:, order].numpy(), vmin=0, vmax=1, cmap="magma")
        suffix = "" if distance == 0 else f"\ndistance from the style {distance:.2g}"
        axis.set_title(name + suffix, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(picture, ax=axes[0].tolist(), shrink=0.8, label="cosine between channels")
    return plots.encode(figure)


def gram_distances(features: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    r"""Compute the distance of each Gram matrix from that of the style.

    :math:`\lVert G/P - G_S/P_S\rVert_F^2 / \lVert G_S/P_S\rVert_F^2` with ``P`` positions, the
    quantity that the balanced style loss measures.

    Args:
        features: features ``(1, C, *S)`` of one layer by name; the second entry is the style.

    Returns:
        Name and distance of each entry.
    """
    means = {
        name: gram_matrix(values.float())[0] / values[0, 0].numel()
        for name, values in features.items()
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
