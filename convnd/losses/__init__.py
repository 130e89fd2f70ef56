"""Content, style, smoothness, temporal and event losses, and the objective that sums them."""

from convnd.losses.base import (
    INPUT,
    NORMALIZATIONS,
    Loss,
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
    "Loss",
    "Objective",
    "PerceptualLoss",
    "StyleLoss",
    "TemporalLoss",
    "Term",
    "TotalVariationLoss",
    "Window",
    "check_normalization",
    "expand_target",
    "mean_event",
    "tile_index",
    "tile_offset",
    "tile_shape",
    "total_variation",
]
