"""The options of stylising volumes: one dataclass for library, command line and record."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import DETERMINISTIC, LOOK, SEED, STEPS, WEIGHT, WORK, Flag, Range, check_ranges
from convnd.registry import unknown_name

__all__ = ["TRANSFERS", "VALUE_STATISTICS", "WINDOWS", "VolumeOptions", "parse_window"]

TRANSFERS = ("auto", "noise", "paint")
"""What is transferred: the noise texture of a scan, the anatomy untouched; or everything, as of
a painting. ``auto`` is noise where the style is a volume and paint where it is a picture."""

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
class VolumeOptions:
    """How a volume is stylised.

    Args:
        backbone: name of the network that sees the slices, see ``convnd backbones``.
        transfer: one of `TRANSFERS`.
        style_layers: layers whose statistics become the style's; empty depends on ``transfer``.
        style_loss: what of the features is style, see `convnd.stats.STATISTICS`.
        value_statistics: statistics of the noise texture itself, each as much as a layer; only
            where the noise is transferred.
        style_weight: beta of the notes; None depends on ``transfer``.
        content_weight: alpha of the notes.
        style_scale: size of the style's patterns relative to what they are in millimetres.
        detail_sigma_mm: sigma in mm of the Gaussian that divides noise texture from anatomy.
        window: "auto", one of `WINDOWS`, or "LEVEL,WIDTH"; values outside stay as they are. auto is
            -1200 to 800 where the grain of a CT is taken on, and most values of the scan elsewhere.
        strength: 0 is the scan, 1 the result.
        steps: evaluations after the first, of all scales together; None depends on ``transfer``, 15
            for noise, which begins near its end, and 40 for paint.
        scales: sizes from coarse to fine; more than 1 for large patterns.
        optimizer: "auto" (by size), or one of `convnd.optimize.OPTIMIZERS`.
        seed: of samples and everything random.
        precision: "auto", "float32" or "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: the same bytes each time, see `convnd.transfer.deterministic`.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> VolumeOptions(strength=2)
    Traceback (most recent call last):
    convnd.errors.UsageError: strength: expected 0 <= strength <= 1, got 2; correct it
    """

    window: Annotated[
        str,
        Flag(
            help="Values that take part: auto, lung, soft, bone, brain or LEVEL,WIDTH in HU. "
            "What lies outside comes back unchanged.",
            panel=LOOK,
        ),
    ] = "auto"
    strength: Annotated[
        float, Flag(help="0 is the scan, 1 the result.", panel=LOOK), Range(0, 1)
    ] = 1.0
    transfer: Annotated[
        str,
        Flag(
            help="What is transferred: auto, noise (the noise texture of a scan; the anatomy "
            "stays) or paint (everything, as of a painting).",
            panel=LOOK,
        ),
    ] = "auto"
    style_weight: Annotated[
        float | None,
        Flag(help="How much the style counts; depends on --transfer when left out.", panel=LOOK),
        WEIGHT,
    ] = None
    content_weight: Annotated[float, WEIGHT] = 1.0
    style_scale: Annotated[
        float, Flag(help="Larger: larger patterns.", panel=LOOK), Range(0.05, 20)
    ] = 1.0
    detail_sigma_mm: Annotated[float, Range(0.01, 100)] = 3.5
    steps: Annotated[
        int | None,
        Flag(help="Of all scales; depends on --transfer when left out.", panel=WORK),
        STEPS,
    ] = None
    scales: Annotated[
        int,
        Flag(help="Sizes from coarse to fine; more than 1 for large patterns.", panel=WORK),
        Range(1, 16),
    ] = 1
    optimizer: Annotated[
        str, Flag(help="auto (by size), lbfgs, adam or gradient-descent.", panel=WORK)
    ] = "auto"
    backbone: Annotated[str, Flag(help="Network, see `convnd backbones`.", panel=WORK)] = "compact"
    style_layers: Annotated[
        tuple[str, ...],
        Flag(help="Depends on --transfer when left out.", panel=WORK, metavar="L,L,..."),
    ] = ()
    style_loss: Annotated[str, Flag(help="gram, moments or covariance.", panel=WORK)] = "gram"
    value_statistics: Annotated[
        tuple[str, ...],
        Flag(
            help="Statistics of the noise texture itself: autocorrelation or spectrum; none for "
            "none. With --transfer noise only.",
            panel=WORK,
            metavar="F,F,...",
        ),
    ] = ("autocorrelation",)
    seed: Annotated[int, Flag(help="Of built-in samples and drawn noise.", panel=WORK), SEED] = 0
    precision: Annotated[
        str, Flag(help="auto (the fastest here), float32 (exact) or bfloat16.", panel=WORK)
    ] = "auto"
    device: Annotated[str, Flag(help="auto, cpu, cuda or mps.", panel=WORK)] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.transfer not in TRANSFERS:
            raise unknown_name("transfer", self.transfer, list(TRANSFERS))
        for name in self.value_statistics:
            if name not in VALUE_STATISTICS:
                raise unknown_name("value_statistics", name, list(VALUE_STATISTICS))
        parse_window(self.window)

    def record(self) -> dict[str, str]:
        """Every option as text, to be kept inside the result."""
        return {
            name: ",".join(value) if isinstance(value, tuple) else str(value)
            for name, value in dataclasses.asdict(self).items()
        }


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
