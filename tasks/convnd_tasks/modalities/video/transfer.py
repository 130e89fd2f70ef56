"""The transfer of one video: all passes over its frames, and the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.transfer.adjustment import LIVE_OPTIONS
from convnd.transfer.network_transfer import NetworkTransfer
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.base import Transfer
from convnd_tasks.modalities.video.blocks import BlockStylizer
from convnd_tasks.modalities.video.figures import PreviewCollector
from convnd_tasks.modalities.video.files import content_fingerprint
from convnd_tasks.modalities.video.frame_cache import FINAL, FrameCache
from convnd_tasks.modalities.video.frame_network import FrameNetwork
from convnd_tasks.modalities.video.frame_optimizer import FrameOptimizer
from convnd_tasks.modalities.video.frames import FrameStylizer
from convnd_tasks.modalities.video.input import StylizedFrame
from convnd_tasks.modalities.video.result import VideoResult, mean_of, merge_second_pass
from convnd_tasks.modalities.video.second_pass import run_second_pass
from convnd_tasks.runtime.changes import Changes

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.optimize import ProcessGroup
    from convnd_tasks.modalities.video.finish import FrameFinisher
    from convnd_tasks.modalities.video.input import VideoSource
    from convnd_tasks.modalities.video.keyframes import Keyframes
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.modalities.video.video_regions import VideoRegions
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["VideoTransfer"]


@dataclasses.dataclass(eq=False)
class VideoTransfer(Transfer):
    """The transfer of one video, which saves finished frames in a `FrameCache`.

    Args:
        options: see `VideoOptions`.
        settings: settings of the job.
        source: the frames to stylise; for a texture, those of the style video.
        styles: pictures ``(1, 3, H_i, W_i)``, or with mode ``"block"`` videos
            ``(1, 3, T_i, H_i, W_i)``.
        finisher: applies colours, strength and mask.
        network: function that returns the network of the job.
        messages: lines for users about the inputs.
        trained: the network of the job if it was trained for one style, or None.
        regions: parts of the frames with styles of their own, or that a mask allows to change;
            None is all of each frame.
        keyframes: frames of the result that are known; None is none.
        strength: place of the targets between the statistics of the input (0) and the styles (1).
    """

    options: VideoOptions
    settings: JobSettings
    source: VideoSource
    styles: Sequence[Tensor]
    finisher: FrameFinisher
    network: Callable[[], Any]
    messages: Sequence[str] = ()
    trained: NetworkTransfer | None = None
    regions: VideoRegions | None = None
    keyframes: Keyframes | None = None
    strength: float = 1.0
    record: dict[str, str] = dataclasses.field(default_factory=dict, init=False)
    _result: VideoResult | None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        """Allow changes between frames that are optimised one after the other, in one pass.

        Raises:
            UsageError: a planned change does not fit.
        """
        options = self.options
        optimises = self.trained is None and not options.is_instant and options.mode != "block"
        if optimises and options.passes == 1 and self.finisher.strength == 1:
            names = [*LIVE_OPTIONS, "temporal_weight"]
            names += ["strength"] if self.keyframes is None else []
            self.changes = Changes(self.settings.change, names)
            self.changes.check(options)

    def fingerprint(self) -> Sequence[object]:
        """List everything that the result depends on, see `Transfer.fingerprint`."""
        frame_range = dataclasses.astuple(self.source.frame_range)
        video = content_fingerprint(self.source.video.info)
        return [
            frame_range,
            self.settings.texture,
            (self.settings.deinterlace, self.settings.tone_map),
            video,
            None if self.regions is None else self.regions.fingerprint(),
            [] if self.keyframes is None else [*self.keyframes.frames.items()],
            *self.styles,
            *(() if self.trained is None else self.trained.network.state_dict().values()),
        ]

    def check_writable(self, path: Path) -> None:
        """Check that the video can be written, see `Transfer.check_writable`."""
        if path.suffix and not self.settings.preview:
            io.check_video_output(
                path,
                self.source.video.info,
                overwrite=True,
                audio=self.settings.audio,
                provenance=self.settings.metadata,
            )

    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """Stylise all frames, see `Transfer.run`.

        The last step stands for the whole video: it counts the steps of all frames, and its losses
        are means over frames.

        Args:
            state: return value of `FrameCache.open`; None makes a cache in a temporary folder.
            group: None, or a group of one process.
            on_message: callback that gets lines for users.

        Raises:
            UsageError: the group has several processes, or the range of frames is empty.
        """
        if group is not None and group.size > 1:
            raise UsageError(
                "videos",
                expected="one process for each video",
                got=group.size,
                remedy=(
                    "give a folder of videos, whose files are shared out, or start one process"
                ),
            )
        if state is None:
            state = FrameCache(None).open(self.options, self.fingerprint(), resume=False)
        yield from self._run(state["cache"], on_message)

    def count_steps(self) -> tuple[int, int] | None:
        """Count the least and the most steps, see `Transfer.count_steps`.

        Later frames end when their loss has settled. The count is None for blocks, and if the
        number of frames is unknown.
        """
        frames, options = self.source.count(), self.options
        if frames is None or options.mode == "block":
            return None
        if self.trained is not None or options.is_instant:
            return frames, frames
        first, later = options.steps + 1, (frames - 1) * options.passes
        return first + later, first + later * (options.frame_steps + 1)

    def preview(self, progress: Progress) -> Grid | None:
        """Return the frame that is worked on, or the middle one of a block, see `Transfer`."""
        values = progress.values[:1].detach().cpu()
        if values.ndim == 5:
            values = values[:, :, values.shape[2] // 2]
        return Grid(values=values)

    def result(self, progress: Progress) -> VideoResult:
        """Return the result, see `Transfer.result`; only after the last step."""
        del progress
        assert self._result is not None
        return self._result

    def _run(
        self, cache: FrameCache, on_message: Callable[[str], None] | None
    ) -> Iterator[Progress]:
        """Run all passes and the finisher, and make the result."""
        options, source = self.options, self.source
        cache.size = source.size
        resumed_count = cache.count(options.passes)
        if resumed_count and on_message is not None:
            on_message(f"continuing after {resumed_count} frames of an earlier run")
        began = time.monotonic()
        if self.regions is not None:
            self.regions.on_message = on_message
        previews, count = PreviewCollector(), 0
        last: StylizedFrame | None = None
        transfer = self._frame_transfer(on_message)
        for item in self._stylizer(transfer, on_message).run(source, cache):
            if isinstance(item, Progress):
                yield item
                continue
            last = item
            previews.add_content(item.number, item.content)
            count += 1
        if last is None:
            raise self._no_frames_error()
        damage = source.video.damage
        if options.passes > 1:
            assert isinstance(transfer, FrameOptimizer)
            known_frames = () if self.keyframes is None else self.keyframes.frames
            for item in run_second_pass(transfer, cache, count, self.regions, known_frames):
                if isinstance(item, Progress):
                    yield item
        pass_index, records = self._finish(cache, count)
        self._result = VideoResult(
            info=self._result_info(),
            end=source.frame_range.end,
            records=records,
            pass_index=pass_index,
            damage=damage,
            new_frames=count - resumed_count,
            seconds=time.monotonic() - began,
            cache=cache,
            previews=previews,
        )
        self.record["e_warp"] = f"{self._result.e_warp:.6g}"
        yield _last_step(self._result, last.values)

    def _no_frames_error(self) -> UsageError:
        frame_range = self.source.frame_range
        return UsageError(
            "--from, --to",
            expected=f"some frames of {self.source.video.info.path}",
            got=f"none from {float(frame_range.start):g} s on",
            remedy="choose times within the video",
        )

    def _finish(self, cache: FrameCache, count: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Finish the frames of the last pass, and return the pass to read and its records."""
        pass_index = self.options.passes
        records: list[Mapping[str, Any]] = [
            cache.records[pass_index, number] for number in range(count)
        ]
        if pass_index > 1:
            records = merge_second_pass(records)
        if not self.finisher.changes_frames:
            return pass_index, records
        for _ in self.finisher.run(self.source, cache, pass_index, records):
            pass
        return FINAL, [cache.records[FINAL, number] for number in range(count)]

    def _result_info(self) -> io.VideoInfo:
        """Return the properties of the input, with size and rate of the result."""
        source = self.source
        info = source.video.info
        rate = None if info.rate is None else info.rate / source.frame_range.every
        if self.settings.strip:
            info = dataclasses.replace(info, tags={}, stream_tags={})
        return dataclasses.replace(info, size=source.size, rate=rate)

    def _frame_transfer(
        self, on_message: Callable[[str], None] | None
    ) -> FrameOptimizer | FrameNetwork | None:
        """Make what stylises single frames; None for blocks."""
        if self.options.mode == "block":
            return None
        transfer = self.network()
        if isinstance(transfer, OnePassTransfer):
            return FrameNetwork(transfer, self.styles, on_message, self.regions)
        parts = () if self.regions is None else self.regions.parts
        return FrameOptimizer(
            self.options,
            self.styles,
            on_message,
            transfer=transfer,
            regions=parts,
            keyframes=self.keyframes,
            strength=self.strength,
        )

    def _stylizer(
        self,
        transfer: FrameOptimizer | FrameNetwork | None,
        on_message: Callable[[str], None] | None,
    ) -> FrameStylizer | BlockStylizer:
        if transfer is not None:
            parts = self.regions, self.keyframes
            if not isinstance(transfer, FrameOptimizer):
                return FrameStylizer(self.options, transfer, *parts)
            return FrameStylizer(self.options, transfer, *parts, self.changes, transfer.change)
        return BlockStylizer(
            self.options,
            self.styles,
            texture=self.settings.texture,
            on_message=on_message,
            transfer=self.network(),
            regions=self.regions,
        )


def _last_step(result: VideoResult, values: Tensor) -> Progress:
    """Make the step that stands for the whole video."""
    steps = result.total("steps")
    names = dict.fromkeys(name for record in result.records for name in record["parts"])
    parts = [record["parts"] for record in result.records]
    return Progress(
        step=steps,
        steps=steps,
        phase=1,
        phases=1,
        fraction_done=1.0,
        loss=mean_of(result.records, "loss"),
        parts={name: mean_of(parts, name) for name in names},
        values=values,
        rejected_steps=result.total("rejected_steps"),
    )
