"""Signals in Parquet, Excel, MATLAB, HDF5, NumPy and sound files."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError
from convnd.io.signals.signal import sampling_rate, signal_of, value_units

COUNT = 60
LEADS = np.stack([np.sin(np.arange(COUNT) / 3), 0.1 * np.arange(COUNT) % 0.7])


def check(path: Path, names: tuple[str, ...] = ("I", "II"), rate: float | None = 250) -> Any:
    """Read a recording, compare it, and return its grid."""
    grid = io.read(path)
    assert grid.channels == names
    assert (sampling_rate(grid) if grid.units == ("s",) else None) == rate
    np.testing.assert_allclose(grid.values[0], LEADS[: len(names)], atol=1e-6)
    return grid


def written(path: Path, grid: Any) -> None:
    """What is written is read again with the same values, times, units and rate."""
    copy = path.with_name(f"copy{path.suffix}")
    io.write(copy, grid)
    again = io.read(copy)
    np.testing.assert_array_equal(again.values, grid.values)
    assert (again.spacing, again.units, again.channels) == (grid.spacing, grid.units, grid.channels)
    assert value_units(again) == value_units(grid)
    assert signal_of(again).start == signal_of(grid).start
    io.write(path.with_name(f"half{path.suffix}"), grid.with_values(grid.values[..., ::2]))
    half = io.read(path.with_name(f"half{path.suffix}"))
    assert half.spacing == pytest.approx([2 * grid.spacing[0] if grid.units == ("s",) else 1.0])


TIMES = {
    "time (ms)": 4 * np.arange(COUNT),
    "time (s)": np.arange(COUNT) / 250,
    "epoch_ns": 1_700_000_000_000_000_000 + 4_000_000 * np.arange(COUNT),
    "timestamp": 1_700_000_000.0 + np.arange(COUNT) / 250,
}


@pytest.mark.parametrize("name", list(TIMES))
@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_a_column_of_times(name: str, suffix: str, tmp_path: Path) -> None:
    if suffix == ".xlsx" and name == "epoch_ns":
        pytest.skip("a workbook holds 15 digits")
    table(tmp_path / f"a{suffix}", {name: TIMES[name], "I (mV)": LEADS[0], "II (mV)": LEADS[1]})
    grid = check(tmp_path / f"a{suffix}")
    assert value_units(grid) == ("mV", "mV")
    written(tmp_path / f"a{suffix}", grid)


def table(path: Path, columns: dict[str, Any]) -> None:
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table({name: pa.array(c) for name, c in columns.items()}), path)
        return
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(columns))
    for row in zip(*(list(column) for column in columns.values()), strict=True):
        book.active.append([value.item() if hasattr(value, "item") else value for value in row])
    book.save(path)


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_dates_gaps_and_words(suffix: str, tmp_path: Path) -> None:
    start = datetime(2021, 3, 4, 5, 6, 7)
    dates = [start + timedelta(milliseconds=4 * k) for k in range(COUNT)]
    values = [None if k == 3 else float(v) for k, v in enumerate(LEADS[0])]
    notes = ["N" if k == 7 else "" for k in range(COUNT)]
    table(tmp_path / f"a{suffix}", {"time": dates, "I": values, "note": notes})
    grid = io.read(tmp_path / f"a{suffix}")
    assert (signal_of(grid).start, sampling_rate(grid)) == (start, 250)
    assert grid.values.isnan().sum() == 1
    assert signal_of(grid).remarks == ("holds words in note, which stay as they are",)
    written(tmp_path / f"a{suffix}", grid)


def test_nanoseconds_of_parquet_keep_all_digits(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"epoch_ns": TIMES["epoch_ns"] + 1, "I": LEADS[0]})
    io.write(tmp_path / "b.parquet", io.read(tmp_path / "a.parquet"))
    parquet = pytest.importorskip("pyarrow.parquet")
    column = parquet.read_table(tmp_path / "b.parquet").column("epoch_ns")
    assert column.to_pylist() == (TIMES["epoch_ns"] + 1).tolist()


def test_an_index_of_pandas_is_no_lead(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(LEADS.T, columns=["I", "II"])
    frame.to_parquet(tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", rate=None)
    frame.index = frame.index * 2
    frame.to_parquet(tmp_path / "b.parquet", index=True)
    check(tmp_path / "b.parquet", rate=None)
    pytest.importorskip("openpyxl")
    frame.to_excel(tmp_path / "c.xlsx")
    check(tmp_path / "c.xlsx", rate=None)


def test_a_workbook_with_lines_before_and_other_sheets(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Device X"], ["Sampling rate: 250 Hz"], [], ["I", "II"], ["mV", "uV"]):
        book.active.append(row)
    for pair in LEADS.T.tolist():
        book.active.append(pair)
    book.create_sheet("notes").append(["nothing"])
    book.save(tmp_path / "a.xlsx")
    grid = check(tmp_path / "a.xlsx")
    assert value_units(grid) == ("mV", "uV")
    assert signal_of(grid).remarks == ("has sheets notes, too, which are not read",)


MATLAB: dict[str, tuple[dict[str, Any], tuple[str, ...], float | None]] = {
    "rows": ({"ecg": LEADS, "fs": 250.0}, ("0", "1"), 250),
    "columns": ({"ecg": LEADS.T, "Fs": 250}, ("0", "1"), 250),
    "vectors": ({"I": LEADS[0], "II": LEADS[1], "fs": 250}, ("I", "II"), 250),
    "times": ({"t": np.arange(COUNT) / 250, "x": LEADS}, ("0", "1"), 250),
    "milliseconds": ({"time_ms": 4 * np.arange(COUNT), "x": LEADS}, ("0", "1"), 250),
    "names": ({"x": LEADS, "srate": 250, "labels": ["I", "II"]}, ("I", "II"), 250),
    "no rate": ({"val": LEADS}, ("0", "1"), None),
}


@pytest.mark.parametrize("name", list(MATLAB))
@pytest.mark.parametrize("suffix", [".mat", ".h5", ".npz"])
def test_named_arrays(name: str, suffix: str, tmp_path: Path) -> None:
    arrays, names, rate = MATLAB[name]
    path = tmp_path / f"a{suffix}"
    if suffix == ".mat":
        scipy_io = pytest.importorskip("scipy.io")
        cells = {k: np.array(v, object) if isinstance(v, list) else v for k, v in arrays.items()}
        scipy_io.savemat(path, {"rec": cells} if name == "names" else cells)
    elif suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            group = file.create_group("rec") if name == "rows" else file
            for key, value in arrays.items():
                if key == "srate":
                    file.attrs["sampling_rate"] = value
                else:
                    group[key] = value
    else:
        np.savez(path, **arrays)
    check(path, names, rate)


def test_version_7_3_of_matlab_is_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["ecg"], file["fs"] = LEADS, 250.0
    check(tmp_path / "a.mat", ("0", "1"))


@pytest.mark.parametrize("suffix", [".mat", ".h5"])
def test_several_recordings_are_named(suffix: str, tmp_path: Path) -> None:
    arrays = {"a": LEADS, "b": LEADS[:, :40]}
    if suffix == ".mat":
        pytest.importorskip("scipy.io").savemat(tmp_path / "a.mat", arrays)
    else:
        with pytest.importorskip("h5py").File(tmp_path / "a.h5", "w") as file:
            file.update(arrays)
    with raises(InputFileError, expected="one array of leads", got="a 2x60, b 2x40"):
        io.read(tmp_path / f"a{suffix}")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = LEADS
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/x")
        layout = h5py.VirtualLayout(shape=LEADS.shape, dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", shape=LEADS.shape)
        file.create_virtual_dataset("virtual", layout)
    with raises(InputFileError, operation="a.h5", got="none"):
        io.read(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".mat", ".h5", ".parquet", ".xlsx", ".flac"])
def test_sizes_are_checked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".mat":
        pytest.importorskip("scipy.io").savemat(path, {"x": LEADS})
    elif suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"] = LEADS
    elif suffix == ".flac":
        pytest.importorskip("soundfile").write(path, LEADS.T / 10, 8000)
    else:
        table(path, {"I": LEADS[0], "II": LEADS[1]})
    with raises(InputFileError, expected="100 samples"):
        io.read(path, max_pixels=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputFileError):
        io.read(path)


@pytest.mark.parametrize("unit", ["ms", "us", "ns", "s"])
def test_npz_in_any_unit_of_time(unit: str, tmp_path: Path) -> None:
    step = 0.004 * {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    np.savez(tmp_path / "a.npz", values=LEADS, spacing=[step], units=[unit], channels=["I", "II"])
    written(tmp_path / "a.npz", check(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".flac", "PCM_16"), (".flac", "PCM_24"), (".aiff", "PCM_16")]
)
def test_sound_without_loss_comes_back_bit_by_bit(
    suffix: str, subtype: str, tmp_path: Path
) -> None:
    soundfile = pytest.importorskip("soundfile")
    width = int(subtype[-2:])
    codes = np.random.default_rng(0).integers(-(2 ** (width - 1)), 2 ** (width - 1), (500, 2))
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, codes / 2.0 ** (width - 1), 44_100, subtype=subtype)
    grid = io.read(path)
    assert (grid.channels, sampling_rate(grid)) == (("left", "right"), 44_100)
    io.write(tmp_path / f"b{suffix}", grid, provenance={"Software": "convnd 1"})
    one, two = (soundfile.read(tmp_path / f"{stem}{suffix}")[0] for stem in "ab")
    np.testing.assert_array_equal(one, two)
    assert soundfile.info(tmp_path / f"b{suffix}").subtype == subtype
    assert io.read_provenance(tmp_path / f"b{suffix}") == {"Software": "convnd 1"}


def test_ogg_is_read_and_written(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = 0.5 * np.sin(np.arange(20_000) / 20)
    soundfile.write(tmp_path / "a.ogg", wave, 16_000)
    grid = io.read(tmp_path / "a.ogg")
    assert (sampling_rate(grid), grid.channels) == (16_000, ("mono",))
    np.testing.assert_allclose(grid.values[0, 0], wave, atol=0.05)
    io.write(tmp_path / "b.ogg", grid)
    np.testing.assert_allclose(io.read(tmp_path / "b.ogg").values[0, 0], wave, atol=0.1)


def test_texts_of_parquet_that_look_like_times_stay_texts(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    times = [f"2024-01-01T00:00:00.{4 * k:03d}" for k in range(40)]
    words = [f"{k % 3}" for k in range(40)]
    table = pa.table({"t": times, "II": [float(k % 5) for k in range(40)], "note": words})
    parquet.write_table(table, tmp_path / "a.parquet")
    grid = io.read(tmp_path / "a.parquet")
    assert 1 / grid.spacing[0] == pytest.approx(250)
    io.write(tmp_path / "b.parquet", grid)
    again = parquet.read_table(tmp_path / "b.parquet")
    assert again.schema.field("t").type == pa.string()
    assert again["t"].to_pylist() == times
