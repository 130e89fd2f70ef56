"""Frames that a network stylises in one pass each, and the detail that they keep."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.video.flow import warp_bicubic
from convnd_tasks.modalities.video.frame_network import keep_detail
from convnd_tasks.modalities.video.frames import FrameStylizer
from convnd_tasks.samples.video import SampleVideo
from error_fields import read_fields
from torch import Tensor

from convnd import Grid, io

FOLDER_WORDS = ("--instant", "-q", "--no-figures")
WORDS = (*FOLDER_WORDS, "--crf", "0")


def film(frames: int = 5) -> Path:
    video = SampleVideo((frames, 48, 64))
    io.write_video(Path("film.mp4"), video.info, video.frames(), encoding=io.Encoding(crf=0))
    return Path("film.mp4")


def strokes(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + 0.1 * torch.randn((1, 3, 40, 48), generator=generator)


def test_detail_is_that_of_the_frame_before() -> None:
    output, warped = strokes(0), strokes(1)
    mask = torch.ones(1, 1, 40, 48)
    mask[..., :24] = 0
    mixed = keep_detail(output, warped, mask)
    torch.testing.assert_close(mixed[..., :23], output[..., :23])
    torch.testing.assert_close(keep_detail(output, output, mask), output, atol=1e-5, rtol=0)
    inside = (..., slice(28, None))
    agreement = [torch.corrcoef(torch.stack([mixed[inside].flatten(), x[inside].flatten()]))[0, 1]
                 for x in (warped, output)]  # fmt: skip
    assert agreement[0] > 0.95 > 0.3 > agreement[1]
    # The energy of the detail stays that of the output.
    faint = 0.5 + 0.2 * (warped - 0.5)
    assert keep_detail(output, faint, mask)[inside].std() > faint[inside].std() * 1.05


def test_another_scene_shows_through() -> None:
    output = strokes(0)
    mask = torch.ones(1, 1, 40, 48)
    torch.testing.assert_close(keep_detail(output, output + 0.3, mask), output)


def test_bicubic_warping_of_whole_pixels_is_exact() -> None:
    values = strokes(0)
    flow = torch.zeros(2, 40, 48)
    flow[1] = 3
    torch.testing.assert_close(
        warp_bicubic(values, flow)[..., :-3], values[..., 3:], atol=1e-5, rtol=0
    )


def test_frames_hold_together_and_a_rerun_gives_the_same_bytes(run: Run) -> None:
    film()
    flicker = {}
    for mode in ("flow", "independent"):
        words = ("--mode", mode, "-o", f"{mode}.mp4", "--json")
        code, out, _ = run("stylize", "film.mp4", "waves", *WORDS, *words)
        assert code == 0
        flicker[mode] = json.loads(out)["results"][0]["e_warp"]
    assert flicker["flow"] < 0.3 * flicker["independent"]
    assert run("rerun", "flow.mp4", "-o", "again.mp4", "-q")[0] == 0
    assert Path("again.mp4").read_bytes() == Path("flow.mp4").read_bytes()


def test_frames_without_motion_are_equal(run: Run) -> None:
    frame = next(SampleVideo((1, 48, 64)).frames())
    Path("still").mkdir()
    picture = torch.round(frame.values * 255) / 255
    for number in range(3):
        grid = Grid(values=picture, channels=("R", "G", "B"))
        io.write(f"still/{number}.png", grid)
    assert run("stylize-video", "still", "waves", *FOLDER_WORDS, "--rate", "5", "-o", "out")[0] == 0
    values = [io.read(f"out/{number}.png").values for number in range(3)]
    assert (values[1] - values[0]).abs().max() <= 1 / 255
    assert (values[2] - values[0]).abs().max() <= 1 / 255


def test_a_run_continues_to_the_same_bytes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    film()
    whole = (*WORDS, "-o", "whole.mp4")
    assert run("stylize", "film.mp4", "waves", *whole)[0] == 0
    original: Any = FrameStylizer._frame
    count = []

    def interrupted(self: Any, *arguments: Any) -> Any:
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return (yield from original(self, *arguments))

    monkeypatch.setattr(FrameStylizer, "_frame", interrupted)
    parts = ("stylize", "film.mp4", "waves", *WORDS, "-o", "parts.mp4")
    assert run(*parts)[0] == 130
    monkeypatch.setattr(FrameStylizer, "_frame", original)
    code, _, err = run(*(word for word in parts if word != "-q"), "--resume")
    assert (code, err.strip()) == (0, "continuing after 2 frames of an earlier run")
    assert Path("parts.mp4").read_bytes() == Path("whole.mp4").read_bytes()


def test_blocks_and_options_of_the_optimisation_are_refused(run: Run) -> None:
    film(2)
    for words, name in (
        (("--mode", "block"), "mode"),
        (("--temporal-weight", "3"), "temporal_weight"),
        (("--passes", "2"), "passes"),
    ):
        code, out, err = run("stylize", "film.mp4", "waves", *WORDS, *words)
        assert (code, out) == (2, "")
        assert read_fields(err).operation == name


def test_a_texture_needs_the_optimisation(run: Run) -> None:
    film(2)
    code, out, err = run("stylize-video", "--texture", "film.mp4", "--instant")
    assert (code, out) == (2, "")
    assert read_fields(err).got == "none, for a texture"
