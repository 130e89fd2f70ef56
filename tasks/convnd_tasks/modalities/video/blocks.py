"""Clips as blocks: time is the third axis of three-dimensional features.

A window of frames is one grid ``(1, 3, T, H, W)``, stylised as a whole from coarse to fine; only
height and width change with the scale. Windows overlap, and what two of them share is faded from
the one to the other. (Holding the later one to the earlier one by a term of its own made it worse:
the statistics of a window are sums, and frames that were free made up for those that were held.) A
new scene begins a new window.

The network sees frame by frame, unless it is to see time as well (``inflation``). A picture as
style is a field of one frame, constant in time. A clip as style brings its movement with it: part
of the change goes along its flow, place by place, on what the content shows. With planes along
time, what its features do there is style, too: a dynamic texture (Doretto et al., 2003; with
features of networks Tesfaldet et al., 2018, who use a second one for the flow). That alone gave
noise, not movement.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd.optimize import Step
from convnd.transfer.style_transfer import Progress, check_names
from convnd_tasks.modalities.base import SMALLEST
from convnd_tasks.modalities.video.along import AlongMotion, BlockStyleTransfer
from convnd_tasks.modalities.video.flow import Motion, motion, warping_error
from convnd_tasks.modalities.video.frames import Finished
from convnd_tasks.modalities.video.input import (
    Look,
    Part,
    count_frames,
    even_fit,
    looks,
    reporter,
    walked,
    working_size,
)
from convnd_tasks.modalities.video.keeping import FrameStore, rounded
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.pipeline.prefetch import prefetch

if TYPE_CHECKING:
    from convnd.io import Video

__all__ = ["BlockTransfer", "moving_style"]

_STYLE_FRAMES = 48
"""Frames of a clip whose movement is style; what is still is no better known from more."""

_MARGIN = 2
"""Frames before and behind a window that are worked on and thrown away, where the network looks
along time: beside its zero padding it sees little, and frames would stay as they began."""

_BLOCK_ONLY = 0
"""Turn of the store for what the next window shares, before it is faded."""


def moving_style(clip: Video, longest: int) -> Tensor:
    """The first frames of a clip as a style.

    Args:
        clip: at least 16 frames; at most 48 are looked at.
        longest: of its sides, see `even_fit`.

    Returns:
        ``(1, 3, T, H, W)``.

    Raises:
        InputFileError: it has fewer frames.
    """
    size = even_fit(clip.info.size, longest)
    frames = []
    for frame in itertools.islice(clip.frames(), _STYLE_FRAMES):
        values = frame.values
        if tuple(values.shape[2:]) != size:
            values = resize_nd(values, size, mode="linear", antialias=True)
        frames.append(values)
    if len(frames) < SMALLEST:
        raise InputFileError(
            f"style: expected a clip of at least {SMALLEST} frames, whose movement can be seen, "
            f"got {len(frames)} in {clip.info.path}; use a longer one, or a picture"
        )
    return torch.stack(frames, 2)


class BlockTransfer:
    """A network and styles made ready once, for all windows of a clip.

    Args:
        options: see `VideoOptions`.
        styles: pictures ``(1, 3, H_i, W_i)``, or clips ``(1, 3, T_i, H_i, W_i)`` as sampled in
            time and space as the result is.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(self, options: VideoOptions, styles: Sequence[Tensor]) -> None:
        check_names(options)
        self.options = options
        self.styles = [style[:, :, None] if style.ndim == 4 else style for style in styles]
        self.transfer = BlockStyleTransfer(options, spatial_dims=3, in_channels=3, fixed_axes=1)
        self._margin = 0 if options.inflation == "auto" else _MARGIN
        moving = next((list(each.unbind(2)) for each in self.styles if each.shape[2] > 1), [])
        self._movement = [motion(*pair) for pair in itertools.pairwise(moving)]
        self._tell: Callable[[str], None] = lambda _: None

    def run(
        self,
        clip: Video,
        store: FrameStore,
        part: Part | None = None,
        *,
        watch: Callable[[Progress], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Iterator[Finished]:
        """Stylise, window after window; see `VideoTransfer.run`."""
        options = self.options
        part = Part() if part is None else part
        size = working_size(clip, options.size)
        self._tell = self._tell if say is None else say
        total = count_frames(clip, part)
        before: Finished | None = None
        waiting: list[tuple[Look, Tensor, dict[str, Any]]] = []
        source = prefetch(lambda: looks(options, clip, part, size, store))
        for window, shared in _windows(source, options.window, options.overlap):
            if not shared:
                for look, values, record in waiting:
                    before = _finish(store, look, values, record, before, options)
                    yield before
                waiting = []
            more = len(window) == options.window  # another window may come
            count = len(window) - options.overlap if more else len(window)
            kept = self._kept(window, count, store)
            if kept is None:
                began = time.perf_counter()
                report = reporter(watch, window[0].number + shared, total, 1)
                earlier = [values for _, values, _ in waiting]
                step = self._work(window, earlier, report)
                made = list(rounded(step.values)[:, :, self._margin :].unbind(2))[: len(window)]
                seconds = (time.perf_counter() - began) / (len(window) - shared)
                record = {
                    "steps": step.index,
                    "rejected_steps": step.rejected_steps,
                    "loss": step.loss,
                    "parts": dict(step.parts),
                    "features": seconds,
                }
                for look, values in zip(window[count:], made[count:], strict=True):
                    store.keep(_BLOCK_ONLY, look.number, values, record)
                for at, (_, values, _) in enumerate(waiting):
                    share = (at + 1) / (shared + 1)
                    made[at] = rounded(values * (1 - share) + made[at] * share)
            else:
                made, record = kept
            for look, values in zip(window[:count], made[:count], strict=True):
                before = _finish(store, look, values, record, before, options)
                record = {**record, "rejected_steps": 0}  # of the window, told once
                yield before
            waiting = [
                (look, values, record)
                for look, values in zip(window[count:], made[count:], strict=True)
            ]
        for look, values, record in waiting:
            before = _finish(store, look, values, record, before, options)
            yield before

    def _kept(
        self, window: Sequence[Look], count: int, store: FrameStore
    ) -> tuple[list[Tensor], dict[str, Any]] | None:
        """A window that an earlier run has done."""
        places = [(1 if at < count else _BLOCK_ONLY, look.number) for at, look in enumerate(window)]
        if any(place not in store.records for place in places):
            return None
        return [store.load(*place) for place in places], store.records[places[-1]]

    def _work(
        self,
        window: Sequence[Look],
        earlier: Sequence[Tensor],
        report: Callable[[Step], None],
    ) -> Step:
        """Stylise one window of frames.

        A texture begins with what the window before has made of its first frames, moved on to
        those behind, so that the two agree where they are faded. With a content they agree anyway.
        """
        options = self.options
        contents = [look.content for look in window]
        places = list(range(len(contents)))
        if self._margin:
            places = _mirrored(len(contents), options.window + 2 * _MARGIN)
        content = torch.stack([contents[at] for at in places], 2)
        self.transfer.lines = self._lines(window, places)
        start = content
        if options.texture:
            _, along = self.transfer.lines[0]
            start = _clouds(content.shape, self.styles[0], along, options.seed)
            if earlier:
                known = [at < len(earlier) for at in places]
                done = [earlier[at] if at < len(earlier) else contents[at] for at in places]
                start = along.filled(torch.stack(done, 2), known, start)
        return walked(
            self.transfer.run(
                None if options.texture else content,
                self.styles,
                size=content.shape[2:],
                init=start,
                same_grid=True,
                on_message=self._tell,
            ),
            report,
        )

    def _lines(
        self, window: Sequence[Look], places: Sequence[int]
    ) -> list[tuple[float, AlongMotion]]:
        """Of frames in the order of ``places``, which are neighbours, see `BlockStyleTransfer`.

        A clip as style moves on what the content shows, wherever that goes, and begins anew at its
        end.
        """
        options = self.options
        known = [  # frames that an earlier run has kept come without
            look.motions[1] if look.motions else motion(before.content, look.content)
            for before, look in itertools.pairwise(window)
        ]
        lines = [(1.0, known)]
        plane = window[0].content.shape[2:]
        if self._movement and not options.texture:
            turns = [self._movement[look.number % len(self._movement)] for look in window[:-1]]
            carried = [
                each.then(turn.over(plane, options.style_scale))
                for each, turn in zip(known, turns, strict=True)
            ]
            lines = [(1 - options.style_motion, known), (options.style_motion, carried)]
        still = torch.zeros(2, *plane)
        return [
            (weight, AlongMotion.between(_in_order(motions, places, still), options.temporal_decay))
            for weight, motions in lines
            if weight
        ]


def _finish(
    store: FrameStore,
    look: Look,
    values: Tensor,
    made: dict[str, Any],
    before: Finished | None,
    options: VideoOptions,
) -> Finished:
    """Keep a frame, unless it is kept already, with what there is to know of it."""
    record: Any = store.records.get((1, look.number))
    if record is None:
        record = {
            "pts": look.pts,
            "name": look.name,
            "cut": look.cut,
            **{
                name: made[name]
                for name in ("steps", "rejected_steps", "loss", "parts", "features")
            },
            "e_warp": None,
            "input_e_warp": None,
            "codec": look.seconds["codec"],
            "flow": look.seconds["flow"],
        }
        # A texture moves as the style does, and not along the flow of any frames.
        if before is not None and not look.cut and not options.texture:
            between = look.motions[1]
            record["e_warp"] = warping_error(before.values, values, between)
            record["input_e_warp"] = warping_error(before.content, look.content, between)
        store.keep(1, look.number, values, record)
    return Finished(number=look.number, content=look.content, values=values, record=record)


def _windows(source: Iterable[Look], length: int, overlap: int) -> Iterator[tuple[list[Look], int]]:
    """Windows of frames, and how many of each were in the one before; 0 begins a scene."""
    window: list[Look] = []
    shared = 0
    for look in source:
        if look.cut:
            if len(window) > shared:
                yield window, shared
            window, shared = [], 0
        window.append(look)
        if len(window) == length:
            yield window, shared
            window, shared = window[length - overlap :], overlap
    if len(window) > shared:
        yield window, shared


def _mirrored(count: int, length: int) -> list[int]:
    """Indices of ``length`` frames, a margin before the first of ``count``, mirrored at both ends.

    >>> _mirrored(3, 9), _mirrored(1, 5)
    ([2, 1, 0, 1, 2, 1, 0, 1, 2], [0, 0, 0, 0, 0])
    """
    period = max(1, 2 * (count - 1))
    turns = [(at - _MARGIN) % period for at in range(length)]
    return [at if at < count else period - at for at in turns]


def _in_order(known: Sequence[Motion], places: Sequence[int], still: Tensor) -> list[Motion]:
    """Motions from each frame to the next, of frames in the order of ``places``."""

    def between(one: int, other: int) -> Motion:
        if one == other:  # a single frame
            return Motion(still, still)
        if one < other:
            return known[one]
        return Motion(known[other].backward, known[other].forward)

    return [between(one, other) for one, other in itertools.pairwise(places)]


def _clouds(shape: Sequence[int], style: Tensor, along: AlongMotion, seed: int) -> Tensor:
    """Smooth noise in the colours of a style, to begin a texture with.

    Kernels that were learnt on pictures hardly see what changes from frame to frame, and would
    leave white noise there as it is. The noise takes the style's own pixels, from dark to light:
    what is seen in few frames, as at borders, stays nearly as it begins.
    """
    small = [max(2, n // 4) for n in shape[2:]]
    noise = torch.randn((1, 1, *small), generator=torch.Generator().manual_seed(seed))
    ranks = along(resize_nd(noise, shape[2:], mode="linear")).flatten().argsort().argsort()
    pixels = style[0].flatten(1)
    pixels = pixels[:, pixels.sum(0).argsort()]
    return pixels[:, ranks * pixels.shape[1] // len(ranks)].view(1, -1, *shape[2:])
