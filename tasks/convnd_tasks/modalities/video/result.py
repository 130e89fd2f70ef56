"""The result of stylising a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convnd import io
from convnd_tasks.modalities.metrics import finite_mean
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import VideoFrame, VideoInfo
    from convnd_tasks.modalities.video.figures import PreviewCollector
    from convnd_tasks.modalities.video.frame_cache import FrameCache

__all__ = ["VideoResult", "mean_of", "merge_second_pass"]


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The result of stylising a video, with the interface of a `convnd.io.Video`.

    Its frames can be read until the frame cache is closed, after the result was written.

    Args:
        info: properties of the input, with size and rate of the result.
        records: record of every frame in order, see `StylizedFrame`.
        pass_index: pass of the finished frames in the cache.
        damage: message about damaged frames of the input, or "".
        new_frames: number of frames that no earlier run had finished.
        seconds: time spent on the optimisation.
        cache: cache of the frames.
        previews: small frames of input and result, for figures.
        end: end of the sound in seconds of the input; None is the end of the input.
        encoding_seconds: time spent on writing; 0 before.
    """

    info: VideoInfo
    records: Sequence[Mapping[str, Any]]
    pass_index: int
    damage: str
    new_frames: int
    seconds: float
    cache: FrameCache = field(repr=False)
    previews: PreviewCollector = field(repr=False)
    end: Fraction | None = None
    encoding_seconds: float = 0.0

    @property
    def values(self) -> Tensor:
        """All frames in memory, ``(1, 3, T, H, W)``.

        Raises:
            InputFileError: the cache was closed.
        """
        return torch.stack([frame.values for frame in self.frames()], 2)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.info.size

    @property
    def scenes(self) -> int:
        """Number of scenes."""
        return sum(bool(record["cut"]) for record in self.records)

    @property
    def e_warp(self) -> float:
        """Mean warping error of neighbouring frames; NaN if it was not measured."""
        return mean_of(self.records, "e_warp")

    @property
    def input_e_warp(self) -> float:
        """Mean warping error of the input; NaN if it was not measured."""
        return mean_of(self.records, "input_e_warp")

    def total(self, key: str) -> int:
        """Add up an entry of the records over all frames, for example ``"steps"``."""
        return sum(record[key] for record in self.records)

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """Read frames, see `convnd.io.Video.frames`.

        Args:
            start: time of the first frame in s.
            end: time before which the last frame lies, in s; None is the end.
            every: step between frames.

        Raises:
            InputFileError: a frame is missing, for example because the cache was closed.
        """
        first = self.records[0]["pts"]
        numbers = [
            number
            for number, record in enumerate(self.records)
            if (time := (record["pts"] - first) * self.info.time_base) >= start
            and (end is None or time < end)
        ]
        for number in numbers[::every]:
            record = self.records[number]
            values = self.cache.load(self.pass_index, number)
            yield io.VideoFrame(record["pts"], values, record["name"], record["duration"])

    def save(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        encoding: io.Encoding | None = None,
        audio: bool = True,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Write the frames as a video, or as a folder of pictures if ``path`` has no suffix.

        Args:
            path: the file or folder.
            overwrite: whether an existing one may be replaced.
            encoding: codec and quality, see `convnd.io.write_video`.
            audio: whether to copy the sound of the input.
            provenance: record to store with the result, or None.

        Raises:
            ConvndError: see `convnd.io.write_video` and `convnd.io.write_image_sequence`.
        """
        if not path.suffix:
            io.write_image_sequence(
                path,
                self._preview_frames(),
                overwrite=overwrite,
                aspect=self.info.aspect,
                provenance=provenance,
            )
            return
        io.write_video(
            path,
            self.info,
            self._preview_frames(),
            overwrite=overwrite,
            encoding=encoding,
            audio=audio,
            end=self.end,
            provenance=provenance,
        )

    def _preview_frames(self) -> Iterator[VideoFrame]:
        """Yield the frames, and collect their previews."""
        for number, frame in enumerate(prefetch(self.frames)):
            self.previews.add_result(number, frame.values)
            yield frame


def mean_of(records: Sequence[Mapping[str, Any]], key: str) -> float:
    """Average an entry over the frames that have it; NaN if none has.

    >>> mean_of([{"a": None}, {"a": 1.0}, {"a": 2.0}], "a")
    1.5
    """
    values = (record[key] for record in records if record.get(key) is not None)
    return finite_mean(values)  # a warping error is NaN if no pixel had a consistent flow


def merge_second_pass(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Complete the records of a second pass with the warping errors of its frames.

    The pass runs backwards, so each record holds the error against the frame after it.
    """
    earlier = [None, *(record.get("later_e_warp") for record in records[:-1])]
    return [
        {**record, "e_warp": None if record["cut"] else error}
        for record, error in zip(records, earlier, strict=True)
    ]
