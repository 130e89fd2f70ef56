"""Videos for a page: what it has to know of a file, single frames, and the curves of a result."""

from __future__ import annotations

import contextlib
import io as streams
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError

if TYPE_CHECKING:
    from convnd_tasks.modalities.video.result import VideoResult

__all__ = [
    "CURVES",
    "SLIT",
    "curves_so_far",
    "describe_clip",
    "frame_png",
    "sample_file",
    "write_clip_figures",
]

SLIT = "slit.png"
"""File with the middle column of every frame, of a job."""

CURVES = "curves.json"
"""File with the warping errors and losses of every frame, of a job."""

_CURVE_NAMES = ("e_warp", "input_e_warp", "loss")
_MOST_BYTES = 2**24
_RATE = Fraction(25)  # where a file does not say it


def describe_clip(name: str) -> dict[str, Any]:
    """Describe a video: its size, its rate, and its number of frames if it is declared.

    Args:
        name: path, or name of the built-in video.
    """
    from convnd_tasks.modalities.video.files import open_video

    info = open_video(name).info
    rate = info.rate or _RATE
    return {"rate": float(rate), "frames": info.frames, "size": list(reversed(info.size))}


def frame_png(name: str, index: int) -> bytes:
    """Return one frame as PNG.

    Args:
        name: path, or name of the built-in video.
        index: number of the frame, from 0.

    Raises:
        UsageError: the video has no such frame.
    """
    from PIL import Image

    from convnd_tasks.modalities.video.files import open_video

    video = open_video(name)
    start = max(Fraction(0), (index - Fraction(1, 2)) / (video.info.rate or _RATE))
    frame = next(iter(video.frames(start)), None)
    if frame is None:
        raise UsageError("frame", expected="one of the video", got=index, remedy="choose another")
    pixels = frame.values[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    stream = streams.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def sample_file(name: str) -> bytes:
    """Return a built-in video as a file that browsers play.

    Args:
        name: name of the built-in video.
    """
    from convnd import io
    from convnd_tasks.modalities.video.files import open_video

    video = open_video(name)
    with TemporaryDirectory(prefix="convnd-view-") as folder:
        path = Path(folder) / "clip.mp4"
        io.write_video(path, video.info, video.frames())
        return path.read_bytes()


def write_clip_figures(folder: Path, result: VideoResult) -> None:
    """Write the slit scan and the curves of a result that was just written.

    Args:
        folder: folder of the job.
        result: the result.
    """
    from convnd_tasks.modalities.metrics import finite_or_none

    (folder / SLIT).write_bytes(result.previews.slit_scan())
    curves: dict[str, list[Any]] = {name: [] for name in _CURVE_NAMES}
    for record in result.records:
        for name in _CURVE_NAMES:
            value = record.get(name)
            curves[name].append(None if value is None else finite_or_none(value))
    cuts = [number for number, record in enumerate(result.records) if record["cut"] and number]
    (folder / CURVES).write_text(json.dumps({**curves, "cuts": cuts}), "utf-8")


def curves_so_far(log: Path) -> dict[str, list[float | None]]:
    """Read the curves of the frames that a running job has finished.

    Args:
        log: list of its finished frames, see
            `convnd_tasks.modalities.video.frame_cache.FrameCache`; without one there is no frame.
    """
    frames: dict[int, Mapping[str, Any]] = {}
    with contextlib.suppress(OSError), log.open("rb") as file:
        for line in file.read(_MOST_BYTES).splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                entry = json.loads(line)  # the last one may be incomplete
                if isinstance(entry, dict) and entry.get("pass") == 1:  # the first pass
                    frames[int(entry["number"])] = entry
    curves: dict[str, list[float | None]] = {}
    for name in _CURVE_NAMES:
        values = [frame.get(name) for _, frame in sorted(frames.items())]
        curves[name] = [value if isinstance(value, int | float) else None for value in values]
    return curves
