"""The options of stylising signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convnd.options import LOSS, WEIGHT, Flag
from convnd.transfer.options import TransferOptions

__all__ = ["SignalOptions"]


@dataclass(frozen=True, kw_only=True)
class SignalOptions(TransferOptions):
    """How a signal is stylised; the other options are those of `TransferOptions`.

    Args:
        style_layers: see `TransferOptions`. The default leaves out relu5_1: one of its positions is
            256 samples, and sees seconds of an electrocardiogram.
        steps: see `TransferOptions`. 50 steps bring spectra and beats as near to the style as 100
            without `convnd.optimize.Smoothing`.
        beat_weight: weight of the style's mean beat at the content's R peaks, see
            `convnd_tasks.modalities.signals.beats`. 0 leaves out beats; None is 3 if content and
            styles are electrocardiograms.
        leads: names of the leads to stylise, all of one sampling rate; the others do not change.
            ``CONTENT=STYLE`` pairs leads of different names. Empty is all leads of the most common
            rate.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> SignalOptions().backbone
    'compact-1d'
    """

    backbone: str = "compact-1d"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    value_statistics: tuple[str, ...] = ("spectrum",)
    steps: int = 50
    size: int = 0
    beat_weight: Annotated[
        float | None,
        Flag(
            "Weight of the style's mean beat at the R peaks of an electrocardiogram. auto: 3 if "
            "both have beats; 0: statistics alone shape the beats.",
            LOSS,
            metavar="auto|N",
        ),
        WEIGHT,
    ] = None
    leads: Annotated[
        tuple[str, ...],
        Flag(
            "Leads that are stylised or compared; the others do not change. CONTENT=STYLE pairs "
            "leads of different names.",
            LOSS,
            metavar="NAME,NAME,...",
        ),
    ] = ()
