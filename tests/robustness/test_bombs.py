"""Small files that ask for much memory or time: refused from their headers, in the same bounds."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from malformed import WHOLE
from refusals import bounded, refusal

from convnd.io.signals.signal import Signal, signal_grid


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _record(folder: Path, header: str, **segments: str) -> Path:
    """Write headers of a WFDB record, and one file of 20 bytes for their signals."""
    (folder / "a.hea").write_text(header)
    for name, text in segments.items():
        (folder / f"{name}.hea").write_text(text)
    (folder / "x.dat").write_bytes(bytes(20))
    return folder / "a.hea"


_TEN = "s 1 200 10\nx.dat 16 200 16 0 0 0 0 I\n"
RECORDS = {
    "a gap": ("a/2 1 200 900000000\ns 10\n~ 899999990\n", "for the length of its files"),
    "a layout and a gap": (
        "a/3 1 200 900000000\nlay 0\ns 10\n~ 899999990\n",
        "for the length of its files",
    ),
    "a segment many times": ("a/9000 1 200 90000000000\n" + "s 10000000\n" * 9000, "samples"),
    "many segments": ("a/20000 1 200 200000\n" + "s 10\n" * 20000, "at most 10,000 segments"),
    "many signals": ("a 9000 200 1\n" + "x.dat 16 200 16 0 0 0 0 I\n" * 9000, "at most 4,096"),
    "many samples a frame": ("a 1 200 100\nx.dat 16x9000000 200 16 0 0 0 0 I\n", "samples"),
    "a long header": (_TEN + "#a\n" * 500_000, "header of as many lines"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RECORDS)
def test_records_hold_what_their_headers_say(folder, name):
    header, words = RECORDS[name]
    lay = "lay 1 200 0\n~ 0 200 16 0 0 0 0 I\n"
    assert words in (refusal(_record(folder, header, s=_TEN, lay=lay)) or "")


@pytest.mark.filterwarnings("ignore")
def test_a_record_with_a_gap_is_read(folder):
    lay = "lay 1 200 0\n~ 0 200 16 0 0 0 0 I\n"
    path = _record(folder, "a/3 1 200 1000\nlay 0\ns 10\n~ 990\n", s=_TEN, lay=lay)
    assert refusal(path) is None


@pytest.mark.filterwarnings("ignore")
def test_flat_signals_in_flac_are_bounded(folder):
    soundfile.write(folder / "x.dat", np.zeros(20_000_000, np.int16), 200, format="FLAC")
    (folder / "a.hea").write_text("a 1 200 20000000\nx.dat 516 200 16 0 0 0 0 I\n")
    assert "for the length of its files" in (refusal(folder / "a.hea") or "")


@pytest.mark.filterwarnings("ignore")
def test_many_annotations_are_refused(folder):
    WHOLE["a.hea"](folder / "a.hea", np.random.default_rng(9))
    (folder / "a.atr").write_bytes(struct.pack("<H", 1 << 10 | 1) * 2**21 + bytes(2))
    assert "bytes of annotations" in (refusal(folder / "a.hea") or "")


def test_chunks_of_a_wav_are_counted(folder):
    (folder / "a.wav").write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + b"abcd\0\0\0\0" * 20_000)
    assert "at most 10,000 chunks" in (refusal(folder / "a.wav") or "")


def test_names_of_many_channels_take_linear_time():
    names = ["I"] * 30_000 + [""] * 30_000
    with bounded():
        grid = signal_grid(Path("a"), np.zeros((60_000, 1), np.float32), None, names, Signal())
    assert len(set(grid.channels)) == 60_000
    assert grid.channels[:3] == ("I", "I-2", "I-3")
