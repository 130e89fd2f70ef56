"""Options that change between the frames of a video: planned, moved by a person, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from convnd_tasks.pipeline.watching import Watcher, watch
from convnd_tasks.runtime.changes import Changes
from convnd_tasks.samples.video import SampleVideo

from convnd import cli, io

LINE = ("stylize-video", "clip.mp4", "waves", "--style", "cells", "--size", "48", "--steps", "4")
SHORT = ("--backbone", "compact", "--scales", "1", "--no-figures", "-q")
CHANGE = "2:style-weights=0:1"


@pytest.fixture
def clip(run: Run) -> list[str]:
    """The words of a command for four frames in the present folder."""
    made = SampleVideo((4, 36, 48))
    io.write_video(Path("clip.mp4"), made.info, made.frames())
    return [*LINE, *SHORT, "--style-weights", "1,0"]


class Hand(Watcher):
    """A person who moves a dial at the second frame, and may stop the work at a later one.

    Args:
        stops_at: number of the frame, from 1, at which the work is stopped.
    """

    def __init__(self, stops_at: int = 0) -> None:
        self.changes: Changes | None = None
        self.stops_at = stops_at

    def on_prepared(self, transfer: Any, target: Path | None) -> None:
        self.changes = transfer.changes

    def on_step(self, progress: Any) -> None:
        if progress.step == 2 and self.changes is not None:
            self.changes.arrive({"style-weights": "0:1"})
            self.changes = None
        if progress.step == self.stops_at:
            raise KeyboardInterrupt


def frames(folder: str) -> list[torch.Tensor]:
    return [io.read(path).values for path in sorted(Path(folder).glob("*.png"))]


def test_frames_after_a_change_are_weighted_anew(run: Run, clip: list[str]) -> None:
    assert run(*clip, "-o", "plain/")[0] == 0
    assert run(*clip, "--change", CHANGE, "-o", "planned/")[0] == 0
    with watch(Hand()):
        assert cli.run([*clip, "-o", "moved/"]) == 0
    plain, planned, moved = map(frames, ("plain", "planned", "moved"))
    assert len(plain) == 4
    assert all(map(torch.equal, planned, moved))
    same = [torch.equal(one, other) for one, other in zip(plain, planned, strict=True)]
    assert same == [True, True, False, False]


def test_a_stopped_job_goes_on_with_the_changes_of_its_frames(run: Run, clip: list[str]) -> None:
    with watch(Hand()):
        assert cli.run([*clip, "-o", "whole/"]) == 0
    with watch(Hand(stops_at=4)):
        assert cli.run([*clip, "-o", "stopped/"]) != 0
    assert run(*clip, "--resume", "-o", "stopped/")[0] == 0  # nobody types the change
    assert all(map(torch.equal, frames("whole"), frames("stopped")))


@pytest.mark.parametrize("change", ["1:colors=luminance", "1:temporal-weight=-1"])
def test_other_changes_are_refused(run: Run, clip: list[str], change: str) -> None:
    code, _, err = run(*clip, "--change", change, "-o", "refused/")
    assert (code, err.count("\n")) == (2, 1)
    assert not Path("refused").exists()
