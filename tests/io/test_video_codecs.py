"""Codecs, depths and animated pictures: what was asked for is in the file, and reads back."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from error_fields import check_error, raises
from PIL import Image
from video_files import request_here, write_video_file

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.io.video import file as video_file
from convnd.io.video.types import is_animated

DELAYS = [100, 200, 300, 2000]  # ms
COLORS = [(0, 80, 200), (60, 80, 160), (120, 80, 120), (180, 80, 80)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "request", request_here)


def ramp(bits: int) -> io.VideoFrame:
    """Greys that 8 bits cannot tell apart."""
    row = torch.linspace(0.4, 0.42, 64).mul(2**bits - 1).round().div(2**bits - 1)
    return io.VideoFrame(0, row.expand(1, 3, 32, 64).contiguous())


ENCODINGS = [
    (".mp4", {}, "h264", "yuv420p", "avc1"),
    (".mp4", {"bits": 10, "preset": "ultrafast", "crf": 4}, "h264", "yuv420p10le", "avc1"),
    (".mp4", {"codec": "hevc", "crf": 4}, "hevc", "yuv420p", "hvc1"),
    (".mov", {"codec": "hevc", "bits": 10, "crf": 4}, "hevc", "yuv420p10le", "hvc1"),
    (".mp4", {"codec": "av1", "bits": 10, "preset": "12", "crf": 10}, "av1", "yuv420p10le", "av01"),
    (".mov", {"codec": "prores"}, "prores", "yuv422p10le", "apch"),
    (".mkv", {"codec": "vp9", "preset": "8"}, "vp9", "yuv420p", ""),
    (".webm", {"codec": "av1", "preset": "12"}, "av1", "yuv420p", ""),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "chosen", "codec", "pix_fmt", "tag"), ENCODINGS)
def test_a_video_has_the_encoding_that_was_chosen(
    suffix: str, chosen: dict[str, Any], codec: str, pix_fmt: str, tag: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    colors = io.ColorTags(False, 1, 1, 1)
    info = io.VideoInfo(path=path, size=(32, 64), time_base=Fraction(1, 25), colors=colors)
    io.write_video(path, info, [ramp(16)], encoding=io.Encoding(**chosen), audio=False)
    with av.open(str(path)) as container:
        context: Any = container.streams.video[0].codec_context
        assert context.codec.canonical_name == codec
        assert context.pix_fmt == pix_fmt
        if tag:
            assert context.codec_tag == tag
    values = next(io.open_video(path).frames()).values[0, 1].mean(0)
    error = (values - ramp(16).values[0, 1, 0]).abs().max().item()
    assert error < (0.0035 if "10" in pix_fmt else 0.008)
    if suffix in (".mp4", ".mov"):  # the index comes first
        content = path.read_bytes()
        assert content.find(b"moov") < content.find(b"mdat")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
def test_memory_of_earlier_work_does_not_change_the_bytes(codec: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    far = torch.from_numpy(random.random((1, 3, 62, 140), dtype=np.float32))
    near = far[..., :11, :24]
    near = torch.nn.functional.interpolate(near, size=(62, 140), mode="bilinear")
    frames = [
        io.VideoFrame(n, 0.3 * far[..., n : n + 96] + 0.7 * near[..., 3 * n : 3 * n + 96])
        for n in range(12)
    ]
    files = []
    try:
        for fill in (1, 165):  # glibc writes these into memory that it gives out
            ctypes.CDLL(None).mallopt(-6, fill)
            path = tmp_path / f"{fill}.mkv"
            info = io.VideoInfo(path=path, size=(62, 96), time_base=Fraction(1, 25))
            encoding = io.Encoding(codec=codec, preset="12" if codec == "av1" else "auto")
            io.write_video(path, info, frames, encoding=encoding, audio=False)
            files.append(path)
    finally:
        ctypes.CDLL(None).mallopt(-6, 0)
    with av.open(str(files[0])) as first, av.open(str(files[1])) as second:
        packets = [[bytes(packet) for packet in one.demux(video=0)] for one in (first, second)]
    assert packets[0] == packets[1]


def test_ten_bits_keep_what_eight_round(tmp_path: Path) -> None:
    levels = {}
    for bits in (8, 10):
        path = tmp_path / f"{bits}.mp4"
        info = io.VideoInfo(path=path, size=(32, 64), time_base=Fraction(1, 25))
        io.write_video(path, info, [ramp(16)], encoding=io.Encoding(bits=bits, crf=0), audio=False)
        values = next(io.open_video(path).frames()).values[0, 1, 0]
        levels[bits] = len(np.unique(np.round(values.numpy(), 4)))
    assert levels[10] > 2.5 * levels[8]


@pytest.mark.parametrize(
    ("name", "chosen", "words"),
    [
        (
            "a.mp4",
            {"codec": "vp9"},
            {"operation": "--codec: a.mp4", "expected": "one of h264, hevc", "got": "vp9"},
        ),
        (
            "a.webm",
            {"bits": 10},
            {"operation": "--bits: a.webm", "expected": "8 for vp9", "got": "10"},
        ),
        (
            "a.mov",
            {"codec": "prores", "bits": 8},
            {"operation": "--bits: a.mov", "expected": "10", "got": "8"},
        ),
        ("a.gif", {"crf": 3}, {"operation": "--crf: a.gif", "got": "3 for gif, which has no"}),
        ("a.mp4", {"crf": 60}, {"operation": "--crf: a.mp4", "expected": "0 to 51", "got": "60"}),
        ("a.mp4", {"preset": "quick"}, {"operation": "--preset: a.mp4", "got": "quick"}),
        ("a.apng", {"preset": "fast"}, {"operation": "--preset: a.apng", "got": "fast for apng"}),
        ("a.avi", {}, {"operation": "write a.avi", "expected": "a name ending in"}),
    ],
)
def test_what_an_encoding_has_not_is_refused(
    name: str, chosen: dict[str, Any], words: dict[str, str]
) -> None:
    with raises(UsageError, **words):
        io.Encoding(**chosen).codec_of(Path(name))


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "av1"), (".mkv", "h264"), (".mkv", "vp9")])
def test_pixels_keep_their_shape(suffix: str, codec: str, tmp_path: Path) -> None:
    source = write_video_file(tmp_path / "s.mp4", aspect=Fraction(4, 3))
    video = io.open_video(source)
    path, encoding = tmp_path / f"a{suffix}", io.Encoding(codec=codec)
    io.write_video(path, video.info, video.frames(), encoding=encoding, audio=False)
    shown = io.open_video(path).info
    height, width = shown.size
    assert width * shown.aspect / height == pytest.approx(Fraction(64 * 4, 48 * 3), rel=0.02)
    lost = io.lost_properties(path, video.info, encoding=encoding)
    assert any("square" in line for line in lost) == (codec == "vp9")


def animation(path: Path, loop: int = 0) -> Path:
    frames = [Image.new("RGB", (96, 64), color) for color in COLORS]
    more: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=DELAYS, loop=loop, **more
    )
    return path


def shown(path: Path) -> list[tuple[int, int, tuple[int, ...]]]:
    """Time and duration in ms, and colour of each frame."""
    video = io.open_video(path)
    milliseconds = video.info.time_base * 1000
    return [
        (
            round(frame.pts * milliseconds),
            round(frame.duration * milliseconds),
            tuple((frame.values[0, :, 0, 0] * 255).round().int().tolist()),
        )
        for frame in video.frames()
    ]


@pytest.mark.parametrize("source", [".webp", ".png", ".gif"])
@pytest.mark.parametrize("target", [".webp", ".apng", ".gif"])
def test_animations_keep_times_loops_and_colours(source: str, target: str, tmp_path: Path) -> None:
    path = animation(tmp_path / f"a{source}", loop=0 if source == ".gif" else 3)
    video = io.open_video(path)
    assert video.info.loops == (0 if source == ".gif" else 3)
    times = [0, 100, 300, 600]
    assert shown(path) == list(zip(times, DELAYS, COLORS, strict=True))
    result = tmp_path / f"b{target}"
    io.write_video(result, video.info, video.frames(), provenance={"convnd:command": "x"})
    again = shown(result)
    assert [frame[:2] for frame in again] == list(zip(times, DELAYS, strict=True))
    worst = np.abs(np.subtract([frame[2] for frame in again], COLORS)).max()
    assert worst <= (2 if target == ".webp" else 0)
    assert io.open_video(result).info.loops == video.info.loops
    assert io.read_provenance(result) == {"convnd:command": "x"}


def test_a_part_of_an_animated_webp(tmp_path: Path) -> None:
    video = io.open_video(animation(tmp_path / "a.webp"))
    frames = list(video.frames(Fraction(1, 10), Fraction(2), 2))
    assert [(frame.pts, frame.duration) for frame in frames] == [(100, 500), (600, 1400)]


def test_an_animated_webp_with_transparency_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (32, 32), (9, 9, k, 99)) for k in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50)
    with raises(InputFileError, operation="a.webp", got="transparency"):
        io.open_video(tmp_path / "a.webp")


@pytest.mark.parametrize(
    "suffix",
    [*(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".webp", ".png")), ".gif"],
)
def test_an_animation_given_as_a_picture_is_sent_where_it_is_read(
    suffix: str, tmp_path: Path, run: Any
) -> None:
    animation(tmp_path / f"a{suffix}")
    code, _, err = run("stylize", f"a{suffix}", "waves")
    assert code == 3
    check_error(err, remedy="convnd stylize-video")
    few = ("--steps", "1", "--size", "32", "--scales", "1", "--no-figures", "-o", "o.mp4")
    code, _, err = run("stylize-video", f"a{suffix}", "waves", *few)
    assert code == 0, err
    assert len(shown(tmp_path / "o.mp4")) == 4


def test_the_command_has_these_options_and_refuses_before_the_work(
    tmp_path: Path, run: Any
) -> None:
    write_video_file(tmp_path / "a.mp4", (0, 3600))
    few = ("--steps", "1", "--size", "32", "--scales", "1", "--no-figures")
    chosen = ("--codec", "hevc", "--bits", "10", "--preset", "ultrafast", "--crf", "30")
    code, _, err = run("stylize-video", "a.mp4", "waves", *few, *chosen, "-o", "o.mov")
    assert code == 0, err
    with av.open(str(tmp_path / "o.mov")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
    record = io.read_provenance(tmp_path / "o.mov")
    assert record["convnd:codec"] == "hevc"
    for options in (("--codec", "vp9"), ("--bits", "9"), ("--preset", "quick"), ("--codec", "x")):
        code, _, err = run("stylize-video", "a.mp4", "waves", *few, *options, "-o", "p.mp4")
        assert (code, options[1] in err, "Traceback" in err) == (2, True, False), err
        assert not (tmp_path / "p.mp4").exists()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif"])
def test_animated_pictures_are_known_by_their_files(suffix: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 8)), Image.new("RGB", (16, 8), (255, 0, 0))
    still, animated = tmp_path / f"still{suffix}", tmp_path / f"animated{suffix}"
    first.save(still)
    first.save(animated, save_all=True, append_images=[second])
    assert [is_animated(path) for path in (still, animated)] == [False, True]
    assert not is_animated(tmp_path / f"missing{suffix}")
    animated.write_bytes(animated.read_bytes()[:17])
    assert is_animated(animated) == (suffix == ".avif")  # which says it in 12 bytes
