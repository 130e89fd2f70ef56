"""The options of stylising volumes."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import LOOK, LOSS, STEPS, WEIGHT, WORK, Flag, Range
from convnd.registry import check_name
from convnd.transfer.options import TransferOptions

__all__ = ["TRANSFERS", "VALUE_STATISTICS", "WINDOWS", "VolumeOptions", "parse_window"]

TRANSFERS = ("auto", "noise", "paint")
"""What is transferred: the noise texture of a scan, which leaves the anatomy as it is; or all
patterns, as those of a painting. ``auto`` is noise for styles that are volumes and paint for
pictures."""

VALUE_STATISTICS = ("autocorrelation", "spectrum")
"""The choices of `VolumeOptions.value_statistics`: statistics that keep the order of values."""

WINDOWS = {
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Level and width in HU."""


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(TransferOptions):
    """How a volume is stylised; the other options are those of `TransferOptions`.

    Args:
        transfer: one of `TRANSFERS`.
        window: values that take part: "auto", one of `WINDOWS`, or "LEVEL,WIDTH". Values outside
            the window do not change. "auto" is -1200 to 800 where the noise of a CT scan is
            transferred, and most values of the scan elsewhere.
        detail_sigma_mm: standard deviation in mm of the Gaussian that separates noise texture from
            anatomy. Only for the transfer of noise.
        content_layers: layers whose features the result keeps; empty depends on ``transfer``, see
            `convnd_tasks.modalities.volumes.presets.PRESETS`. The transfer of noise keeps the
            blurred values instead, and takes none.
        style_layers: empty depends on ``transfer``.
        style_weight: None depends on ``transfer``.
        steps: of all scales together; None depends on ``transfer``.
        value_statistics: some of `VALUE_STATISTICS`, of the noise texture. The transfer of
            everything ignores them.
        value_statistics_weight: None weighs each of them as much as a style layer.
        optimizer: "auto" chooses by size and memory.
        tile: number of slices that the network sees together; "off" is all slices across an axis.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> VolumeOptions(strength=2)
    Traceback (most recent call last):
    convnd.errors.UsageError: strength: expected 0 <= strength <= 1, got 2; the default is 1
    """

    transfer: Annotated[
        str,
        Flag(
            "What is transferred: auto, noise (the noise texture of a scan; the anatomy "
            "stays) or paint (everything, as of a painting).",
            LOOK,
            choices=TRANSFERS,
        ),
    ] = "auto"
    window: Annotated[
        str,
        Flag(
            "Values that take part: auto, lung, soft, bone, brain or LEVEL,WIDTH in HU. "
            "Values outside the window do not change.",
            LOOK,
            choices=("auto", *WINDOWS),
        ),
    ] = "auto"
    detail_sigma_mm: Annotated[
        float,
        Flag(
            "Structures finer than about this many mm are noise texture, coarser ones "
            "anatomy. With --transfer noise only.",
            LOOK,
        ),
        Range(0.01, 100),
    ] = 3.5
    # None means "depends on the transfer"; `VolumeTransfer` replaces it before the engine reads it.
    style_weight: Annotated[
        float | None,
        Flag("Weight of the style loss (beta); depends on --transfer when left out.", LOOK),
        WEIGHT,
    ] = None  # type: ignore[assignment]
    content_layers: Annotated[
        tuple[str, ...],
        Flag(
            "Layers whose features are kept. With --transfer paint only; relu4_2 when left out.",
            LOSS,
            metavar="L,L,...",
        ),
    ] = ()
    style_layers: Annotated[
        tuple[str, ...],
        Flag(
            "Layers whose statistics become the style's; depends on --transfer when left out.",
            LOSS,
            metavar="L,L,...",
        ),
    ] = ()
    value_statistics: Annotated[
        tuple[str, ...],
        Flag(
            "Statistics of the noise texture itself: autocorrelation or spectrum; none for "
            "none. With --transfer noise only.",
            LOSS,
            metavar="S,S,...",
            choices=VALUE_STATISTICS,
        ),
    ] = ("autocorrelation",)
    value_statistics_weight: Annotated[
        float | None,
        Flag("Weight of each of them; that of a style layer when left out.", LOSS),
        WEIGHT,
    ] = None  # type: ignore[assignment]
    steps: Annotated[
        int | None,
        Flag("Steps of all scales together; depends on --transfer when left out.", WORK),
        STEPS,
    ] = None  # type: ignore[assignment]
    scales: Annotated[
        int,
        Flag("Number of sizes from coarse to fine; more than 1 for large patterns.", WORK),
        Range(1, 16),
    ] = 1
    optimizer: Annotated[
        str,
        Flag(
            "auto (by size and memory), lbfgs, adam or gradient-descent.",
            WORK,
            choices=("auto", "lbfgs", "adam", "gradient-descent"),
        ),
    ] = "auto"
    backbone: Annotated[str, Flag("Network for pictures, see `convnd backbones`.", LOSS)] = (
        "compact"
    )
    size: Annotated[int, Flag("Always the scan's own.", WORK), Range(0, 1 << 20)] = 0

    def __post_init__(self) -> None:
        if self.style_layer_weights and not self.style_layers:
            raise UsageError(
                "style_layer_weights: expected style_layers as well, got none; name the layers "
                "that the weights belong to"
            )
        super().__post_init__()
        check_name("transfer", self.transfer, TRANSFERS)
        for name in self.value_statistics:
            check_name("value_statistics", name, VALUE_STATISTICS)
        parse_window(self.window)

    def check_terms(self) -> None:
        """Check that some weight may be above 0; empty layers depend on the transfer.

        Raises:
            UsageError: every weight is 0.
        """
        if not (self.content_weight or self.style_weight is None or self.style_weight):
            raise UsageError(
                "content_weight, style_weight: expected one of them above 0, got 0 and 0; "
                "there would be nothing to do"
            )


def parse_window(text: str) -> tuple[float, float] | None:
    """Lowest and highest value of a window; None for ``"auto"``.

    Raises:
        UsageError: no such name, and no two numbers with a width above 0.

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
        raise UsageError(
            f"--window: expected auto, {', '.join(WINDOWS)} or LEVEL,WIDTH in HU, got {text!r}; "
            "for example 40,400"
        )
    return level - width / 2, level + width / 2
