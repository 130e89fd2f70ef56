"""Keyframes: frames of a video whose result is known, and that the others follow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.video.flow import FlowPair
from convnd_tasks.modalities.video.frame_regions import FrameRegions, RegionStyles
from convnd_tasks.modalities.video.input import EarlierFrame, FrameContext, KeyframeGuide
from convnd_tasks.modalities.video.keyframes import Keyframes
from convnd_tasks.modalities.video.references import add_guide, warped_references
from convnd_tasks.pipeline.keyframe_arguments import parse_keyframes
from convnd_tasks.samples.video import SampleVideo
from error_fields import check_error, raises
from numpy.typing import NDArray
from PIL import Image

import convnd
from convnd import io
from convnd.errors import InputFileError, UsageError

FAST = (
    *("--steps", "2", "--frame-steps", "2", "--scales", "1", "--backbone", "compact", "-q"),
    *("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_2", "--no-figures"),
)
HEIGHT, WIDTH, COUNT = 32, 48, 6
AB = ("--keyframe", "0=a.png", "--keyframe", "4=b.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of six frames, and two of them painted: one in red, one in blue."""
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    for number, frame in enumerate(SampleVideo((COUNT, HEIGHT, WIDTH)).frames()):
        pixels = (frame.values[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(f"clip/{number}.png")
        for painted, name, color in ((0, "a", (255, 90, 60)), (4, "b", (60, 90, 255))):
            if number == painted:
                grey = pixels.mean(2, keepdims=True) / 255
                Image.fromarray((grey * color).astype(np.uint8)).save(f"{name}.png")
    return tmp_path


@pytest.fixture
def regions(folder: Path) -> Path:
    """The same folder with a map: red on the left, blue on the right."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :16, 0] = pixels[:, 16:, 2] = 255
    Image.fromarray(pixels).save("map.png")
    return folder


def frames_of(path: str) -> NDArray[Any]:
    files = sorted(Path(path).glob("*.png"))
    return np.stack([np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files])


def pixels_of(path: str) -> NDArray[Any]:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("options", [(), ("--passes", "2")])
def test_keyframes_are_results_and_others_lie_between(
    folder: Path, run: Run, options: tuple[str, ...]
) -> None:
    words = ("--rate", "5", *AB, "-o", "out", "--json", *FAST, *options)
    code, out, err = run("stylize-video", "clip", *words)
    assert code == 0, err
    result = frames_of("out")
    np.testing.assert_array_equal(result[0], pixels_of("a.png"))
    np.testing.assert_array_equal(result[4], pixels_of("b.png"))
    # From red to blue, a step in each frame.
    redness = (result[..., 0] - result[..., 2]).mean((1, 2))
    assert (np.diff(redness[:5]) < -5).all()
    assert abs(redness[5] - redness[4]) < 5
    steps = json.loads(out)["results"][0]["steps"]
    assert 0 < steps <= 2 * 4 * (1 + len(options))


def test_a_run_is_made_again(folder: Path, run: Run) -> None:
    Path("b.png").rename("painted.png")
    words = ("--rate", "5", "--keyframe", "4=painted.png", "-o", "out", *FAST)
    assert run("stylize-video", "clip", *words)[0] == 0
    record = io.read_provenance(Path("out"))
    assert record["convnd:keyframe_4"] == "painted.png"
    code, out, err = run("rerun", "out", "-o", "again")
    assert code == 0, err
    assert "the same bytes as" in out
    # Frames before the only keyframe follow it, too.
    blueness = (frames_of("out")[..., 2] - frames_of("out")[..., 0]).mean((1, 2))
    assert (blueness > 0.7 * blueness[4]).all()


def test_a_mask_and_another_size(folder: Path, run: Run) -> None:
    Image.open("a.png").resize((2 * WIDTH, 2 * HEIGHT)).save("large.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 16:] = 255
    Image.fromarray(mask).save("mask.png")
    words = ("--rate", "5", "--keyframe", "1=large.png", "--mask", "mask.png", "--json")
    code, out, err = run("stylize-video", "clip", *words, "-o", "out", *FAST)
    assert code == 0, err
    message = "keyframe 1 (large.png): resized from 96x64 to 48x32"
    assert message in json.loads(out)["results"][0]["messages"]
    clip, result = frames_of("clip"), frames_of("out")
    np.testing.assert_array_equal(result[:, :, :16], clip[:, :, :16])
    assert np.abs(result - clip)[:, :, 20:].mean((1, 2, 3)).min() > 2


@pytest.mark.parametrize("options", [(), pytest.param(("--passes", "2"), marks=pytest.mark.slow)])
def test_keyframes_are_results_in_regions_without_a_style(
    regions: Path, run: Run, options: tuple[str, ...]
) -> None:
    words = ("--rate", "5", *AB, "--regions", "map.png", "-o", "out", "--json", *FAST, *options)
    code, out, err = run("stylize-video", "clip", *words, "--region", "red=keep")
    assert code == 0, err
    messages = json.loads(out)["results"][0]["messages"]
    assert "all other regions (66.7 %) take a.png and b.png" in messages
    clip, result = frames_of("clip"), frames_of("out")
    np.testing.assert_array_equal(result[:, :, :16], clip[:, :, :16])
    for number, name in ((0, "a.png"), (4, "b.png")):
        np.testing.assert_array_equal(result[number, :, 16:], pixels_of(name)[:, 16:])
    redness = (result[..., 0] - result[..., 2])[:, :, 16:].mean((1, 2))
    assert (np.diff(redness[:5]) < -5).all()


@pytest.mark.slow
def test_a_region_of_its_own_style_beside_keyframes(regions: Path, run: Run) -> None:
    regions_of = ("--regions", "map.png", "--region", "red=waves")
    words = ("--rate", "5", *AB, *regions_of, "-o", "out", *FAST, "--steps", "24")
    code, _, err = run("stylize-video", "clip", *words)
    assert code == 0, err
    clip, result = frames_of("clip"), frames_of("out")
    np.testing.assert_array_equal(result[0, :, 16:], pixels_of("a.png")[:, 16:])
    assert np.abs(result - clip)[:, :, :15].mean((1, 2, 3)).min() > 2
    code, out, err = run("rerun", "out", "-o", "again")
    assert code == 0, err
    assert "the same bytes as" in out


def test_only_the_part_of_a_keyframe_that_is_a_result_is_a_style() -> None:
    left = torch.zeros(1, 2, 16, 32)
    left[:, 0, :, :8] = left[:, 1, :, 8:] = 1
    parts = (
        RegionStyles("region red", (0,), (None,)),
        RegionStyles("others", (1,), (None,), follows_keyframes=True),
    )
    frame = FrameRegions(parts, left, torch.ones(1, 1, 16, 32))
    contexts = [
        dataclasses.replace(one, regions=frame) for one in (context(0, 0, cut=True), context(1, 8))
    ]
    keyframes = Keyframes({1: torch.rand(1, 3, 16, 32)}, {1: 1})
    first, _ = keyframes.guided(contexts)
    (share,) = keyframes.region(1).style_shares
    assert share is not None
    assert share.equal(left[:, 1:])
    # A keyframe counts where both frames follow keyframes, 8 pixels to the right.
    assert first.guide is not None
    assert first.guide.valid[0, 0, 0].tolist() == [0] * 8 + [1] * 16 + [0] * 8
    rest = frame.without_keyframes()
    assert [*rest.present] == [0]
    assert rest.mask.equal(left[:, :1])


def test_in_python(folder: Path) -> None:
    video = SampleVideo((3, HEIGHT, WIDTH))
    io.write_video(Path("clip.mp4"), video.info, video.frames())
    keyframes = {0: "a.png", 2: Path("b.png")}
    result = convnd.stylize("clip.mp4", keyframe=keyframes, steps=1, scales=1, backbone="compact")
    first = next(result.result.frames()).values
    torch.testing.assert_close(first, io.read("a.png").values, atol=1e-4, rtol=0)


def test_weights_follow_the_distance_in_time() -> None:
    frame = torch.zeros(1, 3, 16, 16)
    keyframes = Keyframes({2: frame, 6: frame, 10: frame}, {2: 0, 6: 1, 10: 0})
    assert keyframes.weights(0) == {2: 1.0}
    assert keyframes.weights(3) == {2: 0.75, 6: 0.25}
    assert keyframes.weights(6) == {6: 1.0}
    assert keyframes.weights(11) == {10: 1.0}


def context(number: int, right: float, *, cut: bool = False) -> FrameContext:
    forward = torch.zeros(2, 16, 32)
    forward[1] = right
    return FrameContext(
        number=number, pts=number, duration=1, name="", content=torch.zeros(1, 3, 16, 32), cut=cut,
        flows={} if cut else {1: FlowPair(forward, -forward)}, seconds={},
    )  # fmt: skip


def test_guides_move_backwards_along_the_flow() -> None:
    keyframe = torch.arange(32.0).expand(1, 3, 16, 32)
    contexts = [context(0, 0, cut=True), context(1, 2), context(2, 0, cut=True), context(3, 1),
                context(4, 1.5), context(5, 1)]  # fmt: skip
    guided = list(Keyframes({4: keyframe}, {4: 0}).guided(contexts))
    assert [one.number for one in guided] == [0, 1, 2, 3, 4, 5]
    assert [one.guide is not None for one in guided] == [False, False, True, True, False, False]
    first = guided[2].guide
    assert first is not None
    assert first.values[0, 0, 0, 10] == 12.5
    assert first.valid[0, 0, 0].tolist() == [1] * 29 + [0] * 3
    assert first.share == pytest.approx(1 / 3)
    with raises(InputFileError, operation="--keyframe 9"):
        list(Keyframes({9: keyframe}, {9: 0}).guided(contexts))


def test_frames_between_keyframes_have_references_at_boundaries() -> None:
    """Otherwise the next keyframe alone would show there, long before its time."""
    flow = torch.zeros(2, 16, 32)
    flow[1, :, 16:] = 1
    earlier = [EarlierFrame(torch.zeros(1, 3, 16, 32), torch.ones(1, 3, 16, 32))]
    pairs = {1: FlowPair(flow, -flow)}
    _, strict = warped_references(pairs, earlier)
    _, valid = warped_references(pairs, earlier, keep_boundaries=True)
    assert strict[0, 0, 8, 14:18].tolist() == [1, 0, 0, 1]
    assert valid[0, 0, 8, 15:18].tolist() != [0, 0, 1]


def test_guides_and_earlier_frames_are_mixed_where_both_are_valid() -> None:
    target, mask = torch.ones(1, 3, 1, 3), torch.tensor([[[[1.0, 0.0, 1.0]]]])
    guide = KeyframeGuide(torch.full((1, 3, 1, 3), 3.0), torch.tensor([[[[1.0, 1.0, 0.0]]]]), 0.25)
    mixed, valid = add_guide(target * mask, mask, guide)
    assert mixed[0, 0, 0].tolist() == [1.5, 3, 1]
    assert valid.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "code", "fields"),
    [
        (["--keyframe", "6=a.png"], 3, {"operation": "--keyframe 6", "expected": "6 frames"}),
        (["--keyframe", "a.png"], 2, {"operation": "--keyframe", "expected": "FRAME=FILE"}),
        (["--keyframe", "0=a.png,0=b.png"], 2, {"got": "0=b.png"}),
        (["--keyframe", "0=none.png"], 3, {"operation": "read none.png"}),
        (["waves", "--keyframe", "0=a.png"], 2, {"got": "the style waves"}),
        ([*AB, "--instant"], 2, {"operation": "--instant"}),
        ([*AB, "--mode", "block"], 2, {"operation": "--mode"}),
        ([*AB, "--preview"], 2, {"operation": "--preview"}),
        ([*AB, "--colors", "luminance"], 2, {"operation": "--colors"}),
        (
            [*AB, "--regions", "map.png", "--region", "red=waves,blue=keep"],
            3,
            {"operation": "--keyframe with --regions map.png", "expected": "a region for the key"},
        ),
        (
            [*AB, "--regions", "map.png", "--region", "red=waves", "--style-regions", "map.png"],
            2,
            {"operation": "--style-regions"},
        ),
    ],
)
def test_keyframes_that_make_no_sense(
    regions: Path, run: Run, words: list[str], code: int, fields: dict[str, str]
) -> None:
    fast = [] if "--instant" in words else FAST
    result = run("stylize-video", "clip", "--rate", "5", *words, "-o", "out", *fast)
    assert result[0] == code, result
    errors = [line for line in result[2].splitlines() if line.startswith("convnd:")]
    assert len(errors) == 1
    check_error(errors[0], **fields)
    assert not Path("out").exists()


def test_words() -> None:
    with raises(UsageError, got="-1=a.png"):
        parse_keyframes(["-1=a.png"])
