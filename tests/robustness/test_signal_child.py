"""A decoder of signal files that hangs, dies or is greedy ends in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from malformed import WHOLE

import convnd.io
from convnd.errors import InputFileError
from convnd.io.signals.signal import signal_of
from convnd.io.worker import client

FILES = ("a.flac", "a.mat", "a.h5", "a.parquet", "a.xlsx")


def replace_decoder(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Make the child run a statement in place of decoding, with a second for it."""
    code = (
        "import sys; sys.path[:] = sys.argv[1:]\n"
        "import numpy; from convnd.io.worker import worker\n"
        "from convnd.io.signals import decoder as this\n"
        f"def decode(path, max_samples, expect_samples):\n  {statement}\n"
        "this.decode = decode; this.SECONDS = 1\n"
        "this.DECODERS = {k: (this.__name__, 'decode') for k in this.DECODERS}\n"
        "worker.main()"
    )
    monkeypatch.setattr(client, "COMMAND", (sys.executable, "-I", "-c", code))


CASES = {
    "import ctypes; ctypes.string_at(0)": "its end by SIGSEGV",
    "return iter([('', bytearray(2**31), {})])": "asks for more than there is",
    "yield 'a', numpy.zeros((1,) * 5), {}": "its protocol",
    "yield 'a', numpy.zeros(1, complex), {}": "its protocol",
    "yield 'a', numpy.zeros(9), {}; yield '', None, {'texts': 3, 'rate': []}": "damaged",
    "yield '', None, {}": "damaged|samples|rows",
    "while True: pass": "computes without an end",
    "path.with_name('leak').write_bytes(b'x'); yield": "File too large",
}


@pytest.mark.parametrize(
    "statement",
    [
        statement
        if any(word in statement for word in ("bytearray", "complex", "leak"))
        else pytest.param(statement, marks=pytest.mark.slow)
        for statement in CASES
    ],
)
def test_a_decoder_gone_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: Any
) -> None:
    name = FILES[list(CASES).index(statement) % len(FILES)]
    (tmp_path / name).write_bytes(b"content")
    (tmp_path / "a.mat").write_bytes(b"content")
    replace_decoder(monkeypatch, statement)
    for file in {name, "a.mat"} if "while" not in statement else {name}:
        with pytest.raises(InputFileError, match=CASES[statement]) as refusal:
            convnd.io.read(tmp_path / file)
        assert str(refusal.value).isprintable()
        assert all(leak.stat().st_size == 0 for leak in tmp_path.glob("leak"))


@pytest.mark.parametrize("name", FILES)
def test_libraries_of_signals_are_loaded_in_the_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name not in WHOLE:
        pytest.skip("no whole file of this format")
    path = tmp_path / name
    WHOLE[name](path, np.random.default_rng(0))
    for package in ("soundfile", "scipy.io", "h5py", "pyarrow.parquet", "openpyxl"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it here would fail
    assert convnd.io.read(path).values.numel() > 0


def test_memory_is_reserved_for_samples_that_take_no_room_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = np.zeros(3_000_000, np.int16)
    samples[0] = 1
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    code = (
        "import sys; sys.path[:] = sys.argv[1:]\n"
        "from convnd.io.worker import worker; from convnd.io.signals import decoder\n"
        "decoder.MEMORY = 2**23; worker.main()"
    )
    monkeypatch.setattr(client, "COMMAND", (sys.executable, "-I", "-c", code))
    assert convnd.io.read(tmp_path / "a.flac").shape == (3_000_000,)


@pytest.mark.parametrize("segments", [False, True])
def test_flac_of_a_record_is_decoded_in_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, segments: bool
) -> None:
    soundfile = pytest.importorskip("soundfile")
    codes = np.random.default_rng(0).integers(-900, 900, (300, 2)).astype(np.int16)
    soundfile.write(tmp_path / "x.dat", codes, 200, format="FLAC")
    first = "a 2 250 300 12:30:01 01/02/2020\n"
    lines = ["x.dat 516 200(5)/mV 16 0 0 0 0 I\n", "x.dat 516 100/uV 16 0 0 0 0 II\n"]
    if segments:  # the first is not FLAC
        codes.tofile(tmp_path / "t.dat")
        (tmp_path / "a.hea").write_text("a/2 2 250 600\nt 300\ns 300\n")
        (tmp_path / "s.hea").write_text("s 2 250 300\n" + "".join(lines))
        plain = "".join(lines).replace("x.dat 516", "t.dat 16")
        (tmp_path / "t.hea").write_text("t 2 250 300\n" + plain)
    else:
        (tmp_path / "a.hea").write_text(first + "".join(lines) + "# age 3\n")
    monkeypatch.setitem(sys.modules, "soundfile", None)  # importing it here would fail
    grid = convnd.io.read(tmp_path / "a.hea")
    expected = np.stack([(codes[:, 0] - 5) / 200, codes[:, 1] / 100]).astype(np.float32)
    np.testing.assert_array_equal(grid.values[0, :, -300:], expected)
    assert grid.shape == (600 if segments else 300,)
    assert grid.channels == ("I", "II")
    start = signal_of(grid).start
    assert start is None if segments else str(start) == "2020-02-01 12:30:01"
    assert signal_of(grid).units == ("mV", "uV")
