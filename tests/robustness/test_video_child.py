"""A decoder that hangs, dies or is greedy ends in one line, and leaves no process behind.

It really does: the child is started with a program that does so before, or while, it decodes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from error_fields import raises

from convnd.errors import DependencyError, InputFileError
from convnd.io.video.decoding import VideoDecoder
from convnd.io.video.file import VideoFile

pytestmark = [pytest.mark.child, pytest.mark.usefixtures("no_idle_children")]

START = (
    "import sys, time; sys.path[:] = sys.argv[1:]\n"
    "from convnd.io.worker import worker; from convnd.io.video import decoding as d\n"
)
AFTER_ONE = """
true = d.VideoDecoder.frames
def frames(*given, **named):
    yield next(true(*given, **named))
    {}
d.VideoDecoder.frames = frames
"""


def child(bad: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", f"{START}{bad}\nworker.main()")


@pytest.fixture(scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    clip = tmp_path_factory.mktemp("clip") / "a.mp4"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for seed in range(5):
            pixels = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return clip.read_bytes()


@pytest.fixture
def path(tmp_path: Path, _clip: bytes) -> Path:
    (tmp_path / "a.mp4").write_bytes(_clip)
    return tmp_path / "a.mp4"


def decoders() -> list[psutil.Process]:
    """Children of this process that decode; other tests may have left a fork server."""
    lines = {child: " ".join(child.cmdline()) for child in psutil.Process().children()}
    return [child for child, line in lines.items() if "convnd.io" in line and "fork" not in line]


HANGS = ("time.sleep(99)", "while True: pass")
CASES = {
    "import ctypes; ctypes.string_at(0)": {"got": "its end by SIGSEGV"},
    "import os; os.abort()": {"got": "its end by SIGABRT"},
    "import os; os._exit(0)": {"got": "ended with code 0"},
    "x = bytearray(2**34)": {"got": "asks for more than there is"},
    "given[0]._path.with_name('leak').write_bytes(b'x')": {
        "got": "ended with code 1"
    },  # nor may it write
    "sys.stdout.buffer.write(b'x' * 99); sys.stdout.buffer.flush()": {"expected": "protocol"},
    "worker._send(sys.stdout.buffer, 'array', pts=0, shape=[9**9, 9, 3], dtype='uint8')": {
        "expected": "protocol"
    },
    "worker._send(sys.stdout.buffer, 'array', pts=0, shape=[2, 2, 3], dtype='object')": {
        "expected": "protocol"
    },
    "yield 1, 1, given[0]._av.VideoFrame(320, 240).to_ndarray()": {"expected": "three colours"},
}


QUICK = [bad for bad in CASES if "string_at" in bad or "bytearray" in bad or "b'x' * 99" in bad]
"""An end by a signal, too much memory, a broken protocol: the others take the same ways."""


@pytest.mark.parametrize(
    "bad", [bad if bad in QUICK else pytest.param(bad, marks=pytest.mark.slow) for bad in CASES]
)
def test_a_decoder_gone_wrong_is_one_line(path: Path, bad: str) -> None:
    clip = VideoFile(path, command=child(AFTER_ONE.format(bad)))
    frames = clip.frames()
    next(frames)
    with raises(InputFileError, **CASES[bad]) as refused:
        list(frames)
    assert str(refused.value).isprintable()
    assert not decoders()


class Silence:
    """A poll of a pipe in which nothing arrives, that takes no time."""

    def register(self, *_: object) -> None:
        pass

    def poll(self, _: float) -> list[tuple[int, int]]:
        return []


@pytest.mark.parametrize("bad", [HANGS[0], pytest.param(HANGS[1], marks=pytest.mark.slow)])
def test_a_decoder_that_hangs_is_one_line(
    path: Path, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = VideoFile(path, timeout=30, command=child(AFTER_ONE.format(bad))).frames()
    next(frames)  # its start may take as long as it likes
    monkeypatch.setattr("convnd.io.worker.client.select.poll", Silence)
    with raises(InputFileError, operation="a.mp4", expected="30 s", got="none") as refused:
        next(frames)
    assert str(refused.value).isprintable()
    assert not decoders()


@pytest.mark.slow
def test_what_computes_without_an_end_is_ended_by_the_system(path: Path) -> None:
    bad = "worker._THREADS = 0\ndef describe(_):\n  while True: pass\n"
    bad += "d.VideoDecoder.describe = describe"
    with raises(InputFileError, got="computes without an end"):
        VideoFile(path, timeout=30, command=child(bad))


def test_frames_are_those_of_the_decoder_itself(path: Path) -> None:
    alone = [pixels for _, _, pixels in VideoDecoder(path, 2**25).frames(Fraction(0), None)]
    frames = VideoFile(path).frames()
    for frame, pixels in zip(frames, alone, strict=True):
        assert pixels is not None
        assert torch.equal((frame.values[0] * 255).round().byte(),
                           torch.from_numpy(pixels).permute(2, 0, 1))  # fmt: skip


def test_one_who_stops_early_leaves_no_child(path: Path) -> None:
    frames = VideoFile(path).frames()
    next(frames)
    assert len(decoders()) == 1
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    assert not decoders()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_killed_leaves_no_child(path: Path, number: signal.Signals) -> None:
    busy = child("def describe(self):\n  while True: pass\nd.VideoDecoder.describe = describe")
    # Whoever started the tests in the background may have had SIGINT ignored.
    code = (f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"from pathlib import Path; from convnd.io.video.file import VideoFile\n"
            f"VideoFile(Path({str(path)!r}), command={busy!r})")  # fmt: skip
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline:
        children = psutil.Process(parent.pid).children()
        time.sleep(0.05)
    while children[0].cpu_times().user < 0.4:  # it is at its endless loop, or nearly
        time.sleep(0.05)
    parent.send_signal(number)
    parent.wait(20)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_without_the_package(path: Path) -> None:
    with raises(
        DependencyError,
        operation="video",
        got="none installed",
        remedy='pip install "convnd-toolkit[video]"',
    ):
        VideoFile(path, command=child("sys.modules['av'] = None"))


def test_a_header_that_asks_for_all_memory_is_the_files_fault(path: Path) -> None:
    """Found by `benchmarks/experiments/fuzz.py`: it counted as too little memory, exit code 4."""
    bad = "import av\ndef greedy(*_, **__): raise av.error.MemoryError(12, 'no')\nav.open = greedy"
    with raises(InputFileError, operation="a.mp4", got="one that asks for more than"):
        VideoFile(path, command=child(bad))
