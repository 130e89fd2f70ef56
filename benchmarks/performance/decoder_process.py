"""Processor time of decoding a video in a child process: for the start and for each frame.

    python -m benchmarks.performance.decoder_process video.mp4

The script decodes the same frames in this process and in a child, in turns. Times are user and
system time of this process and its children. Without a file, the script makes a video of noise.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch

from benchmarks.measurement import add_json_option, write_results
from convnd import io
from convnd.io.video.decoding import VideoDecoder
from convnd.io.video.file import MAX_FRAME, VideoFile


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=50, help="frames of the video of noise")
    parser.add_argument("--starts", type=int, default=10, help="repeats of each measurement")
    add_json_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.clip or noise(Path(folder, "noise.mp4"), args.frames)
        clip = VideoFile(path)
        count = decode_in_process(path)
        starts, ways = [], []
        for _ in range(args.starts):
            starts.append(processor_time(lambda: VideoFile(path)))
            without = processor_time(lambda: decode_in_process(path))
            ways.append((processor_time(lambda: sum(1 for _ in clip.frames())), without))
    start = statistics.median(starts)
    child, without = (statistics.median(way) for way in zip(*ways, strict=True))
    pipe = (child - start - without) / count
    print(
        f"{count} frames of {clip.info.size[1]}x{clip.info.size[0]}: {1000 * start:.0f} ms to "
        f"start a child and describe the clip; {1000 * child / count:.2f} ms a frame with it, "
        f"{1000 * without / count:.2f} ms in this process, {1000 * pipe:+.2f} ms without the start"
    )
    row = {"frames": count, "size": "x".join(map(str, clip.info.size[::-1]))}
    row |= {"start, s": start, "with the child, s": child, "without, s": without}
    write_results(args.json, "Decoding in a child process", [row])


def decode_in_process(path: Path) -> int:
    """Decodes all frames in this process, to floats; returns their number."""
    decoder, count = VideoDecoder(path, MAX_FRAME), 0
    decoder.describe()
    for *_, pixels in decoder.frames(Fraction(0), None):
        assert pixels is not None
        planes = torch.from_numpy(pixels.astype("float32")).permute(2, 0, 1)[None]
        planes.contiguous().div_(255 if pixels.itemsize == 1 else 65535)
        count += 1
    return count


def processor_time(work: Callable[[], object]) -> float:
    """Seconds of processor time that ``work`` takes, with children that have ended."""

    def spent() -> float:
        usages = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = spent()
    work()
    return spent() - before


def noise(path: Path, frames: int) -> Path:
    """Writes a video of noise, which does not compress."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 3, 240, 320, generator=generator)
    info = io.VideoInfo(path=path, size=(240, 320), time_base=Fraction(1, 25), rate=Fraction(25))
    io.write_video(path, info, (io.VideoFrame(n, pixels.roll(7 * n, 3)) for n in range(frames)))
    return path


if __name__ == "__main__":
    main()
