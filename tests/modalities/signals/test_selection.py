"""Which leads are stylised: by rate, by name, by what they record."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.beats import extract_beats
from convnd_tasks.modalities.signals.leads import lead_kind, may_be_ecg
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.prepare import prepare
from convnd_tasks.modalities.signals.rhythm import are_beats, rhythm_lead
from error_fields import check_error, raises

from convnd import io
from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import OtherLead, describe, sampling_rate, signal_of


def mixed(fast: float = 250.0) -> Grid:
    """II and V1 beside two leads of a tenth of their rate."""
    values = samples.content("ecg", spatial_dims=1, size=2500).values[:, [1, 6]]
    slow = np.sin(np.arange(250) / 9)
    others = tuple(
        OtherLead(name=name, unit="l", rate=fast / 10, position=k, values=(k + 1) * slow, step=1e-3)
        for k, name in enumerate(("RESP", "FLOW"))
    )
    grid = Grid(values=values, spacing=(1 / fast,), units=("s",), channels=("II", "V1"))
    return describe(
        grid, units=("mV", "mV"), steps=(1e-3,) * 2, zeros=(0, 0), others=others, positions=(2, 3)
    )


def ready(content: Grid, style: Grid, **options: Any) -> Any:
    inputs = TransferInputs(content=content, styles=[style], names=("c", "s"))
    return prepare(inputs, SignalOptions(size=0, beat_weight=0, **options))


def test_leads_of_other_rates_are_named() -> None:
    (line,) = (line for line in ready(mixed(), mixed()).messages if "rates" in line)
    assert "II, V1 at 250 Hz change, RESP at 25 Hz, FLOW at 25 Hz stay" in line
    assert "--leads" in line


@pytest.mark.parametrize("suffix", [".edf", ".hea"])
def test_an_option_chooses_leads_of_another_rate(suffix: str, tmp_path: Path, run: Any) -> None:
    path = tmp_path / f"a{suffix}"
    io.write(path, mixed())
    few = ("--steps", "1", "--scales", "1", "--no-figures", "-o", f"o{suffix}")
    code, _, err = run(
        "stylize", f"a{suffix}", f"a{suffix}", "--leads", "RESP", "--init", "random", *few
    )
    assert code == 0, err
    before, after = io.read(path), io.read(tmp_path / f"o{suffix}")
    torch.testing.assert_close(after.values, before.values, atol=2e-3, rtol=0)
    resp, flow = ({o.name: o.values for o in signal_of(g).others} for g in (before, after))
    assert np.abs(resp["RESP"] - flow["RESP"]).max() > 0.05
    np.testing.assert_allclose(resp["FLOW"], flow["FLOW"], atol=2e-3)


@pytest.mark.parametrize(
    ("leads", "message"),
    [
        ("II,RESP", "expected leads of one sampling rate, got ii at 250 Hz, resp at 25 Hz"),
        ("XYZ", "expected some of II, V1, RESP, FLOW, got xyz"),
        ("II=", "expected NAME or CONTENT=STYLE"),
    ],
)
def test_leads_that_cannot_be_chosen(leads: str, message: str, tmp_path: Path, run: Any) -> None:
    io.write(tmp_path / "a.edf", mixed())
    code, _, err = run("stylize", "a.edf", "a.edf", "--leads", leads, "-o", "o.edf")
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "o.edf").exists()


def test_only_chosen_leads_change() -> None:
    content = samples.content("ecg", spatial_dims=1, size=1000)
    prepared = ready(content, samples.style("ambulatory", spatial_dims=1), leads=("V2",))
    assert prepared.content.shape[0] == 1
    back = prepared.decode(prepared.content + 1)
    index = content.channels.index("V2")
    rest = [k for k in range(len(content.channels)) if k != index]
    assert torch.equal(back.values[:, rest], content.values[:, rest])
    assert not torch.allclose(back.values[:, index], content.values[:, index], atol=0.1)
    with raises(
        UsageError,
        operation="--leads: content c",
        got="iii, which follow from them",
        remedy="choose I, II",
    ):
        ready(content, content, leads=("III",))


def test_a_lead_may_be_called_otherwise_in_the_style() -> None:
    content = mixed()
    style = dataclasses.replace(mixed(), channels=("MLII", "V5"))
    with raises(Exception, operation="style s", got="MLII, V5 without II, V1", remedy="--leads"):
        ready(content, style)
    prepared = ready(content, style, leads=("II=MLII", "V1=V5"))
    torch.testing.assert_close(prepared.styles[0], prepared.content)


def test_triggers_stay_and_are_named() -> None:
    values = torch.cat([mixed().values, torch.arange(2500.0).remainder(2)[None, None]], 1)
    grid = dataclasses.replace(mixed(), values=values, channels=("II", "V1", "Status"))
    grid = describe(grid, units=("mV", "mV", ""), steps=(), zeros=(), positions=())
    prepared = ready(grid, grid)
    assert prepared.content.shape[0] == 2
    assert any("marks in Status, which stays unchanged" in line for line in prepared.messages)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("ecg", "I,Lead II,aVR,V1,MLII,ECG,ECG1,EKG 2,EASI ecg"),
        ("other", "PPG,PLETH,Pleth_IR,SpO2,RESP,Resp chest,Airflow,EEG Fpz-Cz,Fp1,C3-A2,O2,T3,Cz"),
        ("other", "EMG submental,EOG horizontal,EDA,GSR,ABP,ART,CVP,Temp rectal,acc_x,Thor,Abdo"),
        ("marks", "Status,TRIG,Event marker"),
        ("", "ch1,lead,0,signal,a,X,Channel 2"),
    ],
)
def test_names_tell_what_leads_record(kind: str, names: str) -> None:
    for name in names.split(","):
        assert lead_kind(name) == kind, name


@pytest.mark.parametrize("name", ["PPG", "RESP", "EEG Fpz-Cz", "EMG", "ABP"])
def test_leads_of_other_kinds_are_no_electrocardiogram(name: str) -> None:
    content = mixed()
    grid = dataclasses.replace(content, channels=(name, f"{name} 2"))
    assert not may_be_ecg(grid)
    both = dataclasses.replace(content, channels=(name, "II"))
    assert may_be_ecg(both)
    assert not may_be_ecg(both, [name])
    assert rhythm_lead([name, "ECG"]) == 1
    assert rhythm_lead([name, "ch1"]) == 1


def test_a_pulse_wave_without_a_name_has_no_beats() -> None:
    neurokit = pytest.importorskip("neurokit2")
    for seed, rate in ((1, 70), (3, 90)):
        pulse = neurokit.ppg_simulate(
            duration=12, sampling_rate=250, heart_rate=rate, random_state=seed
        )
        peaks = r_peaks(pulse, 250)
        assert len(peaks) > 10
        assert not are_beats(pulse, peaks, 250)


def test_other_leads_beside_an_electrocardiogram_keep_their_rhythm() -> None:
    pytest.importorskip("neurokit2")
    content = samples.content("ecg", spatial_dims=1, size=5000).values[0, 1]
    style = samples.style("ambulatory", spatial_dims=1).values[0, 1]
    noise = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    recordings = [
        torch.stack([lead, row[: len(lead)]])[:, None].contiguous()
        for lead, row in zip((content, style), noise, strict=True)
    ]
    template, _ = extract_beats(recordings[0], recordings[1:], ["II", "EEG C3"], 500.0)
    assert template is not None
    (warped,) = template.styles
    count = min(warped.shape[2], 5000)
    assert torch.equal(warped[1, 0, :count], recordings[1][1, 0, :count])
    changed = template.insert(recordings[0])
    torch.testing.assert_close(changed[1], recordings[0][1], atol=1e-5, rtol=0)
    assert not torch.allclose(changed[0], recordings[0][0], atol=0.01)


@pytest.mark.parametrize("rate", [0.25, 1.0, 49.0])
def test_nobody_looks_for_beats_below_50_hertz(rate: float, monkeypatch: Any) -> None:
    monkeypatch.setattr("convnd_tasks.modalities.signals.peaks._detect", None)
    values = samples.content("ecg", spatial_dims=1, size=1250).values[:, 1:2]
    grid = Grid(values=values, spacing=(1 / rate,), units=("s",), channels=("II",))
    assert len(r_peaks(values[0, 0].double().numpy(), rate)) == 0
    inputs = TransferInputs(content=grid, styles=[grid], names=("c", "s"))
    prepared = prepare(inputs, SignalOptions(size=0))
    assert prepared.extra_terms is None
    with raises(UsageError, operation="--beat-weight", expected="50 Hz"):
        prepare(inputs, SignalOptions(size=0, beat_weight=1))


def test_the_rate_of_an_assumed_unit_can_be_said_otherwise(tmp_path: Path, run: Any) -> None:
    rows = "".join(f"{k / 250:.3f},{np.sin(k):.3f}\n" for k in range(100))
    (tmp_path / "a.csv").write_text("time,x\n" + rows)
    few = ("--steps", "0", "--scales", "1", "--no-figures")
    code, _, err = run("stylize", "a.csv", "a.csv", "-o", "b.csv", *few)
    assert (code, "seconds are assumed, 250 Hz; --rate N" in " ".join(err.split())) == (0, True)
    code, _, err = run("stylize", "a.csv", "a.csv", "-o", "c.npz", "--rate", "0.25", *few)
    assert (code, "assumed" in err) == (0, False)
    assert sampling_rate(io.read(tmp_path / "c.npz")) == 0.25


@pytest.mark.parametrize("unit", ["mV", ""])
def test_a_first_lead_of_gaps_can_be_drawn(unit: str) -> None:
    from convnd_tasks.modalities.signals import ecg_plot, spectrogram

    pytest.importorskip("matplotlib")
    values = mixed().values.clone()
    values[0, 0] = float("nan")
    grid = describe(
        dataclasses.replace(mixed(), values=values, channels=("I", "V1")), units=(unit,) * 2
    )
    assert ecg_plot.leads_with_values(grid) == ["V1"]
    ecg_plot.figure(grid, grid, grid)
    assert spectrogram.spectrograms(grid, grid, grid)[:4] == b"\x89PNG"


def test_an_index_in_an_array_is_no_lead() -> None:
    values = torch.cat([torch.arange(2500.0)[None, None], mixed().values], 1)
    grid = Grid(values=values)
    prepared = ready(grid, grid)
    assert prepared.content.shape[0] == 2
    assert torch.equal(prepared.decode(prepared.content + 1).values[0, 0], values[0, 0])
    assert any("an index or times in 0, which stays" in line for line in prepared.messages)


def test_an_array_of_samples_first_is_told_to_be_transposed() -> None:
    grid = Grid(values=torch.rand(1, 500, 2))
    with raises(Exception, operation="content c", got="2"):
        ready(grid, grid)


def test_evaluation_measures_the_leads_that_are_named(tmp_path: Path, run: Any) -> None:
    io.write(tmp_path / "a.edf", mixed())
    rows = samples.content("ecg", spatial_dims=1, size=2500).values[:, [1, 6]]
    renamed = Grid(values=rows, spacing=(0.004,), units=("s",), channels=("MLII", "MCL1"))
    io.write(tmp_path / "s.csv", describe(renamed, units=("mV", "mV")))
    typed = ("evaluate", "a.edf", "a.edf", "--style", "s.csv", "--json")
    code, _, err = run(*typed)
    assert code == 3
    check_error(err, remedy="--leads II=MLII")
    code, out, _ = run(*typed, "--leads", "V1=MCL1")
    assert code == 0
    measures = json.loads(out)["measures"]
    assert set(measures["amplitude_distance"]["parts"]) == {"V1"}
    assert measures["amplitude_distance"]["value"] < 0.01  # steps of 1 µV
    # A lead of another rate is measured at its own.
    code, out, _ = run(*typed[:3], "--style", "a.edf", "--json", "--leads", "RESP")
    parts = json.loads(out)["measures"]["amplitude_distance"]["parts"]
    assert (code, parts) == (0, {"RESP": 0.0})
    code, _, err = run(*typed[:3], "--leads", "aVX")
    assert code == 2
    check_error(err, operation="--leads: a.edf", expected="some of II, V1, RESP, FLOW", got="avx")


@pytest.mark.slow
def test_a_report_measures_leads_that_the_style_calls_otherwise(tmp_path: Path, run: Any) -> None:
    one = samples.content("ecg", spatial_dims=1, size=1000).values[:, [1, 6]]
    for name, channels in (("a", ("II", "V1")), ("s", ("MLII", "MCL1"))):
        grid = Grid(values=one, spacing=(0.004,), units=("s",), channels=channels)
        io.write(tmp_path / f"{name}.csv", describe(grid, units=("mV", "mV")))
    few = ("--steps", "1", "--scales", "1", "--no-figures", "--report", "r.html")
    code, _, err = run("stylize", "a.csv", "s.csv", "--leads", "II=MLII,V1=MCL1", *few)
    assert code == 0, err
    assert "amplitude_distance" in (tmp_path / "r.html").read_text()
