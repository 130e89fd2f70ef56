"""Signal formats, against files made by the libraries that own them."""

from __future__ import annotations

import csv
import math
import struct
import sys
import wave
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd import io
from convnd.errors import DependencyError, InputFileError, OutputExistsError, UsageError
from convnd.grid import Grid
from convnd.io.signals import wfdb_writing
from convnd.io.signals.signal import Annotation, describe, sampling_rate, signal_of, value_units

wfdb = pytest.importorskip("wfdb")
pyedflib = pytest.importorskip("pyedflib")

# The libraries that make the files warn of pandas and of durations.


@pytest.fixture
def samples(rng: np.random.Generator) -> Any:
    """Two leads of 3 s at 200 Hz in mV, on steps of 5 µV."""
    return np.rint(rng.normal(size=(2, 600)) * 100) / 200


@pytest.fixture
def record(tmp_path: Path, samples: Any) -> Path:
    wfdb.wrsamp(
        "rec", fs=200, units=["mV", "mV"], sig_name=["MLII", "V5"], p_signal=samples.T,
        fmt=["16", "16"], adc_gain=[200, 200], baseline=[0, 10], comments=["age 61"],
        base_datetime=datetime(2020, 2, 3, 4, 5, 6), write_dir=str(tmp_path),
    )  # fmt: skip
    wfdb.wrann(
        "rec", "atr", np.array([100, 350]), symbol=["N", "V"], aux_note=["", "(AFIB"], fs=200,
        write_dir=str(tmp_path),
    )  # fmt: skip
    return tmp_path / "rec.hea"


def edf(path: Path, samples: Any, rates: tuple[int, ...] = (200, 200), kind: Any = None) -> Path:
    with pyedflib.EdfWriter(
        str(path), len(samples), pyedflib.FILETYPE_EDFPLUS if kind is None else kind
    ) as file:
        file.setPatientName("Nobody")
        file.setStartdatetime(datetime(2021, 1, 2, 3, 4, 5))
        file.setSignalHeaders(
            [
                {
                    "label": f"ch{k}", "dimension": "mV", "sample_frequency": rate,
                    "physical_min": -5.0, "physical_max": 5.0, "digital_min": -32768,
                    "digital_max": 32767, "transducer": "AgCl", "prefilter": "HP:0.05",
                }
                for k, rate in enumerate(rates)
            ]
        )  # fmt: skip
        file.writeSamples([np.ascontiguousarray(lead) for lead in samples])
        file.writeAnnotation(1.5, -1, "beat")
    return path


def test_a_wfdb_record_comes_back_with_all_it_knows(
    record: Path, samples: Any, tmp_path: Path
) -> None:
    grid = io.read(record)
    assert grid.channels == ("MLII", "V5")
    assert value_units(grid) == ("mV", "mV")
    assert sampling_rate(grid) == 200
    np.testing.assert_allclose(grid.values[0].numpy(), samples, atol=1e-6)
    io.write(tmp_path / "out.hea", grid, provenance={"Software": "convnd"})
    again = wfdb.rdrecord(str(tmp_path / "out"))
    np.testing.assert_allclose(again.p_signal.T, samples, atol=1e-9)
    assert (again.fs, again.adc_gain, again.baseline) == (200, [200, 200], [0, 10])
    assert again.base_datetime == datetime(2020, 2, 3, 4, 5, 6)
    assert again.comments == ["age 61", "Software: convnd"]
    marks = wfdb.rdann(str(tmp_path / "out"), "atr")
    assert (marks.sample.tolist(), marks.symbol, marks.aux_note) == (
        [100, 350], ["N", "V"], ["", "(AFIB"],
    )  # fmt: skip


@pytest.mark.parametrize("largest", [20_000, 2_000_000])  # of 16 bits, and of 32
def test_wfdb_written_in_blocks_is_what_wfdb_writes_at_once(
    largest: int, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wfdb_writing, "_BLOCK", 100)
    digital = rng.integers(-largest, largest, (1001, 3))
    values = torch.from_numpy(digital.T / 200.0)[None].float()
    values[0, 1, 40:60] = float("nan")
    kind = "16" if largest < 2**15 else "32"
    digital[40:60, 1] = -(2 ** (int(kind) - 1))
    leads = Grid(values=values, spacing=(0.004,), units=("s",), channels=("I", "II", "V1"))
    leads = describe(leads, units=("mV",) * 3, steps=(0.005,) * 3, zeros=(0,) * 3)
    io.write(tmp_path / "ours.hea", leads, provenance=None)
    folder = tmp_path / "theirs"
    folder.mkdir()
    wfdb.wrsamp(
        "ours",
        fs=250,
        units=["mV"] * 3,
        sig_name=["I", "II", "V1"],
        d_signal=digital,
        fmt=[kind] * 3,
        adc_gain=[200.0] * 3,
        baseline=[0] * 3,
        write_dir=str(folder),
    )
    assert (tmp_path / "ours.dat").read_bytes() == (folder / "ours.dat").read_bytes()
    lines = (tmp_path / "ours.hea").read_text().splitlines()
    assert lines == (folder / "ours.hea").read_text().splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.dat", "ours.hea", "theirs"]


def test_gaps_survive_in_wfdb(tmp_path: Path, samples: Any) -> None:
    samples[1, 50:60] = np.nan
    wfdb.wrsamp(
        "gap", fs=200, units=["mV"] * 2, sig_name=["I", "II"], p_signal=samples.T,
        fmt=["16"] * 2, write_dir=str(tmp_path),
    )  # fmt: skip
    io.write(tmp_path / "out.hea", io.read(tmp_path / "gap.hea"))
    again = wfdb.rdrecord(str(tmp_path / "out")).p_signal.T
    np.testing.assert_array_equal(np.isnan(again), np.isnan(samples))


def test_no_part_of_a_record_is_overwritten(record: Path, tmp_path: Path) -> None:
    grid = io.read(record)
    (tmp_path / "out.dat").write_bytes(b"mine")
    with raises(OutputExistsError, operation="out.dat", got="one that exists"):
        io.write(tmp_path / "out.hea", grid)
    assert (tmp_path / "out.dat").read_bytes() == b"mine"
    assert not (tmp_path / "out.hea").exists()


def test_a_header_that_names_a_missing_file(record: Path) -> None:
    record.with_suffix(".dat").unlink()
    with raises(
        InputFileError, operation="rec.hea", expected="the file rec.dat beside", got="none"
    ):
        io.read(record)


@pytest.mark.parametrize("rate", ["0", "nan", "-3", "fast"])
def test_a_header_with_a_rate_that_is_none(record: Path, rate: str) -> None:
    record.write_text(record.read_text().replace("rec 2 200", f"rec 2 {rate}", 1))
    with raises(InputFileError, expected="sampling rate", got=f"{rate}"):
        io.read(record)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_edf_comes_back_with_all_it_knows(tmp_path: Path, samples: Any, suffix: str) -> None:
    kind = pyedflib.FILETYPE_EDFPLUS if suffix == ".edf" else pyedflib.FILETYPE_BDFPLUS
    path = edf(tmp_path / f"a{suffix}", samples, kind=kind)
    grid = io.read(path)
    assert (grid.channels, sampling_rate(grid)) == (("ch0", "ch1"), 200)
    np.testing.assert_allclose(grid.values[0].numpy(), samples, atol=2e-4)
    io.write(tmp_path / f"b{suffix}", grid)
    with (
        pyedflib.EdfReader(str(path)) as one,
        pyedflib.EdfReader(str(tmp_path / f"b{suffix}")) as two,
    ):
        assert two.getSignalHeaders() == one.getSignalHeaders()
        assert two.getPatientName() == "Nobody"
        assert two.getStartdatetime() == datetime(2021, 1, 2, 3, 4, 5)
        assert two.readAnnotations()[2].tolist() == ["beat"]
        for k in range(2):
            np.testing.assert_allclose(two.readSignal(k), one.readSignal(k), atol=2e-4)


def test_edf_channels_of_another_rate_are_carried_over(
    tmp_path: Path, samples: Any, rng: np.random.Generator
) -> None:
    slow = rng.normal(size=75)
    path = edf(tmp_path / "a.edf", [samples[0], slow, samples[1]], (200, 25, 200))
    grid = io.read(path)
    assert grid.channels == ("ch0", "ch2")
    io.write(tmp_path / "b.edf", grid)
    with pyedflib.EdfReader(str(tmp_path / "b.edf")) as two:
        assert two.getSignalLabels() == ["ch0", "ch1", "ch2"]
        np.testing.assert_allclose(two.readSignal(1), slow, atol=2e-4)


def test_a_result_beyond_the_physical_range_widens_it(tmp_path: Path, samples: Any) -> None:
    grid = io.read(edf(tmp_path / "a.edf", samples))
    io.write(tmp_path / "b.edf", grid.with_values(grid.values * 20))
    with pyedflib.EdfReader(str(tmp_path / "b.edf")) as two:
        np.testing.assert_allclose(two.readSignal(0), samples[0] * 20, atol=5e-3)


def test_a_truncated_edf(tmp_path: Path, samples: Any) -> None:
    path = edf(tmp_path / "a.edf", samples)
    path.write_bytes(path.read_bytes()[:-100])
    with raises(InputFileError, operation="a.edf", expected="3 data"):
        io.read(path)


def test_edf_knows_no_gaps(tmp_path: Path, samples: Any) -> None:
    grid = io.read(edf(tmp_path / "a.edf", samples))
    grid.values[0, 0, 3] = math.nan
    with raises(UsageError, operation="write", got="some"):
        io.write(tmp_path / "b.edf", grid)
    assert not (tmp_path / "b.edf").exists()


@pytest.mark.parametrize(
    ("text", "names", "units", "rate"),
    [
        ("time,I,II\n0,1,2\n0.002,3,4\n0.004,5,6\n", ("I", "II"), ("", ""), 500),
        (
            "time (ms);II (mV);V1 [mV]\r\n0;1,0;2\r\n4;3;4\r\n8;5;6,0\r\n",
            ("II", "V1"), ("mV", "mV"), 250,
        ),
        ("1\t2\n3\t4\n5\t6\n", ("0", "1"), (), None),
        ("0.00 1 2\n0.01 3 4\n0.02 5 6\n", ("0", "1"), (), 100),
        ("# made by hand\nI,II\n1,2\n3,4\n5,6\n", ("I", "II"), ("", ""), None),
        (
            "timestamp,a,b\n2020-01-01T00:00:00,1,2\n2020-01-01T00:00:00.5,3,4\n"
            "2020-01-01T00:00:01,5,6\n",
            ("a", "b"), ("", ""), 2,
        ),
    ],
)  # fmt: skip
def test_tables_are_understood(
    tmp_path: Path, text: str, names: tuple[str, ...], units: Any, rate: int | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, newline="")
    grid = io.read(path)
    np.testing.assert_array_equal(grid.values[0].numpy(), [[1, 3, 5], [2, 4, 6]])
    assert (grid.channels, signal_of(grid).units) == (names, units)
    assert grid.units == (("px",) if rate is None else ("s",))
    if rate is not None:
        assert sampling_rate(grid) == rate
    io.write(tmp_path / "b.csv", grid)
    written, original = (
        list(csv.reader(file.read_text().splitlines(), delimiter=";" if ";" in text else ","))
        for file in (tmp_path / "b.csv", path)
    )
    assert len(written) == len(original)
    if names != ("0", "1"):
        assert written[:-3] == original[:-3]  # comments and the header
    again = io.read(tmp_path / "b.csv")
    np.testing.assert_array_equal(again.values.numpy(), grid.values.numpy())
    assert again.spacing == pytest.approx(grid.spacing)


def test_times_that_are_rounded_still_give_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n" + "".join(f"{k / 360:.3f},{k}\n" for k in range(361)))
    assert sampling_rate(io.read(path)) == pytest.approx(360, rel=1e-3)


def test_gaps_survive_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("I,II\n1,2\n,4\n5,nan\n")
    io.write(tmp_path / "b.csv", io.read(path))
    assert (tmp_path / "b.csv").read_text() == "I,II\n1.0,2.0\n,4.0\n5.0,\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I,II\n1,2\n3\n", {"operation": "a.csv", "expected": "2 columns", "got": "1 in line 3"}),
        ("I,II\n1,2\n3,x\n", {"operation": "a.csv", "got": "'x' in line 3"}),
        ("I,II\n1,2\n", {"operation": "a.csv", "got": "one"}),
        ("t,I\n0,2\n0,3\n", {"operation": "a.csv", "expected": "times that rise"}),
        (
            "t,I\n0,2\n0.1,3\n0.2,1\n0.9,1\n1,1\n",
            {"operation": "a.csv", "expected": "evenly spaced times"},
        ),
        ("t\n0\n1\n", {"operation": "a.csv", "got": "none"}),
        ("I,II\n", {"operation": "a.csv", "got": "none"}),
        ("\n\n", {"operation": "a.csv", "got": "none"}),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: dict[str, str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with raises(InputFileError, **words) as caught:
        io.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_every_width_comes_back_bit_by_bit(
    tmp_path: Path, rng: np.random.Generator, width: int
) -> None:
    data = rng.integers(0, 256, size=300 * 2 * width, dtype=np.uint8).tobytes()
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(data)
    grid = io.read(tmp_path / "a.wav")
    assert (grid.channels, sampling_rate(grid)) == (("left", "right"), 8000)
    assert grid.values.abs().max() <= 1
    io.write(tmp_path / "b.wav", grid, provenance={"Software": "convnd"})
    with wave.open(str(tmp_path / "b.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, width, 8000)
        written = file.readframes(300)
    if width < 4:  # float32 holds 24 bits
        assert written == data
    else:
        one, two = (np.frombuffer(codes, "<i4").astype(float) for codes in (written, data))
        np.testing.assert_allclose(one, two, atol=2**8)


def test_a_wav_that_is_cut_short(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<100h", *range(100)))
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-10])
    with raises(InputFileError, operation="a.wav", got="190"):
        io.read(tmp_path / "a.wav")


def test_a_dicom_waveform_is_read() -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm", download=False)
    grid = io.read(path)  # type: ignore[arg-type]
    assert grid.channels[:6] == ("I", "II", "III", "aVR", "aVL", "aVF")
    assert (sampling_rate(grid), set(value_units(grid))) == (1000, {"uV"})
    stored = np.frombuffer(pydicom.dcmread(path).WaveformSequence[0].WaveformData, "<i2")
    np.testing.assert_allclose(grid.values[0].numpy().T.ravel(), stored * 1.25, rtol=1e-6)


def test_a_missing_package_is_named_with_its_install_command(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with raises(
        DependencyError,
        operation="rec.hea",
        got="none installed",
        remedy='pip install "convnd-toolkit[signals]"',
    ):
        io.read(record)


def test_npz_keeps_what_is_known_of_a_signal(tmp_path: Path) -> None:
    start = datetime(2021, 3, 4, 5, 6, 7)
    marks = (Annotation(0.5, "N"), Annotation(1.0, "noise, arm", 2.5))
    grid = Grid(
        values=torch.rand(1, 2, 30),
        spacing=(0.01,),
        units=("s",),
        axes=("t",),
        channels=("I", "II"),
    )
    io.write(tmp_path / "a.npz", describe(grid, units=("mV", "uV"), start=start, annotations=marks))
    signal = signal_of(io.read(tmp_path / "a.npz"))
    assert (signal.units, signal.start, signal.annotations) == (("mV", "uV"), start, marks)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"units": []}', '{"units": 1, "start": 2}'])
def test_npz_whose_signal_is_none(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "a.npz", values=np.zeros((1, 9)), signal=np.array(text))
    with raises(InputFileError, operation="a.npz", expected="an .npz archive"):
        io.read(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".hea", ".wav", ".flac"])
def test_a_rate_that_is_not_known_is_asked_for(tmp_path: Path, suffix: str) -> None:
    with raises(UsageError, operation="write", got="a recording without one", remedy="--rate"):
        io.write(tmp_path / f"a{suffix}", Grid(values=torch.rand(1, 1, 99)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("rate", [0.25, 128.5])
def test_sounds_have_whole_rates(tmp_path: Path, suffix: str, rate: float) -> None:
    sound = Grid(values=torch.rand(1, 1, 99), spacing=(1 / rate,), units=("s",))
    with raises(UsageError, expected="whole number of hertz", got=f"{rate:g} Hz"):
        io.write(tmp_path / f"a{suffix}", sound)


def test_dicom_says_what_is_not_read() -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    signal = signal_of(io.read(get_testdata_file("waveform_ecg.dcm", download=False)))  # type: ignore[arg-type]
    assert signal.remarks == ("has 2 groups of waveforms, of which the longest is read",)
    assert signal.start is not None
