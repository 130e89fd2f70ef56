"""The options of ``convnd patches``, their defaults, and what they may be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from convnd.errors import UsageError

__all__ = ["PatchOptions"]


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """What is looked for, and how.

    Args:
        layers: names of layers.
        units: as `convnd_tasks.patches.parse_units` reads them, for each layer.
        top: patches for each unit.
        distinct: one of `convnd_tasks.patches.search.DISTINCT`.
        backbone: see `convnd_tasks.patches.load_network`.
        size: samples along the longest axis to bring inputs to; 0 leaves them.
        scale: map values other than colours to about ``[0, 1]``.
        optimal: make optimal inputs too.
        steps: of each of them.
        explain: one of `convnd_tasks.patches.saliency.METHODS`, or "" for none.
        channel_maps: name of an input to map channels of, or "".
        gram: content, style and result of a transfer, or nothing.
        batch: inputs of one size to run together.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        UsageError: no layer.
    """

    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    units: str = "0-15"
    top: int = 9
    distinct: str = "apart"
    backbone: str = "compact"
    size: int = 0
    scale: bool = True
    optimal: bool = False
    steps: int = 128
    explain: str = ""
    channel_maps: str = ""
    gram: tuple[str, ...] = ()
    batch: int = 1
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("--layer: expected at least one layer, got none; name one")

    def record(self) -> dict[str, object]:
        """Every option as plain data."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
