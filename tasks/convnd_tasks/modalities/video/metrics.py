"""Clips: flicker against the input's own motion, style and content energy frame by frame.

Frames come one by one. E_warp is that of `warping_error`: flow and mask
from the input, at the size of the result. Energies are relative to the target's own, in the space
of the compact backbone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.video.flow import is_cut, motion, warping_error
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.pipeline.prefetch import prefetch

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.io import Video
    from convnd.losses import Objective

__all__ = ["Energies", "measure_clips", "measure_files"]


def measure_files(content: str, result: str, styles: Sequence[str]) -> list[Measure]:
    """Open clips and styles by name, see `measure_clips`.

    Raises:
        InputFileError: a file cannot be read.
    """
    from convnd_tasks.modalities.video.files import open_video
    from convnd_tasks.pipeline.resolve import open_input

    pictures = [open_input(name, 2, role="style", seed=0) for name in styles]
    return measure_clips(open_video(content), open_video(result), pictures)


def measure_clips(content: Video, result: Video, styles: Sequence[Grid]) -> list[Measure]:
    """Figures for a clip made of another and styles.

    Args:
        content: the input.
        result: of as many frames; another size is allowed.
        styles: pictures ``(1, 3, H, W)``; none leaves out the style energy.

    Raises:
        InputFileError: the clips have not equally many frames, or a frame cannot be read.
    """
    errors: dict[str, float] = {}
    own: dict[str, float] = {}
    style: dict[str, float] = {}
    style_before: dict[str, float] = {}
    kept: dict[str, float] = {}
    energies: Energies | None = None
    past: tuple[Tensor, Tensor] | None = None
    for number, (before, after) in enumerate(prefetch(lambda: _pairs(content, result))):
        name = str(number)
        if energies is None:
            energies = Energies([each.values for each in styles], tuple(after.shape[2:]))
        if past is not None:
            between = motion(past[0], before)
            if not is_cut(past[0], before, between.seen_before):
                errors[name] = warping_error(past[1], after, between)
                own[name] = warping_error(past[0], before, between)
        style_before[name], style[name], kept[name] = energies(before, after)
        past = before, after
    found = [
        Measure(
            name="e_warp",
            value=_mean(errors),
            before=_mean(own),
            better="lower",
            against="content",
            parts=errors,
            meaning="mean squared difference of neighbouring frames along the input's flow",
        ),
        Measure(
            name="content_energy",
            value=_mean(kept),
            better="lower",
            against="content",
            parts=kept,
            meaning="squared distance of relu4_2, relative to the content's",
        ),
        Measure(
            name="frames",
            value=float(len(kept)),
            before=float(len(kept)),
            meaning="frames that were compared",
        ),
    ]
    if styles:
        found.insert(
            1,
            Measure(
                name="style_energy",
                value=_mean(style),
                before=_mean(style_before),
                better="lower",
                against="style",
                parts=style,
                meaning="squared distance of Gram matrices, relative to the style's",
            ),
        )
    return found


class Energies:
    """How far frames are from a style and from their content.

    Args:
        styles: ``(1, 3, *S_i)`` each; none makes the style energy NaN.
        size: of the frames.
        backbone: in whose space.
    """

    def __init__(
        self, styles: Sequence[Tensor], size: Sequence[int], *, backbone: str = "compact"
    ) -> None:
        options = VideoOptions(backbone=backbone, style_weight=1.0 if styles else 0.0)
        self._transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
        self._terms = self._transfer.style_terms(
            [self._transfer.style_at(style, size) for style in styles]
        )

    def __call__(self, content: Tensor, frame: Tensor) -> tuple[float, float, float]:
        """Style energy of the content ``(1, 3, H, W)`` and of the frame, content energy of it."""
        objective = self._transfer.objective(content, [], [1.0, 1.0], style_terms=self._terms)
        before, _ = self._of(objective, content) if self._terms else (math.nan, 0.0)
        return before, *self._of(objective, frame)

    def _of(self, objective: Objective, values: Tensor) -> tuple[float, float]:
        """Style and content energy as one pass through the network finds them."""
        with torch.no_grad():
            features = objective.features(values.to(self._transfer.device))
            _, shares = objective.value(objective.sums(features))
        found = {"style": 0.0 if self._terms else math.nan, "content": 0.0}
        for term, share in zip(objective.terms, shares.tolist(), strict=True):
            found[term.name] += share
        return found["style"], found["content"]


def _pairs(content: Video, result: Video) -> Iterator[tuple[Tensor, Tensor]]:
    befores, afters = content.frames(), result.frames()
    count = 0
    while True:
        before, after = next(befores, None), next(afters, None)
        if before is None and after is None:
            break
        if before is None or after is None:
            short, long = (content, result) if before is None else (result, content)
            raise InputFileError(
                f"evaluate: expected clips of equally many frames, got {count} in "
                f"{short.info.path.name} and more in {long.info.path.name}; give the clip and what "
                "was made of all of it"
            )
        count += 1
        values = before.values
        if values.shape != after.values.shape:
            values = resize_nd(values, after.values.shape[2:], mode="linear", antialias=True)
        yield values, after.values
    if not count:
        raise InputFileError("evaluate: expected clips with frames, got none; check the files")


def _mean(values: dict[str, float]) -> float:
    known = [value for value in values.values() if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
