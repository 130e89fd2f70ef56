"""Figures of a result."""

from __future__ import annotations

from convnd_tasks.modalities.results import Figure


def test_a_figure_is_drawn_once_and_only_if_it_is_needed() -> None:
    calls: list[str] = []

    def draw() -> bytes:
        calls.append("drawn")
        return b"png"

    figure = Figure("ecg", "Each lead.", draw)
    assert not calls
    assert (figure.png, figure.png, len(calls)) == (b"png", b"png", 1)
