"""Clips as blocks of frames: windows, fading, interruption, movement as style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.video.blocks import BlockStylizer, _windows, read_style_video
from convnd_tasks.modalities.video.frame_cache import FrameCache
from convnd_tasks.modalities.video.input import FrameContext
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.samples.video import SampleVideo

from convnd import io
from convnd.errors import InputFileError, UsageError

Run = Callable[..., tuple[int, str, str]]
SMALL = {"mode": "block", "style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_1",)}


def _cells() -> torch.Tensor:
    return samples.style("cells", spatial_dims=2, size=32).values


def _store(path: Path, *, resume: bool = False) -> FrameCache:
    store = FrameCache(path)
    store.open("mark", resume=resume)
    return store


def _look(number: int, cut: bool) -> FrameContext:
    still = torch.zeros(1, 3, 1, 1)
    return FrameContext(
        number=number, pts=number, name="", content=still, cut=cut, flows={}, seconds={}
    )


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ([0], [(0, 8, 0), (5, 13, 3), (10, 15, 3)]),  # first, behind the last, shared
        ([0, 8], [(0, 8, 0), (8, 15, 0)]),
        ([0, 4], [(0, 4, 0), (4, 12, 0), (9, 15, 3)]),
        ([0, 14], [(0, 8, 0), (5, 13, 3), (10, 14, 3), (14, 15, 0)]),
    ],
)
def test_windows_overlap_within_a_scene(
    cuts: list[int], expected: list[tuple[int, int, int]]
) -> None:
    found = list(_windows((_look(n, n in cuts) for n in range(15)), 8, 3))
    assert [(w[0].number, w[-1].number + 1, shared) for w, shared in found] == expected
    assert all(
        [x.number for x in w] == list(range(w[0].number, w[-1].number + 1)) for w, _ in found
    )


def test_interrupted_work_goes_on_to_the_same_frames(tmp_path: Path) -> None:
    options = VideoOptions(steps=1, scales=1, block_overlap=4, **SMALL)  # type: ignore[arg-type]
    clip = SampleVideo((22, 16, 24))
    whole = list(BlockStylizer(options, [_cells()]).run(clip, _store(tmp_path / "a")))
    assert [each.number for each in whole] == list(range(22))
    running = BlockStylizer(options, [_cells()]).run(clip, _store(tmp_path / "b"))
    for _ in range(14):  # of the second window, which begins with 12
        next(running)
    running.close()
    again = BlockStylizer(options, [_cells()])
    worked: list[int] = []
    work = again._work

    def counted(*arguments: Any) -> Any:
        worked.append(1)
        return work(*arguments)

    again._work = counted  # type: ignore[method-assign]
    done = list(again.run(clip, _store(tmp_path / "b", resume=True)))
    assert len(worked) == 1  # of two windows
    for one, other in zip(whole, done, strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=0)
        assert one.record["e_warp"] == other.record["e_warp"]


@pytest.mark.slow
def test_a_moving_texture_comes_nearer_to_the_movement(tmp_path: Path) -> None:
    clip = SampleVideo((16, 16, 24))
    losses = []
    for steps in (0, 16):
        options = VideoOptions(
            steps=steps,
            precision="float32",
            scales=1,
            texture=True,
            inflation="multiplanar",
            value_statistics=(),
            **SMALL,  # type: ignore[arg-type]
        )
        transfer = BlockStylizer(options, [read_style_video(clip, 32)])
        done = list(transfer.run(clip, _store(tmp_path / str(steps))))
        assert done[0].record["parts"].keys() == {"style"}
        assert all(each.record["e_warp"] is None for each in done)
        losses.append(done[0].record["loss"])
    assert losses[1] < 0.5 * losses[0]


def test_order_of_frames_is_style_with_acs_only() -> None:
    # A scan of stripes that move evenly, and the same frames in another order.
    t, x = torch.arange(16)[:, None], torch.arange(24)
    stripes = ((x - 2 * t) % 8 / 8.0).view(1, 1, 16, 1, 24).expand(1, 3, -1, 24, -1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    apart = {}
    for inflation in ("acs", "centre"):
        options = VideoOptions(inflation=inflation, precision="float32", **SMALL)  # type: ignore[arg-type]
        transfer = BlockStylizer(options, []).transfer
        grams = [transfer.style_terms([each]) for each in (stripes, stripes[:, :, order])]
        one, other = (terms[0].loss.target for terms in grams)  # type: ignore[attr-defined]
        apart[inflation] = float((one - other).norm() / one.norm())
    assert apart["centre"] < 1e-4  # relu1_1 sees one frame at a time there
    assert apart["acs"] > 0.02


@pytest.mark.slow
def test_the_command_works_in_blocks(run: Run, tmp_path: Path) -> None:
    quick = ("--mode", "block", "--size", "32", "--steps", "1", "--scales", "1", "-q")
    for more in ((), ("--texture",)):
        code, out, err = run("stylize-video", *quick, *more, "-o", "o.mp4", "--overwrite")
        assert code == 0, err
        assert out.startswith("o.mp4  32x22, 16 frames")
        assert (tmp_path / "o.mp4").is_file()


def test_damage_of_a_moving_style_is_told(run: Run, tmp_path: Path) -> None:
    film = SampleVideo((18, 32, 48))
    io.write_image_sequence(tmp_path / "shots", film.frames())
    (tmp_path / "shots" / "frame-000003.png").write_bytes(b"damaged")
    quick = ("--mode", "block", "--size", "32", "--steps", "1", "--scales", "1", "-q")
    code, _, told = run("stylize-video", "video", "shots", *quick, "-o", "o.mp4", "--no-pictures")
    assert code == 0, told
    assert told == "shots: 1 damaged frame was left out; the others are style\n"


def test_errors(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="style: expected a clip of at least 16 frames"):
        read_style_video(SampleVideo((4, 24, 32)), 32)
    with pytest.raises(UsageError, match="texture: expected --mode block"):
        VideoOptions(texture=True)
    with pytest.raises(UsageError, match="block_frames: expected 16 <= block_frames"):
        VideoOptions(mode="block", block_frames=8)
    with pytest.raises(UsageError, match="passes: expected 1 without motion, got 2 with --mode bl"):
        VideoOptions(mode="block", passes=2)
    clip = SampleVideo((4, 24, 32))
    io.write_video(tmp_path / "a.mp4", clip.info, clip.frames())
    for arguments, message in (
        (["a.mp4", "waves", "--mode", "block", "--texture"], "--texture: expected one clip, got 2"),
        (["a.mp4", "a.mp4", "--mode", "block"], "style: expected a clip of at least 16 frames"),
        (["a.mp4", "a.mp4"], "style: expected a picture with --mode flow, got the clip a.mp4; add"),
    ):
        code, _, told = run("stylize-video", *arguments, "-q")
        assert code in (2, 3)
        assert message in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
