"""Content, style, smoothness and temporal losses, and the objective that they add up to."""

from convnd.losses.base import (
    INPUT,
    NORMALIZATIONS,
    Loss,
    Term,
    Window,
    beginning,
    check_normalization,
    own_extent,
    within,
)
from convnd.losses.content import ContentLoss, ContentSource
from convnd.losses.events import EventLoss, mean_event
from convnd.losses.objective import Objective
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
    "StyleLoss",
    "TemporalLoss",
    "Term",
    "TotalVariationLoss",
    "Window",
    "beginning",
    "check_normalization",
    "mean_event",
    "own_extent",
    "total_variation",
    "within",
]
