"""The options of style transfer: one dataclass for library, command line and record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd.shapes import is_count
from convnd.transfer.byte_size import parse_memory
from convnd_tasks.pipeline.flags import DETERMINISTIC, LOOK, LOSS, RUN, WORK, Flag
from convnd_tasks.pipeline.ranges import SEED, STEPS, WEIGHT, Range, check_ranges

__all__ = ["COLORS", "DEFAULTS", "STARTS", "StyleOptions"]

COLORS = ("style", "luminance", "match")
"""Whose colours the result has: the style's; the content's, by changing luminance only; the
content's, by giving the style the content's colours first."""

STARTS = ("content", "style", "random")
"""What the iterate starts as; the command line also takes a file."""


DEFAULTS: Mapping[int, Mapping[str, Any]] = {
    1: {"backbone": "compact", "facts": ("spectrum",)},
    3: {"backbone": "compact"},  # on the planes of three axes VGG-19 takes minutes
}
"""Where a number of spatial axes differs from the defaults of `StyleOptions`."""


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """How a style transfer is done, the same for every number of spatial axes.

    Args:
        backbone: name of the network, see ``convnd backbones``, or ``package.module:attribute`` of
            one of yours, see `convnd_tasks.user_models.import_model`.
        content_layers: layers whose features are kept.
        style_layers: layers whose statistics become the style's.
        style_layer_weights: one for each style layer; empty is all alike. Only ratios matter.
        content_weight: alpha of the notes.
        style_weight: beta of the notes.
        smoothness: weight of the total variation, in units of the content's own.
        statistic: what of the features is style, see `convnd.stats.STATISTICS`.
        facts: statistics that the values themselves shall share with the style's, beside those of
            features, see `convnd.stats.STATISTICS`; the "stylised facts" of time series. They
            are compared per position, or relative to the style's own with ``"balanced"``.
        fact_weight: how much each of them counts.
        beat_weight: how much the style's mean beat counts at the content's R peaks, see
            `convnd_tasks.modalities.signals.beats`. 0: not at all; None: as much as serves
            electrocardiograms, where content and styles are some, else not at all.
        normalization: how distances become losses, see `convnd.losses.NORMALIZATIONS`.
        blend: one weight for each style; empty is all alike.
        style_scale: size of the style's patterns relative to how they are in its file, when the
            style is brought to as many samples as the result.
        colors: one of `COLORS`; images only.
        pooling: "max" as trained, or "avg".
        inflation: how a network for pictures sees more axes: "multiplanar" (see
            `convnd.backbones.MultiPlanar`; "auto" means this), or how kernels gain axes, see
            `convnd.backbones.change_rank`.
        size: samples along the longest axis of the result; 0 is the content's own size.
        scales: sizes to work at from coarse to fine, each twice the one before.
        steps: of all scales together.
        optimizer: see `convnd.optimize.OPTIMIZERS`.
        learning_rate: of the optimizer; None takes its own.
        start: one of `STARTS`.
        seed: of everything random.
        precision: "auto" (the fastest here), "float32" (exact) or "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: the same bytes each time, see `convnd_tasks.pipeline.deterministic`.
        tile: "auto" cuts the work into tiles where memory asks for it, a number makes tiles of so
            many samples along each axis, "off" leaves tiles out. The result is the same.
        memory: what may be used, for example "4GiB"; "auto" is what is free.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> StyleOptions(style_weight=-1)
    Traceback (most recent call last):
    convnd.errors.UsageError: style_weight: expected 0 <= style_weight <= 1e+12, got -1; correct it
    """

    style_weight: Annotated[
        float, Flag(help="Beta: how much the style counts.", panel=LOOK), WEIGHT
    ] = 30.0
    content_weight: Annotated[
        float, Flag(help="Alpha: how much the content counts.", panel=LOOK), WEIGHT
    ] = 1.0
    style_scale: Annotated[
        float, Flag(help="Larger: larger brush strokes.", panel=LOOK), Range(0.05, 20)
    ] = 1.0
    blend: Annotated[
        tuple[float, ...],
        Flag(help="Weight of each style; all alike when left out.", panel=LOOK, metavar="W,W,..."),
    ] = ()
    colors: Annotated[
        str,
        Flag(
            help=f"Whose colours: {', '.join(COLORS)} (luminance and match keep the content's).",
            panel=LOOK,
        ),
    ] = "style"
    smoothness: Annotated[float, Flag(help="Weight of total variation.", panel=LOOK), WEIGHT] = 0.0
    backbone: Annotated[
        str,
        Flag(
            help="Network, see `convnd backbones`, or package.module:attribute of one of yours.",
            panel=LOSS,
        ),
    ] = "vgg19"
    content_layers: Annotated[
        tuple[str, ...], Flag(help="Layers whose features are kept.", panel=LOSS, metavar="L,L,...")
    ] = ("relu4_2",)
    style_layers: Annotated[
        tuple[str, ...], Flag(help="Layers that see the style.", panel=LOSS, metavar="L,L,...")
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layer_weights: Annotated[
        tuple[float, ...],
        Flag(
            help="One for each style layer; all alike when left out.",
            panel=LOSS,
            metavar="W,W,...",
        ),
    ] = ()
    statistic: Annotated[str, Flag(help="gram, moments, covariance, spectrum, ...", panel=LOSS)] = (
        "gram"
    )
    facts: Annotated[
        tuple[str, ...],
        Flag(
            help="Statistics of the values themselves that count as style as well: spectrum, "
            "autocorrelation, distribution, ...; none for none.",
            panel=LOSS,
            metavar="F,F,...",
        ),
    ] = ()
    fact_weight: Annotated[
        float, Flag(help="How much each of them counts.", panel=LOSS), WEIGHT
    ] = 30.0
    beat_weight: Annotated[
        float | None,
        Flag(
            help="ECGs: how much the style's mean beat counts at the content's R peaks, in whose "
            "rhythm the style is seen; auto: 3 where both have beats; 0 leaves it out.",
            panel=LOSS,
            metavar="auto|N",
        ),
        WEIGHT,
    ] = None
    normalization: Annotated[str, Flag(help="balanced, notes, gatys or mean.", panel=LOSS)] = (
        "balanced"
    )
    pooling: Annotated[str, Flag(help="max or avg.", panel=LOSS)] = "max"
    inflation: Annotated[
        str,
        Flag(
            help="How a network for pictures sees more axes: planes, the default (as it is, on the "
            "slices across every axis), or with kernels that gain axes: mean, centre, acs.",
            panel=LOSS,
        ),
    ] = "auto"
    size: Annotated[
        int,
        Flag(
            help="Samples along the longest axis; 0, the default but for images: the content's "
            "own.",
            panel=WORK,
        ),
        Range(0, 1 << 20),
    ] = 512
    steps: Annotated[int, Flag(help="Over all scales.", panel=WORK), STEPS] = 100
    scales: Annotated[int, Flag(help="Sizes from coarse to fine.", panel=WORK), Range(1, 16)] = 3
    optimizer: Annotated[str, Flag(help="lbfgs, adam or gradient-descent.", panel=WORK)] = "lbfgs"
    learning_rate: Annotated[
        float | None,
        Flag(help="Of the optimizer; its own when left out.", panel=WORK),
        Range(1e-12, 1e12),
    ] = None
    start: Annotated[str, Flag(help=f"{', '.join(STARTS)}, or a file.", panel=WORK)] = "content"
    seed: Annotated[int, Flag(help="Of everything random.", panel=WORK), SEED] = 0
    precision: Annotated[
        str, Flag(help="auto (the fastest here), float32 (exact) or bfloat16.", panel=RUN)
    ] = "auto"
    device: Annotated[str, Flag(help="auto, cpu, cuda or mps.", panel=RUN)] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False
    tile: Annotated[
        str,
        Flag(
            help="Work in tiles of N samples along each axis; auto: where memory asks for it. "
            "The result is the same.",
            panel=RUN,
            metavar="auto|N|off",
        ),
    ] = "auto"
    memory: Annotated[
        str,
        Flag(help="What may be used, as 4GiB; auto: what is free.", panel=RUN, metavar="SIZE"),
    ] = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)
        for name, choices in (("colors", COLORS), ("start", STARTS)):
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), list(choices))
        if self.tile not in ("auto", "off") and not (is_count(self.tile) and int(self.tile) > 0):
            raise UsageError(
                f"tile: expected auto, off or a number of samples, got {self.tile!r}; correct it"
            )
        parse_memory(self.memory)
        for name in ("style_layer_weights", "blend"):
            weights = getattr(self, name)
            if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
                raise UsageError(
                    f"{name}: expected finite weights of at least 0, not all 0, got "
                    f"{', '.join(f'{weight:g}' for weight in weights)}; correct them"
                )
        if self.style_layer_weights and len(self.style_layer_weights) != len(self.style_layers):
            raise UsageError(
                f"style_layer_weights: expected one for each of {len(self.style_layers)} style "
                f"layers, got {len(self.style_layer_weights)}; give as many"
            )
        for name in ("content_layers", "style_layers"):
            if not getattr(self, name):
                raise UsageError(
                    f"{name}: expected at least one layer, got none; to leave a term out, give it "
                    "weight 0"
                )
        if not self.content_weight and not self.style_weight and not self.facts:
            raise UsageError(
                "content_weight, style_weight: expected one of them above 0, got 0 and 0; "
                "there would be nothing to do"
            )

    @classmethod
    def for_dim(cls, spatial_dims: int, **given: Any) -> Self:
        """Options with the defaults of a kind of data.

        Args:
            spatial_dims: number of spatial axes.
            given: fields; None takes the default of that rank, see `DEFAULTS`.

        >>> StyleOptions.for_dim(1, steps=None).backbone
        'compact'
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        return cls(**{**DEFAULTS.get(spatial_dims, {}), **chosen})

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer whose features are asked for."""
        return (*self.content_layers, *self.style_layers)

    def record(self) -> dict[str, str]:
        """Every option as text, to be kept inside the result.

        >>> StyleOptions().record()["content_layers"]
        'relu4_2'
        """
        return {
            name: ",".join(map(str, value))
            if isinstance(value, tuple)
            else str("auto" if value is None else value)
            for name, value in dataclasses.asdict(self).items()
        }
