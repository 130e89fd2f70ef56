"""Baseline wander comes over from the style, and is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.baseline import baseline_rms, match_baseline
from convnd_tasks.modalities.signals.metrics import measure_all
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.prepare import prepare

from convnd.grid import Grid
from convnd.io.signals.signal import describe

RATE = 250


def wave(seconds: float, *parts: tuple[float, float]) -> Any:
    """Sines of amplitudes and frequencies."""
    times = np.arange(0, seconds, 1 / RATE)
    return np.sum([a * np.sin(2 * np.pi * f * times + f) for a, f in parts], axis=0)


def ecg(wander: float = 0.0, *, name: str = "II", unit: str = "mV", size: int = 5000) -> Grid:
    grid = samples.content("ecg", spatial_dims=1, size=size)
    values = grid.values[:, 1:2].clone()
    times = torch.arange(values.shape[2]) * grid.spacing[0]
    values += wander * torch.sin(2 * torch.pi * 0.3 * times)
    leads = Grid(values=values, spacing=grid.spacing, units=("s",), channels=(name,))
    return describe(leads, units=(unit,))


@pytest.mark.parametrize("seconds", [5.0, 20.0, 61.3])
@pytest.mark.parametrize("style_seconds", [5.0, 30.0])
def test_the_power_below_half_a_hertz_is_the_styles(seconds: float, style_seconds: float) -> None:
    content = wave(seconds, (0.02, 0.2), (0.01, 0.45), (1.0, 3.0))
    style = wave(style_seconds, (0.5, 0.3), (1.0, 2.0))
    matched = match_baseline(content, [style], RATE)
    aim = baseline_rms(style, RATE)
    assert baseline_rms(matched, RATE) == pytest.approx(aim, rel=0.15)
    # Above, nothing changes.
    change = matched - content
    assert baseline_rms(change, RATE) == pytest.approx(change.std(), rel=0.05)


def test_a_lead_in_its_own_style_is_untouched() -> None:
    content = wave(20, (0.3, 0.2), (1.0, 3.0))
    assert match_baseline(content, [content.copy()], RATE) is content


def test_wander_is_removed_as_well() -> None:
    content, style = wave(20, (0.5, 0.3), (1.0, 3.0)), wave(20, (0.01, 0.25), (1.0, 2.0))
    assert baseline_rms(match_baseline(content, [style], RATE), RATE) < 0.05  # of 0.36


def test_powers_of_several_styles_are_weighed() -> None:
    content = wave(20, (0.02, 0.2), (1.0, 3.0))
    one, two = wave(20, (0.3, 0.25)), wave(20, (0.1, 0.25))
    both = baseline_rms(match_baseline(content, [one, two], RATE, (3.0, 1.0)), RATE)
    expected = np.sqrt(0.75 * baseline_rms(one, RATE) ** 2 + 0.25 * baseline_rms(two, RATE) ** 2)
    assert both == pytest.approx(expected, rel=0.1)


def test_short_recordings_keep_theirs() -> None:
    content = wave(3, (0.02, 0.2), (1.0, 3.0))
    assert match_baseline(content, [wave(20, (0.5, 0.3))], RATE) is content


@pytest.mark.parametrize(
    ("name", "unit", "comes"),
    [("II", "mV", True), ("ch1", "mV", True), ("RESP", "mV", False), ("ch1", "", False)],
)
def test_wander_comes_over_in_electrocardiograms_alone(name: str, unit: str, comes: bool) -> None:
    content, style = ecg(name=name, unit=unit), ecg(0.5, name=name, unit=unit)
    inputs = TransferInputs(content=content, styles=[style], names=("c", "s"))
    prepared = prepare(inputs, SignalOptions(size=0, beat_weight=0))
    assert prepared.content is not None
    result = prepared.decode(prepared.content)
    rate = 1 / content.spacing[0]
    before, after, aim = (
        baseline_rms(grid.values[0, 0].double().numpy(), rate) for grid in (content, result, style)
    )
    assert after == pytest.approx(aim if comes else before, rel=0.1)


def test_evaluate_says_how_much_lies_below_half_a_hertz() -> None:
    pytest.importorskip("neurokit2")
    content, style = ecg(), ecg(0.5)
    (wander,) = (m for m in measure_all(content, style, [style]) if m.name == "wander_distance")
    assert wander.value == pytest.approx(0, abs=1e-6)
    assert wander.before == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert (wander.unit, wander.better, wander.against) == ("mV", "lower", "style")
    assert "below 0.5 Hz: content 0.0" in wander.meaning
    names = [m.name for m in measure_all(ecg(name="RESP"), ecg(name="RESP"), [ecg(name="RESP")])]
    assert "wander_distance" not in names
