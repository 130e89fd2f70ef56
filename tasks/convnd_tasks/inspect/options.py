"""The options of ``convnd patches``, their defaults, and what they may be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd_tasks.pipeline.flags import DETERMINISTIC, RUN, Flag
from convnd_tasks.pipeline.ranges import SEED, Range, check_ranges

__all__ = ["MORE", "WHAT", "PatchOptions"]

WHAT, MORE = "What is looked for", "What else is shown"
"""Headings of the help."""


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """What is looked for, and how.

    Args:
        layers: names of layers.
        units: as `convnd_tasks.inspect.parse_units` reads them, for each layer.
        top: patches for each unit.
        distinct: one of `convnd_tasks.inspect.search.DISTINCT`.
        backbone: see `convnd_tasks.inspect.load_network`.
        size: samples along the longest axis to bring inputs to; 0 leaves them.
        scale: map values other than colours to about ``[0, 1]``.
        optimal: make optimal inputs too.
        steps: of each of them.
        explain: one of `convnd_tasks.inspect.saliency.METHODS`, or "" for none.
        channel_maps: name of an input to map channels of, or "".
        gram: content, style and result of a transfer, or nothing.
        batch: inputs of one size to run together; 0: one, or as many as are small together.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: the same bytes each time, see `convnd_tasks.pipeline.deterministic`.

    Raises:
        UsageError: no layer, or a number below its range.
    """

    layers: Annotated[
        tuple[str, ...],
        Flag(
            help="Commas between; see `convnd backbones NAME`.",
            panel=WHAT,
            names=("--layer",),
            metavar="L,L,...",
        ),
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    units: Annotated[str, Flag(help="0-15, 3,7,20, random:16 or all.", panel=WHAT)] = "0-15"
    top: Annotated[int, Flag(help="Patches for each unit.", panel=WHAT), Range(1, 10_000)] = 9
    distinct: Annotated[
        str,
        Flag(
            help="apart: of overlapping patches the best alone; input: one for each input; "
            "all: overlaps too.",
            panel=WHAT,
        ),
    ] = "apart"
    backbone: Annotated[
        str,
        Flag(
            help="See `convnd backbones`; or package.module:name of a module of yours.", panel=WHAT
        ),
    ] = "compact"
    size: Annotated[
        int,
        Flag(
            help="Bring inputs to so many samples along the longest axis; 0: their own.",
            panel=WHAT,
        ),
        Range(0, 1 << 20),
    ] = 0
    scale: Annotated[
        bool,
        Flag(
            help="Map values other than colours to about 0 … 1, or take them as they are.",
            panel=WHAT,
            names=("--scale/--raw",),
        ),
    ] = True
    optimal: Annotated[
        bool,
        Flag(help="Also each unit's own optimal input.", panel=MORE, names=("--optimal",)),
    ] = False
    steps: Annotated[int, Flag(help="Of the optimal inputs.", panel=MORE), Range(1, 10_000_000)] = (
        128
    )
    explain: Annotated[
        str,
        Flag(
            help="Also what in each patch excited the unit: guided, deconvnet or gradient.",
            panel=MORE,
        ),
    ] = ""
    channel_maps: Annotated[
        str,
        Flag(help="Also where each unit is active in this input.", panel=MORE, metavar="INPUT"),
    ] = ""
    gram: tuple[str, ...] = ()
    batch: Annotated[
        int,
        Flag(
            help="Inputs of one size to run together; 0: small ones, as many as are quick so.",
            panel=RUN,
        ),
        Range(0, 100_000),
    ] = 0
    seed: Annotated[int, Flag(help="Of everything random.", panel=RUN), SEED] = 0
    device: Annotated[str, Flag(help="auto, cpu, cuda or mps.", panel=RUN)] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("--layer: expected at least one layer, got none; name one")
        check_ranges(self)

    def record(self) -> dict[str, object]:
        """Every option as plain data."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
