"""The options that depend on what is transferred."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from convnd.errors import UsageError
from convnd_tasks.modalities.volumes.options import VolumeOptions

__all__ = ["PRESETS", "Preset", "with_preset"]


class Preset(NamedTuple):
    """What options that depend on the transfer are when they are left out."""

    style_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    style_weight: float
    steps: int


PRESETS = {
    # Chosen by the known-answer experiment: `benchmarks/performance/known_answer_volumes.py`.
    "noise": Preset(("relu1_1", "relu2_1", "relu3_1"), (), 3000.0, 15),
    "paint": Preset(("relu1_1", "relu2_1", "relu3_1", "relu4_1"), ("relu4_2",), 30.0, 40),
}
"""By transfer. Noise starts near its end and needs fewer steps."""


def with_preset(options: VolumeOptions, transfer: str) -> VolumeOptions:
    """The options with values for those that depend on the transfer and were left out.

    Args:
        options: as given.
        transfer: one of `PRESETS`.

    Raises:
        UsageError: content layers for the transfer of noise.

    >>> with_preset(VolumeOptions(), "noise").steps
    15
    """
    preset = PRESETS[transfer]
    if transfer == "noise" and options.content_layers:
        raise UsageError(
            "--content-layers: expected --transfer paint, got noise, which keeps the blurred "
            "values; leave it out"
        )
    weight, steps = options.style_weight, options.steps
    return dataclasses.replace(
        options,
        content_layers=options.content_layers or preset.content_layers,
        style_layers=options.style_layers or preset.style_layers,
        style_weight=preset.style_weight if weight is None else weight,
        steps=preset.steps if steps is None else steps,
    )
