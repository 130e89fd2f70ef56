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
    assert lines == [
        "3 of 10  48x32  step 30/200  loss 0.5  2:50 left",
        "3 of 10  48x32  step 60/200  loss 0.5  2:20 left",
        "3 of 10  48x32  step 90/200  loss 0.5  1:50 left",
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
        line = "48x32  step 50/200  loss 0.5  5:00 left\n" if enabled else ""
        assert (out, err) == ("", f"{line}what users should know\n")


def test_counts_of_other_items(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(enabled=True, terminal=False) as display:
        clock.seconds += 60.0
        display.update_count(2, 8, "layers")
    assert capsys.readouterr().err == "layers  2 of 8  3:00 left\n"
