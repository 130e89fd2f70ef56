"""Clips come back with their times, tags and sound; bad ones are refused in one line.

Clips are made with PyAV's own encoder here, and looked at with its demuxer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from error_fields import raises
from numpy.typing import NDArray

from convnd import io
from convnd.errors import (
    InputFileError,
    NumericalError,
    OutputExistsError,
    UsageError,
)
from convnd.grid import Grid
from convnd.io.video import file
from convnd.io.video import types as clips
from convnd.io.video.types import VideoFrame

TIMES = [0, 1001, 2002, 5005, 6006, 9009]  # of 30000 a second, with frames left out


def picture(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Large patches of colour, other ones in every frame; red in the corner at the top right."""
    grid = np.random.default_rng(seed).integers(40, 210, (height // 16, width // 16, 3))
    pixels = grid.repeat(16, 0).repeat(16, 1).astype(np.uint8)
    pixels[:16, -16:] = (220, 30, 30)
    return pixels


def make(
    path: Path,
    pts: Sequence[int] = TIMES,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    aspect: Fraction = Fraction(4, 3),
    audio: str = "aac",
    frames: Sequence[NDArray[Any]] = (),
    kind: str = "rgb24",
) -> Path:
    pictures = frames or [picture(number) for number in range(len(pts))]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=Fraction(30000, 1001))
        height, width = pictures[0].shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.time_base = Fraction(1, 30000)
        context.sample_aspect_ratio = aspect
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags
        sound: Any = out.add_stream(audio, rate=48000) if audio else None
        if sound is not None:
            sound.layout = "mono"
        for number, (time, pixels) in enumerate(zip(pts, pictures, strict=True)):
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            frame = frame.reformat(
                format=pix_fmt, src_color_range=2, dst_colorspace=1, dst_color_range=tags[0]
            )
            frame.colorspace, frame.color_primaries, frame.color_trc = tags[3], tags[1], tags[2]
            frame.pts, frame.time_base = time, Fraction(1, 30000)
            out.mux(stream.encode(frame))
            if sound is not None:
                tone = np.sin(np.arange(1024)[None] * (0.05 + number / 100)).astype(np.float32)
                heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                heard.sample_rate, heard.pts = 48000, 1024 * number
                heard.time_base = Fraction(1, 48000)
                out.mux(sound.encode(heard))
        out.mux(stream.encode(None))
        if sound is not None:
            out.mux(sound.encode(None))
    return path


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.dts is not None
        ]


def copied(source: Path, target: Path, **options: Any) -> list[clips.VideoFrame]:
    clip = io.open_video(source)
    io.write_video(target, clip.info, clip.frames(), **options)
    return list(io.open_video(target).frames())


def test_frames_come_with_their_exact_times(tmp_path: Path) -> None:
    clip = io.open_video(make(tmp_path / "a.mp4"))
    frames = list(clip.frames())
    assert [frame.pts * clip.info.time_base for frame in frames] == [
        Fraction(time, 30000) for time in TIMES
    ]
    assert (clip.info.size, clip.info.aspect, clip.info.audio) == (
        (48, 64),
        Fraction(4, 3),
        ("aac",),
    )
    assert clip.info.colors == io.ColorTags(False, 1, 1, 1)
    assert clip.damage == ""
    for number, frame in enumerate(frames):
        assert frame.values.shape == (1, 3, 48, 64)
        # In the middle of the patches, where chroma of half the resolution is that of one patch.
        expected = torch.from_numpy(picture(number)[8::16, 8::16].transpose(2, 0, 1) / 255.0)
        assert (frame.values[0, :, 8::16, 8::16] - expected).abs().max() < 0.02


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_written_clips_keep_times_tags_aspect_and_sound(tmp_path: Path, suffix: str) -> None:
    source, target = make(tmp_path / "a.mp4"), tmp_path / f"b{suffix}"
    frames = copied(source, target)
    before, after = io.open_video(source).info, io.open_video(target).info
    exact = suffix == ".mp4"
    # Matroska has no times below 0, where AAC begins: sound and pictures move together.
    heard = packets(target, "audio")[0][0] - packets(source, "audio")[0][0]
    start = frames[0].pts * after.time_base
    assert abs(start - heard) <= (0 if exact else Fraction(1, 1000))
    for frame, time in zip(frames, TIMES, strict=True):
        error = abs(frame.pts * after.time_base - start - Fraction(time, 30000))
        assert error <= (0 if exact else Fraction(1, 1000))
    assert (after.colors, after.aspect, after.audio) == (before.colors, before.aspect, before.audio)
    assert [data for _, data in packets(target, "audio")] == [
        data for _, data in packets(source, "audio")
    ]
    if exact:
        assert packets(target, "audio") == packets(source, "audio")


def test_colours_survive_many_generations(tmp_path: Path) -> None:
    # The scaler's shortcuts would darken each of them by more than a code.
    source = make(tmp_path / "0.mp4", [0, 1001])
    first = next(io.open_video(source).frames()).values
    for generation in range(4):
        target = tmp_path / f"{generation + 1}.mp4"
        last = copied(source, target, encoding=io.Encoding(crf=1))[0].values
        source = target
    assert (last - first)[0, :, 8::16, 8::16].mean().abs() < 0.5 / 255


def test_webm_and_gif(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", audio="", aspect=Fraction(1))
    for name, tick in (("b.webm", Fraction(1, 2000)), ("b.gif", Fraction(1, 200))):
        frames = copied(source, tmp_path / name)
        base = io.open_video(tmp_path / name).info.time_base
        times = [frame.pts * base for frame in frames]
        assert all(
            abs(time - Fraction(expected, 30000)) <= tick
            for time, expected in zip(times, TIMES, strict=True)
        )
    codes = frames[2].values[0, :, 8::16, 8::16] * 255
    expected = torch.from_numpy(picture(2)[8::16, 8::16].transpose(2, 0, 1).astype(np.float32))
    assert (codes - expected).abs().max() < 12


# Rows of the matrix in the track header: (a, b, u), (c, d, v); x' = ax + cy, y' = bx + dy.
TURNS = {"clockwise": (0, 1, -1, 0), "half": (-1, 0, 0, -1), "counter": (0, -1, 1, 0)}


@pytest.mark.parametrize("turn", list(TURNS))
def test_rotation_is_applied(tmp_path: Path, turn: str) -> None:
    path = make(tmp_path / "a.mp4", [0, 1001], audio="")
    data = bytearray(path.read_bytes())
    offset = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times, reserved, layer
    a, b, c, d = (entry * 65536 for entry in TURNS[turn])
    data[offset : offset + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = io.open_video(path)
    values = next(clip.frames()).values[0]
    height, width = clip.info.size
    assert clip.info.aspect == (Fraction(4, 3) if turn == "half" else Fraction(3, 4))
    # The red corner: at the right and top, (1, -1) from the centre, y downwards.
    unit = TURNS[turn]
    x, y = unit[0] - unit[2], unit[1] - unit[3]
    red = values[:, 8 if y < 0 else height - 8, 8 if x < 0 else width - 8]
    assert red[0] > 0.75
    assert red[1:].max() < 0.25


def test_part_of_a_clip(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", [1000 * number for number in range(12)])
    clip = io.open_video(source)
    frames = clip.frames(Fraction(2, 30), Fraction(11, 30), every=2)
    assert [frame.pts for frame in frames] == [2000, 4000, 6000, 8000, 10000]
    part = clip.frames(Fraction(3, 30), Fraction(6, 30))
    io.write_video(tmp_path / "b.mp4", clip.info, part, end=Fraction(6, 30))
    sound = packets(tmp_path / "b.mp4", "audio")
    assert packets(tmp_path / "b.mp4", "video")[0][0] == 0
    expected = [
        (time - Fraction(3, 30), data)
        for time, data in packets(source, "audio")
        if Fraction(3, 30) <= time < Fraction(6, 30)
    ]
    assert sound == expected
    assert len(expected) > 2


def test_deep_frames_are_read_in_full(tmp_path: Path) -> None:
    # Planes of a grey ramp, of limited range; FFmpeg's scaler would be off by 100 of 65535.
    grey = np.linspace(0.4, 0.6, 64)
    planes = np.full((3, 48, 64), 128 << 8, np.uint16)
    planes[0] = np.round((16 + 219 * grey) * 256)
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p16le"
        frame = av.VideoFrame(64, 48, "yuv444p16le")
        for plane, codes in zip(frame.planes, planes, strict=True):
            plane.update(codes.tobytes())
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    values = next(io.open_video(tmp_path / "a.mkv").frames()).values
    assert (values - torch.from_numpy(grey).float()).abs().max() < 1 / 65535 * 2


def test_refused(tmp_path: Path) -> None:
    cases = {
        r"expected a video in standard dynamic range, got HDR \(PQ\)": make(
            tmp_path / "pq.mkv", [0, 1001], pix_fmt="yuv420p10le", tags=(1, 9, 16, 9)
        ),
        r"got HDR \(HLG\)": make(tmp_path / "hlg.mkv", [0, 1001], tags=(1, 9, 18, 9)),
        "got BT.2020 of 10 bits": make(
            tmp_path / "wide.mkv", [0, 1001], pix_fmt="yuv420p10le", tags=(1, 9, 14, 9)
        ),
        "expected opaque frames, got transparency": make(
            tmp_path / "alpha.mkv",
            [0, 1001],
            codec="ffv1",
            pix_fmt="bgra",
            audio="",
            frames=[np.full((48, 64, 4), 128, np.uint8)] * 2,
            kind="rgba",
        ),
    }
    for message, path in cases.items():
        with pytest.raises(InputFileError, match=message):
            list(io.open_video(path).frames())


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mkv", "ffv1", "bgra"),
        ("a.mov", "qtrle", "argb"),
        ("b.mov", "png", "rgba"),
        ("c.mov", "prores_ks", "yuva444p10le"),  # whose 1023 is opaque
    ],
)
def test_transparency_is_refused_where_there_is_any(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    frames = [np.full((48, 64, 4), 255, np.uint8) for _ in range(3)]
    how: dict[str, Any] = {"codec": codec, "pix_fmt": pix_fmt, "audio": "", "kind": "rgba"}
    path = make(tmp_path / name, [0, 1001, 2002], frames=frames, **how)
    assert len(list(io.open_video(path).frames())) == 3
    frames[2][20:30, 20:30, 3] = 240  # not yet in the first frame, which is looked at beforehand
    path = make(tmp_path / name, [0, 1001, 2002], frames=frames, **how)
    with raises(InputFileError, expected="opaque frames", got="transparency"):
        list(io.open_video(path).frames())


def test_bad_files(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index is at the end
    (tmp_path / "text.mp4").write_text("not a clip\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream: Any = out.add_stream("aac", rate=48000)
        stream.layout = "mono"
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        heard.sample_rate = 48000
        out.mux(stream.encode(heard))
        out.mux(stream.encode(None))
    for name, words in (
        ("cut.mp4", {"expected": "a video", "got": "a damaged or unsupported file"}),
        ("text.mp4", {"expected": "a video", "got": "a damaged or unsupported file"}),
        ("empty.mp4", {"operation": "empty.mp4", "got": "an empty file"}),
        ("sound.mp4", {"operation": "sound.mp4", "got": "audio"}),
        ("none.mp4", {"operation": "none.mp4", "got": "none"}),
        ("a.txt", {"operation": "a.txt", "expected": "a video"}),
    ):
        with raises(InputFileError, **words):
            io.open_video(tmp_path / name)


def test_damage_in_the_middle_leaves_the_good_frames(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.mkv", [1000 * offset for offset in range(20)], codec="mpeg4", audio=""
    )
    data = bytearray(path.read_bytes())
    (_, hit) = packets(path, "video")[9]
    offset = data.index(hit)
    data[offset : offset + len(hit)] = bytes(len(hit))
    path.write_bytes(data)
    clip = io.open_video(path)
    times = [frame.pts for frame in clip.frames()]
    assert 15 <= len(times) < 20
    assert "left out" in clip.damage or "missing" in clip.damage
    with pytest.raises(
        InputFileError, match="expected a whole clip, got a damaged one: .*missing|left out"
    ):
        io.read(path)
    cut = tmp_path / "cut.mkv"
    whole = make(tmp_path / "b.mkv", [1000 * offset for offset in range(20)], audio="").read_bytes()
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    clip = io.open_video(cut)
    assert 0 < len(list(clip.frames())) < 20
    assert clip.damage


def test_sizes_that_change_or_are_absurd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with av.open(str(tmp_path / "c.mkv"), "w") as out:  # each JPEG has a size of its own
        stream: Any = out.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, height in enumerate((48, 48, 64)):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 64, height, "yuvj420p"
            encoder.time_base = Fraction(1, 30)
            frame = av.VideoFrame.from_ndarray(picture(number, height=height), format="rgb24")
            frame = frame.reformat(format="yuvj420p")
            frame.pts = number
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream = stream
                out.mux(packet)
    with raises(InputFileError, operation="c.mkv", expected="64x48", got="64x64 at 0.067 s"):
        list(io.open_video(tmp_path / "c.mkv").frames())
    monkeypatch.setattr(file, "MAX_FRAME", 1000)
    with raises(InputFileError, operation="d.mp4", expected="1,000 pixels", got="48 × 64 = 3,072"):
        io.open_video(make(tmp_path / "d.mp4", [0, 1001]))


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    clip = io.open_video(make(tmp_path / "a.mp4", aspect=Fraction(1)))
    check = io.check_video_output
    with raises(UsageError, operation="b.webm", got="aac", remedy="choose .mkv"):
        check(tmp_path / "b.webm", clip.info)
    check(tmp_path / "b.webm", clip.info, audio=False)
    with raises(UsageError, operation="b.avi", expected="a name ending in"):
        check(tmp_path / "b.avi", clip.info)
    with raises(OutputExistsError, operation="a.mp4", got="one that exists"):
        check(tmp_path / "a.mp4", clip.info)
    frame = io.VideoFrame(0, torch.full((1, 3, 48, 64), float("nan")))
    with raises(NumericalError, operation="write", expected="finite values for a"):
        io.write_video(tmp_path / "b.mp4", clip.info, [frame])

    def stops() -> Any:
        yield io.VideoFrame(0, torch.zeros(1, 3, 48, 64))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        io.write_video(tmp_path / "b.mp4", clip.info, stops())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_odd_sizes_become_even_in_h264(tmp_path: Path) -> None:
    """4:2:0, which every player shows, has no odd sizes there."""
    info = io.VideoInfo(path=tmp_path, size=(33, 47), time_base=Fraction(1, 10), rate=Fraction(10))
    values = torch.rand(1, 3, 1, 1).expand(1, 3, 33, 47)
    for name, size in (("a.mp4", (34, 48)), ("a.mkv", (34, 48)), ("a.webm", (33, 47))):
        path = tmp_path / name
        io.write_video(path, info, [io.VideoFrame(number, values) for number in range(3)])
        clip = io.open_video(path)
        assert clip.info.size == size
        assert (next(clip.frames()).values - values[..., :1, :1]).abs().max() < 0.02
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        losses = io.lost_properties(path, info)
        assert any("odd size 47x33" in line for line in losses) == (size != (33, 47))


def test_folders_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (9, 10, 100):
        values = torch.from_numpy(picture(number).transpose(2, 0, 1) / 255.0).float()[None]
        io.write(folder / f"shot-{number}.png", Grid(values=values, channels=("R", "G", "B")))
    (folder / "notes.txt").write_text("no picture")
    clip = io.open_video(folder, rate=Fraction(24))
    frames = list(clip.frames())
    assert [frame.name for frame in frames] == ["shot-9.png", "shot-10.png", "shot-100.png"]
    assert [frame.pts * clip.info.time_base for frame in frames] == [
        0,
        Fraction(1, 24),
        Fraction(1, 12),
    ]
    assert io.write_image_sequence(tmp_path / "out", clip.frames(every=2)) == 2
    back = io.read(tmp_path / "out" / "shot-100.png")
    assert torch.equal(back.values, frames[2].values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "out"]
    with raises(OutputExistsError, operation="out", expected="a new or empty"):
        io.write_image_sequence(tmp_path / "out", clip.frames())
    (folder / "shot-10.png").write_bytes(b"damaged")
    assert len(list(clip.frames())) == 2
    assert clip.damage == "1 damaged frame was left out"
    with raises(InputFileError, expected="pictures whose names end", got="none"):
        io.open_video(tmp_path)
    with raises(UsageError, operation="--rate", expected="a folder of pictures"):
        io.open_video(make(tmp_path / "a.mp4", [0, 1001]), rate=Fraction(25))
    (folder / "again-9.png").write_bytes((folder / "shot-9.png").read_bytes())
    with raises(InputFileError, operation="frames", expected="one picture for each"):
        io.open_video(folder)


def frame(grey: float) -> VideoFrame:
    return VideoFrame(0, torch.full((1, 3, 4, 4), grey))


def greys(folder: Path) -> list[float]:
    """Of all pictures of a folder; an error if anything else is in it."""
    return [io.read(path).values.mean().item() for path in sorted(folder.iterdir())]


def test_pictures_are_replaced_all_or_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    io.write_image_sequence(out, [frame(0.0)] * 3)

    def ends_early() -> Iterator[VideoFrame]:
        yield frame(1.0)
        raise InputFileError("the clip ends early")

    with pytest.raises(InputFileError, match="ends early"):
        io.write_image_sequence(out, ends_early(), overwrite=True)
    assert greys(out) == [0, 0, 0]

    def another_writer() -> Iterator[VideoFrame]:
        yield frame(1.0)
        io.write_image_sequence(out, [frame(0.2)] * 4, overwrite=True)
        yield frame(1.0)

    io.write_image_sequence(out, another_writer(), overwrite=True)
    assert greys(out) == [1, 1, *[pytest.approx(0.2)] * 2]

    def taken_meanwhile() -> Iterator[VideoFrame]:
        (tmp_path / "new" / "mine.txt").write_text("mine")
        yield frame(1.0)

    (tmp_path / "new").mkdir()
    with raises(OutputExistsError, operation="new", got="one with files in it"):
        io.write_image_sequence(tmp_path / "new", taken_meanwhile())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_a_clip_as_one_grid(tmp_path: Path) -> None:
    grid = io.read(make(tmp_path / "a.mp4"))
    assert (grid.shape, grid.axes, grid.units) == ((6, 48, 64), ("t", "y", "x"), ("s", "px", "px"))
    io.write(tmp_path / "b.mp4", grid)
    assert io.read(tmp_path / "b.mp4").shape == (6, 48, 64)
    with raises(InputFileError, operation="a.mp4", expected="10,000 pixels"):
        io.read(tmp_path / "a.mp4", max_pixels=10000)
