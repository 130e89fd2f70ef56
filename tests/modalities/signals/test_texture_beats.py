"""A texture of an electrocardiogram beats, at the style's intervals in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.prepare import prepare
from convnd_tasks.modalities.signals.rhythm import match_peaks
from convnd_tasks.modalities.signals.texture_beats import texture_beats
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, describe, signal_of

RATE = 200.0
INTERVALS = np.array([150, 170, 190, 160, 180, 150, 200, 170, 160, 190])


def recording(rng: np.random.Generator) -> Grid:
    """R peaks of 1 mV at `INTERVALS`, each with a T wave, noise, a gap and a mark."""
    peaks = 100 + np.concatenate([[0], np.cumsum(INTERVALS)])
    t = np.arange(peaks[-1] + 120)
    values = 0.01 * rng.normal(size=len(t))
    for peak in peaks:
        values += np.exp(-(((t - peak) / 4) ** 2)) + 0.2 * np.exp(-(((t - peak - 50) / 10) ** 2))
    grid = Grid(
        values=torch.from_numpy(values.astype("f"))[None, None],
        channels=("II",),
        spacing=(1 / RATE,),
        units=("s",),
        axes=("t",),
    )
    return describe(grid, units=("mV",), annotations=(Annotation(seconds=1.0, text="N"),))


def ready(style: Grid, **options: Any) -> Any:
    inputs = TransferInputs(content=None, styles=[style], names=("s",))
    return prepare(inputs, SignalOptions(**options))


def test_the_rhythm_has_the_intervals_of_the_style(rng: np.random.Generator) -> None:
    values = recording(rng).values
    beats, message = texture_beats([values], ["II"], RATE, 4000, seed=3, labels=["style"])
    assert beats is not None
    intervals = np.diff(beats.peaks.numpy())
    assert len(intervals) >= 4000 // 200 - 2
    distances = np.abs(intervals[:, None] - INTERVALS).min(1)
    assert distances.max() <= 2  # samples: the detector's
    assert not np.array_equal(intervals[: len(INTERVALS)], INTERVALS)
    assert "11 in the style" in message
    other, _ = texture_beats([values], ["II"], RATE, 4000, seed=4, labels=["style"])
    assert other is not None
    assert not torch.equal(other.peaks[:10], beats.peaks[:10])


@pytest.mark.parametrize("size", [0, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_texture_has_r_peaks_and_the_times_of_its_style(
    size: int, rng: np.random.Generator, tmp_path: Any, run: Any
) -> None:
    style = recording(rng)
    io.write(tmp_path / "s.csv", style)
    few = ("--steps", "6", "--scales", "1", "--no-figures", "--size", size)
    code, _, err = run("stylize", "--texture", "s.csv", *few, "-o", "t.csv")
    assert code == 0, err
    result = io.read(tmp_path / "t.csv")
    assert result.shape == ((size or style.shape[0]),)
    assert result.spacing == style.spacing  # a longer texture goes on as long
    beats, _ = texture_beats(
        [io.read(tmp_path / "s.csv").values], ["II"], RATE, result.shape[0], labels=["style"]
    )
    assert beats is not None
    detected = r_peaks(result.values[0, 0].double().numpy(), RATE) / RATE
    f1, _ = match_peaks(beats.peaks.numpy() / RATE, detected, 0.05)
    assert f1 > 0.9
    assert run("stylize", "--texture", "s.csv", *few, "--beat-weight", "0", "-o", "n.csv")[0] == 0
    noise = io.read(tmp_path / "n.csv").values[0, 0].double().numpy()
    f1, _ = match_peaks(beats.peaks.numpy() / RATE, r_peaks(noise, RATE) / RATE, 0.05)
    assert f1 < 0.6


def test_marks_and_gaps_of_a_style_are_not_those_of_its_texture(rng: np.random.Generator) -> None:
    style = recording(rng)
    style.values[..., 700:760] = float("nan")
    prepared = ready(style)
    result = prepared.decode(torch.full((1, 1, 900), 0.5))
    assert bool(result.values.isfinite().all())
    assert signal_of(result).annotations == ()
    assert result.spacing == style.spacing == prepared.spacing


def test_what_has_no_beats_has_none_as_a_texture(rng: np.random.Generator) -> None:
    hiss = recording(rng).with_values(torch.from_numpy(rng.normal(size=(1, 1, 2000)).astype("f")))
    assert ready(hiss).extra_terms is None
    with raises(InputFileError, operation="beats", got="100 samples"):
        ready(recording(rng), size=100, beat_weight=1.0)
    assert ready(recording(rng), size=100).extra_terms is None


def test_a_texture_that_repeats_has_whole_intervals(rng: np.random.Generator) -> None:
    values = recording(rng).values
    for size in (1000, 1700, 4000):
        beats, _ = texture_beats([values], ["II"], RATE, size, seed=3, periodic=True)
        assert beats is not None
        peaks = beats.peaks.numpy()
        intervals = np.diff([*peaks, peaks[0] + size])
        assert intervals.sum() == size
        assert (intervals > 0.75 * INTERVALS.min()).all()
        assert (intervals < 1.25 * INTERVALS.max()).all()
        first = peaks - beats.before
        assert first.min() == 0  # no beat is cut by the border
        assert first.max() + beats.target.shape[2] <= size
