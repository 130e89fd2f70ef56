"""Beats: another recording's morphology at the content's R peaks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.beats import BeatTemplate, extract_beats
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.prepare import prepare
from convnd_tasks.modalities.signals.rhythm import beat_correlation, match_peaks, mean_beat
from convnd_tasks.modalities.signals.rhythm_warp import warp_to_rhythm
from error_fields import check_error, raises
from numpy.typing import NDArray

from convnd.errors import DependencyError, InputFileError, UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import describe
from convnd.nn import resize_nd
from convnd.transfer.style_transfer import StyleTransfer

RATE = 200.0


def wave(
    peaks: Any, seconds: float, *, t_wave: float, width: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """R peaks of a width, and a T wave behind each, in mV."""
    t = np.arange(round(seconds * RATE)) / RATE
    lead = 0.01 * rng.normal(size=len(t))
    for peak in peaks:
        lead += np.exp(-(((t - peak) / width) ** 2))
        lead += t_wave * np.exp(-(((t - peak - 0.25) / 0.05) ** 2))
    return lead


def grid(array: NDArray[Any]) -> Grid:
    values = torch.as_tensor(np.asarray(array, np.float32))[None, None]
    signal = Grid(values=values, channels=("II",), spacing=(1 / RATE,), units=("s",), axes=("t",))
    return describe(signal, units=("mV",))


def test_retimed_beats_keep_what_is_around_r_peaks(rng: np.random.Generator) -> None:
    values = torch.tensor(rng.normal(size=(2, 1, 1000)).astype("f"))
    peaks, intervals = np.array([120, 320, 540, 800]), np.array([150, 400])
    warped, places = warp_to_rhythm(values, peaks, intervals, RATE)
    assert places.tolist() == [120, 270, 670, 820]
    assert warped.shape[2] == 820 + 200
    for old, new, after in ((120, 120, 80), (320, 270, 80), (540, 670, 80)):
        assert torch.equal(warped[..., new : new + after], values[..., old : old + after])
    for old, new in ((320, 270), (540, 670), (800, 820)):
        assert torch.equal(warped[..., new - 40 : new], values[..., old - 40 : old])
    # Nothing comes in that was not there but by fading.
    assert warped.abs().max() <= values.abs().max()


def test_noise_between_beats_stays_noise_of_its_strength(rng: np.random.Generator) -> None:
    values = torch.tensor(rng.normal(size=(1, 1, 4000)).astype("f"))
    peaks = np.arange(200, 4000, 200)
    for interval in (120, 350):
        warped, places = warp_to_rhythm(values, peaks, np.array([interval]), RATE)
        assert warped[..., places[0] : places[-1]].std() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("gap", [1, 2, 7])
def test_intervals_of_a_few_samples(gap: int) -> None:
    values = torch.arange(40.0)[None, None]
    warped, places = warp_to_rhythm(values, np.array([5, 5 + gap, 30]), np.array([3, 50]), RATE)
    assert torch.isfinite(warped).all()
    assert warped.shape[2] == places[-1] + 10


def test_the_term_is_bound_to_the_peaks_at_every_size() -> None:
    target = torch.tensor([[[0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0]]])
    beats = BeatTemplate(torch.tensor([10, 30, 39]), 40, target, 3, (), 2.0)
    term = beats.term(40)
    values = torch.zeros(1, 1, 40)
    for first in (7, 27):  # the last one is not whole
        values[..., first + 2 : first + 4] = 4
    assert (term.weight, term.loss.value(term.loss.sums(values)).item()) == (2.0, 0)
    assert beats.term(20).loss.target.shape == (1, 1, 4)  # type: ignore[attr-defined]
    with raises(InputFileError, operation="beats", got="none in 40 samples"):
        BeatTemplate(torch.tensor([1]), 40, target, 3, (), 1.0).term(40)


def test_what_to_start_from_has_the_mean_beat_and_the_rest_is_left(
    rng: np.random.Generator,
) -> None:
    target = torch.zeros(1, 1, 24)
    target[..., 10:14] = 4
    beats = BeatTemplate(torch.tensor([20, 60, 99]), 100, target, 12, (), 3.0)
    values = torch.tensor(rng.normal(size=(1, 1, 100)).astype("f")) * 0.01
    values[..., 18:22] -= 3  # another QRS than is wanted
    values[..., 58:62] -= 3
    loss = beats.term(100).loss
    start = beats.insert(values)
    assert loss.value(loss.sums(values)).item() > 2
    assert loss.value(loss.sums(start)).item() < 0.01
    assert torch.equal(start[..., 32:48], values[..., 32:48])
    assert torch.equal(start[..., 72:87], values[..., 72:87])
    assert start[..., 97:].mean() > 2  # the last one is not whole


def test_beats_are_at_the_same_place_at_every_size() -> None:
    """Shrunk with the values, a target fits where it was, but for a sample."""
    t = torch.arange(512.0)
    values = ((t / 7).sin() + (t / 11).cos())[None, None]
    beats = BeatTemplate(torch.tensor([226]), 512, values[..., 203:283].clone(), 23, (), 1.0)
    for extent in (512, 256, 128):
        smaller = resize_nd(values, [extent], mode="linear", antialias=True)
        loss = beats.term(extent).loss
        assert loss.value(loss.sums(smaller)).item() < 0.05


@pytest.mark.slow
def test_morphology_comes_over_and_rhythm_stays(rng: np.random.Generator) -> None:
    pytest.importorskip("scipy")
    peaks = np.array([0.6, 1.5, 2.5, 3.4, 4.4, 5.3, 6.3, 7.2])
    content = wave(peaks, 8, t_wave=0.1, width=0.015, rng=rng)
    style = wave(np.arange(0.5, 11.8, 0.6), 12, t_wave=0.5, width=0.04, rng=rng)
    correlations = {}
    for weight in (0.0, None):
        options = SignalOptions(size=0, steps=10, scales=1, beat_weight=weight)
        inputs = TransferInputs(content=grid(content), styles=[grid(style)], names=("A", "B"))
        ready = prepare(inputs, options)
        *_, last = StyleTransfer(options, spatial_dims=1, in_channels=1).run(ready)
        result = ready.decode(last.values).values[0, 0].double().numpy()
        correlations[weight] = beat_correlation(mean_beat(result, RATE), mean_beat(style, RATE))
        assert match_peaks(peaks, r_peaks(result, RATE) / RATE, 0.05)[0] > (
            0 if weight == 0 else 0.98
        )
    assert ready.messages[-1].startswith("R peaks by lead II: 8 in the content, 19 in the style")
    before = beat_correlation(mean_beat(content, RATE), mean_beat(style, RATE))
    assert correlations[None] > 0.97 > before
    assert correlations[None] > correlations[0.0]


def test_beats_come_by_themselves_where_both_have_them(rng: np.random.Generator) -> None:
    pytest.importorskip("scipy")
    ecg = grid(wave(np.arange(0.5, 9.8, 0.8), 10, t_wave=0.2, width=0.02, rng=rng))
    hiss = grid(0.1 * rng.normal(size=2000))

    def find_beats(content: Grid, style: Any, **options: Any) -> Any:
        inputs = TransferInputs(content=content, styles=[style], names=("A", "B"))
        ready = prepare(inputs, SignalOptions(size=0, **options))
        beats = None if ready.initial is None else ready.initial.__self__  # type: ignore[attr-defined]
        return beats, "".join(ready.messages)

    other = ecg.with_values(1.2 * ecg.values)
    beats, note = find_beats(ecg, other)
    assert (beats.weight, len(beats.peaks)) == (3.0, 12)
    assert note.startswith("R peaks by lead II: 12 in the content, 12 in the style")
    assert find_beats(ecg, ecg, beat_weight=0) == (None, "")
    assert find_beats(ecg, ecg, beat_weight=7)[0].weight == 7
    assert find_beats(ecg, ecg) == (None, "lead II: the mean beats of content and style are equal")
    lonely = "no beats in lead II of style B: only its statistics are transferred"
    assert find_beats(ecg, hiss) == (None, lonely)
    assert find_beats(hiss, ecg) == (None, "")
    # Sounds, and what nobody called a voltage.
    plain = dataclasses.replace(describe(ecg, units=("",)), channels=("left",))
    assert find_beats(plain, plain) == (None, "")
    assert find_beats(plain, plain, beat_weight=3)[0] is not None
    silent = dataclasses.replace(ecg, spacing=(1.0,), units=("px",))
    beats, note = find_beats(silent, silent)
    assert (beats, "names no sampling rate" in note, "--rate" in note) == (None, True, True)


def test_without_scipy_beats_are_left_out_and_it_is_said(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecg = grid(wave(np.arange(0.5, 9.8, 0.8), 10, t_wave=0.2, width=0.02, rng=rng))
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    inputs = TransferInputs(content=ecg, styles=[ecg], names=("A", "B"))
    ready = prepare(inputs, SignalOptions(size=0))
    assert ready.initial is None
    assert ready.messages[0].startswith("beats are left out: R peaks: expected the package scipy")
    with raises(DependencyError, operation="R peaks", got="none installed"):
        prepare(inputs, SignalOptions(size=0, beat_weight=3))


def test_what_has_no_beats_is_refused(rng: np.random.Generator) -> None:
    pytest.importorskip("scipy")
    flat = torch.linspace(0, 1, 1000).view(1, 1, -1)
    good = torch.tensor(wave([1.0, 2.0, 3.0], 5, t_wave=0.2, width=0.02, rng=rng)).view(1, 1, -1)
    with raises(InputFileError, operation="content", expected="2 R peaks", got="0"):
        extract_beats(flat, [good], ["V1"], RATE, weight=3)
    with raises(InputFileError, operation="style", expected="2 R peaks", got="0"):
        extract_beats(good.expand(2, 1, -1), [flat.expand(2, 1, -1)], ["I", "II"], RATE, weight=3)


def test_beats_are_for_signals_with_a_rate(
    tmp_path: Path, run: Run, rng: np.random.Generator
) -> None:
    np.save(tmp_path / "a.npy", rng.normal(size=500))
    code, _, err = run("stylize", "a.npy", "a.npy", "--dim", "1", "--beat-weight", "3")
    assert code == 2, err
    check_error(err, operation="--beat-weight", expected="a content with a sampling rate")
    code, _, err = run("stylize", "a.npy", "a.npy", "--dim", "1", "--beat-weight", "some")
    assert (code, "expected auto or a number from 0 to" in " ".join(err.split())) == (2, True)
    code, _, err = run(
        "stylize", "a.npy", "a.npy", "--dim", "1", "--beat-weight", "auto", "--steps", "0"
    )
    assert (code, err.count("\n"), "names no sampling rate" in err) == (0, 1, True)
    code, _, err = run("stylize", "--dim", "2", "--beat-weight", "3")
    assert code == 2
    assert "--beat-weight applies to signals, and these are pictures" in err
    options = SignalOptions(size=0, beat_weight=3)
    without_rate = Grid(values=torch.from_numpy(rng.normal(size=(1, 1, 500))).float())
    with raises(UsageError, operation="--beat-weight", got="one without"):
        prepare(TransferInputs(content=None, styles=[without_rate], names=("B",)), options)
