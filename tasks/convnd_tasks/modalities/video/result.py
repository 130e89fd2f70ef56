"""The finished frames of a video, before and after they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convnd import io
from convnd_tasks.modalities.metrics import finite_mean

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import VideoFrame, VideoInfo
    from convnd_tasks.modalities.video.figures import PreviewCollector
    from convnd_tasks.modalities.video.frame_cache import FrameCache

__all__ = ["VideoResult", "mean_of", "merge_second_pass"]


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The result of stylising a video; a `convnd.io.Video` until its frame cache is closed.

    A result that was written has closed its cache; read the file again.

    Args:
        info: of the input, with the result's size and rate.
        records: of every frame in order, see `StylizedFrame`.
        pass_index: of the finished frames in the cache.
        damage: what was wrong with the input's frames, or "".
        new_frames: frames that were not kept from an earlier run.
        seconds: spent on the optimisation.
        encoding_seconds: spent on writing; 0 before.
        cache: holds the frames.
        previews: small frames of input and result, for figures.
        end: seconds into the input where its sound ends; None is its own end.
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
        """Mean warping error of neighbouring frames; NaN where it was not measured."""
        return mean_of(self.records, "e_warp")

    @property
    def input_e_warp(self) -> float:
        """The same for the input."""
        return mean_of(self.records, "input_e_warp")

    def total(self, key: str) -> int:
        """The sum of a count over all frames, for example ``"steps"``."""
        return sum(record[key] for record in self.records)

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """See `convnd.io.Video.frames`.

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
        """Encode the frames as a video, or as a folder of pictures where ``path`` has no suffix.

        Args:
            path: the file or folder.
            overwrite: whether it may be replaced.
            encoding: codec and quality, see `convnd.io.write_video`.
            audio: copy the sound of the input.
            provenance: kept with the result.

        Raises:
            ConvndError: see `convnd.io.write_video` and `convnd.io.write_image_sequence`.
        """
        if not path.suffix:
            io.write_image_sequence(
                path,
                self._previewed(),
                overwrite=overwrite,
                aspect=self.info.aspect,
                provenance=provenance,
            )
            return
        io.write_video(
            path,
            self.info,
            self._previewed(),
            overwrite=overwrite,
            encoding=encoding,
            audio=audio,
            end=self.end,
            provenance=provenance,
        )

    def _previewed(self) -> Iterator[VideoFrame]:
        for number, frame in enumerate(self.frames()):
            self.previews.add_result(number, frame.values)
            yield frame


def mean_of(records: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of an entry over the frames that have it; NaN if none has.

    >>> mean_of([{"a": None}, {"a": 1.0}, {"a": 2.0}], "a")
    1.5
    """
    values = (record[key] for record in records if record.get(key) is not None)
    return finite_mean(values)  # NaN: no pixel had a consistent flow


def merge_second_pass(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Records of a second pass, with the warping errors of its frames."""
    earlier = [None, *(record.get("later_e_warp") for record in records[:-1])]
    return [
        {**record, "e_warp": None if record["cut"] else error}
        for record, error in zip(records, earlier, strict=True)
    ]
