"""Tables of samples as people have them: times, units, indices, punctuation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.signals.signal import sampling_rate, signal_of, value_units

COUNT = 24
II = [0.5 * (k % 5) for k in range(COUNT)]
Row = Callable[[int], str]


def table(header: str, row: Row, end: str = "") -> str:
    return header + "".join(row(k) + "\n" for k in range(COUNT)) + end


def make_table(header: str, time: Row, mark: str = ",") -> str:
    return table(header, lambda k: f"{time(k)}{mark}{II[k]}")


# Each holds II at 250 Hz.
TABLES = {
    "msec": make_table("time (msec),II\n", lambda k: str(4 * k)),
    "milliseconds": make_table("time (milliseconds),II\n", lambda k: str(4 * k)),
    "name is the unit": make_table("ms,II\n", lambda k: str(4 * k)),
    "unit behind a bar": make_table("t_us,II\n", lambda k: str(4000 * k)),
    "ns": make_table("time (ns),II\n", lambda k: str(4_000_000 * k)),
    "minutes": make_table("time (min),II\n", lambda k: f"{k / 15000:.12f}"),
    "epoch s": make_table("timestamp,II\n", lambda k: f"{1_700_000_000 + k / 250:.3f}"),
    "epoch s through a float": make_table("timestamp,II\n", lambda k: f"{1.7e9 + k / 250:.10f}"),
    "epoch ms": make_table("timestamp,II\n", lambda k: str(1_700_000_000_000 + 4 * k)),
    "epoch us": make_table("unix_us,II\n", lambda k: str(1_700_000_000_000_000 + 4000 * k)),
    "epoch ns": make_table("epoch,II\n", lambda k: str(1_700_000_000_000_000_000 + 4_000_000 * k)),
    "camel case": make_table("timestampMs,II\n", lambda k: str(4 * k)),
    "any name with a unit": make_table("Elapsed (s),II\n", lambda k: f"{k / 250:.3f}"),
    "German": make_table("Zeit [ms];II\n", lambda k: str(4 * k), ";"),
    "pandas": table(",time (s),II\n", lambda k: f"{k},{k / 250:.3f},{II[k]}"),
    "R": table('"t (s)" "II"\n', lambda k: f'"{k + 1}" {k / 250:.3f} {II[k]}'),
    "units below": make_table("time,II\nms,mV\n", lambda k: str(4 * k)),
    "PhysioNet": make_table(
        "'Elapsed time','II'\n'hh:mm:ss.mmm','mV'\n", lambda k: f"'0:00.{4 * k:03d}'"
    ),
    "PhysioNet, seconds": make_table(
        "'Elapsed time','II'\n'seconds','mV'\n", lambda k: f"{k / 250:.3f}"
    ),
    "PhysioNet, dates": make_table(
        "'Time and date','II'\n'hh:mm:ss.mmm dd/mm/yyyy','mV'\n",
        lambda k: f"'[10:00:00.{4 * k:03d} 13/02/2020]'",
    ),
    "clock": make_table("Uhrzeit;II\n", lambda k: f"10:00:00.{4 * k:03d}", ";"),
    "clock over midnight": make_table(
        "time,II\n",
        lambda k: f"23:59:59.{948 + 4 * k}" if k < 13 else f"00:00:00.{4 * k - 52:03d}",
    ),
    "day first": make_table("Datum;II\n", lambda k: f"12.03.2021 10:00:00,{4 * k:03d}", ";"),
    "two columns": make_table("Date,Time,II\n", lambda k: f"12.03.2021,10:00:00.{4 * k:03d}"),
    "noon": make_table("time,II\n", lambda k: f"1/13/2020 9:00:00.{4 * k:03d} PM"),
    "sep": "sep=;\r\n"
    + table("time (s);II (mV)\n", lambda k: f"0,{4 * k:03d};{II[k]}".replace(".", ",")),
    "quoted decimals": table(
        '"time (s)","II"\n', lambda k: f'"0,{4 * k:03d}","{II[k]}"'.replace(".", ",")
    ),
    "trailing separators": table("time (s),II,\n", lambda k: f"0.{4 * k:03d},{II[k]},"),
    "trailing in rows alone": table("time (s),II\n", lambda k: f"0.{4 * k:03d},{II[k]},"),
    "rate in a comment": table("# Sampling rate: 250 Hz\nII,I\n", lambda k: f"{II[k]},{-II[k]}"),
    "lines before": table("Device: X\nfs = 0.25 kHz\n\nII;I\n", lambda k: f"{II[k]};{-II[k]}"),
    "comment below the header": table("I,II\n# fs: 250\n", lambda k: f"{II[k]},{-II[k]}"),
    "LabChart": table(
        "Interval=\t0.004 s\nExcelDateTime=\t4.4e4\t1/1/2021\nRange=\t10 mV\n",
        lambda k: f"{k / 250:g}\t{II[k]}",
    ),
    "watch": table(
        "Name,Jane\nDate of Birth,1980\nSample Rate,250 hertz\n\nLead,I\nUnit,mV\n\n",
        lambda k: f"{II[k]}",
    ),
    "several clocks": table(
        "Phone timestamp;sensor timestamp [ns];ecg\n",
        lambda k: f"2023-01-01T10:00:00.{4 * k:03d};{599618000000000000 + 4000000 * k};{II[k]}",
    ),
    "comment at the end": make_table("% x\ntime (ms),II\n", lambda k: str(4 * k)) + "% end\n",
    "blanks and commas": table("", lambda k: f"0,{4 * k:03d} {II[k]}".replace(".", ",")),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TABLES))
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_a_table_is_understood_and_written_with_its_own_lines(
    name: str, suffix: str, tmp_path: Path
) -> None:
    path, copy, small = (tmp_path / f"{stem}{suffix}" for stem in ("a", "copy", "small"))
    path.write_text(TABLES[name], newline="")
    grid = io.read(path)
    assert grid.units == ("s",)
    assert sampling_rate(grid) == 250
    np.testing.assert_array_equal(grid.values[0, 0], np.array(II, np.float32))
    io.write(copy, grid)
    if name != "R":  # numbers that need no quotes lose them
        assert copy.read_text() == path.read_text()
    np.testing.assert_array_equal(io.read(copy).values, grid.values)
    # Times of a shorter result lie in the same span.
    halved = grid.with_values(grid.values[..., ::2])
    io.write(small, halved)
    again = io.read(small)
    assert sampling_rate(again) == 125
    assert (signal_of(again).start, again.channels) == (signal_of(grid).start, grid.channels)
    assert value_units(again) == value_units(grid)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("epoch s", datetime(2023, 11, 14, 22, 13, 20)),
        ("epoch ns", datetime(2023, 11, 14, 22, 13, 20)),
        ("day first", datetime(2021, 3, 12, 10)),
        ("two columns", datetime(2021, 3, 12, 10)),
        ("PhysioNet, dates", datetime(2020, 2, 13, 10)),
        ("noon", datetime(2020, 1, 13, 21)),
        ("clock", None),
    ],
)
def test_dates_are_the_start_of_the_recording(
    name: str, start: datetime | None, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(TABLES[name])
    assert signal_of(io.read(tmp_path / "a.csv")).start == start


@pytest.mark.parametrize(
    "header", ["time (jiffies)", "time_jiffies", "Time [jiffies]", "timestamp (jiffies)"]
)
def test_an_unknown_unit_of_time_is_refused_by_name(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(make_table(f"{header},II\n", lambda k: str(4 * k)))
    with raises(InputFileError, operation="a.csv", got="'jiffies'", remedy="--rate"):
        io.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "header", ["", "index", "sample #", "Unnamed: 0", "anything", "time", "time (samples)"]
)
def test_a_first_column_that_counts_is_no_lead(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(make_table(f"{header},II\n", lambda k: str(3 * k)))
    grid = io.read(path)
    assert (grid.channels, grid.units) == (("II",), ("px",))
    io.write(tmp_path / "b.csv", grid)
    assert (tmp_path / "b.csv").read_text() == path.read_text()
    longer = torch.nn.functional.interpolate(grid.values, size=2 * COUNT)
    io.write(tmp_path / "c.csv", grid.with_values(longer))
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:4]] == ["0", "3", "6"]
    assert io.read(tmp_path / "c.csv").channels == ("II",)


def test_a_first_column_with_a_unit_of_values_is_a_lead(tmp_path: Path) -> None:
    for header in ("I (mV)", "press (mmHg)"):
        (tmp_path / "a.csv").write_text(make_table(f"{header},II\n", lambda k: str(3 * k)))
        assert len(io.read(tmp_path / "a.csv").channels) == 2


def test_a_slow_drift_is_no_index(tmp_path: Path) -> None:
    """Digits rise by one from time to time, as those of rounded times would."""
    (tmp_path / "a.csv").write_text(make_table("temp,II\n", lambda k: f"36.{50 + k // 6}"))
    assert io.read(tmp_path / "a.csv").channels == ("temp", "II")


def test_seconds_by_custom_are_said_to_be_so(tmp_path: Path) -> None:
    for header, assumed in (("time", True), ("time (s)", False)):
        (tmp_path / "a.csv").write_text(make_table(f"{header},II\n", lambda k: f"{k / 250:.3f}"))
        grid = io.read(tmp_path / "a.csv")
        assert (sampling_rate(grid), signal_of(grid).rate_assumed) == (250, assumed)


def test_columns_without_names_of_pandas(tmp_path: Path) -> None:
    for header, row in (
        (",0,1\n", lambda k: f"{k},{II[k]},1.5"),
        ("0,1\n", lambda k: f"{II[k]},1.5"),
    ):
        (tmp_path / "a.csv").write_text(table(header, row))
        grid = io.read(tmp_path / "a.csv")
        assert grid.channels == ("0", "1")
        np.testing.assert_array_equal(grid.values[0, 0], np.array(II, np.float32))


def test_words_stay_beside_the_samples_and_are_named(tmp_path: Path) -> None:
    text = table("time (ms),II,note\n", lambda k: f"{4 * k},{II[k]},{'N' if k == 7 else ''}")
    (tmp_path / "a.csv").write_text(text)
    grid = io.read(tmp_path / "a.csv")
    assert (grid.channels, signal_of(grid).remarks) == (
        ("II",), ("holds words in note, which stay as they are",),
    )  # fmt: skip
    io.write(tmp_path / "b.csv", grid)
    assert (tmp_path / "b.csv").read_text() == text


def test_gaps_keep_their_word_and_may_come_first(tmp_path: Path) -> None:
    text = "I,II\nNA,NA\nNA,1.0\n" + table("", lambda k: f"{II[k]},{'NA' if k == 3 else 1.0}")
    (tmp_path / "a.csv").write_text(text)
    grid = io.read(tmp_path / "a.csv")
    assert (grid.channels, grid.shape) == (("I", "II"), (COUNT + 2,))
    assert grid.values.isnan().sum() == 4
    io.write(tmp_path / "b.csv", grid)
    assert (tmp_path / "b.csv").read_text() == text


def test_untouched_numbers_keep_all_digits(tmp_path: Path) -> None:
    text = table("I,II\n", lambda k: f"{36540001 + k % 2}.0,{II[k]}")
    (tmp_path / "a.csv").write_text(text)
    grid = io.read(tmp_path / "a.csv")
    values = grid.values.clone()
    values[0, 1] += 1
    io.write(tmp_path / "b.csv", grid.with_values(values))
    rows = (tmp_path / "b.csv").read_text().splitlines()[1:]
    assert rows[1].split(",") == ["36540002.0", str(II[1] + 1)]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_a_table_keeps_its_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(make_table("time (ms),II (µV)\n", lambda k: str(4 * k)), encoding=encoding)
    grid = io.read(path)
    assert value_units(grid) == ("µV",)
    io.write(tmp_path / "b.csv", grid)
    assert (tmp_path / "b.csv").read_bytes() == path.read_bytes()


def test_a_recording_of_another_format_gets_times_that_can_be_read_again(tmp_path: Path) -> None:
    values = torch.rand(1, 1, 50)
    for rate in (250.0, 360.0, 1 / 3, 44_100.0):
        grid = Grid(values=values, spacing=(1 / rate,), units=("s",), axes=("t",))
        io.write(tmp_path / "a.csv", grid, overwrite=True)
        assert sampling_rate(io.read(tmp_path / "a.csv")) == pytest.approx(rate, rel=1e-8)


@pytest.mark.parametrize("cell", ["1e999999999", "1e-999999999", "nan", "inf", "0x10", "9" * 50])
def test_times_that_are_none(cell: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"time (s),II\n0,1\n{cell},2\n0.008,3\n")
    with raises(InputFileError, operation="a.csv", expected="a time in every"):
        io.read(tmp_path / "a.csv")


GAPPY = np.r_[0:200, 260:300, 303:500]  # rows of 500


@pytest.mark.parametrize("kind", ["seconds", "index", "both", "dates", "clock", "epoch", "rounded"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_missing_rows_are_gaps(kind: str, suffix: str, tmp_path: Path) -> None:
    count = np.arange(500)
    begin = datetime(2024, 1, 2, 23, 59, 59)
    dates = [begin + timedelta(milliseconds=4 * int(k)) for k in count]
    rate = 360 if kind == "rounded" else 250
    times: dict[str, dict[str, Any]] = {
        "seconds": {"time (s)": count / 250},
        "index": {"index": count},
        "both": {"index": count, "time (ms)": count * 4},
        "dates": {"date": [date.isoformat(timespec="milliseconds") for date in dates]},
        "clock": {"clock": [date.time().isoformat(timespec="milliseconds") for date in dates]},
        "epoch": {"timestamp": 1700000000000 + count * 4},
        "rounded": {"time (s)": np.round(count / 360, 3)},
    }
    table = pd.DataFrame({**times[kind], "II (mV)": np.sin(count / 9), "V1 (mV)": count / 7})
    table = table.iloc[GAPPY]
    path, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write = {".csv": table.to_csv, ".parquet": table.to_parquet, ".xlsx": table.to_excel}[suffix]
    write(path, index=False)
    grid = io.read(path)
    assert grid.shape == (500,)
    assert grid.channels == ("II", "V1")
    if kind != "index":
        assert 1 / grid.spacing[0] == pytest.approx(rate, rel=1e-9)
    known = np.isfinite(grid.values[0, 0].numpy())
    np.testing.assert_array_equal(np.flatnonzero(known), GAPPY)
    np.testing.assert_allclose(grid.values[0, 1, GAPPY], GAPPY / 7, rtol=1e-6)
    assert signal_of(grid).remarks == ("has 2 gaps in its times, 63 samples, which stay gaps",)
    io.write(target, grid.with_values(grid.values + 1))
    again = io.read(target)  # rows and times are those of the input
    torch.testing.assert_close(again.values, grid.values + 1, equal_nan=True)
    if suffix == ".csv":
        cells = [[line.rsplit(",", 2)[0] for line in p.read_text().split()] for p in (path, target)]
        assert cells[0] == cells[1]


def test_times_with_many_jumps_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    even = np.arange(400) / 250
    uneven = {
        "random": np.cumsum(rng.uniform(0.003, 0.01, 400)),
        "back": np.r_[even[:200], even[100:300]],
        "far": np.r_[even[:200], even[200:] + 1e6],  # would be millions of empty samples
        "drift": np.r_[even[:200], even[200:] + 0.0015],
    }
    for name, times in uneven.items():
        path = tmp_path / f"{name}.csv"
        pd.DataFrame({"time (s)": times, "II": even}).to_csv(path, index=False)
        with raises(InputFileError, expected="stretches", got="a jump near line"):
            io.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "t (s);a (mV)\n" + "".join(f"0,{k:02d};1.{k:03d},5\n" for k in range(20)),
        "t (s);a (mV)\n" + "".join(f"0,{k:02d};1.{k:03d}\n" for k in range(20)),
        "t (s),a (mV)\n" + "".join(f'0.{k:02d},"1,{k:03d}"\n' for k in range(20)),
        "t;a\n" + "".join(f'=("0.{k:02d}");=("{k}")\n' for k in range(20)),
    ],
)
def test_numbers_with_separators_between_thousands_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputFileError, match="without separators between thousands"):
        io.read(tmp_path / "a.csv")
