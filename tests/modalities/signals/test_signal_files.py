"""Signals from file to file: leads by name, digital steps, and what a format has no place for."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.leads import identity_error
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.prepare import prepare
from scipy.io import wavfile

from convnd import io
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, describe, signal_of

LIMBS = ("I", "II", "III", "aVR", "aVL", "aVF")


def ecg(seed: int = 0, size: int = 1000) -> Any:
    return samples.content("ecg", spatial_dims=1, size=size, seed=seed)


def picked(grid: Grid, names: Any) -> Grid:
    """Some leads of a recording, in this order."""
    rows = [grid.channels.index(name) for name in names]
    signal = dataclasses.replace(grid, values=grid.values[:, rows], channels=tuple(names))
    return describe(signal, units=("mV",) * len(rows))


def quietly(run: Run, *args: Any, steps: int = 0) -> Any:
    """A few steps, without beats; what is told."""
    code, _, err = run("stylize", *args, "--steps", steps, "--scales", "1", "--beat-weight", "0")
    assert code == 0, err
    return err


def test_leads_of_two_files_are_matched_by_name_whatever_their_order(
    tmp_path: Path, run: Run
) -> None:
    names, other = ("II", "V1", "V5"), ("V5", "II", "V1")
    io.write(tmp_path / "content.csv", picked(ecg(), names))
    io.write(tmp_path / "same.csv", picked(ecg(seed=1), names))
    permuted = picked(ecg(seed=1), other)
    io.write(tmp_path / "permuted.csv", permuted)
    io.write(tmp_path / "wrong.csv", dataclasses.replace(permuted, channels=names))
    results = {}
    for style in ("same", "permuted", "wrong"):
        quietly(run, "content.csv", f"{style}.csv", "-o", f"{style}_out.csv", steps=1)
        results[style] = io.read(tmp_path / f"{style}_out.csv")
        assert results[style].channels == names
    assert torch.equal(results["same"].values, results["permuted"].values)
    assert not torch.equal(results["same"].values, results["wrong"].values)


@pytest.mark.parametrize("steps", [(5.0,) * 6, (20.0,) * 6, (5.0, 20.0, 10.0, 5.0, 40.0, 5.0)])
def test_identities_in_a_file_of_coarse_steps(
    tmp_path: Path, rng: np.random.Generator, steps: Any
) -> None:
    """Half a step of the derived lead at most; III is exact where all steps are alike."""
    pytest.importorskip("wfdb")
    content = describe(
        picked(ecg(), LIMBS), steps=tuple(step / 1000 for step in steps), zeros=(0,) * 6
    )
    inputs = TransferInputs(content=content, styles=[picked(ecg(seed=1), LIMBS)], names=("a", "b"))
    prepared = prepare(inputs, SignalOptions(size=0))
    noise = torch.as_tensor(0.1 * rng.normal(size=prepared.content.shape).astype("f"))  # type: ignore[union-attr]
    result = prepared.decode(prepared.content + noise)  # type: ignore[operator]
    assert identity_error(result) < 1e-6  # type: ignore[operator]
    io.write(tmp_path / "a.hea", result)
    signal = io.read(tmp_path / "a.hea")
    assert signal_of(signal).steps == pytest.approx(signal_of(content).steps)
    assert identity_error(signal) < max(steps[2:]) / 2000 + 1e-6
    for index, factors in ((2, (-1.0, 1.0)), (5, (-0.5, 1.0))):
        one, two, derived = signal.values[0, [0, 1, index]].double()
        error = (derived - factors[0] * one - factors[1] * two).abs().max().item()
        exact = index == 2 and len(set(steps)) == 1
        assert error < (1e-6 if exact else steps[index] / 2000 + 1e-6)


@pytest.mark.slow
def test_what_a_format_has_no_place_for_is_told_in_one_line(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("wfdb")
    content = describe(
        picked(ecg(), ("I", "V1")),
        start=datetime(2020, 2, 3, 4, 5, 6),
        annotations=(Annotation(0.5, "N"),),
        steps=(0.005, 0.005),
        zeros=(0, 0),
    )
    io.write(tmp_path / "a.hea", content)
    losses = {
        suffix: quietly(run, "a.hea", "ambulatory", "-o", f"b{suffix}").splitlines()
        for suffix in (".csv", ".hea", ".npz", ".wav", ".npy")
    }
    common = "start time, annotations, gain and baseline"
    assert losses == {
        ".csv": [f"b.csv has no place for: {common}"],
        ".hea": [],
        ".npz": ["b.npz has no place for: gain and baseline"],
        ".wav": [f"b.wav has no place for: names of leads, units, {common}"],
        ".npy": [f"b.npy has no place for: sampling rate, names of leads, units, {common}"],
    }


@pytest.mark.parametrize("count", [8000, 8001])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sound_of_any_length_keeps_its_rate(
    tmp_path: Path, run: Run, count: int, suffix: str
) -> None:
    rng = np.random.default_rng(0)
    for name in ("content", "style"):
        codes = (3000 * rng.normal(size=count)).astype(np.int16)
        wavfile.write(tmp_path / f"{name}.wav", 8000, codes)
    quietly(run, "content.wav", "style.wav", "-o", f"out{suffix}", steps=1)
    data, rate = soundfile.read(tmp_path / f"out{suffix}")
    assert (rate, len(data)) == (8000, count)


def test_a_format_keeps_what_came_from_it(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.csv").write_text(
        "time,ECG (mV)\n"
        + "".join(f"2020-01-01T00:00:{k / 10:06.3f},{np.sin(k)}\n" for k in range(99))
    )
    assert quietly(run, "a.csv", "a.csv", "-o", "b.csv") == ""
    np.save(tmp_path / "a.npy", np.sin(np.arange(99.0)))
    rated = ("--dim", "1", "--rate", "100")
    assert quietly(run, "a.npy", "a.npy", "-o", "b.npy", *rated) == ""


@pytest.mark.parametrize("role", ["content", "style"])
def test_what_is_wrong_with_a_recording_is_said_with_its_name(
    role: str, tmp_path: Path, run: Run
) -> None:
    good = picked(ecg(), ("II", "V1"))
    io.write(tmp_path / "good.npz", good)
    io.write(tmp_path / "bad.npz", dataclasses.replace(good, values=good.values[..., :9]))
    files = ("bad.npz", "good.npz") if role == "content" else ("good.npz", "bad.npz")
    code, out, err = run("stylize", "--dim", "1", *files, "-o", "out.npz", "--steps", "1")
    assert (code, out) == (3, "")
    assert err.startswith(f"convnd: {role} bad.npz: expected at least 16 samples, got 9")
    assert err.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("role", ["content", "style"])
def test_a_lead_of_gaps_passes_through_and_is_named(role: str, tmp_path: Path, run: Run) -> None:
    good = picked(ecg(), ("II", "V1"))
    io.write(tmp_path / "good.npz", good)
    values = good.values.clone()
    values[:, 1] = float("nan")
    io.write(tmp_path / "bad.npz", dataclasses.replace(good, values=values))
    files = ("bad.npz", "good.npz") if role == "content" else ("good.npz", "bad.npz")
    err = quietly(run, *files, "-o", "out.npz", "--dim", "1", steps=1)
    assert f"{role} bad.npz is constant or empty in V1, which stays unchanged" in err
    before, after = (io.read(tmp_path / name).values for name in (files[0], "out.npz"))
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert not torch.equal(after[:, 0], before[:, 0])


@pytest.mark.slow
def test_the_record_tells_what_weight_beats_had(tmp_path: Path, run: Run) -> None:
    io.write(tmp_path / "a.npz", picked(ecg(size=3000), ("II",)))
    io.write(tmp_path / "style.npz", picked(ecg(size=3000, seed=1), ("II",)))
    few = ("--dim", "1", "--steps", "0", "--scales", "1")
    for name, more, used in (("b", (), "3"), ("c", ("--beat-weight", "7"), "7")):
        assert run("stylize", "a.npz", "style.npz", "-o", f"{name}.npz", *few, *more)[0] == 0
        assert (
            io.read_provenance(tmp_path / f"{name}.npz")["convnd:measured_beat_weight_used"] == used
        )
    quietly(run, "a.npz", "a.npz", "-o", "d.npz", "--dim", "1")
    assert io.read_provenance(tmp_path / "d.npz")["convnd:measured_beat_weight_used"] == "0"
    code, out, _ = run("rerun", "b.npz", "-o", "again.npz")
    assert code == 0, out
    assert io.read_provenance(tmp_path / "again.npz")["convnd:measured_beat_weight_used"] == "3"


def test_wfdb_has_no_place_for_how_long_a_mark_lasts(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    marks = (Annotation(0.5, "noise", duration=0.2), Annotation(0.7, "beat"))
    leads = describe(picked(ecg(), ("II",)), annotations=marks, start=datetime(2020, 2, 3))
    assert io.lost_metadata("a.hea", leads) == ("durations of annotations",)
    leads = describe(leads, annotations=marks[1:])
    assert io.lost_metadata("a.hea", leads) == ()
