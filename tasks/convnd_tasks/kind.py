"""What a kind of data (pictures, signals, volumes) has to say to be stylised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.options import StyleOptions

__all__ = ["Prepare", "Prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Values mapped to about ``[0, 1]``, and the way back.

    Args:
        content: ``(B, C, *S)`` at the working size, or None for a texture.
        styles: ``(B, C, *S_i)`` each.
        size: extent of the result.
        restore: the owner's grid from values ``(B, C, *S')`` of any extent.
        spacing: distance between samples of the result along each axis.
    """

    content: Tensor | None
    styles: Sequence[Tensor]
    size: tuple[int, ...]
    restore: Callable[[Tensor], Grid]
    spacing: tuple[float, ...] | None = None


class Prepare(Protocol):
    """Grids to values; raises `InputFileError` for data that cannot be stylised."""

    def __call__(
        self, content: Grid | None, styles: Sequence[Grid], options: StyleOptions
    ) -> Prepared:
        """See the class."""
        ...
