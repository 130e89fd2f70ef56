"""The options of ``convnd train``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convnd.options import (
    DEVICE,
    LOOK,
    RESOURCES,
    SEED,
    WEIGHT,
    WORK,
    Flag,
    Range,
    check_device_name,
    check_fields,
)
from convnd.registry import check_name

__all__ = ["TrainingOptions"]

NETWORK = "Network"
"""Heading of the help."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a network is trained; None takes the default of the number of axes.

    Args:
        transfer: what a network for scans learns: "look" (noise and sharpness of a scan), "paint"
            (patterns), or "auto": the look of scans, and the patterns of pictures.
        style_weight: weight of the style loss; None is 6 for pictures, and that of
            ``convnd stylize`` for other data.
        content_weight: weight of the content loss.
        style_scale: size of the style's patterns, relative to its file.
        tv_weight: weight of the total variation.
        motion_weight: weight of the motion loss, see `convnd.transfer.training.train_network`; None
            is 1 for pictures, and 0 for other data.
        size: samples along the longest axis of the contents that crops are taken from; 0 keeps
            their own.
        width: channels of the network at full resolution.
        levels: number of times that the network halves the resolution.
        blocks: residual blocks of the network.
        steps: updates of the weights, at most.
        minutes: minutes after which the training ends; 0 is no limit.
        crop: samples of a crop along each axis.
        batch: crops for each update.
        learning_rate: highest learning rate, see `convnd.optimize.muon.Muon`.
        tolerance: relative decrease of the mean loss over 100 steps below which the training ends.
        backbone: network whose features are compared.
        seed: seed of weights and crops.
        device: "auto", "cpu", "cuda" or "mps".
        checkpoint_every: steps from one checkpoint to the next; 0 keeps none.
        resume: continue from the checkpoint.
        preview_every: steps from one preview to the next; 0 writes none.

    Raises:
        UsageError: a number is outside its range.

    >>> TrainingOptions().minutes
    0.0
    """

    transfer: Annotated[
        str,
        Flag(
            "What a network for scans learns: auto, look (noise and sharpness of a scan) or paint "
            "(patterns).",
            LOOK,
            choices=("auto", "look", "paint"),
        ),
    ] = "auto"
    style_weight: Annotated[
        float | None,
        Flag("Weight of the style loss; auto: 6 for pictures, else as in stylize.", LOOK),
        WEIGHT,
    ] = None
    content_weight: Annotated[float, Flag("Weight of the content loss.", LOOK), WEIGHT] = 1.0
    style_scale: Annotated[
        float, Flag("Size of the style's patterns, relative to its file.", LOOK), Range(0.05, 20)
    ] = 1.0
    tv_weight: Annotated[float, Flag("Weight of the total variation loss.", LOOK), WEIGHT] = 0.0
    motion_weight: Annotated[
        float | None,
        Flag(
            "Weight of the motion loss, with which patterns follow the content of a video; "
            "auto: 1 for pictures, else 0.",
            LOOK,
        ),
        WEIGHT,
    ] = None
    size: Annotated[
        int | None,
        Flag("Samples along the longest axis of the contents; 0: their own.", WORK),
        Range(0, 1 << 16),
    ] = None
    width: Annotated[int | None, Flag("Channels at full resolution.", NETWORK), Range(1, 64)] = None
    levels: Annotated[
        int | None, Flag("How many times the resolution is halved.", NETWORK), Range(1, 5)
    ] = None
    blocks: Annotated[
        int | None, Flag("Residual blocks at the lowest resolution.", NETWORK), Range(1, 16)
    ] = None
    steps: Annotated[
        int | None, Flag("Updates of the weights, at most.", WORK), Range(1, 10_000_000)
    ] = None
    minutes: Annotated[
        float,
        Flag("Minutes after which the training ends; 0: no limit.", WORK, recorded=False),
        Range(0, 100_000),
    ] = 0.0
    crop: Annotated[
        int | None, Flag("Samples of a crop along each axis.", WORK), Range(16, 1 << 20)
    ] = None
    batch: Annotated[int | None, Flag("Crops for each update.", WORK), Range(1, 256)] = None
    learning_rate: Annotated[float, Flag("Highest learning rate.", WORK), Range(1e-8, 1)] = 4e-3
    tolerance: Annotated[
        float,
        Flag(
            "Relative decrease of the mean loss over 100 steps below which the training ends.", WORK
        ),
        Range(0, 1),
    ] = 0.0
    backbone: Annotated[
        str | None,
        Flag("Network whose features are compared; auto: compact, or compact-1d.", WORK),
    ] = None
    seed: Annotated[int, Flag("Seed of everything random.", WORK), SEED] = 0
    device: Annotated[str, DEVICE] = "auto"
    checkpoint_every: Annotated[
        int,
        Flag("Keep a checkpoint every so many steps; 0: none.", RESOURCES, recorded=False),
        Range(0, 10_000_000),
    ] = 50
    resume: Annotated[bool, Flag("Continue from the checkpoint.", RESOURCES, recorded=False)] = (
        False
    )
    preview_every: Annotated[
        int,
        Flag("Write a preview every so many steps; 0: none.", RESOURCES, recorded=False),
        Range(0, 10_000_000),
    ] = 100

    def __post_init__(self) -> None:
        check_fields(self)
        check_name("transfer", self.transfer, ("auto", "look", "paint"))
        check_device_name(self.device)

    def record(self) -> dict[str, str]:
        """Every option that the network depends on, as text."""
        from convnd.options import flags_of

        names = [name for name, (_, flag) in flags_of(type(self)).items() if flag.recorded]
        values = {name: getattr(self, name) for name in names}
        return {name: "auto" if value is None else str(value) for name, value in values.items()}
