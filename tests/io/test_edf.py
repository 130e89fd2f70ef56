"""EDF and BDF: annotations, headers that strict readers refuse, rates, interruptions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, describe, sampling_rate, signal_of, value_units

pytest.importorskip("edfio")
pyedflib = pytest.importorskip("pyedflib")


def edf(path: Path, leads: dict[str, tuple[int, Any]], annotations: int = 0) -> Path:
    """Leads by name, each with rate and samples in mV; annotations every 0.2 s from 0.1 s."""
    kind = pyedflib.FILETYPE_EDFPLUS if path.suffix == ".edf" else pyedflib.FILETYPE_BDFPLUS
    with pyedflib.EdfWriter(str(path), len(leads), kind) as file:
        file.set_number_of_annotation_signals(10)
        file.setStartdatetime(datetime(2021, 1, 2, 3, 4, 5))
        file.setSignalHeaders(
            [
                {
                    "label": name, "dimension": "mV", "sample_frequency": rate,
                    "physical_min": -5.0, "physical_max": 5.0, "digital_min": -32768,
                    "digital_max": 32767, "transducer": "AgCl", "prefilter": "HP:0.05",
                }
                for name, (rate, _) in leads.items()
            ]
        )  # fmt: skip
        file.writeSamples([np.ascontiguousarray(samples) for _, samples in leads.values()])
        for k in range(annotations):
            file.writeAnnotation(0.1 + 0.2 * k, -1, f"beat {k}")
    return path


@pytest.fixture
def sine() -> Any:
    return np.sin(np.arange(1250) / 9)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_all_annotations_come_back(suffix: str, sine: Any, tmp_path: Path) -> None:
    grid = io.read(edf(tmp_path / f"a{suffix}", {"II": (250, sine)}, annotations=20))
    io.write(tmp_path / f"b{suffix}", grid)
    assert len(signal_of(grid).annotations) == 20
    assert signal_of(io.read(tmp_path / f"b{suffix}")).annotations == signal_of(grid).annotations
    with pyedflib.EdfReader(str(tmp_path / f"b{suffix}")) as file:
        assert file.readAnnotations()[2].tolist() == [f"beat {k}" for k in range(20)]


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_annotations_of_any_number_length_and_time(suffix: str, tmp_path: Path) -> None:
    marks = tuple(
        Annotation(round(0.0123457 * k, 9), f"Größe {k} " + "x" * 60, 0.25 * (k % 2))
        for k in range(300)
    )
    grid = Grid(values=torch.rand(1, 1, 500), spacing=(0.01,), units=("s",))
    start = datetime(2021, 3, 4, 5, 6, 7, 250_000)
    io.write(tmp_path / f"a{suffix}", describe(grid, annotations=marks, start=start))
    signal = signal_of(io.read(tmp_path / f"a{suffix}"))
    assert (signal.annotations, signal.start) == (marks, start)


def change(path: Path, position: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[position : position + len(content)] = content
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("position", "content", "name"),
    [
        (256, "µ-Volt é".encode("latin-1"), "µ-Volt é"),  # a label
        (256, "Größe".encode(), "Größe"),
        (256, b"II\0\0\0\0", "II"),
        (168, b"99.99.99", "II"),  # a date
        (168, b"        ", "II"),
        (168, b"2.1.2021", "II"),
        (176, b"25:61:61", "II"),  # a time
        (8, "Müller".encode("latin-1"), "II"),  # the patient
        (88, b"Startdate X X X X" + b" " * 20, "II"),
    ],
)
def test_headers_that_strict_readers_refuse(
    position: int, content: bytes, name: str, sine: Any, tmp_path: Path
) -> None:
    path = edf(tmp_path / "a.edf", {"II": (250, sine)})
    change(path, position, content)
    grid = io.read(path)
    assert (grid.channels, sampling_rate(grid)) == ((name,), 250)
    np.testing.assert_allclose(grid.values[0, 0], sine, atol=2e-4)
    io.write(tmp_path / "b.edf", grid)
    written = (tmp_path / "b.edf").read_bytes()
    assert written[position : position + len(content)] == content
    assert torch.equal(io.read(tmp_path / "b.edf").values, grid.values)


def test_a_range_without_extent_leaves_digital_values(sine: Any, tmp_path: Path) -> None:
    path = edf(tmp_path / "a.edf", {"II": (250, sine)})
    signals = int(path.read_bytes()[252:256])  # label, transducer and dimension of each come first
    change(path, 256 + signals * (16 + 80 + 8), b"5       ")
    grid = io.read(path)
    np.testing.assert_allclose(grid.values[0, 0] * 10 / 65535, sine, atol=1e-2)
    io.write(tmp_path / "b.edf", grid)
    assert torch.equal(io.read(tmp_path / "b.edf").values, grid.values)


def test_a_recording_that_was_never_closed(sine: Any, tmp_path: Path) -> None:
    path = edf(tmp_path / "a.edf", {"II": (250, sine)})
    change(path, 236, b"-1      ")
    assert io.read(path).shape == (1250,)


def test_an_interrupted_recording_has_gaps(sine: Any, tmp_path: Path) -> None:
    path = edf(tmp_path / "a.edf", {"II": (250, sine)})
    content = path.read_bytes().replace(b"+3\x14\x14", b"+5\x14\x14").replace(b"EDF+C", b"EDF+D")
    path.write_bytes(content.replace(b"+4\x14\x14", b"+6\x14\x14"))
    values = io.read(path).values[0, 0]
    assert values.shape == (1750,)
    assert values[750:1250].isnan().all()
    np.testing.assert_allclose(values[1250:], sine[750:], atol=2e-4)
    with raises(UsageError, operation="write", got="some"):
        io.write(tmp_path / "b.edf", io.read(path))


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_leads_of_other_rates_keep_theirs(suffix: str, sine: Any, tmp_path: Path) -> None:
    leads = {"II": (250, sine), "Resp": (25, sine[:125]), "V1": (250, -sine)}
    grid = io.read(edf(tmp_path / f"a{suffix}", leads))
    assert grid.channels == ("II", "V1")
    (other,) = signal_of(grid).others
    assert (other.name, other.rate, other.unit, len(other.values)) == ("Resp", 25, "mV", 125)
    # With as many samples as before, and with fewer in the same time.
    for number, values in enumerate((grid.values, grid.values[..., ::2])):
        io.write(tmp_path / f"b{number}{suffix}", grid.with_values(values))
        with pyedflib.EdfReader(str(tmp_path / f"b{number}{suffix}")) as file:
            assert file.getSignalLabels() == ["II", "Resp", "V1"]
            assert file.getSampleFrequencies().tolist() == [
                250 // (number + 1),
                25,
                250 // (number + 1),
            ]
            np.testing.assert_allclose(file.readSignal(1), sine[:125], atol=2e-4)


@pytest.mark.parametrize("rate", [250.0, 360.0, 128.5, 0.25, 1 / 30])
@pytest.mark.parametrize("count", [1250, 1249])
def test_values_units_and_rates_of_other_formats(rate: float, count: int, tmp_path: Path) -> None:
    values = 1e-3 * torch.randn(1, 2, count, generator=torch.Generator().manual_seed(0))
    values[0, 1] *= 1e6
    grid = Grid(values=values, spacing=(1 / rate,), units=("s",), channels=("II", "V1"))
    for suffix, steps in ((".edf", 2**15), (".bdf", 2**23)):
        io.write(tmp_path / f"a{suffix}", describe(grid, units=("V", "uV")))
        again = io.read(tmp_path / f"a{suffix}")
        assert sampling_rate(again) == pytest.approx(rate, rel=1e-6)
        assert (again.channels, value_units(again)) == (grid.channels, ("V", "uV"))
        for row in range(2):
            largest = values[0, row].abs().max().item()
            torch.testing.assert_close(
                again.values[0, row], values[0, row], rtol=1e-6, atol=1.2 * largest / steps
            )


def test_a_lead_of_one_value(tmp_path: Path) -> None:
    grid = Grid(values=torch.full((1, 1, 100), 0.25), spacing=(0.01,), units=("s",))
    io.write(tmp_path / "a.edf", grid)
    assert torch.allclose(io.read(tmp_path / "a.edf").values, grid.values, atol=1e-6)


def test_an_endless_annotation_is_read_in_time(sine: Any, tmp_path: Path) -> None:
    """Marks without an end must not take quadratic time."""
    path = edf(tmp_path / "a.edf", {"II": (250, sine)}, annotations=20)
    content = path.read_bytes()
    start = 256 * (int(content[252:256]) + 1)
    path.write_bytes(content[:start] + b"+1\x14x" * ((len(content) - start) // 4 + 1))
    io.read(path)


@pytest.mark.parametrize("length", [100, 300, 600])
def test_a_header_that_is_cut_short(length: int, sine: Any, tmp_path: Path) -> None:
    path = edf(tmp_path / "a.edf", {"II": (250, sine)})
    path.write_bytes(path.read_bytes()[:length])
    with raises(InputFileError, operation="a.edf"):
        io.read(path)
