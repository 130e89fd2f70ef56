"""``convnd weights``: what it prints, what it leaves, how it exits."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from command_line import Run
from convnd_tasks.commands.weights import as_table
from convnd_tasks.pipeline.progress import DownloadBar
from error_fields import check_error

from convnd.backbones import weights
from convnd.backbones.weights import Status, cache
from convnd.errors import InputFileError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("CONVND_HOME", str(folder))
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A tiny VGG in our own format."""
    torch.manual_seed(6)
    state = {
        "conv1_1.weight": torch.rand(4, 3, 3, 3),
        "conv1_1.bias": torch.rand(4),
        "mean": torch.rand(3),
    }
    path = tmp_path / "mine.safetensors"
    cache.save(path, state, {})
    return path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of the test's folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    )
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_the_life_of_a_file(run: Run, home: Path, mine: Path) -> None:
    assert run("weights", "get", mine) == (0, "mine\n", "")
    path = home / "user-mine.safetensors"
    assert run("weights", "path", "mine") == (0, f"{path}\n", "")
    assert run("weights", "verify", "mine") == (0, f"mine: intact, {path}\n", "")
    code, out, _ = run("weights", "list", "--json")
    table = {entry["name"]: entry for entry in json.loads(out)["weights"]}
    assert code == 0
    assert table["mine"] == {
        "name": "mine",
        "state": "verified",
        "size": path.stat().st_size,
        "licence": "",
        "source": "mine.safetensors",
        "file": str(path),
        "detail": "",
    }
    assert table["vgg16-torchvision"]["state"] == "absent"
    assert run("weights", "remove", "mine") == (0, f"mine: removed {path}\n", "")
    code, out, err = run("weights", "path", "mine")
    assert (code, out) == (2, "")
    check_error(err, operation="weights", expected="one of vgg19, compact")


def test_damage_is_said_and_exits_with_3(run: Run, home: Path, mine: Path) -> None:
    run("weights", "get", mine)
    path = home / "user-mine.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    code, out, err = run("weights", "verify", "mine")
    assert (code, out) == (3, "")
    check_error(err, operation="weights", expected="intact weights in")
    code, out, err = run("weights", "verify")
    assert code == 1
    assert "compact: intact" in out
    assert "1 of 4 failed" in err or "1 of 3 failed" in err  # the original VGG-19, if installed
    _, out, _ = run("weights", "list")
    assert "mine               damaged" in out
    assert "mine: weights: expected intact weights" in out


def test_an_address(run: Run, home: Path, mine: Path, served: str) -> None:
    url = f"{served}/mine.safetensors"
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert run("weights", "get", url, "--sha256", digest, "--name", "far") == (0, "far\n", "")
    code, _, err = run("weights", "get", url, "--sha256", "0" * 64)
    assert code == 3
    check_error(err, operation="weights", expected="000000000000… for mine-")
    assert [path.name for path in home.iterdir() if path.is_file()] == ["user-far.safetensors"]
    code, _, err = run("weights", "get", url)
    assert code == 2
    check_error(err, expected="a sha256 of 64 hexadecimal digits")


@pytest.mark.parametrize(
    "arguments", [("weights", "get", "--offline"), ("--offline", "weights", "get")]
)
def test_offline(run: Run, home: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "vgg16-torchvision")
    assert (code, out) == (3, "")
    check_error(err, remedy="convnd weights get vgg16-torchvision")
    assert os.environ["CONVND_OFFLINE"] == "1"


def test_offline_in_another_command(run: Run, home: Path) -> None:
    code, _, err = run(
        "--offline", "stylize", "--dim", "2", "--size", "32", "--backbone", "vgg16-torchvision"
    )
    assert code == 3
    check_error(err, remedy="convnd weights get vgg16-torchvision")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("get", "nothing"), 2, "a URL, or a file that exists, got 'nothing'; check"),
        (("get", "nothing.pth"), 3, "read nothing.pth: expected an existing file, got none"),
        (("get", "vgg19", "--name", "x"), 2, "weights get: expected --sha256 with a URL only"),
        (("get", "x.pth", "--sha256", "0"), 2, "weights get: expected --sha256 with a URL only"),
        (("get", "ftp://host/x", "--sha256", "0" * 64), 2, "expected an address http"),
        (("path", "vgg16-torchvision"), 3, "run: convnd weights get vgg16-torchvision"),
        (("verify", "vgg16-torchvision"), 3, "run: convnd weights get vgg16-torchvision"),
        (("remove", "compact"), 2, "got a part of this package"),
        (("remove", "nothing"), 2, "weights: expected one of"),
        (("forget",), 2, "no such command"),
    ],
)
def test_errors(run: Run, home: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    status, out, err = run("weights", *arguments)
    assert (status, out) == (code, "")
    assert message in " ".join(err.split())


def test_a_job_fetches_what_it_needs_first(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(name: str, *, progress: object) -> None:
        fetched.append(name)
        raise InputFileError("weights: expected a network, got none; connect")

    monkeypatch.setattr(weights, "fetch", fetch)
    code, out, err = run("stylize", "--dim", "2", "--size", "32", "--backbone", "vgg16-torchvision")
    assert (code, out, fetched) == (3, "", ["vgg16-torchvision"])
    assert err == "convnd: weights: expected a network, got none; connect\n"
    assert not list(home.parent.glob("*.png"))


def test_removing_what_is_not_here(run: Run, home: Path) -> None:
    name = "vgg16-torchvision"
    assert run("weights", "remove", name) == (0, f"{name}: nothing to remove\n", "")


def test_remove_takes_broken_downloads_along(run: Run, home: Path) -> None:
    home.mkdir()
    part = home / "vgg16-torchvision-397923af.pth.part"
    old = home / "vgg16-torchvision-00000000.safetensors"
    other = home / "vgg19-torchvision-dcbb9e9d.pth.part"
    for path in (part, old, other):
        path.touch()
    for name, age in ((".convnd-old", 100_000), (".convnd-new", 60)):
        (home / name).mkdir()
        os.utime(home / name, (time.time() - age,) * 2)
    code, out, _ = run("weights", "remove", "vgg16-torchvision")
    assert (code, len(out.splitlines())) == (0, 3)
    left = {path.name for path in home.iterdir()}
    assert left == {other.name, ".convnd-new", "locks"}


def test_the_bar_draws_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with DownloadBar(enabled=True) as bar:
        bar.show("downloading", 1 << 20, 2 << 20)
    out, err = capsys.readouterr()
    assert out == ""
    assert "downloading" in err
    with DownloadBar(enabled=False) as bar:
        bar.show("downloading", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_table() -> None:
    status = Status(name="a", source="here", licence="MIT", size=3 << 20, path=None, state="absent")
    assert as_table([status]) == [
        "name  state   size   licence  source  file",
        "a     absent  3 MiB  MIT      here",
    ]
    assert weights.names()[:2] == ["vgg19", "compact"]
