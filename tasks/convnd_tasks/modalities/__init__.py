"""The kinds of data: one `Modality` each, imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from convnd.transfer.options import TransferOptions
    from convnd_tasks.modalities.base import Modality

__all__ = ["MODALITIES", "modality_class", "options_class"]


class _Entry(NamedTuple):
    options: str
    modality: str


_HOME = "convnd_tasks.modalities"

MODALITIES = {
    "pictures": _Entry(f"{_HOME}.images.options:ImageOptions", f"{_HOME}.images.modality:Pictures"),
    "signals": _Entry(
        f"{_HOME}.signals.options:SignalOptions", f"{_HOME}.signals.modality:Signals"
    ),
    "volumes": _Entry(
        f"{_HOME}.volumes.options:VolumeOptions", f"{_HOME}.volumes.modality:Volumes"
    ),
    "videos": _Entry(f"{_HOME}.video.options:VideoOptions", f"{_HOME}.video.modality:Videos"),
    "arrays": _Entry(f"{_HOME}.arrays.options:ArrayOptions", f"{_HOME}.arrays.modality:Arrays"),
}
"""The module and class of each kind of data and of its options. Options import no torch."""


def options_class(name: str) -> type[TransferOptions]:
    """The options of a kind of data."""
    return cast("type[TransferOptions]", _load(MODALITIES[name].options))


def modality_class(name: str) -> type[Modality]:
    """The implementation of a kind of data."""
    return cast("type[Modality]", _load(MODALITIES[name].modality))


def _load(place: str) -> object:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
