"""Losses of content, style, smoothness, colours, time and events, and the objective of them."""

from convnd.losses.base import (
    INPUT,
    NORMALIZATIONS,
    Loss,
    LossModule,
    Term,
    Window,
    check_normalization,
    expand_target,
    tile_index,
    tile_offset,
    tile_shape,
)
from convnd.losses.content import ContentLoss, ContentSource
from convnd.losses.events import EventLoss, mean_event
from convnd.losses.local_affine import LocalAffineLoss, default_radius
from convnd.losses.objective import Objective
from convnd.losses.perceptual import PerceptualLoss
from convnd.losses.smoothness import TotalVariationLoss, total_variation
from convnd.losses.style import StyleLoss
from convnd.losses.temporal import TemporalLoss

__all__ = [
    "INPUT",
    "NORMALIZATIONS",
    "ContentLoss",
    "ContentSource",
    "EventLoss",
    "LocalAffineLoss",
    "Loss",
    "LossModule",
    "Objective",
    "PerceptualLoss",
    "StyleLoss",
    "TemporalLoss",
    "Term",
    "TotalVariationLoss",
    "Window",
    "check_normalization",
    "default_radius",
    "expand_target",
    "mean_event",
    "tile_index",
    "tile_offset",
    "tile_shape",
    "total_variation",
]
