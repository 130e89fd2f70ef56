"""R peaks against the beats that are there, and what is no rhythm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.signals.leads import may_be_ecg, resample_lead
from convnd_tasks.modalities.signals.metrics import measure_all
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.rhythm import are_beats, match_peaks
from error_fields import raises
from numpy.typing import NDArray

from convnd import io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.signals.signal import describe

scipy = pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def leads() -> Any:
    """Leads of pydicom's recording at 500 Hz, in mV; they beat together."""
    data = pytest.importorskip("pydicom.data")
    grid = io.read(data.get_testdata_file("waveform_ecg.dcm", download=False))
    values = grid.values[0].double().numpy() / 1000
    return {
        name: resample_lead(row, 1000, 500) for name, row in zip(grid.channels, values, strict=True)
    }


def noisy(values: NDArray[Any], rng: np.random.Generator) -> Any:
    """With muscle noise and wander."""
    t = np.arange(len(values)) / 500
    return values + 0.05 * rng.normal(size=len(t)) + 0.12 * np.sin(2 * np.pi * 0.3 * t)


def grid(
    array: NDArray[Any], *, names: tuple[str, ...] = ("II",), rate: float = 500.0, unit: str = "mV"
) -> Grid:
    values = torch.as_tensor(np.atleast_2d(array).astype("f"))[None]
    signal = Grid(values=values, channels=names, spacing=(1 / rate,), units=("s",), axes=("t",))
    return describe(signal, units=(unit,) * len(names))


@pytest.mark.parametrize(
    ("rate", "names"),
    [
        (125, ("V2",)),
        pytest.param(250, ("I",), marks=pytest.mark.slow),
        pytest.param(1000.5, ("aVL", "V5"), marks=pytest.mark.slow),
    ],
)
def test_leads_beat_together_in_noise_too_and_at_every_rate(
    leads: Any, rng: np.random.Generator, rate: float, names: tuple[str, ...]
) -> None:
    expected = r_peaks(leads["II"], 500) / 500
    assert len(expected) == 10
    for name in names:
        for signal in (leads[name], noisy(leads[name], rng)):
            peaks = r_peaks(resample_lead(signal, 500, rate), rate) / rate
            assert match_peaks(expected, peaks, 0.05)[0] == 1, name


@pytest.mark.slow
def test_long_recordings_go_block_by_block(leads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.tile(leads["V2"], 3)
    whole = r_peaks(values, 500)
    assert len(whole) == 30
    monkeypatch.setattr("convnd_tasks.modalities.signals.peaks._BLOCK", 13.3)
    parts = r_peaks(values, 500)
    assert len(parts) == 30
    np.testing.assert_allclose(parts, whole, atol=5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)  # in processes, or without
    np.testing.assert_array_equal(r_peaks(values, 500), parts)
    torch.set_num_threads(threads)


def test_gaps_are_bridged(leads: Any) -> None:
    values = leads["II"].copy()
    before = r_peaks(values, 500)
    values[before[4] + 150 : before[4] + 250] = np.nan
    np.testing.assert_allclose(r_peaks(values, 500), before, atol=5)


@pytest.mark.parametrize(
    "values",
    [np.zeros(0), np.ones(5000), np.full(5000, np.nan), np.linspace(0, 9, 5000), np.zeros(300)],
    ids=["nothing", "constant", "gaps", "straight", "short"],
)
def test_what_has_no_peaks(values: Any) -> None:
    assert len(r_peaks(values, 500)) == 0


@pytest.mark.slow
def test_what_are_beats(leads: Any, rng: np.random.Generator) -> None:
    t = np.arange(10_000) / 500
    frequencies = np.fft.rfftfreq(10_000, 1 / 500)

    def shaped(shape: Any) -> Any:
        return np.fft.irfft(np.fft.rfft(rng.normal(size=10_000)) * shape, 10_000)

    brain = shaped(1 / np.maximum(frequencies, 0.5)) + 3 * shaped(abs(frequencies - 10) < 1.5)
    muscle = shaped(frequencies > 20) * (1 + 0.9 * np.sin(t))
    for values in (rng.normal(size=10_000), np.cumsum(rng.normal(size=10_000)), brain, muscle):
        peaks = r_peaks(values, 500)
        assert len(peaks) > 3
        assert not are_beats(values, peaks, 500)
    for name in ("II", "V2", "aVL"):
        for signal in (leads[name], noisy(leads[name], rng)):
            assert are_beats(signal, r_peaks(signal, 500), 500), name
    assert not are_beats(leads["II"], r_peaks(leads["II"], 500)[:2], 500)


def test_voltages_or_leads_of_that_name_may_have_beats() -> None:
    values = np.arange(99.0)
    assert may_be_ecg(grid(values, names=("x",), unit="uV"))
    assert may_be_ecg(grid(values, names=("MLII",), unit=""))
    assert may_be_ecg(grid(values, names=("my ECG",), unit=""))
    assert not may_be_ecg(grid(values, names=("left",), unit=""))
    assert not may_be_ecg(Grid(values=torch.zeros(1, 1, 9), channels=("II",)))


def measured(content: Grid, style: Any) -> Any:
    return {measure.name for measure in measure_all(content, content, [style])}


@pytest.mark.slow
def test_rhythm_is_measured_where_there_is_one(leads: Any, rng: np.random.Generator) -> None:
    beats = {"r_peak_f1", "rr_error", "beat_correlation", "beat_distance"}
    rest = {"psd_distance", "autocorrelation_distance", "amplitude_distance"}
    ecg, hiss = grid(leads["II"]), grid(rng.normal(size=5000))
    sound = grid(np.stack([leads["II"]] * 2), names=("left", "right"), rate=8000.0, unit="")
    wander = {"wander_distance"}
    assert measured(ecg, ecg) == beats | rest | wander
    assert measured(ecg, hiss) == {"r_peak_f1", "rr_error"} | rest | wander
    assert measured(hiss, ecg) == rest | wander  # a voltage that may be an electrocardiogram
    assert measured(sound, sound) == rest
    lost = {measure.name: measure.value for measure in measure_all(ecg, hiss, [ecg])}
    assert lost["r_peak_f1"] < 0.8  # a result has to have a rhythm


def test_beats_of_all_leads_are_where_those_of_lead_ii_are(leads: Any) -> None:
    """A lead that shows nothing has a mean beat all the same."""
    names = ("V1", "II")
    content = grid(np.stack([leads["V1"], leads["II"]]), names=names)
    style = samples.style("ambulatory", spatial_dims=1)
    measures = {measure.name: measure for measure in measure_all(content, content, [style])}
    assert set(measures["beat_correlation"].parts) == set(names)


def test_recordings_of_different_lengths_are_not_compared(leads: Any) -> None:
    values = leads["II"]
    content = grid(values)
    for shorter in (len(values) // 2, len(values) - 1):
        with raises(InputFileError, operation="evaluate", got=f"{len(values)} samples"):
            measure_all(content, grid(values[:shorter]), [content])
    slow = grid(values[::2], rate=250.0)  # as long, at another rate
    odd = grid(values[:-1][::2], rate=250.0)
    assert all(measure_all(content, other, [content]) for other in (slow, odd))
