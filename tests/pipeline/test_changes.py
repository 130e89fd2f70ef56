"""Options that change while a job runs: planned, made again from the record, and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.pipeline.watching import Watcher, watch
from convnd_tasks.runtime.changes import Change, Changes
from error_fields import raises

from convnd import cli, io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid

QUICK = ("--size", "48", "--scales", "1", "--backbone", "compact", "--tolerance", "0", "-q")
LINE = ("stylize", "town", "waves", "--dim", "2", *QUICK, "--steps", "6")
SHORT = ("--backbone", "compact", "--scales", "1", "--tolerance", "0", "--steps", "6", "-q")
SIGNAL = ("stylize", "signal.npy", "style.npy", "--dim", "1", *SHORT)
ARRAY = ("stylize", "field.npy", "other.npy", "--dim", "3", *SHORT)
SCAN = ("stylize-volume", "scan.nii.gz", "--style", "waves", *SHORT)


@pytest.fixture
def inputs(run: Run) -> None:  # `run` begins in a new folder
    """Small inputs of each kind, in the present folder."""
    random = np.random.default_rng(5)
    shapes = {"signal": (400,), "style": (500,), "field": (17, 18, 20), "other": (16, 16, 16)}
    for name, shape in shapes.items():
        np.save(f"{name}.npy", random.normal(size=shape).cumsum(-1).astype(np.float32))
    values = torch.from_numpy(np.load("field.npy"))[None, None]
    header = {"affine": np.eye(4)}
    scan = Grid(values=values, spacing=(1.0,) * 3, units=("mm",) * 3, header=header)
    io.write(Path("scan.nii.gz"), scan)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3:strength=0.5", {"strength": 0.5}),
        ("0:style-weights=1:2", {"style_weights": (1.0, 2.0)}),
        ("12:colors=match", {"colors": "match"}),
        ("1:--style-scale=2", {"style_scale": 2.0}),
    ],
)
def test_a_change_is_a_step_an_option_and_a_value(text: str, value: dict[str, Any]) -> None:
    change = Change.parse(text)
    assert Change.parse(str(change)) == change
    assert change.apply(ImageOptions()) == ImageOptions(**value)


@pytest.mark.parametrize(
    "text",
    ["", "3", "3:strength", "x:strength=1", "-1:strength=1", "3:steps=9", "3:backbone=a:b", "3:=1"],
)
def test_other_texts_are_no_change(text: str) -> None:
    with raises(UsageError, operation="--change"):
        Change.parse(text)


@pytest.mark.parametrize("text", ["strength=2", "strength=nan", "strength=x", "tv-weight=1:2"])
def test_values_outside_the_range_are_refused(run: Run, text: str) -> None:
    code, _, err = run(*LINE, "--change", f"2:{text}")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("inputs")
def test_an_option_that_this_kind_of_data_has_not_is_refused(run: Run) -> None:
    code, _, err = run(*SIGNAL, "--change", "2:colors=match")
    assert (code, err.count("\n")) == (2, 1)
    assert "colors" in err
    with raises(UsageError, operation="--change"):
        Changes(names=("strength",)).arrive({"style-scale": "2"})


def test_a_persons_value_that_does_not_fit_is_left_out() -> None:
    changes = Changes()
    changes.arrive({"strength": "7", "tv-weight": "0.5"})
    assert [str(change) for change in changes.take(4, ImageOptions())] == ["4:tv-weight=0.5"]
    with raises(UsageError, operation="--change"):
        changes.arrive({"steps": "3"})


def test_a_step_that_is_evaluated_twice_takes_its_changes_once() -> None:
    changes = Changes(["4:strength=0.5"])
    assert not changes.take(3, ImageOptions())
    assert changes.take(4, ImageOptions())
    changes.arrive({"strength": "0.25"})
    assert not changes.take(4, ImageOptions())
    assert changes.take(5, ImageOptions())
    assert changes.texts == ["4:strength=0.5", "5:strength=0.25"]


@pytest.mark.parametrize(
    "stored",
    [{}, {"applied": 3, "considered": 0}, {"applied": [], "considered": "x"},
     {"applied": ["1:strength"], "considered": 0},
     {"applied": ["1:strength=1"] * 1001, "considered": 0}],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises((InputFileError, UsageError)):
        Changes().restore(stored)


def test_the_record_holds_the_changes_and_makes_the_same_bytes_again(run: Run) -> None:
    assert run(*LINE, "-o", "plain.png")[0] == 0
    changes = ("--change", "2:strength=0.5", "--change", "4:style-scale=2")
    assert run(*LINE, *changes, "-o", "a.png")[0] == 0
    record = io.read_provenance(Path("a.png"))
    assert "--change=2:strength=0.5,4:style-scale=2" in json.loads(record["convnd:command"])
    assert io.digest(Path("a.png")) != io.digest(Path("plain.png"))
    code, out, _ = run("rerun", "a.png", "-o", "b.png")
    assert code == 0
    assert "the same bytes as" in out


class Hand(Watcher):
    """A person who moves a dial after a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.changes: Changes | None = None

    def on_prepared(self, transfer: Any, target: Path | None) -> None:
        self.changes = transfer.changes
        assert self.changes is not None
        self.changes.awaited = True

    def on_step(self, progress: Any) -> None:
        if progress.step == self.step and self.changes is not None:
            self.changes.arrive({"strength": "0.5"})
            self.step = -1


def test_a_dial_that_moves_is_recorded_as_if_it_were_planned(run: Run) -> None:
    assert run(*LINE, "--change", "3:strength=0.5", "-o", "planned.png")[0] == 0
    with watch(Hand(3)):
        assert cli.run([*LINE, "-o", "moved.png"]) == 0
    assert io.digest(Path("moved.png")) == io.digest(Path("planned.png"))


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(("line", "suffix"), [(SIGNAL, ".npy"), (ARRAY, ".npy"), (SCAN, ".nii.gz")])
def test_every_kind_of_grid_is_weighted_anew_while_it_runs(
    run: Run, line: tuple[str, ...], suffix: str
) -> None:
    assert run(*line, "--change", "3:strength=0.5", "-o", f"planned{suffix}")[0] == 0
    with watch(Hand(3)):
        assert cli.run([*line, "-o", f"moved{suffix}"]) == 0
    assert run(*line, "-o", f"plain{suffix}")[0] == 0
    planned, moved, plain = (
        io.read(Path(f"{name}{suffix}")).values for name in ("planned", "moved", "plain")
    )
    assert torch.equal(planned, moved)
    content = io.read(Path(line[1])).values
    assert float((planned - content).norm()) < 0.9 * float((plain - content).norm())


@pytest.mark.usefixtures("inputs")
def test_half_the_strength_of_a_signal_is_half_of_the_change(run: Run) -> None:
    for strength in ("1", "0.5"):
        assert run(*SIGNAL, f"--change=4:strength={strength}", "-o", f"{strength}.npy")[0] == 0
    content, whole, half = (np.load(name).ravel() for name in ("signal.npy", "1.npy", "0.5.npy"))
    assert np.abs(whole - content).max() > 1
    assert np.allclose(half - content, (whole - content) / 2, atol=1e-4)


def test_a_job_with_a_moved_dial_is_resumed_without_it_on_the_command_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint holds the change; nobody has to type it."""
    with watch(Hand(2)):
        assert cli.run([*LINE, "-o", "whole.png"]) == 0

    class Leaves(Hand):
        def on_checkpoint(self, path: Path, progress: Any) -> None:
            if progress.step == 4:
                Path("kept").write_bytes(path.read_bytes())

    with watch(Leaves(2)):
        assert cli.run([*LINE, "--checkpoint-every", "1", "-o", "other.png"]) == 0
    Path("kept").rename("resumed.png.checkpoint")
    assert run(*LINE, "--resume", "-o", "resumed.png")[0] == 0
    assert io.digest(Path("resumed.png")) == io.digest(Path("whole.png"))


@pytest.mark.parametrize(
    "words",
    [
        ("stylize-volume", "chest", "--style", "sharp"),
        ("stylize-video", "--mode", "block"),
        ("stylize", "town", "waves", "--dim", "2", "--instant"),
        ("stylize", "town", "waves", "--dim", "2", "--size", "48", "--strength", "0"),
    ],
)
def test_where_nothing_can_change_it_is_refused(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*words, "--change", "2:strength=0.5")
    assert (code, err.count("\n")) == (2, 1)
    assert "--change" in err
