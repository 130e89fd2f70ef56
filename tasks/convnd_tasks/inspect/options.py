"""The options of ``convnd patches``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import (
    DETERMINISTIC,
    DEVICE,
    RESOURCES,
    SEED,
    Flag,
    Range,
    check_device_name,
    check_fields,
)

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
        rescale: whether values that are not RGB are mapped to about ``[0, 1]``.
        optimal: whether the input that each unit responds to most is computed as well.
        steps: optimization steps of these inputs.
        explain: one of `convnd_tasks.inspect.saliency.METHODS`, or "" for no attribution.
        channel_maps: name of an input to draw the activation of each unit in, or "".
        gram: names of content, style and result of a transfer, or an empty tuple.
        batch: number of inputs of one size to process together; 0 chooses it.
        seed: seed of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: whether only deterministic algorithms are used, see
            `convnd.transfer.deterministic`.

    Raises:
        UsageError: no layer is named, or a number is outside its range.
    """

    layers: Annotated[
        tuple[str, ...],
        Flag(
            "Layers, separated by commas; `convnd backbones NAME` lists them.",
            SEARCH,
            names=("--layer",),
            metavar="L,L,...",
        ),
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    units: Annotated[str, Flag("Units of each layer: 0-15, 3,7,20, random:16 or all.", SEARCH)] = (
        "0-15"
    )
    top: Annotated[int, Flag("Number of patches for each unit.", SEARCH), Range(1, 10_000)] = 9
    suppress: Annotated[
        str,
        Flag(
            "overlap: of overlapping patches keep only the strongest (non-maximum "
            "suppression); input: keep only the strongest patch of each input; none: keep all.",
            SEARCH,
            choices=("overlap", "input", "none"),
        ),
    ] = "overlap"
    backbone: Annotated[
        str,
        Flag(
            "Network: a name from `convnd backbones`, or package.module:name of your own "
            "torch module.",
            SEARCH,
        ),
    ] = "compact"
    size: Annotated[
        int,
        Flag(
            "Resize inputs to this many samples along the longest axis; 0 keeps their size.", SEARCH
        ),
        Range(0, 1 << 20),
    ] = 0
    rescale: Annotated[
        bool,
        Flag(
            "Map values other than colours to about 0 to 1, or pass them unchanged.",
            SEARCH,
            names=("--rescale/--raw",),
        ),
    ] = True
    optimal: Annotated[
        bool, Flag("Also compute the input that each unit responds to most.", VIEWS)
    ] = False
    steps: Annotated[int, Flag("Optimisation steps of --optimal.", VIEWS), Range(1, 10_000_000)] = (
        128
    )
    explain: Annotated[
        str,
        Flag(
            "Also show which samples of each patch excite the unit: guided, deconvnet or gradient.",
            VIEWS,
            choices=("guided", "deconvnet", "gradient"),
        ),
    ] = ""
    channel_maps: Annotated[
        str, Flag("Also show where each unit is active in this input.", VIEWS, metavar="INPUT")
    ] = ""
    gram: tuple[str, ...] = ()
    batch: Annotated[
        int,
        Flag("Number of inputs of one size to process together; 0: automatic.", RESOURCES),
        Range(0, 100_000),
    ] = 0
    seed: Annotated[int, Flag("Seed of everything random.", RESOURCES), SEED] = 0
    device: Annotated[str, DEVICE] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError(
                "--layer", expected="at least one layer", got="none", remedy="name one"
            )
        check_fields(self)
        check_device_name(self.device)

    def record(self) -> dict[str, object]:
        """Return every option as data for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
