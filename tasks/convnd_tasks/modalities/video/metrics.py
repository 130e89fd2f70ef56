"""Measures of videos: flicker along the input's motion, style and content energy of each frame.

Frames are read one by one. E_warp is `warping_error` with the flow of the input at the size of the
result. Energies are those of the features of the backbone ``compact``, relative to the energy of
the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.metrics import Measure, finite_mean
from convnd_tasks.modalities.video.flow import estimate_flow, is_cut, warping_errors
from convnd_tasks.modalities.video.input import FrameRange, resize_frame
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.io import Video
    from convnd.losses import Objective
    from convnd_tasks.modalities.video.result import VideoResult

__all__ = ["Energies", "measure_texture", "measure_video"]


def measure_video(
    content: Video,
    result: Video | VideoResult,
    styles: Sequence[Grid],
    frame_range: FrameRange | None = None,
) -> list[Measure]:
    """Measure a stylised video.

    Args:
        content: the input.
        result: the result, with the same number of frames; its size may differ.
        styles: pictures ``(1, 3, H, W)``; without any, the style energy is not measured.
        frame_range: the frames of the input that were stylised; None is all.

    Raises:
        InputFileError: the numbers of frames differ, or a frame cannot be read.
    """
    chosen_frames = FrameRange() if frame_range is None else frame_range
    names = ("e_warp", "input_e_warp", "style", "input_style", "content")
    parts: dict[str, dict[str, float]] = {name: {} for name in names}
    energies: Energies | None = None
    earlier: tuple[Tensor, Tensor] | None = None
    for number, (content_frame, result_frame) in enumerate(
        prefetch(lambda: _pairs(content, result, chosen_frames))
    ):
        name = str(number)
        if energies is None:
            energies = Energies([style.values for style in styles], tuple(result_frame.shape[2:]))
        if earlier is not None:
            flows = estimate_flow(earlier[0], content_frame)
            if not is_cut(earlier[0], content_frame, flows.valid_backward):
                parts["input_e_warp"][name], parts["e_warp"][name] = warping_errors(
                    earlier, (content_frame, result_frame), flows
                )
        input_style, style, content_energy = energies(content_frame, result_frame)
        parts["input_style"][name], parts["style"][name] = input_style, style
        parts["content"][name] = content_energy
        earlier = content_frame, result_frame
    return _measures(parts, with_styles=bool(styles))


def measure_texture(result: Video | VideoResult, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a moving texture, which has no content.

    Args:
        result: the texture.
        styles: pictures ``(1, 3, H, W)`` of its style, at least one.

    Raises:
        InputFileError: a frame cannot be read.
    """
    energies: Energies | None = None
    parts: dict[str, float] = {}
    for number, frame in enumerate(result.frames()):
        if energies is None:
            energies = Energies([style.values for style in styles], tuple(frame.values.shape[2:]))
        _, parts[str(number)], _ = energies(frame.values, frame.values)
    return [
        _style_energy(parts),
        Measure("frames", float(len(parts)), meaning="frames that were measured"),
    ]


def _measures(parts: Mapping[str, dict[str, float]], *, with_styles: bool) -> list[Measure]:
    measures = [
        Measure(
            "e_warp",
            finite_mean(parts["e_warp"].values()),
            before=finite_mean(parts["input_e_warp"].values()),
            better="lower",
            against="content",
            parts=parts["e_warp"],
            meaning="mean squared difference of neighbouring frames along the input's flow",
        ),
        Measure(
            "content_energy",
            finite_mean(parts["content"].values()),
            better="lower",
            against="content",
            parts=parts["content"],
            meaning="squared distance of relu4_2, relative to the content's",
        ),
        Measure(
            "frames",
            float(len(parts["content"])),
            before=float(len(parts["content"])),
            meaning="frames that were compared",
        ),
    ]
    if with_styles:
        measures.insert(
            1, _style_energy(parts["style"], before=finite_mean(parts["input_style"].values()))
        )
    return measures


def _style_energy(parts: Mapping[str, float], before: float | None = None) -> Measure:
    return Measure(
        "style_energy",
        finite_mean(parts.values()),
        before=before,
        better="lower",
        against="style",
        parts=parts,
        meaning="squared distance of Gram matrices, relative to the style's",
    )


class Energies:
    """Measures the distances of frames from styles and from their content.

    Args:
        styles: pictures ``(1, 3, H_i, W_i)``; without any, the style energy is NaN.
        size: height and width of the frames.
    """

    def __init__(self, styles: Sequence[Tensor], size: Sequence[int]) -> None:
        options = VideoOptions(backbone="compact", style_weight=1.0 if styles else 0.0)
        self._transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
        self._terms = self._transfer.style_terms(
            [self._transfer.resizer.style_at(style, size) for style in styles]
        )

    def __call__(self, content: Tensor, frame: Tensor) -> tuple[float, float, float]:
        """Measure a frame.

        Args:
            content: frame of the content ``(1, 3, H, W)``.
            frame: frame of the result, of the same size.

        Returns:
            Style energy of the content, style energy of the result, content energy of the result.
        """
        objective = self._transfer.objective(content, [], [1.0, 1.0], style_terms=self._terms)
        before, _ = self._energies(objective, content) if self._terms else (math.nan, 0.0)
        return before, *self._energies(objective, frame)

    def _energies(self, objective: Objective, values: Tensor) -> tuple[float, float]:
        """Compute style and content energy by one pass through the network."""
        with torch.no_grad():
            features = objective.features(values.to(self._transfer.device))
            _, shares = objective.value(objective.sums(features))
        energies = {"style": 0.0 if self._terms else math.nan, "content": 0.0}
        for term, share in zip(objective.terms, shares.tolist(), strict=True):
            energies[term.name] += share
        return energies["style"], energies["content"]


def _pairs(
    content: Video, result: Video | VideoResult, frame_range: FrameRange
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the frames of content and result, at the size of the result."""
    content_frames, result_frames = frame_range.frames(content), result.frames()
    count = 0
    while True:
        content_frame, result_frame = next(content_frames, None), next(result_frames, None)
        if content_frame is None and result_frame is None:
            break
        if content_frame is None or result_frame is None:
            shorter, longer = (content, result) if content_frame is None else (result, content)
            raise InputFileError(
                "evaluate",
                expected="videos with equal numbers of frames",
                got=f"{count} in {shorter.info.path.name} and more in {longer.info.path.name}",
                remedy="give the video and the result of all of its frames",
            )
        count += 1
        yield resize_frame(content_frame.values, result_frame.values.shape[2:]), result_frame.values
    if not count:
        raise InputFileError(
            "evaluate", expected="videos with frames", got="none", remedy="check the files"
        )
