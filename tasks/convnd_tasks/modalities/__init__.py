"""The kinds of data: one `Modality` each, imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from convnd.transfer.options import TransferOptions
    from convnd_tasks.modalities.base import Modality

__all__ = ["MODALITIES", "modality_class", "options_class"]


class _Entry(NamedTuple):
    """The package of a kind of data, the names of its two classes, and what loads slowly.

    Args:
        package: name of the package in this folder.
        options: class of the options.
        modality: class of the kind of data.
        slow_modules: modules that take seconds to load and work without torch; they are loaded in
            a process of their own, see `start_warm_process`.
    """

    package: str
    options: str
    modality: str
    slow_modules: tuple[str, ...] = ()


MODALITIES = {
    "pictures": _Entry("images", "ImageOptions", "Pictures"),
    "signals": _Entry("signals", "SignalOptions", "Signals", ("scipy.signal", "neurokit2")),
    "volumes": _Entry("volumes", "VolumeOptions", "Volumes"),
    "videos": _Entry("video", "VideoOptions", "Videos"),
    "arrays": _Entry("arrays", "ArrayOptions", "Arrays"),
}
"""The kinds of data; their options are in ``options.py`` of a package, which imports no torch."""


def options_class(name: str) -> type[TransferOptions]:
    """Import the options class of a kind of data, by its name in `MODALITIES`."""
    entry = MODALITIES[name]
    return cast("type[TransferOptions]", _load(entry.package, "options", entry.options))


def modality_class(name: str) -> type[Modality]:
    """Import the `Modality` of a kind of data, by its name in `MODALITIES`."""
    entry = MODALITIES[name]
    return cast("type[Modality]", _load(entry.package, "modality", entry.modality))


def _load(package: str, module: str, attribute: str) -> object:
    return getattr(importlib.import_module(f"{__name__}.{package}.{module}"), attribute)
