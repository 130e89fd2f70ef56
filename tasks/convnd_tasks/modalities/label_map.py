"""Label maps: which positions belong to which region."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["LABELS", "number_labels"]

LABELS = "labels"
"""Entry of a grid's header with the names of the labels 1, 2, …; without it they are numbers."""

_MOST_LABELS = 256


def number_labels(grid: Grid, labels: Collection[str], name: str) -> Mapping[str, Tensor]:
    """Split a map of whole numbers into one share for each label.

    Args:
        grid: labels ``(1, C, *S)``. Missing values are 0.
        labels: the labels that were named; 0 is a label only if it is among them.
        name: name of the file, for messages.

    Returns:
        For each label, by its number or name, 1 where the map has it and 0 elsewhere,
        ``(1, C, *S)``.

    Raises:
        InputFileError: a value is not a whole number, there is no label, or there are too many.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> shares = number_labels(Grid(values=torch.tensor([[[0.0, 1.0, 4.0, 1.0]]])), [], "map.npy")
    >>> {label: share.flatten().tolist() for label, share in shares.items()}
    {'1': [0.0, 1.0, 0.0, 1.0], '4': [0.0, 0.0, 1.0, 0.0]}
    """
    import torch

    values = torch.nan_to_num(grid.values)
    numbers = values.round()
    if not bool(((values - numbers).abs() < 1e-3).all()):
        raise InputFileError(
            f"--regions {name}",
            expected="whole numbers as labels",
            got=f"values such as {values[(values - numbers).abs() >= 1e-3][0].item():.4g}",
            remedy="give a map of labels, or --mask for shares",
        )
    present = [number for number in numbers.unique().tolist() if number or "0" in labels]
    if not present or len(present) > _MOST_LABELS:
        raise InputFileError(
            f"--regions {name}",
            expected=f"1 to {_MOST_LABELS} labels",
            got=len(present),
            remedy="give a map whose values are the numbers of regions",
        )
    names = grid.header.get(LABELS)
    return {
        names[int(number) - 1] if number and isinstance(names, tuple) else f"{number:g}": (
            numbers == number
        ).float()
        for number in present
    }
