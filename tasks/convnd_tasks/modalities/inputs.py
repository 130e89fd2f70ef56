"""The inputs of a transfer: as they are read, and as they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.transfer.problem import TransferProblem

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["LabelledGrid", "PreparedInputs", "RegionInputs", "TransferInputs"]


class LabelledGrid(NamedTuple):
    """One input of a transfer.

    Args:
        role: ``"content"``, ``"style"``, ``"init"`` or ``"mask"``.
        grid: the data.
        label: role and name, for messages.
    """

    role: str
    grid: Grid
    label: str


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionInputs:
    """The maps of a job's regions, and the styles of their labels.

    Args:
        grid: labels of the content.
        name: name of this map, for messages.
        style_maps: labels of each style; empty if the styles have none.
        styles: index of the style of each label that was named; None keeps the content.
        shared: indices of the styles of all other labels; without any they keep the content.
    """

    grid: Grid
    name: str
    style_maps: Sequence[Grid] = ()
    styles: Mapping[str, int | None]
    shared: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class TransferInputs:
    """The inputs of one transfer.

    Args:
        content: the content; None for a texture.
        styles: the styles, at least one.
        names: paths or sample names of the inputs that are not None, in the order content, styles,
            init, mask.
        init: starting point of the optimisation, or None.
        mask: share of the change that applies at each position, from 0 (the content does not
            change) to 1; None is 1 everywhere.
        regions: regions with styles of their own, or None.
        keyframes: index of the style that is the result of a frame, by the number of the frame.
        rate_given: whether the user gave the sampling rate, because no file holds it.
    """

    content: Grid | None
    styles: Sequence[Grid]
    names: Sequence[str]
    init: Grid | None = None
    mask: Grid | None = None
    regions: RegionInputs | None = None
    keyframes: Mapping[int, int] = field(default_factory=dict)
    rate_given: bool = False

    @property
    def template(self) -> Grid:
        """The grid whose geometry and metadata the result has: the content, or the first style."""
        return self.styles[0] if self.content is None else self.content

    def compared_content(self) -> Grid:
        """The content that a result is compared with.

        Raises:
            InputFileError: there is none, since the result is a texture.
        """
        if self.content is None:
            raise InputFileError(
                "evaluate", expected="a content to compare with", got="none", remedy="give one"
            )
        return self.content

    def style_name(self, number: int) -> str:
        """Return the name of a style by its index."""
        return self.names[number + (self.content is not None)]

    def labelled(self) -> list[LabelledGrid]:
        """Every input with its role and label, in the order of ``names``."""
        roles = [
            ("content", self.content),
            *(("style", style) for style in self.styles),
            ("init", self.init),
            ("mask", self.mask),
        ]
        present = [(role, grid) for role, grid in roles if grid is not None]
        return [
            LabelledGrid(role, grid, name if name.startswith(role) else f"{role} {name}")
            for (role, grid), name in zip(present, self.names, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedInputs(TransferProblem):
    """Inputs that are encoded as values of about ``[0, 1]``, and the function that decodes them.

    Args:
        decode: converts values ``(B, C, *S')`` of any extent to a grid in the units of the file.
        messages: lines for users about what was done to the inputs.
        record: entries of the result's record about the inputs.
        visible_content: the content with the colours of hidden pixels replaced, for mixing with a
            result of another size; None is the content as it was read.
        opacity: share of each position that is seen, ``(1, 1, *S)``; None is 1.
        style_opacities: the same for each style; empty is 1.
        encode_share: converts a share of the content's file, ``(1, 1, *S)`` or ``(1, C, *S)``, to
            one of the encoded content, ``(1, 1, *S)`` or ``(B, 1, *S)``.
        encode_style_share: the same for a style with an index; a share of None is 1.
    """

    decode: Callable[[Tensor], Grid]
    messages: tuple[str, ...] = ()
    record: Mapping[str, str] = field(default_factory=dict)
    visible_content: Grid | None = None
    opacity: Tensor | None = None
    style_opacities: Sequence[Tensor | None] = ()
    encode_share: Callable[[Tensor], Tensor] = lambda share: share
    encode_style_share: Callable[[int, Tensor | None], Tensor | None] = lambda _, share: share
