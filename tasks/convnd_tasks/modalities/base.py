"""What a kind of data (pictures, signals, volumes) has to say to be stylised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.losses import Term
    from convnd.transfer.options import TransferOptions

__all__ = ["SMALLEST", "Inputs", "Named", "Prepare", "Prepared"]

SMALLEST = 16
"""Samples along an axis below which the deepest default layer sees less than one."""


class Named(NamedTuple):
    """A grid among others.

    Args:
        role: ``"content"``, ``"style"`` or ``"start"``.
        grid: it.
        label: role and name, for messages.
    """

    role: str
    grid: Grid
    label: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Grids of one transfer and what they are called.

    Args:
        content: None for a texture.
        styles: at least one.
        names: of content, styles and start, for the record.
        start: the iterate to start with, or None.
        typed: further arguments that changed how they were read, for the record.
    """

    content: Grid | None
    styles: Sequence[Grid]
    names: Sequence[str]
    start: Grid | None = None
    typed: Sequence[str] = ()

    def named(self) -> list[Named]:
        """Every grid with its role, in the order of their names."""
        found = [
            ("content", self.content),
            *(("style", style) for style in self.styles),
            ("start", self.start),
        ]
        there = [(role, grid) for role, grid in found if grid is not None]
        return [
            Named(role, grid, f"{role} {name}")
            for (role, grid), name in zip(there, self.names, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Values mapped to about ``[0, 1]``, and the way back.

    Args:
        content: ``(B, C, *S)``, or None for a texture.
        styles: ``(B, C, *S_i)`` each.
        start: ``(B, C, *S_0)``, or None.
        size: extent of the result.
        restore: the owner's grid from values ``(B, C, *S')`` of any extent.
        spacing: distance between samples of the result along each axis.
        same_grid: styles are sampled as the result is, see
            `convnd.transfer.style_transfer.StyleTransfer.run`.
        remarks: what was done to the inputs that people should know, a line each.
        feature_styles: see `StyleTransfer.run`.
        initial: likewise.
        extra_terms: likewise.
        facts: what the record says of the inputs beside the options, by name.
        band: share of the result's frequencies that the styles know of, see `StyleTransfer.run`.
    """

    content: Tensor | None
    styles: Sequence[Tensor]
    start: Tensor | None
    size: tuple[int, ...]
    restore: Callable[[Tensor], Grid]
    spacing: tuple[float, ...] | None = None
    same_grid: bool = False
    remarks: tuple[str, ...] = ()
    feature_styles: Sequence[Tensor] | None = None
    initial: Callable[[Tensor], Tensor] | None = None
    extra_terms: Callable[[tuple[int, ...]], Sequence[Term]] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    band: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `convnd.transfer.style_transfer.StyleTransfer.run`."""
        names = ("content", "styles", "size", "spacing", "start", "same_grid", "band")
        more = ("feature_styles", "initial", "extra_terms")
        return {name: getattr(self, name) for name in (*names, *more)}


class Prepare(Protocol):
    """Grids to values; raises `InputFileError` for data that cannot be stylised."""

    def __call__(self, inputs: Inputs, options: TransferOptions) -> Prepared:
        """See the class."""
        ...
