"""Options for the stylisation of volumes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import LOOK, LOSS, STEPS, WORK, Flag, Range
from convnd.registry import check_name
from convnd.transfer.options import TransferOptions

__all__ = ["MODALITIES", "TRANSFERS", "WINDOWS", "VolumeOptions", "parse_window"]

TRANSFERS = ("auto", "look", "paint")
"""Kinds of transfer. "look" transfers noise and sharpness of a scan and keeps its anatomy;
"paint" transfers all patterns, like those of a painting; "auto" is "look" for styles that are
volumes and "paint" for pictures."""

MODALITIES = ("auto", "ct", "mr", "other")
"""Modalities. Values of "ct" are in Hounsfield units, others have no unit."""

WINDOWS = {
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Named windows: level and width in HU."""


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(TransferOptions):
    """Options for volumes, in addition to those of `TransferOptions`.

    Args:
        transfer: one of `TRANSFERS`. "look" ignores the options that only "paint" uses, such as
            steps, layers and weights of losses, and prints a message.
        modality: one of `MODALITIES`; "auto" decides by the file and its values.
        window: range of values that may change: "auto", one of `WINDOWS`, or "LEVEL,WIDTH". "auto"
            is all values for "look", and most of the scan's values for "paint".
        style_window: range of the style's values that corresponds to ``window``, for a style in
            another unit; the same syntax.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> VolumeOptions(strength=2)
    Traceback (most recent call last):
    convnd.errors.UsageError: strength: expected 0 <= strength <= 1, got 2; the default is 1
    """

    transfer: Annotated[
        str,
        Flag(
            "What is transferred: auto, look (noise and sharpness of a scan, without a change of "
            "the anatomy) or paint (all patterns, as of a painting).",
            LOOK,
            choices=TRANSFERS,
        ),
    ] = "auto"
    modality: Annotated[
        str,
        Flag(
            "What the values are: auto, ct (Hounsfield units), mr or other.",
            LOOK,
            choices=MODALITIES,
        ),
    ] = "auto"
    window: Annotated[
        str,
        Flag(
            "Range of values that may change: auto, lung, soft, bone, brain or LEVEL,WIDTH in HU.",
            LOOK,
            choices=("auto", *WINDOWS),
        ),
    ] = "auto"
    style_window: Annotated[
        str,
        Flag(
            "Range of the style's values that corresponds to --window, if the style has another "
            "unit: LEVEL,WIDTH or a name.",
            LOOK,
            choices=("auto", *WINDOWS),
        ),
    ] = "auto"
    style_layers: Annotated[
        tuple[str, ...],
        Flag(
            "Layers whose statistics are matched with the style's, with --transfer paint.",
            LOSS,
            metavar="L,L,...",
        ),
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    steps: Annotated[
        int, Flag("Steps of all scales together, with --transfer paint.", WORK), STEPS
    ] = 40
    scales: Annotated[
        int,
        Flag(
            "Number of sizes from coarse to fine; more than 1 for large patterns; 0: at least 3.",
            WORK,
        ),
        Range(0, 16),
    ] = 1
    backbone: Annotated[str, Flag("Network for pictures, see `convnd backbones`.", LOSS)] = (
        "compact"
    )
    size: Annotated[int, Flag("Always the scan's size.", WORK), Range(0, 1 << 20)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("transfer", self.transfer, TRANSFERS)
        check_name("modality", self.modality, MODALITIES)
        parse_window(self.window)
        parse_window(self.style_window, "--style-window")

    def ignored_by_look(self) -> list[str]:
        """Names of the options that were given and that only "paint" uses."""
        read = ("transfer", "modality", "window", "style_window", "style_weights")
        common = ("seed", "strength", "memory", "device", "deterministic", "precision", "init")
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in (*read, *common)
            and getattr(self, field.name) != getattr(type(self), field.name)
        ]


def parse_window(text: str, option: str = "--window") -> tuple[float, float] | None:
    """Parse a window into its lowest and highest value.

    Args:
        text: "auto", a name of `WINDOWS`, or "LEVEL,WIDTH".
        option: name of the option in messages.

    Returns:
        Lowest and highest value; None for "auto".

    Raises:
        UsageError: the text is neither a name nor two numbers with a width above 0.

    >>> parse_window("40,400"), parse_window("soft"), parse_window("auto")
    ((-160.0, 240.0), (-160.0, 240.0), None)
    """
    if text == "auto":
        return None
    level, width = WINDOWS.get(text, (math.nan, math.nan))
    if text not in WINDOWS:
        with contextlib.suppress(ValueError):
            level, width = (float(word) for word in text.split(","))
    if not (math.isfinite(level) and 0 < width < math.inf):
        expected = f"auto, {', '.join(WINDOWS)} or LEVEL,WIDTH in HU"
        raise UsageError(option, expected=expected, got=repr(text), remedy="for example 40,400")
    return level - width / 2, level + width / 2
