"""A picture decoder that hangs, dies or is greedy ends in one line; one child decodes many."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from error_fields import raises
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import convnd.io
from convnd.errors import InputFileError
from convnd.io.images.decoding import decode
from convnd.io.images.request import request_pixels
from convnd.io.weights.request import request_tensors
from convnd.io.worker import client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    codes = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture(autouse=True)
def _no_idle_child() -> None:
    client._close_all()


def replace_decoder(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Make the child run a statement in place of decoding."""
    code = (
        "import sys, time; sys.path[:] = sys.argv[1:]\n"
        "import numpy; from convnd.io.images.decoding import Decoded\n"
        "from convnd.io.worker import worker; from convnd.io.images import decoder\n"
        f"def decode(path, max_pixels, reserve_memory):\n  {statement}\n"
        "decoder.decode = decode\nworker.main()"
    )
    monkeypatch.setattr(client, "COMMAND", (sys.executable, "-I", "-c", code))


pytestmark = pytest.mark.usefixtures("no_idle_children")


def idle_children() -> list[int]:
    return [child.process.pid for child in client._IDLE]


CASES = {
    "import ctypes; ctypes.string_at(0)": "its end by SIGSEGV",
    "import os; os._exit(0)": "ended with code 0",
    "return bytearray(2**29 + 2**24)": "asks for more than there is",
    "reserve_memory(2**28); bytearray(2**29 + 2**28 + 2**24)": "asks for more than there is",
    "raise RecursionError": "its end|ended with code 1",
    "path.with_name('leak').write_bytes(b'x')": "ended with code 1",
    "return Decoded(numpy.zeros((9, 9, 9), 'u1'), {})": "no pixels",
    "return Decoded(numpy.zeros((9, 9, 3), complex), {})": "its protocol",
    "return Decoded(numpy.zeros((9, 9, 3), 'u1'), "
    "{'text': {'a': 'b' * 2**24}})": "bytes of metadata",
}


QUICK = ("string_at", "reserve_memory", "leak", "complex")
"""Of each way to end, one: by a signal, for its memory, against a limit, out of the protocol."""


@pytest.mark.parametrize(
    "statement",
    [
        statement
        if any(word in statement for word in QUICK)
        else pytest.param(statement, marks=pytest.mark.slow)
        for statement in CASES
    ],
)
def test_a_decoder_gone_wrong_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, statement: Any
) -> None:
    replace_decoder(monkeypatch, statement)
    with pytest.raises(InputFileError, match=CASES[statement]) as refusal:
        convnd.io.read(path)
    assert str(refusal.value).isprintable()


def test_a_decoder_that_hangs_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_decoder(monkeypatch, "time.sleep(99)")
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    start = time.monotonic()
    with raises(InputFileError, operation="a.png", expected="1 s", got="none"):
        convnd.io.read(path)
    assert time.monotonic() - start < 20
    assert idle_children() == []


def test_one_child_decodes_many_pictures_and_refuses_some(path: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(path.read_bytes()[:60])
    values = convnd.io.read(path).values
    (first,) = idle_children()
    with pytest.raises(InputFileError):
        convnd.io.read(tmp_path / "b.png")
    assert convnd.io.read(path).values.equal(values)
    assert idle_children() == [first]


def running() -> set[int]:
    """Decoders that are children of this process and have not ended."""
    decoders = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # of which ZombieProcess is one
            if "convnd.io.worker" in " ".join(child.cmdline()):
                decoders.add(child.pid)
    return decoders


def test_a_child_without_work_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.05)
    others = running()  # of other tests
    convnd.io.read(path)
    deadline = time.monotonic() + 20
    while (left := running() - others) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_pixels_and_metadata_are_those_of_the_decoder(path: Path) -> None:
    exif, text = Image.Exif(), PngInfo()
    exif[271] = "a camera"
    text.add_text("base64", "not encoded")
    with Image.open(path) as image:
        image.save(path, dpi=(72, 72), icc_profile=bytes(200), exif=exif, pnginfo=text)
    with request_pixels(path, 2**20) as receive:
        decoded = receive()
    expected = decode(path, 2**20)
    assert np.array_equal(decoded.pixels, expected.pixels)
    assert decoded.header == expected.header
    assert set(decoded.header) >= {"dpi", "exif", "text"}


def test_a_relative_path_is_one_of_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, color in enumerate(("red", "blue")):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.new("RGB", (4, 4), color).save(folder / "a.png")
        monkeypatch.chdir(folder)
        assert convnd.io.read("a.png").values[0, :, 0, 0].tolist() == [1 - number, 0, number]


@pytest.mark.slow
def test_a_picture_that_takes_too_much_computing_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_decoder(monkeypatch, "while True: pass")
    code = client.COMMAND[-1].replace("worker.main()", "decoder.SECONDS = 1; worker.main()")
    monkeypatch.setattr(client, "COMMAND", (*client.COMMAND[:-1], code))
    with raises(InputFileError, operation="a.png", got="one that computes without an end"):
        convnd.io.read(path)


@pytest.mark.slow
def test_limits_of_a_picture_do_not_bind_the_libraries_of_the_next_file(path: Path) -> None:
    torch.save({"a": torch.arange(4.0)}, path.with_name("a.pth"))
    convnd.io.read(path)
    child = idle_children()
    assert request_tensors(path.with_name("a.pth"))["a"].tolist() == [0, 1, 2, 3]
    assert idle_children() == child  # it loaded torch after the picture
