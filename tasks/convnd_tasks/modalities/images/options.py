"""The options of stylising pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convnd.options import LOOK, Flag
from convnd.registry import check_name
from convnd.transfer.options import PADDING, TransferOptions

__all__ = ["COLORS", "ImageOptions"]

COLORS = ("style", "luminance", "match")
"""Where the result's colours come from: the style; the content, by changing luminance only; the
content, by giving the style the content's colours first."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions(TransferOptions):
    """How a picture is stylised; the other options are those of `TransferOptions`.

    Args:
        colors: one of `COLORS`.
        backbone: see `TransferOptions`. The default leaves no more style and content energy than
            VGG-19 alone with 100 steps, in about 0.7 of its processor time.
        style_weight: see `TransferOptions`. Colours are cut to ``[0, 1]`` as they are compared, so
            that less weight gives as much style.
        steps: see `TransferOptions`; 100 with compact and 15 with VGG-19.
        padding: see `TransferOptions`. With zeros, whose grey the style does not have, the
            outermost pixels become paler than the rest.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> ImageOptions(colors="luminance").colors
    'luminance'
    """

    backbone: str = "compact+vgg19"
    style_weight: float = 23.0
    steps: int = 115
    colors: Annotated[
        str,
        Flag(
            "Whose colours: style, luminance or match (the last two keep the content's).",
            LOOK,
            choices=COLORS,
        ),
    ] = "style"

    padding: Annotated[str, PADDING] = "replicate"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("colors", self.colors, COLORS)
