"""WFDB records: frames of several samples, segments, open headers, annotations."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, describe, sampling_rate, signal_of, value_units

wfdb = pytest.importorskip("wfdb")

FRAMES = 625


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """An ECG of 500 Hz beside a respiration of 125 Hz: four samples of one in a frame."""
    fast = np.round(1000 * np.sin(2 * np.pi * 100 * np.arange(4 * FRAMES) / 500)).astype("<i2")
    slow = (np.arange(FRAMES) % 50).astype("<i2")
    rows = np.concatenate([fast.reshape(FRAMES, 4), slow.reshape(FRAMES, 1)], 1)
    rows.astype("<i2").tofile(tmp_path / "frames.dat")
    (tmp_path / "frames.hea").write_text(
        f"frames 2 125 {FRAMES}\nframes.dat 16x4 1000(0)/mV 16 0 0 0 0 ECG\n"
        "frames.dat 16 100(0)/NU 16 0 0 0 0 RESP\n"
    )
    return tmp_path / "frames.hea"


def test_every_lead_of_a_frame_has_its_own_rate(frames: Path) -> None:
    grid = io.read(frames)
    assert (grid.channels, grid.shape, sampling_rate(grid)) == (("ECG",), (4 * FRAMES,), 500)
    truth = np.sin(2 * np.pi * 100 * np.arange(4 * FRAMES) / 500)
    np.testing.assert_allclose(grid.values[0, 0], truth, atol=6e-4)
    (other,) = signal_of(grid).others
    assert (other.name, other.rate, len(other.values)) == ("RESP", 125, FRAMES)


@pytest.mark.parametrize("suffix", [".hea", ".edf", ".bdf"])
def test_leads_of_other_rates_are_written(suffix: str, frames: Path) -> None:
    grid = io.read(frames)
    for number, values in enumerate((grid.values, grid.values[..., ::2])):
        path = frames.with_name(f"b{number}{suffix}")
        io.write(path, grid.with_values(values))
        again = io.read(path)
        assert (again.channels, sampling_rate(again)) == (("ECG",), 500 // (number + 1))
        torch.testing.assert_close(again.values, values, atol=1e-4, rtol=0)
        (other,) = signal_of(again).others
        assert (other.name, other.rate) == ("RESP", 125)
        np.testing.assert_allclose(other.values, np.arange(FRAMES) % 50 / 100, atol=1e-4)


def test_frames_come_back_to_the_byte(frames: Path) -> None:
    io.write(frames.with_name("b.hea"), io.read(frames))
    assert frames.with_name("b.dat").read_bytes() == frames.with_suffix(".dat").read_bytes()
    record = wfdb.rdrecord(str(frames.with_name("b")), smooth_frames=False)
    assert (record.fs, record.samps_per_frame, record.sig_len) == (125, [4, 1], FRAMES)


def segment(path: Path, name: str, values: Any, leads: list[str], unit: str = "mV") -> None:
    wfdb.wrsamp(
        name, fs=250, units=[unit] * len(leads), sig_name=leads, p_signal=values,
        fmt=["16"] * len(leads), adc_gain=[200.0] * len(leads), baseline=[0] * len(leads),
        write_dir=str(path),
    )  # fmt: skip


def test_a_layout_of_segments_has_gaps_where_a_lead_is_missing(tmp_path: Path, rng: Any) -> None:
    values = np.rint(rng.normal(size=(300, 2)) * 200) / 200
    (tmp_path / "rec_layout.hea").write_text(
        "rec_layout 2 250 0\n~ 0 200(0)/mV 16 0 0 0 0 II\n~ 0 200(0)/mV 16 0 0 0 0 V1\n"
    )
    segment(tmp_path, "rec_1", values[:100], ["II", "V1"])
    segment(tmp_path, "rec_2", values[150:, :1], ["II"])
    (tmp_path / "rec.hea").write_text("rec/4 2 250 300\nrec_layout 0\nrec_1 100\n~ 50\nrec_2 150\n")
    grid = io.read(tmp_path / "rec.hea")
    values[100:150] = np.nan
    values[100:, 1] = np.nan
    assert (grid.channels, sampling_rate(grid)) == (("II", "V1"), 250)
    np.testing.assert_allclose(grid.values[0].T, values, atol=1e-6)
    truth = wfdb.rdrecord(str(tmp_path / "rec")).p_signal
    np.testing.assert_allclose(grid.values[0].T, truth, atol=1e-6)
    io.write(tmp_path / "b.hea", grid)
    np.testing.assert_array_equal(io.read(tmp_path / "b.hea").values, grid.values)


def test_segments_of_different_units_are_refused(tmp_path: Path, rng: Any) -> None:
    (tmp_path / "rec_layout.hea").write_text("rec_layout 1 250 0\n~ 0 200(0)/mV 16 0 0 0 0 II\n")
    segment(tmp_path, "rec_1", rng.normal(size=(100, 1)), ["II"])
    segment(tmp_path, "rec_2", rng.normal(size=(100, 1)), ["II"], unit="uV")
    (tmp_path / "rec.hea").write_text("rec/3 1 250 200\nrec_layout 0\nrec_1 100\nrec_2 100\n")
    with raises(InputFileError, operation="rec.hea", expected="one unit of II", got="mV and uV"):
        io.read(tmp_path / "rec.hea")


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    (tmp_path / "rec_layout.hea").write_text("rec_layout 1 250 0\n~ 0 200(0)/mV 16 0 0 0 0 II\n")
    (tmp_path / "rec.hea").write_text("rec/2 1 250 200\nrec_layout 0\nrec_1 200\n")
    with raises(
        InputFileError, operation="rec.hea", expected="the file rec_1.hea beside", got="none"
    ):
        io.read(tmp_path / "rec.hea")


@pytest.mark.parametrize(
    ("line", "signal", "rate", "assumed", "remark"),
    [
        ("a 1 250", "a.dat 16 200(0)/mV 16 0 0 0 0 II", 250, False, ""),
        ("a 1", "a.dat 16 200/mV", 250, True, ""),
        ("a 1 250 100", "a.dat 16", 250, False, "names no gain for 0: 200 steps a millivolt"),
        ("a 1 250", "a.dat 16 0(0)/mV 16 0 0 0 0 II", 250, False, "names no gain for II"),
    ],
)
def test_headers_that_leave_things_open(
    line: str, signal: str, rate: float, assumed: bool, remark: str, tmp_path: Path
) -> None:
    np.arange(100, dtype="<i2").tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_text(f"{line}\n{signal}\n")
    grid = io.read(tmp_path / "a.hea")
    assert (sampling_rate(grid), signal_of(grid).rate_assumed) == (rate, assumed)
    np.testing.assert_allclose(grid.values[0, 0], np.arange(100) / 200, atol=1e-7)
    assert remark in " ".join(signal_of(grid).remarks)
    assert bool(remark) == bool(signal_of(grid).remarks)


def test_a_length_of_zero_is_refused_with_advice_that_works(tmp_path: Path) -> None:
    np.arange(100, dtype="<i2").tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_text("a 1 360 0\na.dat 16 200(0)/mV 16 0 0 0 0 II\n")
    with raises(InputFileError, operation="a.hea", got="0"):
        io.read(tmp_path / "a.hea")
    (tmp_path / "a.hea").write_text("a 1 360\na.dat 16 200(0)/mV 16 0 0 0 0 II\n")
    assert io.read(tmp_path / "a.hea").shape == (100,)


def test_a_limit_holds_where_the_header_names_no_length(tmp_path: Path) -> None:
    np.arange(1000, dtype="<i2").tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_text("a 1 250\na.dat 16 200/mV\n")
    with raises(InputFileError, operation="a.hea", expected="100 samples"):
        io.read(tmp_path / "a.hea", max_pixels=100)


def signal(annotations: tuple[Annotation, ...], rate: float = 250.0) -> Grid:
    grid = Grid(values=torch.rand(1, 1, 500), spacing=(1 / rate,), units=("s",), channels=("II",))
    return describe(grid, units=("mV",), annotations=annotations)


@pytest.mark.parametrize("suffix", [".hea", ".edf", ".bdf", ".npz"])
def test_annotations_between_samples_keep_their_times(suffix: str, tmp_path: Path) -> None:
    marks = tuple(Annotation(0.1003 + 0.0507 * k, f"note {k}") for k in range(20))
    io.write(tmp_path / f"a{suffix}", signal(marks, rate=250))
    restored = signal_of(io.read(tmp_path / f"a{suffix}")).annotations
    assert [mark.text for mark in restored] == [mark.text for mark in marks]
    np.testing.assert_allclose(
        [mark.seconds for mark in restored], [mark.seconds for mark in marks], atol=1e-8
    )


@pytest.mark.parametrize("through", [".npz", ".edf"])
def test_beats_come_through_other_formats(through: str, tmp_path: Path) -> None:
    io.write(tmp_path / "a.hea", signal(()))
    wfdb.wrann(
        "a", "atr", np.array([10, 35, 50]), symbol=["N", "V", "+"], aux_note=["", "", "(AFIB"],
        fs=250, write_dir=str(tmp_path),
    )  # fmt: skip
    io.write(tmp_path / f"b{through}", io.read(tmp_path / "a.hea"))
    io.write(tmp_path / "c.hea", io.read(tmp_path / f"b{through}"))
    marks = wfdb.rdann(str(tmp_path / "c"), "atr")
    assert (marks.sample.tolist(), marks.symbol) == ([10, 35, 50], ["N", "V", "+"])
    assert marks.aux_note == ["", "", "(AFIB"]


def test_words_of_any_alphabet_and_length(tmp_path: Path) -> None:
    grid = signal((Annotation(0.5, "Größe"), Annotation(0.7, "x" * 300)))
    assert io.lost_metadata("a.hea", grid) == ("annotations beyond 255 characters",)
    io.write(tmp_path / "a.hea", grid)
    texts = [mark.text for mark in signal_of(io.read(tmp_path / "a.hea")).annotations]
    assert texts == ["Gr??e", "x" * 255]


def test_annotations_of_other_annotators_are_named(tmp_path: Path) -> None:
    io.write(tmp_path / "a.hea", signal(()))
    wfdb.wrann("a", "qrs", np.array([10]), symbol=["N"], fs=250, write_dir=str(tmp_path))
    (remark,) = signal_of(io.read(tmp_path / "a.hea")).remarks
    assert "a.qrs" in remark


def test_start_and_units_come_back(tmp_path: Path) -> None:
    start = datetime(2020, 2, 3, 4, 5, 6, 250_000)
    io.write(tmp_path / "a.hea", describe(signal(()), start=start))
    again = io.read(tmp_path / "a.hea")
    assert (signal_of(again).start, value_units(again)) == (start, ("mV",))
