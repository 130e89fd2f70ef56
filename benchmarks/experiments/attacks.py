"""Attack readers and commands with forged files; each attack runs in a process of its own.

    python -m benchmarks.experiments.attacks            # all
    python -m benchmarks.experiments.attacks nrrd xlsx  # those whose names contain a word

An attack has failed ("held") if the program

- ends in a result, or in one line with a documented exit code;
- needs at most 20 s of processor time (a video: 60);
- needs at most 96 MiB of memory beyond four times the file (a decoding child: 640 MiB; a command:
  1 GiB);
- prints nothing else, leaves no temporary file, and opens no file outside the attack's folder.

The script exits with 1 if any attack succeeds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.experiments import (
    attack_commands,
    attack_containers,
    attack_jobs,
    attack_pictures,
    attack_signals,
    attack_volumes,
)

MODULES = (
    attack_pictures,
    attack_containers,
    attack_volumes,
    attack_signals,
    attack_commands,
    attack_jobs,
)
SECONDS, MEBIBYTES, CHILD_MEBIBYTES, COMMAND_MEBIBYTES = 20, 96, 640, 1024
REVERSALS = set("\x1b\x07\u202e\u2066\u2028")  # a terminal acts on these
CODES = {0, 1, 2, 3, 4, 5, 130, 143}

Attack = Callable[[Path], "Path | list[str] | Callable[[], object]"]
"""Writes files into an empty folder; returns what to read, a command line, which begins with
``env:KEY=VALUE`` for variables of the environment, or a call."""


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "words", nargs="*", help="run attacks with one of these words in their names"
    )
    parser.add_argument("--verbose", action="store_true", help="print the end of every attack")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
    attacks: dict[str, Attack] = {}
    for module in MODULES:
        attacks |= module.attacks()
    chosen = {
        name: attack
        for name, attack in attacks.items()
        if not args.words or any(word in name for word in args.words)
    }
    _load()
    failures = 0
    for name, attack in chosen.items():
        problem, end = judge(attack)
        failures += bool(problem)
        if problem or args.verbose:
            print(f"{name:36} {problem or 'held'}: {end[:160]}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} held")
    sys.exit(bool(failures))


def _load() -> None:
    """Load libraries before memory is measured."""
    import convnd_tasks.pipeline.run
    import numpy as np
    import torch
    from malformed import WHOLE

    import convnd.io

    assert convnd_tasks.pipeline.run
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.hea", "a.edf", "a.dcm", "series", "a.nii.gz", "a.mgh", "a.nrrd", "a.npz"):
            WHOLE[name](Path(folder, name), np.random.default_rng(0))
            convnd.io.read(Path(folder, name))
    from convnd.io.worker.client import _close_all

    _close_all()


def judge(attack: Attack) -> tuple[str, str]:
    """Run an attack; return the rule that the program broke, or "", and how the run ended."""
    with tempfile.TemporaryDirectory(prefix="attack-") as place:
        folder = Path(place, "inputs")
        folder.mkdir()
        (Path(place) / "secret.txt").write_text("TOP SECRET 1 2 3\n" * 99)
        (Path(place) / "secret.raw").write_bytes(b"\x55" * 4096)
        os.mkfifo(Path(place) / "waits")
        os.chdir(folder)
        start = Path(place, "end")
        target = attack(folder)
        before = set(Path(place).rglob("*"))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        outlet, inlet = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(outlet)
            _run(target, inlet, Path(place))
        os.close(inlet)
        began = time.monotonic()
        end = _read(outlet, 120)
        if not end:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        os.chdir("/")
        if not end:
            return f"no end in {time.monotonic() - began:.0f} s, status {status}", ""
        problem, grown, child, seconds, text = end.split("\0", 4)
        results = {path for path in set(Path(place).rglob("*")) - before if path != start}
        if not problem and results and isinstance(target, Path):
            problem = f"left {sorted(results)[0].name}"
        is_command = isinstance(target, list) or hasattr(target, "is_command")
        limit = COMMAND_MEBIBYTES if is_command else MEBIBYTES + 4 * size / 2**20
        if not problem and int(grown) > limit:
            problem = f"{grown} MiB for {size:,} bytes"
        if not problem and int(child) > CHILD_MEBIBYTES + 16 * size / 2**20:
            problem = f"{child} MiB in the child for {size:,} bytes"
        if not problem and float(seconds) > getattr(target, "seconds", SECONDS):
            problem = f"{seconds} s"
        return problem, text or f"{usage.ru_utime:.1f} s"


def _read(pipe: int, seconds: float) -> str:
    content, end = b"", time.monotonic() + seconds
    while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
        block = os.read(pipe, 2**16)
        if not block:
            break
        content += block
    os.close(pipe)
    return content.decode("utf-8", "replace")


def _run(target: Path | list[str] | Callable[[], object], inlet: int, place: Path) -> None:
    """Do the work in a process of its own, and send how it ended."""
    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(str(place)) and "/inputs" not in path:
                opened.append(path)

    streams = tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(streams.fileno(), 1)
    os.dup2(streams.fileno(), 2)
    Path("/proc/self/clear_refs").write_text("5")
    resident = _status("VmRSS")
    times = os.times()
    sys.addaudithook(watch)
    problem, text = _call(target)
    spent = sum(os.times()[:2]) - sum(times[:2])
    from convnd.io.worker.client import _close_all

    _close_all()
    streams.seek(0)
    printed = streams.read().decode("utf-8", "replace")
    own = isinstance(target, list)
    if not problem and (
        "Traceback" in printed or (printed and not own) or not REVERSALS.isdisjoint(printed)
    ):
        problem = f"printed {printed[:80]!r}"
    if not problem and opened and not hasattr(target, "is_command"):  # it checks that itself
        problem = f"opened {opened[0]}"
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent += children.ru_utime + children.ru_stime
    grown = _status("VmHWM") - resident
    fields = (problem, grown, children.ru_maxrss // 1024, f"{spent:.1f}", text or printed[-150:])
    os.write(inlet, "\0".join(map(str, fields)).encode("utf-8", "replace")[:60_000])
    os._exit(0)


def _call(target: Path | list[str] | Callable[[], object]) -> tuple[str, str]:
    """Return a problem, or "", and the message of an error."""
    import convnd.io
    from convnd import cli
    from convnd.errors import ConvndError

    try:
        if isinstance(target, list):
            settings = [word.removeprefix("env:") for word in target if word.startswith("env:")]
            os.environ |= {
                key: value for key, _, value in (word.partition("=") for word in settings)
            }
            sys.argv = ["convnd", *target[len(settings) :]]
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "wb", closefd=False), write_through=True)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "wb", closefd=False), write_through=True)
            with contextlib.suppress(OSError, ValueError):
                try:
                    cli.main()
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 1
                    return ("" if code in CODES else f"exit code {code}"), ""
            return "no exit code", ""
        if callable(target):
            target()
        else:
            convnd.io.read(target)
    except ConvndError as error:
        text = str(error)
        held = text.isprintable() and len(text) < 700 and error.exit_code in CODES
        return ("" if held else f"message {text[:80]!r}"), text
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:100]}", ""
    return "", "read"


def _status(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(kind))


if __name__ == "__main__":
    main()
