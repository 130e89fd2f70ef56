"""The options of style transfer, the same for every kind of data and number of axes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

from convnd.errors import UsageError
from convnd.options import (
    DETERMINISTIC,
    DEVICE,
    LOOK,
    LOSS,
    RESOURCES,
    SEED,
    STEPS,
    WEIGHT,
    WORK,
    Flag,
    Range,
    check_ranges,
)
from convnd.registry import check_name
from convnd.shapes import is_count
from convnd.transfer.byte_size import parse_memory

__all__ = ["INITS", "STYLE_LOSSES", "TransferOptions", "split_backbones"]

STYLE_LOSSES = ("gram", "moments", "covariance", "distribution", "autocorrelation", "spectrum")
"""The names of `convnd.stats.STATISTICS`; this module does not import torch."""

INITS = ("content", "style", "random", "instant")
"""Names of starting points of the optimisation; the command line also takes a file."""

MOST_NETWORKS = 4
"""Largest number of networks that work in turn; all of them are in memory."""

PADDING = Flag(
    "What the network reads beyond the border: zeros, as trained, or replicate, which stylises "
    "borders as the rest.",
    LOSS,
    choices=("zeros", "replicate"),
)
"""The flag of a field ``padding``."""


def split_backbones(names: str) -> tuple[str, ...]:
    """Split the names of networks that work in turn at each ``+``."""
    return tuple(name.strip() for name in names.split("+"))


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    r"""Options of a style transfer.

    The objective is :math:`\alpha J_{content} + \beta J_{style}` plus optional terms, see
    `convnd.losses`.

    Args:
        backbone: name of the network, see ``convnd backbones``, or ``package.module:attribute`` of
            a user's module. Several with ``+`` between work in turn, each on the result of the one
            before, for example "compact+vgg19": the first takes 87 % of the steps and goes from
            coarse to fine, the next finishes at full size.
        content_layers: layers whose features the result keeps.
        style_layers: layers whose statistics the result takes from the style.
        style_layer_weights: one weight for each style layer, of which the ratios count; empty gives
            all the same weight.
        content_weight: :math:`\alpha`.
        style_weight: :math:`\beta`.
        tv_weight: weight of the total variation, relative to the content's own.
        style_loss: statistic of the features that is compared, see `convnd.stats.STATISTICS`.
        value_statistics: further statistics that are compared, of the values themselves, see
            `convnd.stats.STATISTICS`.
        value_statistics_weight: weight of each of the ``value_statistics``.
        normalization: scale of the losses, see `convnd.losses.NORMALIZATIONS`.
        style_weights: one weight for each style; empty gives all the same weight.
        style_scale: size of the style's patterns relative to their size in its file.
        pooling: "max", as trained, or "avg".
        padding: values that the network's first layer reads beyond the border: "zeros", as trained,
            or "replicate", the outermost samples. A user's network keeps its own padding.
        inflation: use of a network for pictures for more axes: "multiplanar" (2.5-D: on slices
            across every axis, see `convnd.backbones.MultiPlanar`; "auto" is the same), or with
            kernels that gain axes, see `convnd.backbones.change_rank`.
        size: samples along the longest axis of the result; 0 keeps the content's.
        scales: number of sizes from coarse to fine, each twice the one before.
        steps: optimisation steps of all networks and scales together, at most, see ``tolerance``.
        tolerance: relative decrease of the loss over ten steps below which a scale ends before its
            steps are taken; 0 takes all.
        optimizer: name of the optimizer, see `convnd.optimize.OPTIMIZERS`.
        learning_rate: learning rate of the optimizer; None is its default.
        init: starting point of the optimisation, one of `INITS`. A texture has no content, and
            starts from noise with the spectrum of the styles instead, see
            `convnd.transfer.random_phase.random_phase_noise`. "instant" is for pictures, see
            `convnd.feedforward.ArbitraryStyleNet`.
        strength: share of the change from content to result that is applied, in ``[0, 1]``.
        seed: seed of everything random.
        precision: number format of the features: "auto" (the fastest here), "float32" or
            "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: use only algorithms that give the same bits each time.
        tile: "auto" cuts the work into tiles where memory is short, a number is the samples of a
            tile along each axis, "off" never cuts. The result is the same up to rounding: in
            bfloat16 some values of a picture differ by up to 4/255.
        memory: memory that may be used, for example "4GiB"; "auto" is what is free.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> TransferOptions(strength=2)
    Traceback (most recent call last):
    convnd.errors.UsageError: strength: expected 0 <= strength <= 1, got 2; the default is 1
    """

    style_weight: Annotated[float, Flag("Weight of the style loss (beta).", LOOK), WEIGHT] = 30.0
    content_weight: Annotated[float, Flag("Weight of the content loss (alpha).", LOOK), WEIGHT] = (
        1.0
    )
    style_scale: Annotated[
        float, Flag("Size of the style's patterns, relative to its file.", LOOK), Range(0.05, 20)
    ] = 1.0
    style_weights: Annotated[
        tuple[float, ...],
        Flag("One weight per style; equal when left out.", LOOK, metavar="W,W,..."),
    ] = ()
    tv_weight: Annotated[
        float, Flag("Weight of the total variation loss, which smooths the result.", LOOK), WEIGHT
    ] = 0.0
    backbone: Annotated[
        str,
        Flag(
            "Network, see `convnd backbones`, or package.module:attribute of your own; several "
            "work in turn: compact+vgg19 begins with compact and finishes with vgg19.",
            LOSS,
        ),
    ] = "vgg19"
    content_layers: Annotated[
        tuple[str, ...], Flag("Layers whose features are kept.", LOSS, metavar="L,L,...")
    ] = ("relu4_2",)
    style_layers: Annotated[
        tuple[str, ...],
        Flag("Layers whose statistics become the style's.", LOSS, metavar="L,L,..."),
    ] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layer_weights: Annotated[
        tuple[float, ...],
        Flag("One weight per style layer; equal when left out.", LOSS, metavar="W,W,..."),
    ] = ()
    style_loss: Annotated[
        str,
        Flag(
            "Statistic of features that the style loss compares: gram, moments, covariance, "
            "spectrum, ...",
            LOSS,
            choices=STYLE_LOSSES,
        ),
    ] = "gram"
    value_statistics: Annotated[
        tuple[str, ...],
        Flag(
            "Statistics of the values themselves that the result takes as well: spectrum, "
            "autocorrelation, distribution, ... or none.",
            LOSS,
            metavar="S,S,...",
            choices=STYLE_LOSSES,
        ),
    ] = ()
    value_statistics_weight: Annotated[
        float, Flag("Weight of each of the --value-statistics.", LOSS), WEIGHT
    ] = 30.0
    normalization: Annotated[
        str,
        Flag(
            "Scale of the losses: balanced, lecture, gatys or mean.",
            LOSS,
            choices=("balanced", "lecture", "gatys", "mean"),
        ),
    ] = "balanced"
    pooling: Annotated[
        str, Flag("Pooling of the network: max or avg.", LOSS, choices=("max", "avg"))
    ] = "max"
    padding: Annotated[str, PADDING] = "zeros"
    inflation: Annotated[
        str,
        Flag(
            "How a network for pictures sees more axes: multiplanar (2.5-D, the default), or "
            "with kernels that gain axes: mean, centre, acs.",
            LOSS,
            choices=("auto", "multiplanar", "mean", "centre", "acs"),
        ),
    ] = "auto"
    size: Annotated[
        int, Flag("Samples along the longest axis; 0: the content's own.", WORK), Range(0, 1 << 20)
    ] = 512
    steps: Annotated[int, Flag("Steps of all scales together, at most.", WORK), STEPS] = 100
    tolerance: Annotated[
        float,
        Flag(
            "Relative decrease of the loss over 10 steps below which the work ends before "
            "--steps; 0: never.",
            WORK,
        ),
        Range(0, 1),
    ] = 0.001
    scales: Annotated[int, Flag("Number of sizes from coarse to fine.", WORK), Range(1, 16)] = 3
    optimizer: Annotated[
        str,
        Flag(
            "Optimiser: lbfgs, adam or gradient-descent.",
            WORK,
            choices=("lbfgs", "adam", "gradient-descent"),
        ),
    ] = "lbfgs"
    learning_rate: Annotated[
        float | None,
        Flag("Learning rate; that of the optimiser when left out.", WORK),
        Range(1e-12, 1e12),
    ] = None
    init: Annotated[
        str, Flag(f"Starting point: {', '.join(INITS)}, or a file.", WORK, choices=INITS)
    ] = "content"
    strength: Annotated[
        float,
        Flag(
            "Share of the change that the result gets: 0 gives the content, 1 the full change.",
            LOOK,
        ),
        Range(0, 1),
    ] = 1.0
    seed: Annotated[int, Flag("Seed of everything random.", WORK), SEED] = 0
    precision: Annotated[
        str,
        Flag(
            "Number format of the features: auto (the fastest here), float32 (exact) or bfloat16.",
            RESOURCES,
            choices=("auto", "float32", "bfloat16"),
        ),
    ] = "auto"
    device: Annotated[str, DEVICE] = "auto"
    deterministic: Annotated[bool, DETERMINISTIC] = False
    tile: Annotated[
        str,
        Flag(
            "Samples of a tile along each axis; auto: tiles where memory is short. Tiles change "
            "the result by rounding only, which is visible with --precision bfloat16.",
            RESOURCES,
            metavar="auto|N|off",
            choices=("auto", "off"),
            recorded=False,
        ),
    ] = "auto"
    memory: Annotated[
        str,
        Flag(
            "Memory that may be used, for example 4GiB; auto: what is free.",
            RESOURCES,
            metavar="SIZE",
            recorded=False,
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)
        if not all(self.backbones) or len(self.backbones) > MOST_NETWORKS:
            raise UsageError(
                "backbone",
                expected=f"one to {MOST_NETWORKS} names with + between",
                got=repr(self.backbone[:80]),
                remedy="for example compact+vgg19",
            )
        check_name("init", self.init, INITS)
        check_name("padding", self.padding, PADDING.choices)
        if self.tile not in ("auto", "off") and not (is_count(self.tile) and int(self.tile) > 0):
            raise UsageError(
                "tile",
                expected="auto, off or a number of samples",
                got=repr(self.tile),
                remedy="for example 512",
            )
        parse_memory(self.memory)
        for name in ("style_layer_weights", "style_weights"):
            weights = getattr(self, name)
            if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
                raise UsageError(
                    name,
                    expected="finite weights of at least 0, not all 0",
                    got=", ".join(f"{weight:g}" for weight in weights),
                    remedy="for example 2,1",
                )
        if self.style_layer_weights and len(self.style_layer_weights) != len(self.style_layers):
            raise UsageError(
                "style_layer_weights",
                expected=f"one for each of {len(self.style_layers)} style layers",
                got=len(self.style_layer_weights),
                remedy="give as many",
            )
        self.check_terms()

    @classmethod
    def for_dim(cls, spatial_dims: int, **given: Any) -> Self:
        """Make the options for data of a number of axes.

        Args:
            spatial_dims: number of spatial axes.
            given: values by field; None takes the default.

        >>> TransferOptions.for_dim(2, steps=None, size=64).size
        64
        """
        del spatial_dims
        return cls(**{name: value for name, value in given.items() if value is not None})

    @property
    def backbones(self) -> tuple[str, ...]:
        """The networks that work in turn.

        >>> TransferOptions(backbone="compact+vgg19").backbones
        ('compact', 'vgg19')
        """
        return split_backbones(self.backbone)

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer whose features are needed."""
        return (*self.content_layers, *self.style_layers)

    @property
    def is_instant(self) -> bool:
        """Whether a network makes the result in one pass, without an optimisation."""
        return self.init == "instant" and self.steps == 0

    def check_style_weights(self, count: int) -> None:
        """Check that there is one weight for each style, or none.

        Args:
            count: number of styles.

        Raises:
            UsageError: there are more or fewer weights than styles.
        """
        if self.style_weights and len(self.style_weights) != count:
            raise UsageError(
                "style_weights",
                expected=f"one weight for each of {count} styles",
                got=len(self.style_weights),
                remedy="give as many",
            )

    def check_terms(self) -> None:
        """Check that each kind of loss has a layer, and that some weight is above 0.

        Raises:
            UsageError: no layer, or every weight is 0.
        """
        for name in ("content_layers", "style_layers"):
            if not getattr(self, name):
                raise UsageError(
                    name,
                    expected="at least one layer",
                    got="none",
                    remedy="to leave a term out, give it weight 0",
                )
        if not self.content_weight and not self.style_weight and not self.value_statistics:
            raise UsageError(
                "content_weight, style_weight",
                expected="one of them above 0",
                got="0 and 0",
                remedy="there would be nothing to do",
            )

    def record(self) -> dict[str, str]:
        """Return every option as text, for the record inside a result.

        >>> TransferOptions().record()["content_layers"]
        'relu4_2'
        """
        return {
            name: ",".join(map(str, value))
            if isinstance(value, tuple)
            else str("auto" if value is None else value)
            for name, value in dataclasses.asdict(self).items()
        }
