"""Clips in files: MP4, MOV, Matroska, WebM, AVI and animated GIF, decoded with PyAV.

Times are the file's own, exactly. The display matrix is applied, so that frames stand upright.
What 8-bit results cannot hold is refused: HDR (PQ, HLG, deep BT.2020) and transparency.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.atomic import reason
from convnd.io.clip import CLIP_SUFFIXES, ClipFrame, ClipInfo, ColorTags
from convnd.io.formats import Format, check_file, check_positions, decoding
from convnd.io.record import parse
from convnd.io.signal import optional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["EXACT", "FORMATS", "MAX_FRAME", "MAX_PIXELS", "VideoClip", "matrix_code", "pyav"]

MAX_FRAME = 2**25
"""Largest number of pixels of a frame: 8K."""

MAX_PIXELS = 2**28
"""Largest number of pixels of a whole clip that is read into one grid: 3 GiB as float32."""

_PQ, _HLG, _BT2020 = 16, 18, 9
_UNSAID = 2
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,12})?)", re.ASCII)
EXACT = 2 | 0x2000 | 0x40000
"""Bilinear, chroma for every pixel, accurate rounding: without these flags the scaler's shortcuts
darken every picture by more than one code each way."""
_MPEG, _JPEG = 1, 2  # limited and full range
# Codes of ISO/IEC 23091-4 to those of the scaler.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def pyav() -> Any:
    """The package that decodes and encodes, made to keep its remarks to itself.

    Raises:
        DependencyError: it is not installed.
    """
    av = optional("av", "video", extra="video")
    av.logging.set_level(None)
    return av


def matrix_code(tags: ColorTags, height: int) -> int:
    """The scaler's code of a clip's matrix; where it is not said, what players take.

    >>> matrix_code(ColorTags(matrix=6), 1080), matrix_code(ColorTags(), 1080)
    (5, 1)
    """
    return _MATRICES.get(tags.matrix, 1 if height >= 720 else 5)


class VideoClip:
    """A clip in a file, see `convnd.io.clip.Clip`.

    Args:
        path: an existing file.

    Raises:
        InputFileError: missing, damaged, without a video stream or frames, too large, HDR, or
            with transparency.
        DependencyError: PyAV is missing.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self._av = pyav()
        self._path = path
        self.damage = ""
        with self._open() as (container, stream):
            self._check_stream(stream)
            self.info = ClipInfo(path=path, size=(1, 1), time_base=Fraction(stream.time_base))
            first = next(self._decoded(container, stream, None), None)
            if first is None:
                raise InputFileError(
                    f"read {path}: expected at least one frame, got "
                    f"{self.damage or 'none'}; save it again"
                )
            _, pixels, turned, range_ = first
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            context = stream.codec_context
            others = {each.type for each in container.streams} - {"video", "audio", "data"}
            remarks = [f"left out of the result: {kind} streams" for kind in sorted(others)]
            if container.streams.video[0] is not stream or len(container.streams.video) > 1:
                remarks.append("several video streams: the first is taken")
            self.info = ClipInfo(
                path=path,
                size=(pixels.shape[0], pixels.shape[1]),
                time_base=Fraction(stream.time_base),
                start=stream.start_time or 0,
                rate=stream.average_rate or stream.guessed_rate,
                frames=stream.frames or None,
                aspect=1 / aspect if turned % 2 else aspect,
                colors=ColorTags(
                    full_range={_MPEG: False, _JPEG: True}.get(range_),
                    primaries=int(context.color_primaries),
                    transfer=int(context.color_trc),
                    matrix=int(context.colorspace),
                ),
                audio=tuple(
                    each.codec_context.codec.canonical_name for each in container.streams.audio
                ),
                remarks=tuple(remarks),
            )
        self.damage = ""

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[ClipFrame]:
        """See `convnd.io.clip.Clip.frames`."""
        import torch

        self.damage = ""
        with self._open() as (container, stream):
            base = self.info.time_base
            first = stream.start_time or 0
            if start > 0:
                container.seek(first + int(start / base), stream=stream, backward=True)
            taken = 0
            whole = start <= 0 and end is None
            for pts, pixels, _, _ in self._decoded(container, stream, end, whole=whole):
                after = (pts - first) * base
                if after < start:
                    continue
                if pixels.shape[:2] != self.info.size:
                    raise InputFileError(
                        f"read {self._path}: expected frames of {_times(self.info.size)} as the "
                        f"first, got {_times(pixels.shape)} at {float(after):.3f} s; split it there"
                    )
                if taken % every == 0:
                    white = 255.0 if pixels.itemsize == 1 else 65535.0
                    planes = torch.from_numpy(pixels.astype("float32")).permute(2, 0, 1)[None]
                    yield ClipFrame(pts, planes.contiguous().div_(white))
                taken += 1

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        with (
            decoding(self._path, "a clip"),
            self._too_much(),
            self._av.open(str(self._path)) as container,
        ):
            stream = container.streams.best("video")
            if stream is None:
                raise InputFileError(
                    f"read {self._path}: expected a video stream, got "
                    f"{', '.join(each.type for each in container.streams) or 'none'}; "
                    "give another file"
                )
            stream.thread_type = "AUTO"
            yield container, stream

    @contextlib.contextmanager
    def _too_much(self) -> Iterator[None]:
        """FFmpeg says that memory is out where a header asks for more than it ever gives."""
        try:
            yield
        except self._av.error.MemoryError as error:
            raise InputFileError(
                f"read {self._path}: expected a clip that can be held in memory, got one that "
                "asks for more than there is; it is damaged, or save it smaller"
            ) from error

    def _check_stream(self, stream: Any) -> None:
        context = stream.codec_context
        check_positions(self._path, (context.height, context.width), MAX_FRAME)
        depth = max((each.bits for each in context.format.components), default=8)
        if int(context.color_trc) in (_PQ, _HLG) or (
            depth > 8 and int(context.color_primaries) == _BT2020
        ):
            name = {_PQ: "HDR (PQ)", _HLG: "HDR (HLG)"}.get(int(context.color_trc), "BT.2020")
            raise InputFileError(
                f"read {self._path}: expected a clip in standard dynamic range, got {name} of "
                f"{depth} bits; convert it to BT.709 first"
            )
        if stream.metadata.get("alpha_mode") == "1":
            raise self._transparent()

    def _decoded(
        self, container: Any, stream: Any, end: Fraction | None, *, whole: bool = False
    ) -> Iterator[tuple[int, NDArray[Any], int, int]]:
        """Time, upright pixels, quarter turns and range of each good frame before ``end``.

        ``whole`` compares what came with what the file says it has.
        """
        import numpy as np

        lost, count = 0, 0
        first = stream.start_time or 0
        before: int | None = None
        length = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                self.damage = f"the file ends early ('{reason(error)}')"
                break
            if packet is None:
                break
            if packet.is_corrupt:
                lost += 1
                continue
            try:
                found = packet.decode()
            except self._av.error.FFmpegError:
                lost += 1
                continue
            for frame in found:
                if (
                    frame.is_corrupt
                    or frame.pts is None
                    or (before is not None and frame.pts <= before)
                ):
                    lost += 1
                    continue
                if end is not None and (frame.pts - first) * stream.time_base >= end:
                    return
                before, length = frame.pts, frame.duration or 0
                count += 1
                turns = self._quarter_turns(frame)
                pixels = np.ascontiguousarray(np.rot90(self._pixels(frame), turns))
                yield frame.pts, pixels, turns, int(frame.color_range)
        if lost:
            self.damage = f"{lost} damaged frames were left out"
        elif whole and not self.damage and before is not None:
            missing = stream.frames - count
            told = _told_end(container, stream)
            shown = (before + length - first) * stream.time_base
            if missing > 0 and not first:
                self.damage = f"{missing} of {stream.frames} frames are missing"
            elif told is not None and shown + Fraction(3, 2) / (stream.average_rate or 25) < told:
                self.damage = f"the file ends at {float(shown):.2f} s of {float(told):.2f} s"

    def _pixels(self, frame: Any) -> NDArray[Any]:
        check_positions(self._path, (frame.height, frame.width), MAX_FRAME)
        parts = frame.format.components
        deep = max(each.bits for each in parts) > 8
        # The scaler would convert between transfer curves and primaries, too, if it knew them.
        tags = ColorTags(matrix=int(frame.colorspace))
        frame.color_primaries, frame.color_trc = _UNSAID, _UNSAID
        options: dict[str, Any] = {"dst_color_range": _JPEG, "interpolation": EXACT}
        if not frame.format.is_rgb:
            options |= {
                "src_colorspace": matrix_code(tags, frame.height),
                "src_color_range": int(frame.color_range) or _MPEG,
            }
        alpha = frame.format.name == "pal8" or any(each.is_alpha for each in parts)
        if alpha:
            pixels = frame.reformat(format="rgba64le" if deep else "rgba", **options).to_ndarray()
            if pixels[..., 3].min() < (65535 if deep else 255):
                raise self._transparent()
            kept: NDArray[Any] = pixels[..., :3]
            return kept
        found: NDArray[Any] = frame.reformat(
            format="rgb48le" if deep else "rgb24", **options
        ).to_ndarray()
        return found

    def _quarter_turns(self, frame: Any) -> int:
        turned = int(frame.rotation)
        if turned % 90:
            raise InputFileError(
                f"read {self._path}: expected frames turned by a multiple of 90 degrees, got "
                f"{turned}; turn it upright first"
            )
        return turned // 90 % 4

    def _transparent(self) -> InputFileError:
        return InputFileError(
            f"read {self._path}: expected opaque frames, got transparency; put it on a background "
            "first"
        )


def read_clip(path: Path, *, max_pixels: int | None = None) -> Grid:
    """A whole clip as one grid, for what needs all of its time at once.

    Args:
        path: an existing file.
        max_pixels: largest ``T · H · W``; None for `MAX_PIXELS`.

    Returns:
        Values ``(1, 3, T, H, W)``; the spacing along time is that of the average rate.

    Raises:
        InputFileError: see `VideoClip`; or the clip is too long.
    """
    import torch

    from convnd.grid import Grid

    clip = VideoClip(path)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    kept: list[Any] = []
    for frame in clip.frames():
        check_positions(path, (len(kept) + 1, *clip.info.size), limit)
        kept.append(frame.values[0])
    return Grid(
        values=torch.stack(kept, 1)[None],
        spacing=(float(1 / (clip.info.rate or 25)), 1.0, 1.0),
        units=("s", "px", "px"),
        axes=("t", "y", "x"),
        channels=("R", "G", "B"),
        header={"clip": clip.info},
    )


def _write_clip(path: Path, grid: Grid, *, record: Mapping[str, str], quality: int | None) -> None:
    """A grid of three axes as a clip of constant rate; see `convnd.io.video_write`."""
    from convnd.io.video_write import encode

    rate = Fraction(1 / grid.spacing[0]).limit_denominator(1001)
    info = ClipInfo(path=path, size=(grid.shape[1], grid.shape[2]), time_base=1 / rate, rate=rate)
    crf = None if quality is None else round(51 * (1 - quality / 100))
    frames = (ClipFrame(t, grid.values[:, :, t]) for t in range(grid.shape[0]))
    encode(path, info, frames, crf=crf, record=record)


def _told_end(container: Any, stream: Any) -> Fraction | None:
    """Seconds of pictures that the file says it has."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    # No exponents: a fraction of 1e99999999 would be worked out.
    told = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if told is not None:
        hours, minutes, seconds = (Fraction(part) for part in told.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def _times(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _clip_record(path: Path) -> dict[str, str]:
    with pyav().open(str(path)) as container:
        told = {key.lower(): value for key, value in container.metadata.items()}
    return parse(told.get("comment", ""))


FORMATS = (
    Format(
        name="clip",
        # GIF is a picture first; `convnd.io.open_clip` reads and `write_clip` writes it as a clip.
        suffixes=tuple(each for each in CLIP_SUFFIXES if each not in (".gif", ".mov", ".avi")),
        spatial_dims=3,
        read=read_clip,
        write=_write_clip,
        record=_clip_record,
    ),
    Format(
        name="clip to read",
        suffixes=(".mov", ".avi"),
        spatial_dims=3,
        read=read_clip,
        write=None,
    ),
)
