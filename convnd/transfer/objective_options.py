"""The options of the objective of style transfer: network, layers, statistics and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import LOOK, LOSS, WEIGHT, Flag, Range, check_fields
from convnd.registry import check_name

__all__ = ["MOST_NETWORKS", "PADDING", "ObjectiveOptions", "split_backbones"]

_STYLE_LOSSES = ("gram", "moments", "covariance", "distribution", "autocorrelation", "spectrum")
"""The names of `convnd.stats.STATISTICS`; this module does not import torch."""

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
class ObjectiveOptions:
    r"""Options of the objective that a style transfer minimises.

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
        affine_weight: weight of `convnd.losses.LocalAffineLoss`, which lets values change only by
            maps that vary slowly, so that a photograph stays a photograph; 3000 to 10000 do so.
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
        seamless: whether the result repeats without a seam: the network and the losses read across
            its border, from each end to the other. Styles are read as they are.
        inflation: use of a network of two axes for more axes: "multiplanar" (2.5-D: on slices
            across every axis, see `convnd.backbones.MultiPlanar`; "auto" is the same), or with
            kernels that gain axes, see `convnd.backbones.change_rank`.

    Raises:
        UsageError: a value is outside its range, a kind of loss has no layer, all weights are 0, or
            there are more or fewer weights than layers.
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
    affine_weight: Annotated[
        float,
        Flag(
            "Weight of the local affine loss, which keeps edges straight and adds no texture: "
            "photographs stay photographs.",
            LOOK,
        ),
        WEIGHT,
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
            choices=_STYLE_LOSSES,
        ),
    ] = "gram"
    value_statistics: Annotated[
        tuple[str, ...],
        Flag(
            "Statistics of the values themselves that the result takes as well: spectrum, "
            "autocorrelation, distribution, ... or none.",
            LOSS,
            metavar="S,S,...",
            choices=_STYLE_LOSSES,
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
    seamless: Annotated[
        bool,
        Flag(
            "Make a result that repeats without a seam, along every axis; mostly with --texture.",
            LOOK,
        ),
    ] = False
    inflation: Annotated[
        str,
        Flag(
            "How a network for pictures sees more axes: multiplanar (2.5-D, the default), or "
            "with kernels that gain axes: mean, centre, acs.",
            LOSS,
            choices=("auto", "multiplanar", "mean", "centre", "acs"),
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(self.backbones) or len(self.backbones) > MOST_NETWORKS:
            raise UsageError(
                "backbone",
                expected=f"one to {MOST_NETWORKS} names with + between",
                got=repr(self.backbone[:80]),
                remedy="for example compact+vgg19",
            )
        check_name("padding", self.padding, PADDING.choices)
        for name in ("style_layer_weights", "style_weights"):
            weights = getattr(self, name)
            if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
                raise UsageError(
                    name,
                    expected="finite weights of at least 0, not all 0",
                    got=", ".join(f"{weight:g}" for weight in weights),
                    remedy="for example 2,1",
                )
        self._check_count("style_layer_weights", len(self.style_layers), "style layers")
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

    @property
    def backbones(self) -> tuple[str, ...]:
        """The networks that work in turn.

        >>> ObjectiveOptions(backbone="compact+vgg19").backbones
        ('compact', 'vgg19')
        """
        return split_backbones(self.backbone)

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer whose features are needed."""
        return (*self.content_layers, *self.style_layers)

    def check_style_weights(self, count: int) -> None:
        """Check that there is one weight for each style, or none.

        Args:
            count: number of styles.

        Raises:
            UsageError: there are more or fewer weights than styles.
        """
        self._check_count("style_weights", count, "styles")

    def _check_count(self, name: str, count: int, noun: str) -> None:
        weights = getattr(self, name)
        if weights and len(weights) != count:
            raise UsageError(
                name,
                expected=f"one weight for each of {count} {noun}",
                got=len(weights),
                remedy="give as many",
            )
