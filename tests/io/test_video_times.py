"""Nothing of a video is lost in time: durations, edit lists, late starts, AVI, joined streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from video_files import packet_times, picture, remux, write_video_file

from convnd import io
from convnd.io.video.gif import loop_count
from convnd.io.video.mp4 import track_end

UNEVEN = [0, 3003, 6000, 9900, 15000, 45000, 90000, 91000]


def shown(path: Path) -> tuple[list[Fraction], Fraction]:
    """Times of frames after the first, and how long the last is shown, in seconds."""
    video = io.open_video(path)
    frames = list(video.frames())
    assert video.damage == ""
    base = video.info.time_base
    return [(frame.pts - frames[0].pts) * base for frame in frames], frames[-1].duration * base


def copy(source: Path, target: Path, **options: object) -> None:
    video = io.open_video(source)
    io.write_video(target, video.info, video.frames(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "last"), [(".mp4", 180000), (".mov", 3000), (".mkv", 180000)])
def test_the_last_frame_keeps_its_duration(tmp_path: Path, suffix: str, last: int) -> None:
    source = write_video_file(
        tmp_path / f"a{suffix}", UNEVEN, last=last, options={"bf": "0", "g": "1"}
    )
    times, duration = shown(source)
    tick = Fraction(1, 1000)
    assert abs(duration - Fraction(last, 90000)) <= tick
    for name in ("b.mp4", "b.mkv")[suffix == ".mov" :]:
        copy(source, tmp_path / name)
        copied_times, copied_duration = shown(tmp_path / name)
        assert len(copied_times) == len(times)
        assert abs(copied_duration - Fraction(last, 90000)) <= 2 * tick
    if suffix == ".mov":
        return
    end = track_end(tmp_path / "b.mp4", 1)
    assert end is not None
    assert abs(end[0] - Fraction(91000 + last, 90000)) <= 2 * tick


def test_a_part_ends_where_it_was_cut(tmp_path: Path) -> None:
    source = write_video_file(tmp_path / "a.mp4", UNEVEN, last=3000)
    video = io.open_video(source)
    frames = list(video.frames(end=Fraction(2, 10)))
    assert [(frame.pts, frame.duration) for frame in frames][-2:] == [(9900, 5100), (15000, 3000)]
    frames = list(video.frames(every=3))
    assert [(frame.pts, frame.duration) for frame in frames] == [
        *((0, 9900), (9900, 80100), (90000, 4000))
    ]


@pytest.mark.parametrize("loop", [None, 0, 2])
def test_gif_keeps_delays_and_loops(tmp_path: Path, loop: int | None) -> None:
    frames = [Image.fromarray(picture(number)) for number in range(4)]
    delays = [100, 200, 300, 2000]
    loops: dict[str, Any] = {} if loop is None else {"loop": loop}
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=delays, **loops
    )
    copy(tmp_path / "a.gif", tmp_path / "b.gif")
    with Image.open(tmp_path / "b.gif") as result:
        durations = []
        for number in range(len(delays)):
            result.seek(number)
            durations.append(result.info["duration"])
        assert durations == delays
        assert result.info.get("loop") == loop
    assert loop_count(tmp_path / "b.gif") == {None: 1, 0: 0, 2: 3}[loop]
    copy(tmp_path / "a.gif", tmp_path / "b.mp4")
    assert shown(tmp_path / "b.mp4")[1] == 2


def test_no_gif_at_all_says_nothing_of_loops(tmp_path: Path) -> None:
    for data in (b"", b"GIF89a", b"GIF89a" + b"\xff" * 60, b"!\xff" * 40):
        (tmp_path / "a.gif").write_bytes(data)
        assert loop_count(tmp_path / "a.gif") == 1


def test_an_edit_list_is_no_damage(tmp_path: Path) -> None:
    """Trimmed without encoding: earlier frames are in the file, but are not shown."""
    long = write_video_file(
        tmp_path / "long.mp4",
        [3600 * number for number in range(25)],
        last=3600,
        options={"g": "25", "bf": "2"},
        tracks=["deu"],
    )
    remux(long, tmp_path / "cut.mp4", Fraction(-8, 25))
    video = io.open_video(tmp_path / "cut.mp4")
    assert (len(list(video.frames())), video.damage, video.info.frames) == (17, "", 17)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.flv", "a.mpg", "a.wmv"])
def test_a_late_start_is_no_damage(tmp_path: Path, name: str) -> None:
    codec = {"a.mpg": "mpeg2video", "a.wmv": "wmv2"}.get(name, "libx264")
    early = write_video_file(
        tmp_path / ("early.avi" if name == "a.wmv" else "early.mkv"),
        range(10),
        last=1,
        base=Fraction(1, 25),
        codec=codec,
        tracks=["und"],
        sound_codec="mp2" if name in ("a.mpg", "a.ts", "a.wmv") else "aac",
    )
    options = {"avoid_negative_ts": "disabled"} if name == "a.mkv" else {}
    late = remux(early, tmp_path / name, Fraction(3), options)
    video = io.open_video(late)
    assert (len(list(video.frames())), video.damage) == (10, "")
    assert video.info.start * video.info.time_base >= 3
    copy(late, tmp_path / "b.mkv")
    # FFmpeg and players begin where the first stream begins, and so does the result.
    assert packet_times(tmp_path / "b.mkv", "video")[0][0] < Fraction(1, 10)
    sound = packet_times(late, "audio")
    copied = packet_times(tmp_path / "b.mkv", "audio")
    assert [data for _, data in copied] == [data for _, data in sound]
    difference = sound[0][0] - packet_times(late, "video")[0][0]
    assert copied[0][0] - packet_times(tmp_path / "b.mkv", "video")[0][0] == pytest.approx(
        difference, abs=2e-3
    )


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "3"}), ("mpeg4", {"bf": "2"})])
def test_avi_with_frames_out_of_order(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    source = write_video_file(
        tmp_path / "a.avi",
        list(range(8)),
        base=Fraction(1, 25),
        codec=codec,
        options=options,
        tracks=["und"],
        sound_codec="pcm_s16le",
    )
    times, duration = shown(source)
    assert times == [Fraction(number, 25) for number in range(8)]
    assert duration == Fraction(1, 25)
    pictures = [frame.values for frame in io.open_video(source).frames()]
    for number, values in enumerate(pictures):
        expected = picture(number)[8::16, 8::16].transpose(2, 0, 1) / 255.0
        assert abs(values[0, :, 8::16, 8::16].numpy() - expected).max() < 0.1
    copy(source, tmp_path / "b.mkv")
    sound = [data for _, data in packet_times(source, "audio")]
    assert [data for _, data in packet_times(tmp_path / "b.mkv", "audio")] == sound


def test_empty_chunks_of_avi_hold_the_frame_before(tmp_path: Path) -> None:
    """Capture programs write them for dropped frames; as a packet, one would end the decoder."""
    write_video_file(
        tmp_path / "a.avi", list(range(8)), base=Fraction(1, 25), codec="mjpeg", pix_fmt="yuvj420p"
    )
    data = bytearray((tmp_path / "a.avi").read_bytes())
    index = data.rindex(b"idx1") + 8
    entry = data[index + 3 * 16 : index + 4 * 16]
    place, size = (int.from_bytes(entry[8 + k : 12 + k], "little") for k in (0, 4))
    chunk = data.index(b"movi") + place  # the index counts from there
    assert data[chunk : chunk + 4] == entry[:4]
    # The fourth chunk becomes an empty one, and junk in the place of its data.
    data[chunk + 4 : chunk + 8] = bytes(4)
    data[chunk + 8 : chunk + 12] = b"JUNK"
    data[chunk + 12 : chunk + 16] = (size - 8).to_bytes(4, "little")
    data[index + 3 * 16 + 12 : index + 4 * 16] = bytes(4)
    (tmp_path / "a.avi").write_bytes(data)
    times, _ = shown(tmp_path / "a.avi")
    assert times == [Fraction(number, 25) for number in (0, 1, 2, 4, 5, 6, 7)]


def test_joined_transport_streams_follow_each_other(tmp_path: Path) -> None:
    times = [3600 * number for number in range(100)]
    part = write_video_file(tmp_path / "part.ts", times, tracks=["und"], sound_codec="mp2")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    video = io.open_video(joined)
    frames = [frame.pts for frame in video.frames()]
    assert len(frames) >= 199  # FFmpeg marks the one at the joint as damaged
    assert frames == sorted(set(frames))
    copy(joined, tmp_path / "b.mkv")
    seconds = (frames[-1] - frames[0]) * video.info.time_base
    assert shown(tmp_path / "b.mkv")[0][-1] == pytest.approx(seconds, abs=1e-3)
    before = len(packet_times(part, "audio"))
    assert len(packet_times(tmp_path / "b.mkv", "audio")) in (2 * before - 1, 2 * before)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_files_that_end_early_are_told(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    source = write_video_file(
        tmp_path / "whole.mkv",
        range(25),
        base=Fraction(1, 25),
        codec="mjpeg",
        pix_fmt="yuvj420p",
        size=(96, 128),
    )
    path = remux(source, tmp_path / name, Fraction(0), options)
    assert io.open_video(path).damage == ""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    video = io.open_video(path)
    count = len(list(video.frames()))
    assert 5 < count < 25
    assert "missing" in video.damage or "left out" in video.damage


def test_an_index_in_front(tmp_path: Path) -> None:
    """An MP4 plays while it is loaded."""
    source = write_video_file(tmp_path / "a.mkv")
    copy(source, tmp_path / "b.mp4")
    data = (tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].frames == 8
