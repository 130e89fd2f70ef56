"""The options of style transfer, the same for every kind of data and number of axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from convnd.errors import UsageError
from convnd.options import (
    DETERMINISTIC,
    DEVICE,
    LOOK,
    RESOURCES,
    SEED,
    STEPS,
    WORK,
    Flag,
    Range,
    check_device_name,
)
from convnd.registry import check_name
from convnd.shapes import is_count_text
from convnd.transfer.byte_size import parse_memory
from convnd.transfer.objective_options import ObjectiveOptions

__all__ = ["INITS", "TransferOptions"]

INITS = ("content", "style", "random", "instant")
"""Names of starting points of the optimisation; the command line also takes a file."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions(ObjectiveOptions):
    r"""Options of a style transfer; those of its objective are in `ObjectiveOptions`.

    Args:
        size: samples along the longest axis of the result; 0 keeps the content's.
        scales: number of sizes from coarse to fine, each twice the one before; 0 is that of
            `convnd.optimize.choose_scales`, and enlarges results of 2048 samples and more with few
            steps, see `convnd.transfer.scales.plan_phases`.
        steps: optimisation steps of all networks and scales together, at most, see ``tolerance``.
        tolerance: relative decrease of the loss over ten steps below which a scale ends before its
            steps are taken; 0 takes all.
        optimizer: name of the optimizer, see `convnd.optimize.OPTIMIZERS`.
        learning_rate: learning rate of the optimizer; None is its default.
        init: starting point of the optimisation, one of `INITS`. A texture has no content, and
            starts from noise with the spectrum of the styles instead, see
            `convnd.transfer.random_phase.random_phase_noise`. "instant" needs three channels
            and two axes, see `convnd.feedforward.ArbitraryStyleNet`.
        strength: how far the result goes from the content (0, to the bit) to the styles (1). The
            targets of pictures, arrays and painted scans are the statistics
            :math:`(1 - s) G(C) + s\, G(S)`, so that a share of about :math:`(1 - s)^2` of the
            content's style energy is left. Of other data :math:`s` times the change is applied.
        look: one of `looks`, whose options `for_dim` sets.
        seed: seed of everything random.
        precision: number format of the features: "auto" (the fastest here), "float32" or
            "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
        deterministic: use only algorithms that give the same bits each time.
        tile: "auto" cuts the work into tiles where memory is short, a number is the samples of a
            tile along each axis, "off" never cuts. The result is the same up to rounding: in
            bfloat16 some values in ``[0, 1]`` differ by up to 4/255.
        memory: memory that may be used, for example "4GiB"; "auto" is what is free.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> TransferOptions(strength=2)
    Traceback (most recent call last):
    convnd.errors.UsageError: strength: expected 0 <= strength <= 1, got 2; the default is 1
    """

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
    scales: Annotated[
        int,
        Flag(
            "Number of sizes from coarse to fine; 0: as many as make the coarsest 128 to 255 "
            "samples, at least 3.",
            WORK,
        ),
        Range(0, 16),
    ] = 3
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
            "How far the result goes from the content (0) to the style (1).",
            LOOK,
        ),
        Range(0, 1),
    ] = 1.0
    look: Annotated[
        str,
        Flag(
            "Options by name: classic; subtle (half the strength); strong (five times the style "
            "weight); photo (edges stay as they are, and no texture is added).",
            LOOK,
            choices=("classic", "subtle", "strong", "photo"),
        ),
    ] = "classic"
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
        super().__post_init__()
        check_device_name(self.device)
        check_name("init", self.init, INITS)
        check_name("look", self.look, self.looks())
        if self.tile not in ("auto", "off") and not (
            is_count_text(self.tile) and int(self.tile) > 0
        ):
            raise UsageError(
                "tile",
                expected="auto, off or a number of samples",
                got=repr(self.tile),
                remedy="for example 512",
            )
        parse_memory(self.memory)

    @classmethod
    def for_dim(cls, spatial_dims: int, **given: Any) -> Self:
        """Make the options for data of a number of axes.

        Args:
            spatial_dims: number of spatial axes.
            given: values by field, which count more than those of the look; None takes the default.

        >>> TransferOptions.for_dim(2, steps=None, size=64, look="subtle").strength
        0.5
        """
        del spatial_dims
        typed = {name: value for name, value in given.items() if value is not None}
        of_look = cls.looks().get(typed.get("look", "classic"), {})
        return cls(**{**of_look, **typed})

    @classmethod
    def looks(cls) -> Mapping[str, Mapping[str, Any]]:
        """Return the options that each look sets, by its name."""
        return {
            "classic": {},
            "subtle": {"strength": 0.5},
            "strong": {"style_weight": 5 * cls.style_weight},
            "photo": {"affine_weight": 3000.0},
        }

    @property
    def is_instant(self) -> bool:
        """Whether a network makes the result in one pass, without an optimisation."""
        return self.init == "instant" and self.steps == 0

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
