"""Attacks on jobs: pairs, dry runs, changing paths, full disks, reports, DICOM output, weights.

For `benchmarks.experiments.attacks`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.attack_commands import _FAST, _picture

__all__ = ["attacks"]

CODES = {0, 1, 2, 3, 4, 5, 130, 143}
_HTML = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


class Call:
    """A call that runs a command, which may take its memory."""

    is_command = True

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run

    def __call__(self) -> object:
        """Run it."""
        return self._run()


def command(*words: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed."""
    from convnd import cli

    out = io.BytesIO()
    sys.argv = ["convnd", *words]
    streams = sys.stdout, sys.stderr
    wrapper = sys.stdout = sys.stderr = io.TextIOWrapper(out, "utf-8", write_through=True)
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout, sys.stderr = streams
        wrapper.flush()
    text = out.getvalue().decode("utf-8", "replace")
    if code not in CODES or "Traceback" in text or "\x1b" in text or "\u202e" in text:
        raise AssertionError(f"code {code}: {text[-200:]!r}")
    return code, text


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _pair(write: Callable[[Path], tuple[str, str]], *options: str) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        names = write(folder)
        dim = ("--dim", "2") if names[0].endswith(".npy") else ()
        return ["evaluate", *names, *dim, *options]

    return attack


def _saved(first: Any, second: Any, name: str = "npy") -> Callable[[Path], tuple[str, str]]:
    """Two arrays, or two texts, in files."""

    def write(folder: Path) -> tuple[str, str]:
        for path, values in ((folder / f"a.{name}", first), (folder / f"b.{name}", second)):
            values = values() if callable(values) else values
            if isinstance(values, str):
                path.write_text(values)
            else:
                np.save(path, values)
        return f"a.{name}", f"b.{name}"

    return write


def _named(first: str, second: str) -> Callable[[Path], tuple[str, str]]:
    def write(folder: Path) -> tuple[str, str]:
        _places(folder)
        return first, second

    return write


def _places(folder: Path) -> None:
    """Paths of all kinds: files, folders, links and a pipe."""
    _picture(folder)
    (folder / "t.csv").write_text(
        "time (s),I\n" + "".join(f"{k / 100},{k % 7}\n" for k in range(90))
    )
    (folder / "empty.png").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.html")
    os.mkfifo(folder / "a_stylized.png.checkpoint")
    (folder / "out").symlink_to(folder.parent)
    (folder / "report.html").symlink_to(folder.parent / "secret.txt")
    (folder / "device").symlink_to("/dev/full")
    with contextlib.suppress(OSError):
        (folder / "a\n\u202e<b>.png").write_bytes((folder / "a.png").read_bytes())


def _words(*words: str) -> Callable[[Path], list[str]]:
    """A command in a folder with paths of all kinds."""

    def attack(folder: Path) -> list[str]:
        _places(folder)
        return list(words)

    return attack


def _stylize(*words: str) -> Callable[[Path], list[str]]:
    return _words("stylize", "a.png", "waves", *_FAST, *words)


def _dry(*words: str) -> Callable[[Path], Call]:
    """A dry run, which writes nothing."""

    def attack(folder: Path) -> Call:
        _places(folder)

        def run() -> None:
            before = sorted(path.name for path in folder.parent.rglob("*"))
            secret = _stamp(folder)
            command(*words, "--dry-run")
            after = sorted(path.name for path in folder.parent.rglob("*"))
            if before != after or secret != _stamp(folder):
                raise AssertionError(f"a dry run wrote {set(after) - set(before)}")

        return Call(run)

    return attack


def _stamp(folder: Path) -> tuple[int, int]:
    """A value that changes when the file in the parent folder does."""
    status = (folder.parent / "secret.txt").stat()
    return status.st_size, status.st_mtime_ns


def _kept(folder: Path, *words: str) -> None:
    """Run a command, and check that the file in the parent folder does not change."""
    before = _stamp(folder)
    command(*words)
    if before != _stamp(folder):
        raise AssertionError("a file elsewhere was changed")


def _during(
    change: Callable[[Path], object], *words: str, delay: float = 0.05
) -> Callable[[Path], Call]:
    """A command during which another thread keeps changing the files."""

    def attack(folder: Path) -> Call:
        _places(folder)
        (folder / "results").mkdir()

        def run() -> None:
            ended = threading.Event()

            def work() -> None:
                while not ended.wait(delay):
                    with contextlib.suppress(OSError):
                        change(folder)

            thread = threading.Thread(target=work)
            thread.start()
            try:
                _kept(
                    folder, *(words or ("stylize", "a.png", "waves", *_FAST, "-o", "results/x.png"))
                )
            finally:
                ended.set()
                thread.join()
            strange = [path for path in folder.parent.glob("*") if path.name not in
                       ("inputs", "secret.txt", "secret.raw", "waits", "end")]  # fmt: skip
            if strange:
                raise AssertionError(f"wrote {strange[0]}")

        return Call(run)

    return attack


def _link_folder(folder: Path) -> None:
    if (folder / "results").is_symlink():
        return
    shutil.rmtree(folder / "results", ignore_errors=True)
    (folder / "results").symlink_to(folder / "folder")


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder / "results", ignore_errors=True)


def _link_result(folder: Path) -> None:
    (folder / "results" / "x.png").symlink_to(folder.parent / "secret.txt")


def _pipe_input(folder: Path) -> None:
    (folder / "a.png").unlink()
    os.mkfifo(folder / "a.png")


def _other_input(folder: Path) -> None:
    data = np.random.default_rng(time.monotonic_ns() % 1000).bytes(3000)
    (folder / "a.png").write_bytes(data)


def _folder_result(folder: Path) -> None:
    (folder / "results" / "x.png").mkdir()


def _limited(kind: int, limit: int, *words: str) -> Callable[[Path], Call]:
    """A command under a limit of the system, after which no partial result may exist."""

    def attack(folder: Path) -> Call:
        _places(folder)

        def run() -> None:
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (limit, hard))
            try:
                code, text = command(*words)
            finally:
                resource.setrlimit(kind, (hard, hard))
            rest = [
                path.name
                for path in folder.iterdir()
                if ".tmp" in path.name or path.name.startswith(".convnd")
            ]
            if rest:
                raise AssertionError(f"code {code}: left {rest}, {text[-100:]}")

        return Call(run)

    return attack


def _html(name: str, *options: str) -> Callable[[Path], Call]:
    """A report about files with hostile names must not contain HTML elements from these names."""

    def attack(folder: Path) -> Call:
        if name.endswith(".csv"):
            lead = _HTML.replace('"', '""')
            rows = "".join(f"{k / 100},{k % 7},{k % 5}\n" for k in range(200))
            (folder / name).write_text(f'time (s),"{lead}","$\\frac{{x}}$"\n{rows}')
        else:
            _picture(folder, name)

        def run() -> None:
            style = (name if name.endswith(".csv") else "waves",)
            _code, text = command("stylize", name, *style, *_FAST, "--report", "r.html", *options)
            report = Path("r.html")
            content = report.read_text() if report.exists() else ""
            if not content:
                raise AssertionError(text)
            if "<script>alert" in content or "<img src=x" in content:
                raise AssertionError("the report holds elements of a name")

        return Call(run)

    return attack


def _json(*words: str) -> Callable[[Path], Call]:
    """With --json, a command prints one object, even if file names are hostile."""

    def attack(folder: Path) -> Call:
        _places(folder)

        def run() -> None:
            _code, text = command(*words, "--json")
            lines = [line for line in text.splitlines() if line.startswith("{")]
            for line in lines:
                json.loads(line)
            if len(lines) != 1:
                raise AssertionError(text[-200:])

        return Call(run)

    return attack


def _dicom(
    change: Callable[[Any], None], *words: str, output: str = "new"
) -> Callable[[Path], Call]:
    """A DICOM series written as a series; nothing may appear outside of its folder."""

    def attack(folder: Path) -> Call:
        import pydicom
        from malformed import WHOLE

        WHOLE["series"](folder / "series", np.random.default_rng(0))
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        for path in (folder / "series").iterdir():
            data = pydicom.dcmread(path)
            change(data)
            data.save_as(path, enforce_file_format=True)
        (folder / "linked").symlink_to(folder.parent)
        (folder / "foreign").mkdir()
        (folder / "foreign" / "note.txt").write_text("mine")

        def run() -> None:
            before = _files(folder)
            _kept(folder, "stylize", "series", "series", *_FAST, "-o", output, *words)
            after = _files(folder)
            if any(after.get(name) != data for name, data in before.items()):
                raise AssertionError("an input or a foreign file was changed")
            strange = [name for name in after if name not in before and not name.startswith(output)]
            if strange:
                raise AssertionError(f"wrote {strange[0]}")

        return Call(run)

    return attack


def _set(**fields: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for name, value in fields.items():
            setattr(data, name, value)

    return change


def _resumed(change: Callable[[Path], object], *options: str) -> Callable[[Path], Call]:
    """A checkpoint that does not belong to the job that continues from it."""

    def attack(folder: Path) -> Call:
        _picture(folder)

        def run() -> None:
            words = ("stylize", "a.png", "waves", *_FAST, "--checkpoint-every", "1", "-o", "x.png")
            words = (*words[:5], "--steps", "3", *words[7:])
            command(*words)
            for path in Path.cwd().iterdir():
                if "checkpoint" in path.name:
                    change(path)
            _kept(folder, *words, *options, "--overwrite")

        return Call(run)

    return attack


def _pth(data: Callable[[], bytes], name: str = "w.pth") -> Callable[[Path], object]:
    def attack(folder: Path) -> object:
        (folder / name).write_bytes(data())

        def load() -> object:
            from convnd.backbones.weights.conversion import load_user_vgg

            return load_user_vgg(folder / name)

        return load

    return attack


class _Reduce:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _pickled(value: object) -> bytes:
    """An archive of ``torch.save`` with this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"conv1_1.weight": value}, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return out.getvalue()


def _shared(count: int) -> bytes:
    """Weights of many layers that share one storage in half precision."""
    import torch

    weight, bias = torch.rand(64, 64, 3, 3).half(), torch.zeros(64).half()
    state: dict[str, Any] = {"features.0.weight": torch.rand(64, 3, 3, 3).half()}
    state["features.0.bias"] = bias
    for k in range(1, count):
        state[f"features.{2 * k}.weight"], state[f"features.{2 * k}.bias"] = weight, bias
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def _packed_archive() -> bytes:
    """An archive with a compressed storage, after bytes that hide its directory from Python."""
    import torch

    out = io.BytesIO()
    torch.save({"conv1_1.weight": torch.zeros(2**26)}, out)
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(out.getvalue())) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    return packed.getvalue() + b"PK\5\6" + bytes(17)


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    zeros = np.zeros((8, 8), np.float32)
    table: dict[str, Callable[[Path], object]] = {
        "evaluate nan": _pair(_saved(zeros, np.full((8, 8), np.nan, np.float32))),
        "evaluate inf": _pair(_saved(zeros, np.full((8, 8), np.inf, np.float32))),
        "evaluate constant": _pair(_saved(zeros, zeros)),
        "evaluate one": _pair(_saved(np.zeros((1, 1)), np.ones((1, 1)))),
        "evaluate vast": _pair(_saved(np.full((8, 8), 1e308), np.full((8, 8), -1e308))),
        "evaluate axes": _pair(_saved(np.zeros((2,) * 7), np.zeros((2,) * 7))),
        "evaluate ranks": _pair(_saved(zeros, np.zeros((8, 8, 8)))),
        "evaluate sizes": _pair(_saved(zeros, np.zeros((9000, 2)))),
        "evaluate complex": _pair(_saved(zeros, zeros.astype(complex))),
        "evaluate text": _pair(_saved("time (s),I\n0,1\n0.1,2\n", "time (s),\u202e\x1b[2J\n0,1\n0.1,2\n", "csv")),
        "evaluate leads": _pair(_saved("a,a\n1,2\n" * 1, "b\n1\n2\n3\n", "csv"), "--leads", "\u202ea=b=c,,="),
        "evaluate flat": _pair(_saved("time (s),I\n" + "".join(f"{k},0\n" for k in range(90)), "time (s),I\n" + "".join(f"{k},0\n" for k in range(90)), "csv")),
        "evaluate gaps": _pair(_saved("time (s),I\n0,\n1,\n2,1\n", "time (s),I\n0,1\n1,\n2,\n", "csv")),
        "evaluate pipe": _pair(_named("a.png", "pipe.png")), "evaluate folder": _pair(_named("a.png", "folder")),
        "evaluate kinds": _pair(_named("a.png", "t.csv")), "evaluate itself": _pair(_named("a.png", "a.png")),
        "evaluate empty": _pair(_named("empty.png", "a.png")), "evaluate nul": _pair(_named("a.png", "a\0.png")),
        "evaluate style pipe": _pair(_named("a.png", "a.png"), "--style", "pipe.png"),
        "evaluate style device": _pair(_named("a.png", "a.png"), "--style", "/dev/zero"),
        "evaluate json": _json("evaluate", "a\n\u202e<b>.png", "a.png"),
        "stylize json": _json("stylize", "a\n\u202e<b>.png", "waves", *_FAST),
        "refused json": _json("stylize", "empty.png", "waves", *_FAST),
        "missing json": _json("stylize", "a\x1b]0;x\x07\n.png", "waves", *_FAST),
        "dry": _dry("stylize", "a.png", "waves", *_FAST), "dry table": _dry("stylize", "t.csv", *_FAST),
        "dry report": _dry("stylize", "a.png", "waves", *_FAST, "--report", "report.html", "--overwrite"),
        "dry output": _dry("stylize", "a.png", "waves", *_FAST, "-o", "../secret.txt", "--overwrite"),
        "dry link": _dry("stylize", "a.png", "waves", *_FAST, "-o", "out/x.png"),
        "dry resume": _dry("stylize", "a.png", "waves", *_FAST, "--resume"),
        "dry pipe": _dry("stylize", "pipe.png", "waves", *_FAST), "dry folder": _dry("stylize", ".", "waves", *_FAST),
        "dry name": _dry("stylize", "a\n\u202e<b>.png", "waves", *_FAST),
        "dry every": _dry("stylize", "a.png", "waves", *_FAST, "--save-every", "1", "--checkpoint-every", "1"),
        "report pipe": _stylize("--report", "pipe.html", "--overwrite"),
        "report link": _during(lambda folder: None, "stylize", "a.png", "waves", *_FAST, "--report", "report.html"),
        "report folder": _stylize("--report", "folder"), "report device": _stylize("--report", "device", "--overwrite"),
        "report nul": _stylize("--report", "a\0.html"), "report input": _stylize("--report", "a.png", "--overwrite"),
        "report result": _stylize("--report", "x.png", "-o", "x.png"), "report none": _stylize("--report", "none/none/r.html"),
        "output lines": _stylize("-o", "a\n\u202e\x1b[2J.png"), "output nul": _stylize("-o", "x\0.png"),
        "output above": _stylize("-o", "../../../../../../../proc/1/x.png"), "output system": _stylize("-o", "/sys/kernel/x.png"),
        "output dots": _stylize("-o", "."), "output device": _stylize("-o", "device", "--overwrite"),
        "output empty": _stylize("-o", ""), "output suffix": _stylize("-o", "x.exe"),
        "mask pipe": _stylize("--mask", "pipe.png"), "init pipe": _stylize("--init", "pipe.png"),
        "mask table": _stylize("--mask", "t.csv"), "checkpoint pipe": _stylize("--checkpoint-every", "1", "--resume"),
        "shard vast": _stylize("--shard", "9" * 400 + "/" + "9" * 400), "seed vast": _stylize("--seed", "9" * 5000),
        "memory nan": _stylize("--memory", "nanGiB"), "memory digits": _stylize("--memory", "9" * 400 + "GiB"),
        "regions": _stylize("--style-weights", "nan,inf,-1"), "leads": _words("stylize", "t.csv", *_FAST, "--leads", "=,=,\u202e"),
    }  # fmt: skip
    for shell in ("bash", "zsh", "fish", "powershell", "\x1b[2J", "../evil"):
        for kind in ("source", "complete"):
            words = [
                f"env:_CONVND_COMPLETE={kind}_{shell}",
                "env:COMP_WORDS=convnd stylize '\x1b]0;x\x07 --",
                "env:COMP_CWORD=99999999",
                f"env:_TYPER_COMPLETE_ARGS=convnd {'a' * 90_000}",
            ]
            table[f"completion {kind} {shell.encode()!r}"] = _words(*words)
    table |= {
        "completion word": _words("env:_CONVND_COMPLETE=complete_bash", "env:COMP_WORDS=convnd", "env:COMP_CWORD=-1x"),
        "folder linked": _during(_link_folder), "folder removed": _during(_remove_folder),
        "result linked": _during(_link_result), "result folder": _during(_folder_result),
        "input piped": _during(_pipe_input, "stylize", "a.png", "waves", *_FAST, "-o", "results/x.png", delay=0.3),
        "input changed": _during(_other_input, delay=0.01),
        "hash changed": _during(_other_input, "stylize", "a.png", "waves", *_FAST, "-o", "results/x.png", "--skip-existing", delay=0.01),
    }  # fmt: skip
    for limit in (0, 1, 512, 2000, 5000):
        job = ("stylize", "a.png", "waves", *_FAST, "--report", "r.html", "--checkpoint-every", "1")
        table[f"file size {limit}"] = _limited(resource.RLIMIT_FSIZE, limit, *job)
        table[f"file size {limit} table"] = _limited(resource.RLIMIT_FSIZE, limit, "stylize", "t.csv", *_FAST, "-o", "x.csv")  # fmt: skip
    table |= {
        "few files": _limited(resource.RLIMIT_NOFILE, 40, "stylize", "a.png", "waves", *_FAST),
        "fewest files": _limited(resource.RLIMIT_NOFILE, 12, "stylize", "a.png", "waves", *_FAST),
        "html name": _html(_HTML.replace("/", "") + ".png"), "html lead": _html("a.csv"),
        "html math": _html("$\\input{x}$ {{7*7}} ${x} <!--.png"), "html figures": _html("a.csv", "--figures"),
        "series uid up": _dicom(_set(SeriesInstanceUID="../../secret", SOPInstanceUID="../../secret")),
        "series uid": _dicom(_set(SeriesInstanceUID="9" * 90, StudyInstanceUID="")),
        "series text": _dicom(_set(PatientName="\u202e\x1b[2J", SeriesDescription="../../x", SpecificCharacterSet="ISO_IR 192")),
        "series number": _dicom(_set(SeriesNumber="2147483647", InstanceNumber="1")),
        "series same": _dicom(_set(SOPInstanceUID="1.2.3")), "series class": _dicom(_set(SOPClassUID="1.2.3")),
        "series private": _dicom(lambda data: data.add_new(0x00991001, "UN", b"\xff" * 9000)),
        "series inside": _dicom(_set(), output="series"), "series link": _dicom(_set(), output="linked"),
        "series foreign": _dicom(_set(), output="foreign"), "series over": _dicom(_set(), "--overwrite", output="foreign"),
        "checkpoint other": _resumed(lambda path: None, "--resume", "--seed", "7"),
        "checkpoint cut": _resumed(lambda path: os.truncate(path, path.stat().st_size // 2) if path.is_file() else None, "--resume"),
        "checkpoint text": _resumed(lambda path: path.write_text("[" * 90_000) if path.is_file() else None, "--resume"),
        "checkpoint gone": _resumed(lambda path: path.unlink() if path.is_file() else None, "--resume"),
        "set weights": _pth(lambda: _pickled(_Reduce(set, _Reduce(bytearray, 2**31)))),
        "bytes weights": _pth(lambda: _pickled([_Reduce(bytearray, 2**34)] * 9)),
        "deep weights": _pth(lambda: b"\x80\x02" + b"(" * 3_000_000 + b"t" * 3_000_000 + b"."),
        "lists weights": _pth(lambda: b"\x80\x02" + b"]" * 5_000_000 + b"."),
        "memo weights": _pth(lambda: b"\x80\x02]r\xff\xff\xff\xff."),
        "length weights": _pth(lambda: b"\x80\x02B\xff\xff\xff\x7fab."), "old weights": _pth(lambda: b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + b"\x80\x02}." * 9),
        "tar weights": _pth(lambda: b"sys_info".ljust(100, b"\0") + bytes(412)),
        "shared weights": _pth(lambda: _shared(600)), "packed weights": _pth(_packed_archive),
        "wheel weights": _pth(lambda: b"PK\5\6" + bytes(18), "w.whl"), "jit weights": _pth(lambda: _jit()),
        "many safetensors": _pth(_many_tensors, "w.safetensors"),
    }  # fmt: skip
    return table


def _jit() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        archive.writestr("archive/data.pkl", b"\x80\x02).")
        archive.writestr("archive/code/x.py", "import os; os.system('touch pwned')")
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def _many_tensors() -> bytes:
    entries = {
        f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(300_000)
    }
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text
