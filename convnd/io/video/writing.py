"""Writes videos frame by frame, with the times and tags of the source and a copy of its sound.

The suffix selects the container and, unless an `Encoding` says otherwise, the codec, see
`convnd.io.video.codecs`. Frames are encoded as they come; the file
appears whole or not at all. Audio packets are copied byte by byte, shifted with the frames if the
result does not begin where the source begins. Matroska and WebM store times in milliseconds, GIF in
hundredths of a second: only there, times are rounded. By default frames are 4:2:0 of 8 bits, which
every player shows: H.264 repeats the last row or column of an odd size.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from convnd.errors import OutputFileError, UsageError
from convnd.io.atomic import atomic_path, check_target, error_text
from convnd.io.provenance import check_sidecar, remove_sidecar, write_sidecar
from convnd.io.video import apng, gif, webp
from convnd.io.video.codecs import ANIMATIONS, Encoding
from convnd.io.video.encoder import VideoStream, square_pixels
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
    encoding: Encoding | None = None,
) -> None:
    """Check, before any work, that a video can be written here.

    Args:
        path: the output.
        info: description of the source.
        overwrite: whether an existing file may be replaced.
        audio: whether the sound of the source is to be copied.
        provenance: whether provenance will be stored with it.
        encoding: codec and quality.

    Raises:
        UsageError: no video is written under its suffix, or its container cannot hold the sound or
            the codec.
        OutputExistsError: it exists and ``overwrite`` is false, or another file has the
            name of its sidecar.
        OutputFileError: its folder takes no new files.
        DependencyError: PyAV is missing.
    """
    encoding = encoding or Encoding()
    encoding.codec_of(path)
    kind = encoding.container(path)
    check_target(path, overwrite=overwrite)
    if provenance and kind in ANIMATIONS:  # they have no place for it
        check_sidecar(path)
    if not audio or kind in ANIMATIONS:
        return
    with pyav().open(io.BytesIO(), "w", format=kind) as container:
        supported = container.supported_codecs
    for codec in info.audio:
        if codec not in supported:
            raise UsageError(
                f"write {path}",
                expected=f"sound that {kind} holds",
                got=codec,
                remedy="choose .mkv, or leave it out (--no-audio)",
            )


def lost_properties(
    path: Path,
    info: VideoInfo,
    *,
    audio: bool = True,
    provenance: bool = False,
    encoding: Encoding | None = None,
) -> list[str]:
    """Name the properties of a source that its result cannot hold, and what is changed for that.

    Args:
        path: the output; a folder of pictures has no suffix.
        info: description of the source, with the size of the result.
        audio: whether the sound is to be copied.
        provenance: whether provenance will be stored with it.
        encoding: codec and quality.
    """
    encoding = encoding or Encoding()
    kind = encoding.container(path) if path.suffix else ""
    properties = lost_tags(kind, info, provenance=provenance)
    if kind in ("", *ANIMATIONS) and audio and info.audio:
        properties.append("sound")
    if not kind and info.rate and not info.path.is_dir():
        rate = info.rate.limit_denominator(1001)
        properties.append(f"frame times (read the folder with --rate {rate}, their mean)")
    if info.aspect != 1 and not (kind and encoding.has_aspect(path)):
        properties.append(f"pixels of shape {info.aspect} (frames are resized to square ones)")
    elif kind and encoding.codec_of(path).even and (info.size[0] % 2 or info.size[1] % 2):
        height, width = info.size
        properties.append(f"the odd size {width}x{height} (the last row or column is repeated)")
    return properties


def write_video(
    path: str | os.PathLike[str],
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    *,
    overwrite: bool = False,
    encoding: Encoding | None = None,
    audio: bool = True,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Write a video so that its file appears whole or not at all; see `encode`.

    Raises:
        ConvndError: as `check_video_output` and `encode`; errors of ``frames`` pass unchanged.
    """
    path = Path(path)
    check_video_output(
        path, info, overwrite=overwrite, audio=audio, provenance=bool(provenance), encoding=encoding
    )
    with atomic_path(path, overwrite=overwrite) as temporary:
        count = encode(
            temporary, info, frames, encoding=encoding, audio=audio, end=end, provenance=provenance
        )
    if Encoding().container(path) in ANIMATIONS:
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
    encoding: Encoding | None = None,
    audio: bool = False,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Encode frames, as they come, into a file that may exist.

    Args:
        path: its suffix selects the container.
        info: description of the source: times, pixel aspect, colour tags, sound.
        frames: frames of one size; their times are in ticks of ``info.time_base``.
        encoding: codec and quality; None for the defaults of the container.
        audio: whether to copy the sound of ``info.path``.
        end: seconds after the first frame where the sound ends; None for all of it.
        provenance: how the result was made, stored as the comment of the container.

    Returns:
        The number of frames.

    Raises:
        OutputFileError: the encoder or the disk fails, or there are no frames.
        UsageError: no video is written under this suffix, or not in this encoding.
        NumericalError: values are not finite.
    """
    encoding = encoding or Encoding()
    kind = encoding.container(path)
    av = pyav()
    try:
        count, last = _encode_frames(kind, path, info, frames, encoding, audio, end, provenance)
        if last:
            _set_last_delay(path, kind, last * info.time_base)
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
    encoding: Encoding,
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
            if not encoding.has_aspect(path):
                values = square_pixels(values, info.aspect)
            if video is None:
                # A part of a video begins at 0; a whole one keeps the start of its streams.
                is_part = frame.pts > info.start
                origin = frame.pts if is_part or kind in ANIMATIONS else info.offset
                copy_tags(out, kind, info, origin=origin, end=end, provenance=provenance)
                video = VideoStream(av, out, kind, path, info, values, encoding)
                if audio and info.audio and kind not in ANIMATIONS:
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
    if kind in ("mp4", "mov"):
        # The container rounds the beginnings of streams to this.
        ticks = math.lcm(info.time_base.denominator, 48000)
        # With the index in front, a video plays while it is loaded.
        return {"movie_timescale": str(min(ticks, 2**31 - 1)), "movflags": "+faststart"}
    if kind == "apng":
        return {"plays": str(min(info.loops, 2**16 - 1))}
    if kind == "webp":
        return {"loop": str(min(info.loops, 2**16 - 1))}
    if kind == "gif":
        return {"loop": str({0: 0, 1: -1}.get(info.loops, info.loops - 1))}
    # Matroska without random numbers: the same video gives the same bytes.
    return {"fflags": "+bitexact"} if kind in ("matroska", "webm") else {}


def _set_last_delay(path: Path, kind: str, seconds: Fraction) -> None:
    """Write how long the last frame of an animation is shown."""
    if kind == "gif":
        gif.set_last_delay(path, round(seconds * 100))
    elif kind == "apng":
        apng.set_last_delay(path, seconds)
    elif kind == "webp":
        webp.set_last_delay(path, round(seconds * 1000))
