"""Progress without a terminal: lines now and then, with the number of the file and time left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from convnd_tasks.pipeline import progress
from convnd_tasks.pipeline.progress import ProgressDisplay


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def step(number: int) -> Any:
    return SimpleNamespace(
        size=(32, 48),
        step=number,
        steps=200,
        phase=1,
        phases=1,
        loss=0.5,
        fraction_done=number / 200,
        fixed_share=0.0,
    )


def test_a_line_every_half_minute(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressDisplay(enabled=True, terminal=False, item=3, items=10) as display:
        for number in range(1, 101):
            clock.seconds += 1.0
            display.update(step(number))
    lines = capsys.readouterr().err.splitlines()
    # 200 s for each of the seven files to come, and the rest of this one.
    assert lines == [
        "3 of 10  48x32  step 30/200  loss 0.5  26:10 left",
        "3 of 10  48x32  step 60/200  loss 0.5  25:40 left",
        "3 of 10  48x32  step 90/200  loss 0.5  25:10 left",
    ]


def test_one_file_has_no_number_and_quiet_no_lines(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for enabled in (True, False):
        with ProgressDisplay(enabled=enabled, terminal=False) as display:
            clock.seconds += 100.0
            display.update(step(50))
            display.message("what users should know")
        out, err = capsys.readouterr()
        line = "48x32  step 50/200  loss 0.5\n" if enabled else ""
        assert (out, err) == ("", f"{line}what users should know\n")


def test_counts_of_other_items(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(enabled=True, terminal=False) as display:
        for number in range(1, 5):
            clock.seconds += 20.0
            display.update_count(number, 10, "inputs")
    assert capsys.readouterr().err == "inputs  2 of 10\ninputs  4 of 10  2:00 left\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_no_time_left_before_steps_tell_it(clock: SimpleNamespace, terminal: bool) -> None:
    """A first step after a long start, and the next one, say little of the others."""
    with ProgressDisplay(enabled=True, terminal=terminal) as display:
        shown = []
        for number, seconds in enumerate((90.0, 40.0, 30.0, 30.0, 30.0)):
            clock.seconds += seconds
            left = _shown_left(display, step(number), terminal=terminal)
            shown.append(left.endswith("left"))
    assert shown == [False, False, False, True, True]


def _shown_left(display: ProgressDisplay, progress: Any, *, terminal: bool) -> str:
    """What the bar or the last line says of the time left after a step."""
    if terminal:
        display.update(progress)
        assert display._bar is not None
        return str(display._bar.tasks[0].fields["left"])
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convnd_tasks.pipeline.progress.echo", lambda line, **_: lines.append(line))
        display.update(progress)
    return lines[-1]
