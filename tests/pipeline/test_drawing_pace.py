"""How often steps are drawn, with a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from convnd_tasks.runtime import drawing_pace
from convnd_tasks.runtime.drawing_pace import DrawingPace


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(drawing_pace, "time", clock)

    def draw(self, pace: DrawingPace, seconds: float) -> bool:
        """Draw a picture if one is due, and tell whether."""
        if is_due := pace.is_due:
            with pace.drawing():
                self.now += seconds
        return is_due


def test_pictures_take_at_most_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace, drawn = DrawingPace(), 0
    for _ in range(10_000):
        clock.now += 0.05
        drawn += clock.draw(pace, 0.1)
    assert pace.share == pytest.approx(0.04, rel=0.02)
    assert pace.count == drawn > 100


def test_the_first_picture_is_due_at_once_and_others_not_more_often_than_people_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    pace = DrawingPace()
    assert clock.draw(pace, 0.0)
    assert not clock.draw(pace, 0.0)
    clock.now += 0.2
    assert clock.draw(pace, 0.0)


def test_the_stages_of_a_scan_that_loaded_slowly_are_all_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    pace = DrawingPace()
    clock.now += 48.0
    assert clock.draw(pace, 0.5)
    clock.now += 3.5
    assert clock.draw(pace, 0.5)
    clock.now += 8.0
    assert clock.draw(pace, 0.5)
    assert pace.share < 0.04
