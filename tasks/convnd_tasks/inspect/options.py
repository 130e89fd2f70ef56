"""The options of ``convnd patches``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import DETERMINISTIC, RESOURCES, SEED, Flag, Range, check_ranges

__all__ = ["SEARCH", "VIEWS", "PatchOptions"]

SEARCH, VIEWS = "Search", "Additional views"
"""Headings of the help."""


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """Options of a search for patches, and of the views that accompany them.

    Args:
        layers: names of layers of the network.
        units: units of each layer, in the syntax of `convnd_tasks.inspect.parse_units`.
        top: number of patches for each unit.
        suppress: one of `convnd_tasks.inspect.search.SUPPRESSION`.
        backbone: name of the network, see `convnd_tasks.inspect.load_network`.
        size: samples along the longest axis that inputs are resized to; 0 keeps their own size.
        rescale: map values that are not RGB to about ``[0, 1]``.
        optimal: also compute the input that each unit responds to most.
        steps: optimization steps of these inputs.
        explain: one of `convnd_tasks.inspect.saliency.METHODS`, or "" for no attribution.
        channel_maps: name of an input to draw the activation of each unit in, or "".
        gram: names of content, style and result of a transfer, or an empty tuple.
        batch: number of inputs of one size to process together; 0 chooses.
        seed: seed of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: use only deterministic algorithms, see
            `convnd.transfer.deterministic`.

    Raises:
        UsageError: there is no layer, or a number is outside of its range.
    """

    layers: Annotated[
        tuple[str, ...],
        Flag(
            help="Layers, separated by commas; `convnd backbones NAME` lists them.",
            panel=SEARCH,
            names=("--layer",),
            metavar="L,L,...",
        ),
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    units: Annotated[
        str, Flag(help="Units of each layer: 0-15, 3,7,20, random:16 or all.", panel=SEARCH)
    ] = "0-15"
    top: Annotated[
        int, Flag(help="Number of patches for each unit.", panel=SEARCH), Range(1, 10_000)
    ] = 9
    suppress: Annotated[
        str,
        Flag(
            help="overlap: of overlapping patches keep only the strongest (non-maximum "
            "suppression); input: keep only the strongest patch of each input; none: keep all.",
            panel=SEARCH,
        ),
    ] = "overlap"
    backbone: Annotated[
        str,
        Flag(
            help="Network: a name from `convnd backbones`, or package.module:name of your own "
            "torch module.",
            panel=SEARCH,
        ),
    ] = "compact"
    size: Annotated[
        int,
        Flag(
            help="Resize inputs to this many samples along the longest axis; 0 keeps their size.",
            panel=SEARCH,
        ),
        Range(0, 1 << 20),
    ] = 0
    rescale: Annotated[
        bool,
        Flag(
            help="Map values other than colors to about 0 to 1, or pass them unchanged.",
            panel=SEARCH,
            names=("--rescale/--raw",),
        ),
    ] = True
    optimal: Annotated[
        bool,
        Flag(
            help="Also compute the input that each unit responds to most.",
            panel=VIEWS,
            names=("--optimal",),
        ),
    ] = False
    steps: Annotated[
        int, Flag(help="Optimization steps of --optimal.", panel=VIEWS), Range(1, 10_000_000)
    ] = 128
    explain: Annotated[
        str,
        Flag(
            help="Also show which samples of each patch excite the unit: guided, deconvnet or "
            "gradient.",
            panel=VIEWS,
        ),
    ] = ""
    channel_maps: Annotated[
        str,
        Flag(
            help="Also show where each unit is active in this input.", panel=VIEWS, metavar="INPUT"
        ),
    ] = ""
    gram: tuple[str, ...] = ()
    batch: Annotated[
        int,
        Flag(
            help="Number of inputs of one size to process together; 0: automatic.", panel=RESOURCES
        ),
        Range(0, 100_000),
    ] = 0
    seed: Annotated[int, Flag(help="Seed of everything random.", panel=RESOURCES), SEED] = 0
    device: Annotated[str, Flag(help="auto, cpu, cuda or mps.", panel=RESOURCES)] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError(
                "--layer", expected="at least one layer", got="none", remedy="name one"
            )
        check_ranges(self)

    def record(self) -> dict[str, object]:
        """Return every option as data for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
