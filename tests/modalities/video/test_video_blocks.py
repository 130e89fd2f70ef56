"""Videos as blocks of frames: windows, blending, interruption, motion as style."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.video.blocks import BlockStylizer, read_style_video
from convnd_tasks.modalities.video.frame_cache import FrameCache
from convnd_tasks.modalities.video.input import FrameContext, StylizedFrame, VideoSource
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.windows import iter_windows
from convnd_tasks.samples.video import SampleVideo
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError, UsageError

SMALL = {"mode": "block", "style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_1",)}


def _cells() -> torch.Tensor:
    return samples.style("cells", spatial_dims=2, size=32).values


def _cache(path: Path, options: VideoOptions, *, resume: bool = False) -> FrameCache:
    cache = FrameCache(path)
    cache.open(options, [], resume=resume)
    return cache


def _frames(items: Iterable[object]) -> Iterator[StylizedFrame]:
    return (item for item in items if isinstance(item, StylizedFrame))


def _context(number: int, cut: bool) -> FrameContext:
    content = torch.zeros(1, 3, 1, 1)
    return FrameContext(
        number=number,
        pts=number,
        duration=1,
        name="",
        content=content,
        cut=cut,
        flows={},
        seconds={},
    )


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ([0], [(0, 8, 0), (5, 13, 3), (10, 15, 3)]),  # first, one after the last, shared
        ([0, 8], [(0, 8, 0), (8, 15, 0)]),
        ([0, 4], [(0, 4, 0), (4, 12, 0), (9, 15, 3)]),
        ([0, 14], [(0, 8, 0), (5, 13, 3), (10, 14, 3), (14, 15, 0)]),
    ],
)
def test_windows_overlap_within_a_scene(
    cuts: list[int], expected: list[tuple[int, int, int]]
) -> None:
    windows = list(iter_windows((_context(n, n in cuts) for n in range(15)), 8, 3))
    assert [(w[0].number, w[-1].number + 1, shared) for w, shared in windows] == expected
    assert all(
        [x.number for x in w] == list(range(w[0].number, w[-1].number + 1)) for w, _ in windows
    )


def test_interrupted_work_resumes_to_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = VideoOptions(steps=1, scales=1, block_overlap=4, **SMALL)  # type: ignore[arg-type]
    source = VideoSource(video=SampleVideo((22, 16, 24)), size=(16, 24))
    styles = [_cells()]
    whole = list(
        _frames(BlockStylizer(options, styles).run(source, _cache(tmp_path / "a", options)))
    )
    assert [frame.number for frame in whole] == list(range(22))
    items = BlockStylizer(options, styles).run(source, _cache(tmp_path / "b", options))
    interrupted = _frames(items)
    for _ in range(14):  # the second window begins with 12
        next(interrupted)
    items.close()  # type: ignore[attr-defined]
    windows: list[int] = []
    original = BlockStylizer._optimize

    def counted(self: Any, *arguments: Any) -> Any:
        windows.append(1)
        return (yield from original(self, *arguments))

    monkeypatch.setattr(BlockStylizer, "_optimize", counted)
    cache = _cache(tmp_path / "b", options, resume=True)
    resumed = _frames(BlockStylizer(options, styles).run(source, cache))
    for first, second in zip(whole, resumed, strict=True):
        torch.testing.assert_close(first.values, second.values, rtol=0, atol=0)
        assert first.record["e_warp"] == second.record["e_warp"]
    assert len(windows) == 1  # of two


@pytest.mark.slow
def test_a_moving_texture_comes_nearer_to_the_motion(tmp_path: Path) -> None:
    video = SampleVideo((16, 16, 24))
    source = VideoSource(video=video, size=(16, 24))
    losses = []
    for steps in (0, 16):
        options = VideoOptions(
            steps=steps,
            precision="float32",
            scales=1,
            inflation="multiplanar",
            value_statistics=(),
            **SMALL,  # type: ignore[arg-type]
        )
        stylizer = BlockStylizer(options, [read_style_video(video, 32)], texture=True)
        frames = list(_frames(stylizer.run(source, _cache(tmp_path / str(steps), options))))
        assert frames[0].record["parts"].keys() == {"style"}
        assert all(frame.record["e_warp"] is None for frame in frames)
        losses.append(frames[0].record["loss"])
    assert losses[1] < 0.5 * losses[0]


def test_order_of_frames_is_style_with_acs_only() -> None:
    # A scan of stripes that move evenly, and the same frames in another order.
    t, x = torch.arange(16)[:, None], torch.arange(24)
    stripes = ((x - 2 * t) % 8 / 8.0).view(1, 1, 16, 1, 24).expand(1, 3, -1, 24, -1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    difference = {}
    for inflation in ("acs", "centre"):
        options = VideoOptions(inflation=inflation, precision="float32", **SMALL)  # type: ignore[arg-type]
        transfer = BlockStylizer(options, []).transfer
        terms = [transfer.style_terms([style]) for style in (stripes, stripes[:, :, order])]
        ordered, shuffled = (term[0].loss.target for term in terms)  # type: ignore[attr-defined]
        difference[inflation] = float((ordered - shuffled).norm() / ordered.norm())
    assert difference["centre"] < 1e-4  # relu1_1 sees one frame at a time there
    assert difference["acs"] > 0.02


@pytest.mark.slow
def test_the_command_works_in_blocks(run: Run, tmp_path: Path) -> None:
    film = SampleVideo((16, 32, 48))
    io.write_video(tmp_path / "a.mp4", film.info, film.frames())
    quick = ("--mode", "block", "--size", "32", "--steps", "1", "--scales", "1", "-q")
    for more in ((), ("a.mp4", "waves", "--texture")):
        code, out, err = run("stylize-video", *quick, *more, "-o", "o.mp4", "--overwrite")
        assert code == 0, err
        assert out.startswith("o.mp4  32x22, 16 frames")
        assert io.open_video("o.mp4").info.size == (22, 32)
    command = json.loads(io.read_provenance("o.mp4")["convnd:command"])
    assert "--texture" in command
    code, _, err = run("rerun", "o.mp4", "-o", "p.mp4", "-q")
    assert code == 0, err
    frames = [[frame.values for frame in io.open_video(x).frames()] for x in ("o.mp4", "p.mp4")]
    # x264 codes whole macroblocks; of parts of one, B-frames differ by 0.016 under load.
    for first, second in zip(*frames, strict=True):
        assert float((first - second).abs().mean()) < 0.03


@pytest.mark.slow
def test_damage_of_a_style_video_is_reported(run: Run, tmp_path: Path) -> None:
    film = SampleVideo((18, 32, 48))
    io.write_image_sequence(tmp_path / "shots", film.frames())
    (tmp_path / "shots" / "frame-000003.png").write_bytes(b"damaged")
    quick = ("--mode", "block", "--size", "32", "--steps", "1", "--scales", "1", "-q")
    code, _, err = run("stylize-video", "video", "shots", *quick, "-o", "o.mp4", "--no-figures")
    assert code == 0, err
    assert err == "shots: 1 damaged frame was left out; the style is the other frames\n"


def test_errors(run: Run, tmp_path: Path) -> None:
    with raises(InputFileError, operation="style", expected="16 frames"):
        read_style_video(SampleVideo((4, 24, 32)), 32)
    with raises(UsageError, operation="block_frames", expected="16 <= block_frames", got="8"):
        VideoOptions(mode="block", block_frames=8)
    with raises(UsageError, operation="passes", expected="1 without", got="2 with --mode block"):
        VideoOptions(mode="block", passes=2)
    with raises(
        UsageError,
        operation="block_overlap",
        expected="--mode block",
        got="--mode flow",
        remedy="--block-overlap",
    ):
        VideoOptions(block_overlap=4)
    film = SampleVideo((4, 24, 32))
    io.write_video(tmp_path / "a.mp4", film.info, film.frames())
    for arguments, message in (
        (["a.mp4", "--texture"], "--texture: expected --mode block"),
        (["a.mp4", "--texture", "--mode", "block", "--colors", "match"], "--colors"),
        (["a.mp4", "--texture", "--mode", "block", "--strength", "0.5"], "--strength"),
        (["a.mp4", "a.mp4", "--mode", "block"], "style: expected a video of at least 16 frames"),
        (["a.mp4", "a.mp4"], "style: expected a picture with --mode flow, got the video a.mp4"),
    ):
        code, _, err = run("stylize-video", *arguments, "-q")
        assert code in (2, 3)
        assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
