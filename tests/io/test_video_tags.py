"""What stands beside the frames is copied, or named: tags, tracks, chapters, shapes, gaps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from video_files import picture, write_video_file

from convnd import io
from convnd.errors import InputFileError, UsageError

TAGS = {
    "title": "My film",
    "date": "2020",
    "location": "+48.1000+011.5000/",
    "creation_time": "2020-01-02T03:04:05.000000Z",
}


def copy(source: Path, target: Path, **options: object) -> None:
    video = io.open_video(source)
    start = options.pop("start", Fraction(0))
    frames = video.frames(start, options.get("end"))  # type: ignore[arg-type]
    io.write_video(target, video.info, frames, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
@pytest.mark.parametrize("provenance", [None, {"convnd:task": "stylize"}])
def test_tags_chapters_and_languages(
    tmp_path: Path, name: str, provenance: dict[str, str] | None
) -> None:
    chapters = [(0, 160, "one"), (160, 320, "two")]
    source = write_video_file(
        tmp_path / "a.mkv", tracks=["deu", "jpn"], metadata=TAGS, chapters=chapters
    )
    copy(source, tmp_path / name, provenance=provenance)
    with av.open(str(tmp_path / name)) as result:
        tags = {key.lower(): value for key, value in result.metadata.items()}
        assert {key: tags[key] for key in TAGS} == TAGS
        assert ("comment" in tags) == (provenance is not None)
        assert [sound.language for sound in result.streams.audio] == ["deu", "jpn"]
        parts: list[Any] = list(result.chapters())
        titles = [
            (float(part["start"] * part["time_base"]), part["metadata"]["title"]) for part in parts
        ]
        assert titles == [(0.0, "one"), (0.16, "two")]
    assert io.lost_properties(tmp_path / name, io.open_video(source).info) == []


def test_chapters_of_a_part(tmp_path: Path) -> None:
    chapters = [(0, 100, "one"), (100, 200, "two"), (200, 320, "three")]
    source = write_video_file(tmp_path / "a.mkv", chapters=chapters)
    start, end = Fraction(12, 100), Fraction(24, 100)
    copy(source, tmp_path / "b.mkv", start=start, end=end)
    with av.open(str(tmp_path / "b.mkv")) as result:
        parts: list[Any] = list(result.chapters())
    spans = [
        tuple(round(float(part[key] * part["time_base"]), 3) for key in ("start", "end"))
        for part in parts
    ]
    assert spans == [(0, 0.08), (0.08, 0.12)]


def test_what_a_result_cannot_hold_is_named(tmp_path: Path) -> None:
    source = write_video_file(
        tmp_path / "a.mkv",
        tracks=["deu"],
        metadata={**TAGS, "camera": "my own", "comment": "of the owner"},
        chapters=[(0, 320, "all")],
        aspect=Fraction(2),
    )
    info = io.open_video(source).info
    assert io.lost_properties(tmp_path / "b.mkv", info) == []
    assert io.lost_properties(tmp_path / "b.mkv", info, provenance=True) == ["comment"]
    assert io.lost_properties(tmp_path / "b.mp4", info) == ["camera"]
    for name in ("b.gif", "folder"):
        lost = io.lost_properties(tmp_path / name, info)
        assert set(lost) >= {*TAGS, "camera", "comment", "chapters", "sound"}
        assert "square" in lost[-1]


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(3, 4)])
def test_pixels_become_square_where_nothing_else_is_held(tmp_path: Path, aspect: Fraction) -> None:
    source = write_video_file(tmp_path / "a.mp4", aspect=aspect)
    video = io.open_video(source)
    size = (64, 48 * 2) if aspect > 1 else (64, 64)
    size = (128, 48) if aspect > 1 else (64, 64)
    for name in ("b.gif", "b.webm"):
        io.write_video(tmp_path / name, video.info, video.frames())
        result = io.open_video(tmp_path / name).info
        assert (result.size, result.aspect) == (size[::-1], Fraction(1))
    io.write_image_sequence(tmp_path / "b", video.frames(), aspect=video.info.aspect)
    with Image.open(tmp_path / "b" / "frame-000001.png") as frame:
        assert frame.size == size


def test_a_track_without_decoder_is_left_out(tmp_path: Path) -> None:
    """Phones write spatial sound beside AAC in a codec that FFmpeg does not know."""
    path = write_video_file(tmp_path / "a.mov", tracks=["und", "und"])
    data = bytearray(path.read_bytes())
    entries = [place for place in range(len(data)) if data[place : place + 4] == b"mp4a"]
    place = [p for p in entries if data[p - 8 : p - 4] == b"\0\0\0\1"][-1]
    data[place : place + 4] = b"apac"
    for box in (b"esds", b"mp4a"):
        while (offset := data.find(box, place + 4)) >= 0:
            data[offset : offset + 4] = b"xxxx"
    path.write_bytes(data)
    video = io.open_video(path)
    assert video.info.audio == ("aac",)
    assert "1 sound track" in "".join(video.info.remarks)
    for name in ("b.mp4", "b.mkv"):
        io.write_video(tmp_path / name, video.info, video.frames())
        with av.open(str(tmp_path / name)) as result:
            assert len(result.streams.audio) == 1
            assert result.streams.audio[0].codec_context is not None


def test_interlaced_frames_are_told_and_deinterlaced(tmp_path: Path) -> None:
    options = {"flags": "+ilme+ildct", "x264opts": "tff=1:crf=1"}
    path = write_video_file(tmp_path / "a.mkv", interlaced=True, options=options)
    video = io.open_video(path)
    assert any("--deinterlace" in remark for remark in video.info.remarks)
    frames = [frame.values for frame in video.frames()]
    calm = io.open_video(path, deinterlace=True)
    assert calm.info.remarks == ()
    smooth = list(calm.frames())
    assert [frame.pts for frame in smooth] == [frame.pts for frame in video.frames()]
    assert [frame.duration for frame in smooth] == [frame.duration for frame in video.frames()]

    def combs(values: torch.Tensor) -> float:
        lines = values[0, :, 2:14]  # inside a patch
        return float((lines[:, 1:] - lines[:, :-1]).abs().mean())

    assert combs(frames[3]) > 0.1
    assert combs(smooth[3].values) < 0.2 * combs(frames[3])
    assert not io.open_video(write_video_file(tmp_path / "b.mkv")).info.remarks


def make_pictures(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("numbers", "gap"),
    [([1, 2, 5, 6], "3 to 4"), ([1, 2, 4], "3"), ([10, 20, 30], ""), ([0, 2, 4, 8], "6")],
)
def test_gaps_in_a_sequence_are_told(tmp_path: Path, numbers: list[int], gap: str) -> None:
    folder = make_pictures(tmp_path / "a", [f"f{number}.png" for number in numbers])
    remarks = io.open_video(folder, rate=Fraction(25)).info.remarks
    assert [f": {gap};" in remark for remark in remarks] == ([True] if gap else [])


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_0001 (1).png", "IMG_0002 (1).png", "IMG_0010 (1).png"],
        ["shot_1_left.png", "shot_2_left.png", "shot_10_left.png"],
        ["a1_take7.png", "a2_take7.png", "a10_take7.png"],
        ["2020-01-02 10.00.01.png", "2020-01-02 10.00.02.png", "2020-01-02 10.00.09.png"],
    ],
)
def test_numbers_of_a_sequence(tmp_path: Path, names: list[str]) -> None:
    folder = make_pictures(tmp_path / "a", names)
    assert [frame.name for frame in io.open_video(folder).frames()] == names


def test_pictures_without_a_number_are_told(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "a", ["f1.png", "f2.png", "poster.png"])
    video = io.open_video(folder)
    assert "poster.png" in video.info.remarks[0]
    assert len(list(video.frames())) == 2
    left_and_right = make_pictures(tmp_path / "b", ["f1_left.png", "f1_right.png", "f2_left.png"])
    with pytest.raises(InputFileError):
        io.open_video(left_and_right)


def test_times_of_a_folder_are_told(tmp_path: Path) -> None:
    """A folder has no times: a clip says which are lost, and the folder which are assumed."""
    folder = make_pictures(tmp_path / "a", ["f1.png", "f2.png"])
    (remark,) = io.open_video(folder).info.remarks
    assert "25 frames a second" in remark
    assert "--rate" in remark
    video = io.open_video(folder, rate=Fraction(30000, 1001))
    assert video.info.remarks == ()
    assert io.lost_properties(tmp_path / "b", video.info) == []  # the source had no times
    clip = io.open_video(write_video_file(tmp_path / "c.mp4"))
    (lost,) = io.lost_properties(tmp_path / "b", clip.info, audio=False)
    assert f"--rate {clip.info.rate}" in lost
    assert not any("times" in lost for lost in io.lost_properties(tmp_path / "b.mkv", clip.info))


@pytest.mark.parametrize(
    "choice", [{"codec": "hevc"}, {"crf": 10}, {"preset": "slow"}, {"bits": 10}]
)
def test_a_folder_of_pictures_has_no_codec(tmp_path: Path, choice: dict[str, Any]) -> None:
    (name,) = choice
    with pytest.raises(UsageError, match=f"--{name}.*none for a folder of pictures"):
        io.Encoding(**choice).check_folder(tmp_path / "frames")
    io.Encoding().check_folder(tmp_path / "frames")


def test_hostile_boxes(tmp_path: Path) -> None:
    """Sizes that lie end the search; nothing is read beyond the file."""
    from convnd.io.video.mp4 import track_end

    whole = write_video_file(tmp_path / "a.mp4").read_bytes()
    rng = np.random.default_rng(0)
    start = whole.index(b"moov")
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(start, len(data), 6):
            data[place] = rng.integers(256)
        (tmp_path / "b.mp4").write_bytes(data)
        track_end(tmp_path / "b.mp4", 1)


def test_lists_of_other_files_are_no_videos(tmp_path: Path) -> None:
    """FFmpeg would open what a playlist or a concatenation script names."""
    write_video_file(tmp_path / "part.ts")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.ts\n#EXT-X-ENDLIST\n"
    for text in (playlist, "ffconcat version 1.0\nfile part.ts\n"):
        for name in ("a.ts", "a.mp4"):
            (tmp_path / name).write_text(text)
            with pytest.raises(InputFileError):
                io.open_video(tmp_path / name)
