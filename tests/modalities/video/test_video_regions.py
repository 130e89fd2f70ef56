"""Regions of videos: still maps, a map for each frame, and maps that move along the flow."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.video.flow import FlowPair, estimate_flow
from convnd_tasks.modalities.video.frame_regions import (
    FrameRegions,
    RegionStyles,
    recolor,
    references_in_region,
)
from convnd_tasks.modalities.video.frames import FrameStylizer
from convnd_tasks.modalities.video.region_motion import RegionMotion
from convnd_tasks.samples.video import SampleVideo
from error_fields import check_error
from numpy.typing import NDArray
from PIL import Image

import convnd
from convnd import io
from convnd.transfer.targets import Targets

FAST = (
    *("--steps", "2", "--frame-steps", "2", "--scales", "1", "--backbone", "compact", "-q"),
    *("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_2", "--no-figures"),
)
RED_BLUE = ("--region", "red=rough.png,blue=fine.png,white=keep")
HEIGHT, WIDTH = 32, 48


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """A folder of four frames, two styles, a still map, and a map for each frame."""
    monkeypatch.chdir(tmp_path)
    for name in ("clip", "maps"):
        Path(name).mkdir()
    for number, frame in enumerate(SampleVideo((4, HEIGHT, WIDTH)).frames()):
        pixels = (frame.values[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(f"clip/{number}.png")
        paint(white=(8 + 4 * number, 20 + 4 * number)).save(f"maps/{number}.png")
    for name in ("rough", "fine"):
        Image.fromarray(rng.integers(60, 200, (32, 40, 3), dtype=np.uint8)).save(f"{name}.png")
    paint(white=(8, 20)).save("map.png")
    return tmp_path


def paint(white: tuple[int, int]) -> Image.Image:
    """Red at the left, blue at the right, and a white column over both."""
    painted = Image.new("RGB", (WIDTH, HEIGHT), "red")
    painted.paste("blue", (24, 0, WIDTH, HEIGHT))
    painted.paste("white", (white[0], 0, white[1], HEIGHT))
    return painted


def frames_of(path: str) -> NDArray[Any]:
    files = sorted(Path(path).glob("*.png"))
    return np.stack([np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files])


@pytest.mark.parametrize(
    ("maps", "options"),
    [
        ("map.png", ()),
        ("maps", ()),
        ("maps", ("--instant",)),
        ("maps", ("--mode", "independent")),
        ("maps", ("--passes", "2")),
        ("maps", ("--mode", "block")),
    ],
)
def test_frames_keep_their_content_to_the_bit(
    folder: Path, run: Run, maps: str, options: tuple[str, ...]
) -> None:
    fast = ("-q", "--no-figures") if "--instant" in options else FAST
    words = ("--rate", "5", "--regions", maps, *RED_BLUE, "-o", "out", "--json", *fast, *options)
    code, out, err = run("stylize-video", "clip", *words)
    assert code == 0, err
    clip, result = frames_of("clip"), frames_of("out")
    for number, (before, after) in enumerate(zip(clip, result, strict=True)):
        shift = 0 if maps == "map.png" else 4 * number
        white = np.zeros(WIDTH, bool)
        white[8 + shift : 20 + shift] = True
        np.testing.assert_array_equal(after[:, white], before[:, white])
        assert (after[:, ~white] != before[:, ~white]).mean() > 0.5
    messages = json.loads(out)["results"][0]["messages"]
    assert "region white keeps the content" in messages
    assert any("region red (" in line and "takes rough.png" in line for line in messages)


def test_each_region_takes_its_style(folder: Path, run: Run) -> None:
    for name, level in (("dark", 20), ("light", 230)):
        Image.new("RGB", (32, 32), (level,) * 3).save(f"{name}.png")
    words = ("--rate", "5", "--regions", "map.png", "--region", "red=dark.png,blue=light.png")
    for options in (("--instant", "-q", "--no-figures"), (*FAST, "--style-weight", "1000")):
        code, _, err = run("stylize-video", "clip", *words, "-o", "out", "--overwrite", *options)
        assert code == 0, err
        change = (frames_of("out") - frames_of("clip")).mean((1, 2 + 1))
        left, right = change[:, :8].mean(), change[:, 24:].mean()
        assert left < right - 3


def test_style_statistics_are_computed_once(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = Targets.style

    def counted(self: Targets, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return original(self, *arguments, **named)

    monkeypatch.setattr(Targets, "style", counted)
    words = ("--rate", "5", "--regions", "maps", *RED_BLUE, "-o", "out", *FAST)
    assert run("stylize-video", "clip", *words)[0] == 0
    assert len(calls) == 4  # for each region, those of the first frame and of all others


def test_runs_continue_and_are_made_again(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that moves needs the flow of finished frames, too."""
    words = ("--rate", "5", "--regions", "map.png", "--track-regions", *RED_BLUE, *FAST)
    assert run("stylize-video", "clip", *words, "-o", "whole")[0] == 0
    original: Any = FrameStylizer._frame
    count = []

    def interrupted(self: Any, *arguments: Any) -> Any:
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return (yield from original(self, *arguments))

    monkeypatch.setattr(FrameStylizer, "_frame", interrupted)
    assert run("stylize-video", "clip", *words, "-o", "parts")[0] == 130
    monkeypatch.setattr(FrameStylizer, "_frame", original)
    other = ("--region", "red=rough.png,blue=keep,white=keep")
    code, _, err = run("stylize-video", "clip", *words, *other, "-o", "parts", "--resume")
    assert code == 2, err
    code, _, err = run("stylize-video", "clip", *words, "-o", "parts", "--resume")
    assert code == 0, err
    np.testing.assert_array_equal(frames_of("parts"), frames_of("whole"))
    code, out, err = run("rerun", "whole", "-o", "again")
    assert code == 0, err
    assert "the same bytes as" in out


def test_regions_follow_the_motion(rng: np.random.Generator) -> None:
    def texture(height: int, width: int) -> torch.Tensor:
        coarse = torch.from_numpy(rng.random((1, 3, height // 8, width // 8))).float()
        return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")

    background, square = texture(64, 96), texture(24, 24)
    frames, truths = [], []
    for number in range(8):
        frame, truth = background.clone(), torch.zeros(1, 1, 64, 96)
        place = (..., slice(16, 40), slice(10 + 3 * number, 34 + 3 * number))
        frame[place], truth[place] = square, 1
        frames.append(frame)
        truths.append(truth)
    motion = RegionMotion(truths[0])
    for pair in itertools.pairwise(frames):
        motion.advance(estimate_flow(*pair), pair[1])
    moved, last = motion.shares() > 0.5, truths[-1] > 0.5
    assert (moved & last).sum() > 0.7 * (moved | last).sum()


def test_regions_move_by_less_than_a_pixel() -> None:
    shares = torch.zeros(1, 1, 16, 32)
    shares[..., 8:16] = 1
    motion, forward = RegionMotion(shares), torch.zeros(2, 16, 32)
    forward[1] = 0.4
    for _ in range(10):
        motion.advance(FlowPair(forward, -forward), torch.zeros(1, 3, 16, 32))
    expected = torch.zeros(1, 1, 16, 32)
    expected[..., 12:20] = 1
    torch.testing.assert_close(motion.shares(), expected, atol=0.05, rtol=0)


def parts(count: int) -> list[RegionStyles]:
    return [RegionStyles(str(number), (number,), (None,)) for number in range(count)]


def test_references_lie_in_the_same_region() -> None:
    shares = torch.zeros(1, 2, 16, 16)
    shares[:, 0, :, :6], shares[:, 1, :, 6:12] = 1, 1
    before = FrameRegions(parts(2), shares, shares.sum(1, keepdim=True))
    moved = shares.roll(2, 3)
    moved[..., :2] = 0
    now = FrameRegions(parts(2), moved, moved.sum(1, keepdim=True))
    still = torch.zeros(2, 16, 16)
    same = references_in_region(now, before, still)
    assert isinstance(same, torch.Tensor)
    assert same[0, 0, 0].tolist() == [0, 0, *[1] * 4, 0, 0, *[1] * 4, *[0] * 4]
    faint = FrameRegions(parts(1), shares[:, :1] * 0.3, shares[:, :1] * 0.3)
    same = references_in_region(faint, faint, still)
    assert isinstance(same, torch.Tensor)
    assert same.sum() == 6 * 16
    assert references_in_region(None, None, still) == 1.0


def test_new_pixels_take_the_colours_of_their_region(rng: np.random.Generator) -> None:
    noise = torch.from_numpy(rng.random((1, 3, 16, 16))).float() * 0.1
    shares = torch.zeros(1, 2, 16, 16)
    shares[:, 0, :, :8], shares[:, 1, :, 8:12] = 1, 1
    regions = FrameRegions(parts(2), shares, shares.sum(1, keepdim=True))
    values = 0.1 + 0.6 * shares[:, 1:] + noise.flip(2)
    content = 0.4 + noise
    colored = recolor(content, values, regions, regions)
    assert colored[..., :8].mean().item() == pytest.approx(values[..., :8].mean().item(), abs=0.01)
    assert colored[..., 8:12].mean().item() == pytest.approx(
        values[..., 8:12].mean().item(), abs=0.01
    )
    assert torch.equal(colored[..., 12:], content[..., 12:])


def test_a_mask_limits_the_statistics(folder: Path, run: Run) -> None:
    """The result inside of a mask does not depend on what is outside of it, far from its border."""
    Path("other").mkdir()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :16] = 255
    Image.fromarray(mask).save("mask.png")
    for file in sorted(Path("clip").iterdir()):
        pixels = np.asarray(Image.open(file)).copy()
        pixels[:, 40:] = 255 - pixels[:, 40:]
        Image.fromarray(pixels).save(Path("other") / file.name)
    results = []
    weight = ("--content-weight", "0")  # the energy of a whole frame balances its content
    for name in ("clip", "other"):
        words = ("--rate", "5", "--mask", "mask.png", "-o", f"{name}_out", *FAST, "--mode")
        code, _, err = run("stylize-video", name, "rough.png", *words, "independent", *weight)
        assert code == 0, err
        results.append(frames_of(f"{name}_out")[:, :, :16])
    assert np.abs(results[0] - results[1]).max() <= 2
    assert np.abs(results[0] - frames_of("clip")[:, :, :16]).mean() > 1


def test_a_region_may_leave_the_frame(folder: Path, run: Run) -> None:
    for number in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT), "white").save(f"maps/{number}.png")
    words = ("--rate", "5", "--regions", "maps", *RED_BLUE, "-o", "out", *FAST)
    for mode in ("flow", "independent"):
        code, _, err = run("stylize-video", "clip", *words, "--mode", mode, "--overwrite")
        assert code == 0, err
        same = (frames_of("out") == frames_of("clip")).all((1, 2, 3)).tolist()
        assert same == [False, True, True, False]


def test_a_cut_starts_the_map_anew(folder: Path, run: Run) -> None:
    for number in (2, 3):
        pixels = 255 - np.asarray(Image.open(f"clip/{number}.png"))[:, ::-1] // 2
        Image.fromarray(pixels.astype(np.uint8)).save(f"clip/{number}.png")
    words = ("--rate", "5", "--regions", "map.png", "--track-regions", *RED_BLUE, "--json")
    code, out, err = run("stylize-video", "clip", *words, "-o", "out", *FAST)
    assert code == 0, err
    assert any("frame 2 begins a scene" in x for x in json.loads(out)["results"][0]["messages"])


def test_in_python(folder: Path) -> None:
    video = SampleVideo((3, HEIGHT, WIDTH))
    io.write_video(Path("clip.mp4"), video.info, video.frames())
    result = convnd.stylize(
        "clip.mp4", regions="map.png", region={"red": "rough.png"},
        steps=1, scales=1, backbone="compact",
    )  # fmt: skip
    assert "all other regions keep the content, since they have no style" in result.messages


def test_a_map_of_another_size_and_a_preview(folder: Path, run: Run) -> None:
    Image.open("map.png").resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST).save("big.png")
    words = ("--rate", "5", "--regions", "big.png", *RED_BLUE, "--preview", "--json")
    code, out, err = run("stylize-video", "clip", *words, *FAST)
    assert code == 0, err
    assert "big.png: resized from 96x64 to 48x32" in json.loads(out)["results"][0]["messages"]
    result = np.asarray(Image.open("clip_stylized-preview.png").convert("RGB")).astype(int)
    np.testing.assert_array_equal(result[:, 9:19], frames_of("clip")[0][:, 9:19])


@pytest.mark.parametrize(
    ("words", "code", "fields"),
    [
        (["--regions", "map.png", "--region", "lime=rough.png"], 3, {"expected": "red"}),
        (["--regions", "maps", "--region", "lime=rough.png"], 3, {"expected": "red"}),
        (["--regions", "short", *RED_BLUE], 3, {"operation": "--regions short", "got": "3"}),
        (["--regions", "map.png", "--region", "red=keep"], 3, {"got": "none"}),
        (["rough.png", "--track-regions"], 2, {"operation": "--track-regions", "got": "none"}),
        (["--regions", "maps", *RED_BLUE, "--track-regions"], 2, {"got": "the video maps"}),
        (
            ["--regions", "map.png", "--region", "red=rough.png", "--style-regions", "map.png",
             "--instant"],
            2, {"operation": "--style-regions", "got": "--instant"},
        ),
    ],
)  # fmt: skip
def test_maps_that_make_no_sense(
    folder: Path, run: Run, words: list[str], code: int, fields: dict[str, str]
) -> None:
    Path("short").mkdir()
    for number in range(3):
        paint(white=(8, 20)).save(f"short/{number}.png")
    fast = [] if "--instant" in words else FAST
    result = run("stylize-video", "clip", "--rate", "5", *words, "-o", "out", *fast)
    assert result[0] == code, result
    errors = [line for line in result[2].splitlines() if line.startswith("convnd:")]
    assert len(errors) == 1
    check_error(errors[0], **fields)
    assert not Path("out").exists()
