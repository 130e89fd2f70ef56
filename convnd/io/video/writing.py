"""Writes videos frame by frame, with the times and tags of the source and a copy of its sound.

The suffix selects container and codec, see
`convnd.io.video.encoder.CODECS`. Frames are encoded as they come; the file
appears whole or not at all. Audio packets are copied byte by byte, shifted with the frames if the
result does not begin where the source begins. Matroska and WebM store times in milliseconds, GIF in
hundredths of a second: only there, times are rounded. Frames are 4:2:0 of 8 bits, which every
player shows: H.264 repeats the last row or column of an odd size.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from convnd.errors import OutputFileError, UsageError
from convnd.io.atomic import atomic_path, check_target, error_text
from convnd.io.provenance import check_sidecar, remove_sidecar, write_sidecar
from convnd.io.video.encoder import CODECS, EVEN, WITH_ASPECT, VideoStream, square_pixels
from convnd.io.video.gif import set_last_delay
from convnd.io.video.pixels import open_container, pyav
from convnd.io.video.sound import SoundCopier
from convnd.io.video.tags import copy_tags, lost_tags
from convnd.io.video.types import VideoFrame, VideoInfo

__all__ = ["check_video_output", "encode", "lost_properties", "write_video"]


def check_video_output(
    path: Path,
    info: VideoInfo,
    *,
    overwrite: bool = False,
    audio: bool = True,
    provenance: bool = False,
) -> None:
    """Check, before any work, that a video can be written here.

    Args:
        path: the output.
        info: description of the source.
        overwrite: whether an existing file may be replaced.
        audio: whether the sound of the source is to be copied.
        provenance: whether provenance will be stored with it.

    Raises:
        UsageError: no video is written under its suffix, or its container cannot hold the sound.
        OutputExistsError: it exists and ``overwrite`` is false, or another file has the
            name of its sidecar.
        OutputFileError: its folder takes no new files.
        DependencyError: PyAV is missing.
    """
    kind = _container(path)
    check_target(path, overwrite=overwrite)
    if provenance and kind == "gif":  # GIF has no place for it
        check_sidecar(path)
    if not audio or kind == "gif":
        return
    with pyav().open(io.BytesIO(), "w", format=kind) as container:
        supported = container.supported_codecs
    for codec in info.audio:
        if codec not in supported:
            raise UsageError(
                f"write {path}: expected sound that {kind} holds, got {codec}; choose .mkv, or "
                "leave it out (--no-audio)"
            )


def lost_properties(
    path: Path, info: VideoInfo, *, audio: bool = True, provenance: bool = False
) -> list[str]:
    """Name the properties of a source that its result cannot hold, and what is changed for that.

    Args:
        path: the output; a folder of pictures has no suffix.
        info: description of the source, with the size of the result.
        audio: whether the sound is to be copied.
        provenance: whether provenance will be stored with it.
    """
    kind = _container(path) if path.suffix else ""
    properties = lost_tags(kind, info, provenance=provenance)
    if kind in ("", "gif") and audio and info.audio:
        properties.append("sound")
    if kind not in WITH_ASPECT and info.aspect != 1:
        properties.append(f"pixels of shape {info.aspect} (frames are resized to square ones)")
    elif kind in EVEN and (info.size[0] % 2 or info.size[1] % 2):
        height, width = info.size
        properties.append(f"the odd size {width}x{height} (the last row or column is repeated)")
    return properties


def write_video(
    path: Path,
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    *,
    overwrite: bool = False,
    crf: int | None = None,
    audio: bool = True,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Write a video so that its file appears whole or not at all; see `encode`.

    Raises:
        ConvndError: as `check_video_output` and `encode`; errors of ``frames`` pass unchanged.
    """
    check_video_output(path, info, overwrite=overwrite, audio=audio, provenance=bool(provenance))
    with atomic_path(path, overwrite=overwrite) as temporary:
        count = encode(
            temporary, info, frames, crf=crf, audio=audio, end=end, provenance=provenance
        )
    if _container(path) == "gif":
        if provenance:
            write_sidecar(path, provenance)
        else:
            remove_sidecar(path)
    return count


def encode(
    path: Path,
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    *,
    crf: int | None = None,
    audio: bool = False,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Encode frames, as they come, into a file that may exist.

    Args:
        path: its suffix selects the codec.
        info: description of the source: times, pixel aspect, colour tags, sound.
        frames: frames of one size; their times are in ticks of ``info.time_base``.
        crf: constant rate factor; None for the default of the codec.
        audio: whether to copy the sound of ``info.path``.
        end: seconds after the first frame where the sound ends; None for all of it.
        provenance: how the result was made, stored as the comment of the container.

    Returns:
        The number of frames.

    Raises:
        OutputFileError: the encoder or the disk fails, or there are no frames.
        UsageError: no video is written under this suffix.
        NumericalError: values are not finite.
    """
    kind = _container(path)
    av = pyav()
    try:
        count, last = _encode_frames(kind, path, info, frames, crf, audio, end, provenance)
        if kind == "gif" and last:
            set_last_delay(path, round(last * info.time_base * 100))
    except av.error.FFmpegError as error:
        raise OutputFileError(
            f"write {path}",
            expected="to encode and store the video",
            got=f"'{error_text(error)}'",
            remedy="choose another folder or format",
        ) from error
    return count


def _encode_frames(
    kind: str,
    path: Path,
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    crf: int | None,
    audio: bool,
    end: Fraction | None,
    provenance: Mapping[str, str] | None,
) -> tuple[int, int]:
    """Encode all frames; returns their number and the last one's duration in ticks."""
    av = pyav()
    origin = frame_count = 0
    video: VideoStream | None = None
    sound: SoundCopier | None = None
    with contextlib.ExitStack() as stack:
        options = _container_options(kind, info)
        out = stack.enter_context(av.open(str(path), "w", format=kind, options=options))
        for frame in frames:
            values = frame.values
            if kind not in WITH_ASPECT:
                values = square_pixels(values, info.aspect)
            if video is None:
                # A part of a video begins at 0; a whole one keeps the start of its streams.
                is_part = frame.pts > info.start
                origin = frame.pts if is_part or kind == "gif" else info.offset
                copy_tags(out, kind, info, origin=origin, end=end, provenance=provenance)
                video = VideoStream(av, out, kind, path, info, values, crf)
                if audio and info.audio and kind != "gif":
                    source = stack.enter_context(open_container(info.path))
                    sound = SoundCopier(source, out, info, origin, is_part=is_part, end=end)
            if sound is not None:
                sound.copy_until(frame.pts * info.time_base)
            video.add(frame.pts - origin, values, frame.duration)
            frame_count += 1
        if video is None:
            raise OutputFileError(f"write {path}: expected at least one frame, got none")
        last = video.close()
        if sound is not None:
            sound.copy_until(None)
    return frame_count, last


def _container_options(kind: str, info: VideoInfo) -> dict[str, str]:
    if kind == "mp4":
        # The container rounds the beginnings of streams to this.
        ticks = math.lcm(info.time_base.denominator, 48000)
        # With the index in front, a video plays while it is loaded.
        return {"movie_timescale": str(min(ticks, 2**31 - 1)), "movflags": "+faststart"}
    if kind == "gif":
        return {"loop": str({0: 0, 1: -1}.get(info.loops, info.loops - 1))}
    # Matroska without random numbers: the same video gives the same bytes.
    return {"fflags": "+bitexact"} if kind in ("matroska", "webm") else {}


def _container(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in CODECS:
        raise UsageError(
            f"write {path}: expected a name ending in {', '.join(CODECS)}, got {path.name!r}; "
            "choose one of these"
        )
    return CODECS[suffix][0]
