"""Videos as a kind of data."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from convnd import io
from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.io.video.encoder import square_pixels
from convnd_tasks.modalities.base import Modality
from convnd_tasks.modalities.images.codec import color_moments, match_colors, pooled_moments
from convnd_tasks.modalities.images.color_labels import color_labels
from convnd_tasks.modalities.images.hidden import fill_hidden_pixels, mask_by_opacity
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.one_pass import one_pass_transfer
from convnd_tasks.modalities.opening import check_no_content_options, open_grid
from convnd_tasks.modalities.results import Figure, JobResult, Table
from convnd_tasks.modalities.video.blocks import make_block_transfer, read_style_video
from convnd_tasks.modalities.video.files import BLOCK_DEMO, DEMO, is_sample, open_video
from convnd_tasks.modalities.video.finish import FrameFinisher, check_mask
from convnd_tasks.modalities.video.frame_cache import FrameCache
from convnd_tasks.modalities.video.frame_optimizer import make_frame_transfer
from convnd_tasks.modalities.video.input import FrameRange, VideoSource, working_size
from convnd_tasks.modalities.video.keyframes import check_keyframe_options, make_keyframes
from convnd_tasks.modalities.video.metrics import measure_texture, measure_video
from convnd_tasks.modalities.video.options import VideoOptions, check_one_pass
from convnd_tasks.modalities.video.report import describe_result, draw_figures, list_measures
from convnd_tasks.modalities.video.transfer import VideoTransfer
from convnd_tasks.modalities.video.video_regions import check_region_settings, make_regions
from convnd_tasks.runtime.fraction import parse_fraction

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import Video
    from convnd.optimize import ProcessGroup
    from convnd.transfer.one_pass import OnePassTransfer
    from convnd.transfer.style_transfer import StyleTransfer
    from convnd_tasks.modalities.metrics import Measure
    from convnd_tasks.modalities.video.result import VideoResult

__all__ = ["Videos"]

_TEXTURE_FRAMES, _TEXTURE_STRIDE = 4, 8
"""Number of frames of a style video that a texture is compared with, and the step between them."""

_COLOR_FRAMES = 16
"""Number of frames that represent the colours of a video."""


class Videos(Modality):
    """Videos: files, folders of numbered pictures, and the built-in one."""

    name: ClassVar[str] = "videos"
    keeps_partial_result: ClassVar[bool] = False
    draws_figures: ClassVar[bool] = True
    has_instant_network: ClassVar[bool] = True
    step_noun: ClassVar[str] = "frame"
    loss_caption: ClassVar[str] = (
        "The objective and its weighted terms at every step of every frame or block. They jump "
        "where the next one begins; the last value is the mean over frames."
    )
    unsupported: ClassVar[Mapping[str, str]] = {
        "init": "each frame starts from the frame before, moved along the flow",
        "stroke_size": "strokes are relative to the frame; --style-scale changes their size",
        "keep": "faces are found in pictures only; a moving mask can be a clip (--regions)",
        "seamless": "frames have borders; make a picture, or an array of three axes",
    }
    options: VideoOptions

    def check(self) -> None:
        """Check the options, see `Modality.check`."""
        super().check()
        check_region_settings(self.settings, is_instant=self.options.is_instant)
        if self.settings.keyframe:
            check_keyframe_options(self.options, self.settings)
        if self.settings.preview and (self.options.mode == "block" or self.settings.report):
            raise UsageError(
                "--preview makes one picture, to which --mode block and --report do not apply; "
                "leave these out"
            )
        if not self.settings.texture:
            return
        if self.options.is_instant:
            check_one_pass(self.options, texture=True)
        check_no_content_options(self.options, self.settings)
        if self.options.mode != "block":
            raise UsageError(
                "--texture",
                expected="--mode block, which transfers motion",
                got=f"--mode {self.options.mode}",
                remedy="add it",
            )

    def read(self, name: str, role: str, content: Any = None) -> Grid | Video:
        """Open one input, see `Modality.read`; the frames of a video are read later."""
        if role == "mask":
            return self._open_map(name) if io.is_video(name) else mask_by_opacity(io.read(name))
        if role in ("regions", "style regions"):
            if role == "regions" and io.is_video(name):
                return self._open_map(name)
            return open_grid(name, 2, role=role, seed=self.options.seed)
        is_video = io.is_video(name)
        if role == "content" or (self.settings.texture and (is_video or is_sample(name))):
            rate = self.settings.rate
            if content is not None and not Path(name).is_dir():
                rate = None  # the file of a result holds its rate
            return open_video(
                name,
                None if rate is None else parse_fraction("--rate", rate),
                self._sample_shape,
                deinterlace=self.settings.deinterlace and content is None,
                tone_map=self.settings.tone_map,
            )
        if not is_video:
            return open_grid(name, 2, role=role, seed=self.options.seed)
        if self.options.mode != "block":
            raise UsageError(
                "style",
                expected=f"a picture with --mode {self.options.mode}",
                got=f"the video {name}",
                remedy="add --mode block, which transfers its motion too",
            )
        return open_video(name, sample_shape=self._sample_shape)

    def label_map(self, grid: Grid, labels: Sequence[str], name: str) -> Mapping[str, Tensor]:
        """Split a painted map into its colours, see `Modality.label_map`."""
        return color_labels(grid, labels, name)

    def prepare(self, inputs: TransferInputs) -> VideoTransfer:
        """Make the transfer of a video, see `Modality.prepare`."""
        video = self._video(inputs)
        size = working_size(video, self.options.size)
        source = VideoSource(video=video, size=size, frame_range=self._frame_range)
        mask: Any = inputs.mask
        check_mask(mask, video)
        self.options.check_style_weights(len(inputs.styles))
        if self.trained is not None:
            check_one_pass(self.options)
        regions = make_regions(
            inputs, source, self.region_shares, tracked=self.settings.track_regions
        )
        messages = [*video.info.remarks, *(() if regions is None else regions.messages)]
        styles = [self._read_style(style, messages) for style in inputs.styles]
        keyframes = make_keyframes(inputs, styles, source)
        messages += () if keyframes is None else keyframes.messages
        if self.options.colors == "match" and not self.settings.texture:
            frames = source.sample(_COLOR_FRAMES)
            if frames:
                reference = color_moments(torch.stack(frames, 2))
                styles = [match_colors(style, reference) for style in styles]
        palette = None
        if self.settings.texture:
            weights = self.options.style_weights
            palette = pooled_moments([color_moments(style) for style in styles], weights)
        strength, left = 1.0, self.options.strength  # of the statistics, and of the values
        is_optimised = self.trained is None and not self.options.is_instant
        if is_optimised and keyframes is None and self.options.mode != "block" and left > 0:
            strength, left = left, 1.0
        finisher = FrameFinisher(self.options, palette, regions, left)
        return VideoTransfer(
            self.options,
            self.settings,
            source,
            styles,
            finisher,
            lambda: self._network,
            messages,
            self.trained,
            regions,
            keyframes,
            strength,
        )

    def checkpointer(self, output: Path | None, group: ProcessGroup | None) -> FrameCache:
        """Make the cache of finished frames, see `Modality.checkpointer`."""
        return FrameCache(output, group)

    def check_output(self, path: Path, inputs: TransferInputs | None, *, overwrite: bool) -> None:
        """Check that the result can be written, see `Modality.check_output`."""
        if self.settings.preview:
            io.check_output(path, overwrite=overwrite, spatial_dims=2)
            return
        if not path.suffix:
            self._encoding.check_folder(path)
            io.check_folder(path, overwrite=overwrite)
            return
        video = None if inputs is None else self._video(inputs)
        io.check_video_output(
            path,
            io.VideoInfo(path=path, size=(2, 2), time_base=parse_fraction("--rate", "1/25"))
            if video is None
            else video.info,
            overwrite=overwrite,
            audio=self.settings.audio,
            provenance=self.settings.metadata,
            encoding=self._encoding,
        )

    def write(
        self,
        path: Path,
        result: VideoResult,
        *,
        inputs: TransferInputs,
        overwrite: bool,
        record: Mapping[str, str] | None,
        on_message: Callable[[str], None],
    ) -> VideoResult:
        """Write a result, see `Modality.write` and `VideoResult.save`; a preview is a picture."""
        began = time.monotonic()
        if self.settings.preview:
            values = square_pixels(next(result.frames()).values, result.info.aspect)
            picture = Grid(values=values, axes=("y", "x"), channels=("R", "G", "B"))
            io.write(path, picture, overwrite=overwrite, provenance=record)
            on_message(self._estimate_time(inputs, result.seconds))
            return result
        result.save(
            path,
            overwrite=overwrite,
            encoding=self._encoding,
            audio=self.settings.audio,
            provenance=record,
        )
        return dataclasses.replace(result, encoding_seconds=time.monotonic() - began)

    def lost_metadata(self, path: Path, inputs: TransferInputs) -> list[str]:
        """Name the properties that the format of the result cannot hold."""
        video, settings = self._video(inputs), self.settings
        if settings.preview:
            return []
        info = dataclasses.replace(video.info, size=working_size(video, self.options.size))
        if settings.strip:
            info = dataclasses.replace(info, tags={}, stream_tags={})
        return io.lost_properties(
            path, info, audio=settings.audio, provenance=settings.metadata, encoding=self._encoding
        )

    def metrics(self, inputs: TransferInputs, result: Video | VideoResult) -> list[Measure]:
        """Measure a result, see `Modality.metrics`.

        Args:
            inputs: content and styles; a style that is a video counts for textures only.
            result: a video, or a result whose frame cache is open.
        """
        pictures = [style for style in inputs.styles if isinstance(style, Grid)]
        if self.settings.texture:
            for style in inputs.styles:
                if not isinstance(style, Grid):
                    frames = itertools.islice(style.frames(), 0, None, _TEXTURE_STRIDE)
                    pictures += [Grid(values=frame.values) for frame in frames][:_TEXTURE_FRAMES]
            return measure_texture(result, pictures)
        return measure_video(self._video(inputs), result, pictures, self._frame_range)

    def figure_names(self) -> list[str]:
        """Name the figures, see `Modality.figure_names`."""
        return [] if self.settings.preview else ["sheet", "slit", "timeline"]

    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """Make the figures of a written result, see `Modality.figures`."""
        del inputs
        if self.settings.preview:
            return []
        return draw_figures(outcome.result)

    def tables(self, inputs: TransferInputs, outcome: JobResult) -> list[Table]:
        """Make the tables of the report, see `Modality.tables`."""
        return list_measures(self._video(inputs).info, outcome.result)

    def describe(self, result: VideoResult) -> tuple[str, dict[str, Any]]:
        """Describe a result, see `Modality.describe`."""
        return describe_result(result)

    @functools.cached_property
    def _network(self) -> StyleTransfer | OnePassTransfer:
        """The network of the job, for all of its videos."""
        if self.trained is not None:
            return self.trained
        if self.options.is_instant:
            return one_pass_transfer(self.options, spatial_dims=2, in_channels=3)
        if self.options.mode == "block":
            return make_block_transfer(self.options)
        return make_frame_transfer(self.options)

    @property
    def _encoding(self) -> io.Encoding:
        settings = self.settings
        return io.Encoding(
            codec=settings.codec, crf=settings.crf, preset=settings.preset, bits=settings.bits
        )

    @property
    def _frame_range(self) -> FrameRange:
        settings = self.settings
        return FrameRange(
            start=parse_fraction("--from", settings.start),
            end=None if settings.end is None else parse_fraction("--to", settings.end),
            every=settings.every,
            count=1 if settings.preview else None,
        )

    @property
    def _sample_shape(self) -> tuple[int, int, int]:
        return BLOCK_DEMO if self.options.mode == "block" else DEMO

    def _open_map(self, name: str) -> Video:
        rate = None if self.settings.rate is None else parse_fraction("--rate", self.settings.rate)
        return open_video(name, rate if Path(name).is_dir() else None)

    def _estimate_time(self, inputs: TransferInputs, seconds: float) -> str:
        """Estimate the time of all frames from the seconds of the first one."""
        video = self._video(inputs)
        frame_range = dataclasses.replace(self._frame_range, count=None)
        count = VideoSource(video=video, size=video.info.size, frame_range=frame_range).count()
        if count is None:
            return f"the first frame took {seconds:.1f} s; the number of frames is not known"
        minutes = max(1, round(seconds * count / 60))
        return (
            f"the first frame took {seconds:.1f} s; all {count} may take about {minutes} "
            f"minute{'' if minutes == 1 else 's'}"
        )

    def _video(self, inputs: TransferInputs) -> Video:
        """Return the video whose frames are stylised: the content, or a texture's first style."""
        template: Any = inputs.template
        if isinstance(template, Grid):
            raise UsageError(
                "--texture",
                expected="a video as first style",
                got=f"the picture {inputs.names[0]}",
                remedy="give a video, or another --dim",
            )
        video: Video = template
        return video

    def _read_style(self, style: Any, messages: list[str]) -> Tensor:
        """Read the values of a style; damage of a video becomes a message."""
        if isinstance(style, Grid):
            return fill_hidden_pixels(style, "style").values.clamp(0, 1)
        values = read_style_video(style, self.options.size)
        if style.damage:
            messages.append(f"{style.info.path}: {style.damage}; the style is the other frames")
        return values
