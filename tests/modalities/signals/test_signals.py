"""Signals through a style transfer: leads, rates, gaps; statistics of time; measures."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.distances import psd_distance
from convnd_tasks.modalities.signals.ecg_plot import figure
from convnd_tasks.modalities.signals.leads import (
    derive_leads,
    identity_error,
    independent,
    resample,
)
from convnd_tasks.modalities.signals.matching import match_leads
from convnd_tasks.modalities.signals.metrics import measure_all
from convnd_tasks.modalities.signals.modality import set_rate
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.prepare import prepare
from convnd_tasks.modalities.signals.rhythm import match_peaks, mean_beat
from error_fields import check_error, raises

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import describe
from convnd.stats import STATISTICS, AutocorrelationStatistic, SpectrumStatistic
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = SignalOptions(size=0, beat_weight=0)  # beats: test_beats.py, test_rhythm.py


def grid(array: Any, names: Any = (), rate: float = 500.0, unit: str = "mV") -> Grid:
    values = torch.as_tensor(np.asarray(array, np.float32))[None]
    signal = Grid(
        values=values, channels=tuple(names), spacing=(1 / rate,), units=("s",), axes=("t",)
    )
    return describe(signal, units=(unit,) * values.shape[1])


def ecg(**changes: Any) -> Grid:
    return dataclasses.replace(samples.content("ecg", spatial_dims=1, size=1500), **changes)


def ready(content: Grid, *styles: Any) -> Any:
    return prepare(
        TransferInputs(content=content, styles=styles, names=("c", *"s" * len(styles))), OPTIONS
    )


def test_untouched_values_come_back() -> None:
    content = ecg()
    prepared = ready(content, samples.style("ambulatory", spatial_dims=1, size=1500))
    assert prepared.content.shape == (8, 1, 1500)  # I, II, V1 … V6
    back = prepared.decode(prepared.content)
    torch.testing.assert_close(back.values, content.values, atol=1e-5, rtol=0)
    assert (back.channels, back.spacing) == (content.channels, content.spacing)


def test_limb_lead_identities_hold_to_a_microvolt_whatever_is_done(
    rng: np.random.Generator,
) -> None:
    content = ecg()
    prepared = ready(content, samples.style("ambulatory", spatial_dims=1, size=1500))
    noisy = prepared.content + torch.as_tensor(rng.normal(size=(8, 1, 1500)).astype("f"))
    one, two, three, avr, avl, avf = prepared.decode(noisy).values[0, :6].double()
    for error in (
        three - two + one,
        avr + (one + two) / 2,
        avl - one + two / 2,
        avf - two + one / 2,
    ):
        assert error.abs().max() < 1e-3  # mV


def test_gaps_survive() -> None:
    values = ecg().values.clone()
    values[0, 1, 200:300] = math.nan
    content = ecg(values=values)
    prepared = ready(content, samples.style("ambulatory", spatial_dims=1, size=1500))
    assert torch.isfinite(prepared.content).all()
    back = prepared.decode(prepared.content).values
    assert torch.equal(torch.isnan(back), torch.isnan(values))


def test_noise_keeps_its_voltage(rng: np.random.Generator) -> None:
    """What the network sees of the style is in the content's millivolts, in whatever unit."""
    content = grid(rng.normal(size=(1, 2000)))
    style = rng.normal(size=(1, 2000)) * 0.1
    first = ready(content, grid(style)).styles[0]
    second = ready(content, grid(style * 1000, unit="uV")).styles[0]
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    assert first.std() / ready(content, grid(style)).content.std() == pytest.approx(0.1, rel=0.1)


def test_a_style_of_another_rate_is_resampled_and_it_is_said(rng: np.random.Generator) -> None:
    t = np.arange(4000) / 1000
    style = grid([np.sin(2 * np.pi * 10 * t) + np.sin(2 * np.pi * 330 * t)], rate=1000)
    prepared = ready(grid(rng.normal(size=(1, 1000)), rate=250), style)
    assert prepared.messages == ("style s resampled from 1000 to 250 Hz",)
    assert prepared.styles[0].shape[2] == 1000
    frequencies, power = scipy.signal.periodogram(prepared.styles[0][0, 0].numpy(), 250)
    # 330 Hz would have come back as 80 Hz.
    assert power[np.argmin(abs(frequencies - 80))] < 1e-5 * power.max()
    assert frequencies[power.argmax()] == pytest.approx(10, abs=0.5)


def test_what_a_slower_style_knows_nothing_of_is_not_asked_for(rng: np.random.Generator) -> None:
    fast, slow = grid(rng.normal(size=(1, 2000))), grid(rng.normal(size=(1, 1000)), rate=250.0)
    assert ready(fast, fast).known_bandwidth == ready(slow, fast).known_bandwidth == 1
    prepared = ready(fast, slow)
    assert prepared.known_bandwidth == pytest.approx(0.45)  # 112.5 of 250 Hz
    assert ready(fast, fast, slow).known_bandwidth == pytest.approx(0.45)
    work = StyleTransfer(OPTIONS, spatial_dims=1, in_channels=1)
    whole, part = (
        work.objective(prepared.content, prepared.styles, [1.0], known_bandwidth=band)
        .terms[-1]
        .loss
        for band in (1.0, prepared.known_bandwidth)
    )
    assert whole.target.shape[1] == 257  # type: ignore[attr-defined]
    # The resampled style itself is what is asked for below, and its silence above is not.
    loud = prepared.styles[0] + 0.1 * torch.cos(torch.arange(2000) * torch.pi * 0.8)
    for loss, most, least in ((whole, 9, 0.01), (part, 1e-4, 0)):
        assert least <= loss.value(loss.sums(loud)).item() <= most


def test_above_a_slower_style_the_content_stays(rng: np.random.Generator) -> None:
    content = grid(rng.normal(size=(2, 2000)), names=("I", "II"))
    prepared = ready(content, grid(rng.normal(size=(1, 1000)), rate=250.0))
    noise = torch.from_numpy(rng.normal(size=(2, 1, 2000))).float()
    changed = prepared.decode(prepared.content + noise).values[0] - content.values[0]
    power = np.abs(np.fft.rfft(changed[:, 50:-50].numpy() * np.hanning(1900))) ** 2
    hertz = np.fft.rfftfreq(1900, 1 / 500)
    assert power[:, hertz > 140].mean() < 1e-4 * power[:, hertz < 100].mean()
    # Gaps, a texture and a size of its own have nothing to stay.
    alone = prepare(TransferInputs(content=None, styles=[content], names=("s",)), OPTIONS)
    assert torch.isfinite(alone.decode(noise).values).all()
    fewer = prepared.decode(noise[..., :1000]).values
    assert fewer.shape == (1, 2, 1000)


def test_spectra_are_compared_up_to_the_slower_rate(rng: np.random.Generator) -> None:
    fast = grid(rng.normal(size=(1, 5000)))
    slow = grid(resample(fast.values.double(), 500, 250)[0].numpy(), rate=250.0)
    measure = {entry.name: entry for entry in measure_all(fast, fast, [slow])}["psd_distance"]
    assert measure.value < 1
    assert "112.5 Hz" in measure.meaning


@pytest.mark.parametrize("max_frequency", [0.0, 1.5, math.nan])
def test_shares_of_frequencies_that_are_none(max_frequency: Any) -> None:
    with raises(UsageError, operation="SpectrumStatistic", expected="0 < max_frequency <= 1"):
        SpectrumStatistic(max_frequency=max_frequency)


def test_leads_are_matched_by_name_or_one_serves_all() -> None:
    style = grid(np.zeros((3, 9)), ("V1", "Lead I", "lead ii"))
    assert match_leads("style", ["I", "II"], style) == [1, 2]
    assert match_leads("style", ["I", "II"], grid(np.zeros((1, 9)), ("MLII",))) == [0, 0]
    with raises(
        InputFileError, operation="style", got="V1, Lead I, lead ii without", remedy="--leads"
    ):
        match_leads("style", ["I", "V9"], style)


def test_derived_leads_are_left_out() -> None:
    names = ["V1", "aVF", "II", "I", "III"]
    assert independent(names) == [0, 2, 3]
    leads = derive_leads(torch.tensor([[[9.0], [3.0], [1.0]]]), names)
    assert leads.flatten().tolist() == [9, 2.5, 3, 1, 2]


def test_a_lead_without_values_passes_through() -> None:
    values = ecg().values.clone()
    values[0, 0] = math.nan
    prepared = ready(ecg(values=values), samples.style("ambulatory", spatial_dims=1, size=1500))
    back = prepared.decode(prepared.content + 1).values
    assert back[0, 0].isnan().all()
    assert back[0, 1].isfinite().all()
    assert any("constant or empty in I," in line for line in prepared.messages)


def test_one_sample() -> None:
    with raises(InputFileError, operation="content c", expected="16 samples", got="1"):
        ready(grid([[1.0]]), grid(np.arange(99.0)[None]))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_rates_that_are_none(rate: Any) -> None:
    with raises(UsageError, operation="--rate", expected="a positive finite number"):
        set_rate(Grid(values=torch.zeros(1, 1, 9)), rate, "a.npy")


def test_a_rate_that_is_known_for_one_only(rng: np.random.Generator) -> None:
    with raises(InputFileError, operation="style s", got="one", remedy="--rate"):
        ready(grid(rng.normal(size=(1, 99))), Grid(values=torch.rand(1, 1, 99)))


@pytest.mark.parametrize("shape", [(300,), (40, 50), (20, 1, 30)])
def test_autocorrelation_is_the_mean_product_of_pairs(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    x = rng.normal(size=(2, 3, *shape)) + 1
    statistic = AutocorrelationStatistic(lags=5)
    summary = statistic.summary(statistic.sums(torch.tensor(x))).numpy()
    rows = []
    for axis, extent in enumerate(shape, start=2):
        for lag in range(6) if extent > 1 else ():
            one, two = (
                np.take(x, range(first, last), axis).reshape(2, 3, -1)
                for first, last in ((0, extent - lag), (lag, extent))
            )
            rows.append((one * two).mean(2) - x.reshape(2, 3, -1).mean(2) ** 2)
    np.testing.assert_allclose(summary, np.stack(rows, 1), atol=1e-5)


@pytest.mark.parametrize("taper", [0, 1, 5])
def test_autocorrelation_adds_up_over_tiles_that_look_further(
    rng: np.random.Generator, taper: int
) -> None:
    x = torch.tensor(rng.normal(size=(1, 2, 60, 40)))
    statistic = AutocorrelationStatistic(lags=7, taper=taper)
    see = 7 + taper
    whole = statistic.sums(x)
    parts = [
        statistic.sums(x[:, :, a : a + 20 + see, b : b + 25 + see], (20, min(25, 40 - b)), (a, b))
        for a in (0, 20, 40)
        for b in (0, 25)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total.count == whole.count
    torch.testing.assert_close(total.total, whole.total, rtol=1e-10, atol=1e-9)


def test_pairs_count_less_at_the_ends(rng: np.random.Generator) -> None:
    x = rng.normal(size=50)
    statistic = AutocorrelationStatistic(lags=4, taper=10)
    rise = (1 - np.cos(np.pi * (np.arange(10) + 0.5) / 10)) / 2
    count = np.ones(50)
    count[:10], count[40:] = rise, rise[::-1]
    expected = []
    for lag in range(5):
        both = count[: 50 - lag] * count[lag:]
        expected.append(np.sum(both * x[: 50 - lag] * x[lag:]) / both.sum() - x.mean() ** 2)
    summary = statistic.summary(statistic.sums(torch.tensor(x)[None, None]))[0, :, 0]
    np.testing.assert_allclose(summary.numpy(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_ends_do_not_hide_what_is_faint(seed: Any) -> None:
    """White noise 40 dB below what lies beside it, and a mean that is not 0."""
    rng = np.random.default_rng(seed)
    taps = scipy.signal.firwin(401, 0.5, window=("kaiser", 9))
    x = 0.3 * np.convolve(rng.normal(size=4000), taps, "valid") + 0.5
    x += 0.003 * rng.normal(size=3600)
    statistic = SpectrumStatistic()
    spectrum = statistic.summary(statistic.sums(torch.tensor(x)[None, None]))[0, :, 0].numpy()
    np.testing.assert_allclose(spectrum[170:], np.log10(1 + 0.003**2 / 1e-8), atol=0.35)


def test_the_spectrum_is_that_of_welch_for_smooth_noise(rng: np.random.Generator) -> None:
    taps = scipy.signal.firwin(31, 0.3)
    x = np.convolve(rng.normal(size=100_000), taps, "valid")
    statistic = SpectrumStatistic(lags=64)
    spectrum = statistic.summary(statistic.sums(torch.tensor(x)[None, None]))[0, :, 0].numpy()
    _, expected = scipy.signal.freqz(taps, worN=65, include_nyquist=True)
    passed = slice(0, 17)  # Parzen's window smooths the edge
    np.testing.assert_allclose(
        spectrum[passed], np.log10(1 + abs(expected[passed]) ** 2 / 1e-8), atol=0.12
    )


def test_the_distribution_is_that_of_scipy(rng: np.random.Generator) -> None:
    x = rng.gamma(2.0, size=(1, 2, 5000))
    summary = STATISTICS["distribution"].summary(STATISTICS["distribution"].sums(torch.tensor(x)))
    flat = x[0]
    expected = [
        flat.mean(1), flat.std(1), scipy.stats.skew(flat, 1),
        np.log(scipy.stats.kurtosis(flat, 1, fisher=False)),
    ]  # fmt: skip
    np.testing.assert_allclose(summary[0].numpy(), np.array(expected), rtol=1e-4)


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(3600) / 360
    resampled = resample(torch.tensor(np.sin(2 * np.pi * 5 * t))[None, None], 360, 500)[
        0, 0
    ].numpy()
    tone = np.sin(2 * np.pi * 5 * np.arange(5000) / 500)
    assert len(resampled) == 5000
    np.testing.assert_allclose(resampled[100:-100], tone[100:-100], atol=2e-3)


def test_peaks_are_matched_once() -> None:
    f1, pairs = match_peaks(np.array([1.0, 2.0, 3.0]), np.array([0.98, 1.02, 3.2]), 0.05)
    assert (f1, pairs) == (pytest.approx(1 / 3), [(1.0, 0.98)])  # type: ignore[comparison-overlap]


def test_a_tenfold_amplitude_is_20_decibel(rng: np.random.Generator) -> None:
    noise = rng.normal(size=5000)
    assert psd_distance(noise * 10, noise, 500.0) == pytest.approx(20, abs=0.01)


def test_what_is_measured_of_a_copy_and_of_a_broken_identity() -> None:
    pytest.importorskip("scipy")
    content = samples.content("ecg", spatial_dims=1, size=2000)
    values = content.values.clone()
    values[0, 2, 50] += 0.25  # III
    measures = {
        measure.name: measure
        for measure in measure_all(
            content, dataclasses.replace(content, values=values),
            [samples.style("ambulatory", spatial_dims=1, size=2000)],
        )
    }  # fmt: skip
    assert (measures["r_peak_f1"].value, measures["rr_error"].value) == (1, 0)
    assert measures["lead_identity_error"].value == pytest.approx(250, abs=0.1)
    assert measures["psd_distance"].value == pytest.approx(
        measures["psd_distance"].before, rel=0.05
    )
    assert identity_error(content) < 1e-6  # type: ignore[operator]


@pytest.mark.slow
def test_the_mean_beat_of_twice_the_signal_is_as_far_as_the_beat_is_large() -> None:
    pytest.importorskip("scipy")
    content = samples.content("ecg", spatial_dims=1)
    one = dataclasses.replace(content, values=content.values[:, 1:2], channels=("II",))
    twice = one.with_values(one.values * 2)

    def distance(*styles: Any) -> Any:
        measures = {measure.name: measure for measure in measure_all(one, one, styles)}
        return measures["beat_distance"].value

    # The same peaks are found in both, so the difference is the mean beat itself.
    beat = mean_beat(one.values[0, 0].double().numpy(), 500)
    size = np.sqrt(np.mean((beat - np.median(beat)) ** 2))  # type: ignore[arg-type, operator]
    assert size > 0.05
    assert distance(twice) == pytest.approx(size, rel=0.02)
    assert distance(one) == 0
    assert distance(one, twice) == pytest.approx(size / 2, rel=0.02)  # the mean over styles


def test_evaluate_prints_json(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("scipy")
    for name, seed in (("a", 0), ("b", 1)):
        rows = samples.content("ecg", spatial_dims=1, size=1500, seed=seed)
        io.write(tmp_path / f"{name}.csv", rows)
    code, out, _ = run(
        "evaluate", tmp_path / "a.csv", tmp_path / "a.csv", "--style", tmp_path / "b.csv", "--json"
    )
    assert code == 0
    measures = json.loads(out)["measures"]
    assert measures["r_peak_f1"]["value"] == 1
    assert set(measures) >= {"rr_error", "psd_distance", "beat_correlation", "lead_identity_error"}


@pytest.mark.slow
def test_stylize_keeps_what_a_csv_says_of_itself(tmp_path: Path, run: Run) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        io.write(
            tmp_path / f"{name}.csv", samples.content("ecg", spatial_dims=1, size=600, seed=seed)
        )
    run("stylize", "a.csv", "b.csv", "--steps", "2", "--figures")
    before, after = (tmp_path / f"{name}.csv" for name in ("a", "a_stylized"))
    assert after.read_text().splitlines()[0] == before.read_text().splitlines()[0]
    one, two = io.read(before), io.read(after)
    assert (two.shape, two.channels, two.spacing) == (one.shape, one.channels, one.spacing)
    assert not torch.equal(one.values, two.values)
    assert identity_error(two) < 1e-3  # type: ignore[operator]
    assert (tmp_path / "a_stylized-ecg.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_measure_is_said(tmp_path: Path, run: Run, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "a.npz", values=rng.normal(size=(1, 300)), spacing=[0.004], units=["s"])
    code, out, err = run("evaluate", "a.npz", "a.npz", "--dim", "1")
    assert (code, out) == (0, "")
    assert err == "nothing is measured without a style; add --style\n"


@pytest.mark.parametrize(
    ("units", "points", "labels"),
    [(("px",), 900, ("sample", "cycles per sample")), (("s",), 10, ("s", "Hz"))],
)
def test_a_picture_shows_samples_where_time_is_not_known(
    rng: np.random.Generator, units: tuple[str, ...], points: int, labels: tuple[str, ...]
) -> None:
    pytest.importorskip("matplotlib")
    values = torch.from_numpy(rng.normal(size=(1, 1, 900))).float()
    signal = Grid(values=values, units=units, spacing=(1.0,), axes=("t",), channels=("0",))
    traces, spectra = figure(signal, signal, signal).axes
    assert [len(line.get_xdata()) for line in traces.get_lines()] == [points] * 3
    assert (traces.get_xlabel(), spectra.get_xlabel()) == labels


def test_the_report_of_a_signal_holds_everything(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("scipy")
    for name, seed in (("a", 0), ("b", 1)):
        values = samples.content("ecg", spatial_dims=1, size=2000, seed=seed)
        io.write(tmp_path / f"{name}.csv", dataclasses.replace(
            values, values=values.values[:, :2], channels=values.channels[:2],
        ))  # fmt: skip
    code, out, err = run("stylize", "a.csv", "b.csv", "--steps", "2", "--report", "r.html")
    assert code == 0, err
    page = (tmp_path / "r.html").read_text()
    assert out.splitlines()[-1] == "r.html"
    assert page.count("<img") == 3
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is loaded
    for text in ("a.csv, stylised", "b.csv", "r_peak_f1", "psd_distance", "500 Hz", "style_weight"):
        assert text in page, text


def test_reports_that_cannot_be_made_are_refused_before_any_work(tmp_path: Path, run: Run) -> None:
    io.write(tmp_path / "a.csv", samples.content("ecg", spatial_dims=1, size=600))
    (tmp_path / "old.html").write_text("kept")
    for args, message in (
        (("a.csv", "arrhythmia", "--report", "r.txt"), "expected a name ending in .html"),
        (("a.csv", "arrhythmia", "--report", "old.html"), "old.html"),
    ):
        code, _, err = run("stylize", *args)
        assert (code, message in err) == (2, True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "old.html"]
    assert (tmp_path / "old.html").read_text() == "kept"


@pytest.mark.parametrize(
    ("text", "message"), [("I,II\n1,2\n3\n", "in every row"), ("I\n1\nx\n", "expected a number")]
)
def test_bad_files_exit_3_in_one_line_and_leave_nothing(
    tmp_path: Path, run: Run, text: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    code, _, err = run("stylize", "a.csv", "arrhythmia", "--dim", "1")
    assert (code, err.count("\n")) == (3, 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("suffix", [".edf", ".wav"])
def test_gaps_that_a_format_cannot_hold_are_found_out_before_any_work(
    tmp_path: Path, run: Run, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".edf":
        pytest.importorskip("pyedflib")
    values = ecg().values.clone()
    values[0, 1, 700:705] = math.nan
    io.write(tmp_path / "a.csv", ecg(values=values))
    monkeypatch.setattr("convnd.transfer.style_transfer.StyleTransfer.run", None)
    code, _, err = run("stylize", "a.csv", "ambulatory", "-o", f"b{suffix}", "--size", "200")
    assert code == 2, err
    check_error(err, expected="knows none", got="some", remedy="choose another output")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_constant_lead_passes_through_and_the_others_do_not(tmp_path: Path, run: Run) -> None:
    leads = samples.content("ecg", spatial_dims=1, size=600)
    content = leads.values[:, :3].clone()
    content[:, 1] = 0.25
    io.write(tmp_path / "a.csv", grid(content[0], ("I", "V1", "V2")))
    io.write(tmp_path / "b.csv", grid(leads.values[0, 3:4], ("V3",)))
    options = ("--steps", "2", "--beat-weight", "0", "-o", "o.csv")
    code, _, err = run("stylize", "a.csv", "b.csv", *options)
    assert code == 0, err
    assert err.count("constant") == 1
    before, after = (io.read(tmp_path / name).values[0] for name in ("a.csv", "o.csv"))
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])
    assert not torch.equal(after[2], before[2])


def test_a_lead_that_is_constant_in_the_style_passes_through() -> None:
    content, style = ecg(), ecg()
    values = style.values.clone()
    values[0, style.channels.index("V2")] = 1
    prepared = ready(content, dataclasses.replace(style, values=values))
    assert prepared.content.shape == (7, 1, 1500)
    assert any("V2" in message for message in prepared.messages)
    back = prepared.decode(prepared.content + 0.1).values
    index = content.channels.index("V2")
    assert torch.equal(back[0, index], content.values[0, index])
    assert not torch.allclose(back[0, index + 1], content.values[0, index + 1], atol=0.01)


def test_nothing_but_constant_leads_is_refused() -> None:
    flat = grid(np.ones((2, 600)), ("V1", "V2"))
    with raises(InputFileError, operation="content c", got="a constant V1"):
        ready(flat, ecg())


@pytest.mark.slow
def test_a_signal_in_its_own_style_comes_back(tmp_path: Path, run: Run) -> None:
    io.write(tmp_path / "a.csv", samples.content("ecg", spatial_dims=1, size=1200))
    code, _, err = run("stylize", "a.csv", "a.csv", "-o", "o.csv")
    assert code == 0, err
    assert "rejected" not in err
    before, after = (io.read(tmp_path / name).values for name in ("a.csv", "o.csv"))
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
