"""Forged records, weights, checkpoints, names and environments, for `benchmarks.experiments.attacks`."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["attacks"]

_FAST = ["--backbone", "compact", "--steps", "1", "--scales", "1", "--size", "32", "--quiet"]


def _tensors(header: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _entry(
    dtype: str = "F32", shape: tuple[int, ...] = (4,), offsets: tuple[int, int] = (0, 16)
) -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


_SAFETENSORS: dict[str, bytes] = {
    "length": _tensors({}, length=2**63),
    "length past": _tensors({}, length=10_000),
    "deep": _tensors(b"[" * 200_000),
    "overlap": _tensors({"a": _entry(), "b": _entry()}),
    "beyond": _tensors({"a": _entry(offsets=(0, 2**40), shape=(2**38,))}),
    "negative": _tensors({"a": _entry(shape=(-4,))}),
    "backwards": _tensors({"a": _entry(offsets=(16, 0))}),
    "gap": _tensors({"a": _entry(offsets=(8, 24))}),
    "type": _tensors({"a": _entry(dtype="F99")}),
    "eight": _tensors({"a": _entry(dtype="F8_E4M3", shape=(16,))}),
    "overflow": _tensors({"a": _entry(shape=(2**32, 2**32, 2**32))}),
    "empty": _tensors({"a": _entry(shape=(0, 4), offsets=(0, 0))}, b""),
    "metadata": _tensors({"__metadata__": {"mark": 3}}),
    "metadata list": _tensors({"__metadata__": ["mark"]}),
    "twice": _tensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}'),
    "name": _tensors({"\u202e\x1b[2J\n": _entry()}),
    "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    "zip": b"PK\3\4" + bytes(90),
}  # fmt: skip


def _weights(data: bytes) -> Callable[[Path], Callable[[], object]]:
    def write(folder: Path) -> Callable[[], object]:
        (folder / "w.safetensors").write_bytes(data)

        def load() -> object:
            from convnd.backbones.weights.conversion import load_user_vgg

            return load_user_vgg(folder / "w.safetensors")

        return load

    return write


def _checkpoint(data: bytes) -> Callable[[Path], Callable[[], object]]:
    def write(folder: Path) -> Callable[[], object]:
        (folder / "c.checkpoint").write_bytes(data)

        def load() -> object:
            from convnd.optimize import load_checkpoint

            return load_checkpoint(folder / "c.checkpoint", "mark")

        return load

    return write


def _record(command: list[str], inputs: Any, **fields: str) -> Callable[[Path], list[str]]:
    """A table and its record, for ``rerun``."""

    def write(folder: Path) -> list[str]:
        (folder / "a.csv").write_text(
            "time (s),I\n" + "".join(f"{k / 100},{k % 7}\n" for k in range(90))
        )
        record = {
            "convnd:command": json.dumps(command),
            "convnd:inputs": inputs if isinstance(inputs, str) else json.dumps(inputs),
            "convnd:record": "2",
            **{f"convnd:{name}": text for name, text in fields.items()},
        }
        (folder / "a.csv.json").write_text(json.dumps(record))
        (folder / "evil.py").write_text("open('pwned', 'w')")
        return ["rerun", "a.csv"]

    return write


def _picture(folder: Path, name: str = "a.png") -> str:
    from PIL import Image

    codes = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(codes).save(folder / name)
    return name


def _stylize(
    *words: str, name: str = "a.png", **environment: str | None
) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        _picture(folder, name)
        for key in ("pipe.png", "pipe.json"):
            os.mkfifo(folder / key)
        (folder / "loop.png").symlink_to("loop.png")
        (folder / "out.png").symlink_to(folder.parent / "secret.txt")
        settings = [f"env:{key}={value or ''}" for key, value in environment.items()]
        return [*settings, "stylize", *_FAST, *(words or (name, "waves"))]

    return write


def _replaced(name: str, new: Callable[[Path], None]) -> Callable[[Path], Callable[[], object]]:
    """A file that alternates between two contents while it is read."""

    def write(folder: Path) -> Callable[[], object]:
        from malformed import WHOLE

        import convnd.io

        path = folder / name
        WHOLE[name](path, np.random.default_rng(0))
        whole = path.read_bytes()

        def change() -> None:
            for _ in range(300):
                new(path)
                time.sleep(0.001)
                path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
                path.write_bytes(whole)

        def read() -> None:
            from convnd.errors import InputFileError

            thread = threading.Thread(target=change)
            thread.start()
            for _ in range(20):
                try:
                    convnd.io.read(path)
                except InputFileError as error:
                    assert str(error).isprintable()
            thread.join()

        return read

    return write


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    line = ["stylize", "{0}", "--dim=1", "--backbone=compact", "--steps=1"]
    entry = {"name": "a.csv", "sha256": "00"}
    table: dict[str, Callable[[Path], object]] = {}
    table |= {f"{name} weights": _weights(data) for name, data in _SAFETENSORS.items()}
    table |= {f"{name} checkpoint": _checkpoint(data) for name, data in _SAFETENSORS.items()}
    table |= {
        "code record": _record([*line, "--backbone={1}"], [entry, {"name": "evil:net"}]),
        "code word record": _record([*line, "--backbone=evil:net"], [entry]),
        "code space record": _record([*line, "--backbone", "evil:net"], [entry]),
        "code joined record": _record([*line, "--back{1}=evil:net"], [entry, {"name": "bone"}]),
        "trust record": _record([*line, "--trust-remote-code", "--backbone=evil:net"], [entry]),
        "output record": _record([*line, "--output=../secret.txt", "--overwrite"], [entry]),
        "short output record": _record([*line, "-o../secret.txt"], [entry]),
        "file record": _record([*line, "--style=../secret.csv"], [entry]),
        "mask record": _record([*line, "--mask=../secret.txt"], [entry]),
        "init record": _record([*line, "--init=../secret.csv"], [entry]),
        "report record": _record([*line, "--report=../x.html"], [entry]),
        "checkpoint record": _record([*line, "--checkpoint=../x"], [entry]),
        "place record": _record(["stylize", "{9}"], [entry]),
        "place -1 record": _record(["stylize", "{-1}"], [entry]),
        "place attribute record": _record(["stylize", "{0.__class__}"], [entry]),
        "command record": _record(["weights", "remove", "compact"], []),
        "rerun record": _record(["rerun", "a.csv"], []),
        "patches record": _record(["patches", "{0}", "--backbone=evil:net"], [entry]),
        "words record": _record(["stylize", *["{0}"] * 100_000], [entry]),
        "path record": _record(line, [{"name": "../secret.txt", "sha256": "00"}]),
        "pipe record": _record(line, [{"name": "../waits", "sha256": "00"}]),
        "dots record": _record(line, [{"name": "..", "sha256": "00"}]),
        "device record": _record(line, [{"name": "/dev/zero", "sha256": "00"}]),
        "hash record": _record(line, [{"name": "a.csv", "sha256": ["00"]}]),
        "inputs record": _record(line, "[" * 100_000),
        "inputs number record": _record(line, "1e999"),
        "inputs null record": _record(line, "[null]"),
        "many record": _record(line, [entry] * 100_000),
        "bidi record": _record(line, [{"name": "\u202egpj.csv", "sha256": "00"}]),
        "escape record": _record(line, [entry], stopped="\x1b]0;x\x07\nconvnd: all is well"),
        "versions record": _record(line, [entry], versions="[" * 100_000),
        "version record": _record(line, [entry], record="9" * 5000),
        "deep record": _record(line, [entry], options="{" * 100_000),
    }
    table |= {
        "plain": _stylize(),
        "bidi name": _stylize(name="\u202egpj\u2066.png"),
        "escape name": _stylize(name="a\x1b[31m\n.png"),
        "dash name": _stylize("--", "-rf.png", "waves", name="-rf.png"),
        "undecodable name": _stylize(name=os.fsdecode(b"a\xff.png")),
        "markup name": _stylize(name="<script>$x$&amp;.png"),
        "pipe input": _stylize("pipe.png", "waves"),
        "loop input": _stylize("loop.png", "waves"),
        "device input": _stylize("/dev/zero", "waves"),
        "memory input": _stylize("/proc/self/mem", "waves"),
        "address input": _stylize("http://127.0.0.1:1/a.png", "waves"),
        "protocol input": _stylize("concat:a.png|b.png", "waves"),
        "pipe output": _stylize("a.png", "waves", "-o", "pipe.png", "--overwrite"),
        "device output": _stylize("a.png", "waves", "-o", "/dev/null"),
        "process output": _stylize("a.png", "waves", "-o", "/proc/self/x.png"),
        "no folder output": _stylize("a.png", "waves", "-o", "none/x.png"),
        "long output": _stylize("a.png", "waves", "-o", "x" * 300 + ".png"),
        "same output": _stylize("a.png", "waves", "-o", "a.png"),
        "no home": _stylize(HOME=None, XDG_CACHE_HOME=None),
        "home file": _stylize(HOME="/dev/null", XDG_CACHE_HOME="/dev/null"),
        "temporary": _stylize(TMPDIR="/nowhere"),
        "pixels": _stylize(CONVND_MAX_PIXELS="1e9"),
        "pixels digits": _stylize(CONVND_MAX_PIXELS="9" * 5000),
        "columns": _stylize(COLUMNS="-5", LINES="x"),
        "locale": _stylize(LANG="xx_XX.UTF-99", LC_ALL="C"),
        "terminal": _stylize(TERM="\x1b[2J", NO_COLOR=""),
        "world": _stylize(WORLD_SIZE="2", RANK="x"),
        "world -1": _stylize(WORLD_SIZE="-1", RANK="0"),
        "threads": _stylize(OMP_NUM_THREADS="-1"),
        "cache": _stylize(CONVND_CACHE="/dev/null/x"),
        "completion": _stylize(_CONVND_COMPLETE="complete_evil"),
    }
    for name in (
        "a.png",
        "a.jpg",
        "a.tif",
        "a.nii",
        "a.nii.gz",
        "a.mha",
        "a.npy",
        "a.csv",
        "a.edf",
        "a.wav",
        "a.flac",
        "a.h5",
    ):
        table[f"cut while read {name}"] = _replaced(name, _cut)
    for name in ("a.png", "a.nii", "a.csv", "a.wav"):
        table[f"linked while read {name}"] = _replaced(name, _link)
        table[f"folder while read {name}"] = _replaced(name, _folder)
    return table
