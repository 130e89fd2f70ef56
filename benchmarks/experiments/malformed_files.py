"""Read the test files of other packages, valid and broken, with convnd.

for name in pillow nibabel pydicom; do pip download --no-deps --no-binary :all: $name; done
for each in *.tar.gz; do tar xf "$each"; done
python -m benchmarks.experiments.malformed_files \
    pillow-*/Tests nibabel-*/nibabel pydicom-*/src/pydicom/data

The script reads each file under its own suffix if convnd knows it, and also as a picture, as NIfTI,
as a DICOM waveform and as a folder with one DICOM slice. Each reading runs in a process of its own,
with limits on time and memory. It must end in a grid or in an `InputFileError` (exit code 3 of the
command line), and must print and write nothing. The script compares the grid with the values that
Pillow, nibabel and pydicom read, and exits with 1 if a reading breaks a rule.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convnd.io
from benchmarks.measurement import add_json_option, write_results
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.silence import silence_stderr

SECONDS = 20
MEBIBYTES = 96
"""Memory that reading may need in addition to its result."""
PER_VALUE = 40
"""Bytes for each value of a result: float32, an intermediate of 8 bytes, copies, a mask."""
CEILING = 2**32
"""Bytes of address space that a process may add; only a fault reaches the limit."""
SERIES = "series"
USUAL = (".png", ".nii", ".dcm", SERIES)
SOURCES = {".py", ".pyi", ".pyc", ".rst", ".md", ".txt", ".m", ".ini"}
GZIP = b"\x1f\x8b"

Found = tuple[NDArray[Any], float]
"""Values, and how far ours may be from them."""


def main() -> None:
    """Read all files and print a report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--readers", nargs="+", default=USUAL, help="readers in addition to that of the suffix"
    )
    add_json_option(parser)
    args = parser.parse_args()
    load_libraries()
    rows: list[dict[str, Any]] = []
    start = time.monotonic()
    for folder in args.folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.suffix.lower() in SOURCES:
                continue
            rows += [
                {
                    "folder": str(folder),
                    "file": str(file),
                    "reader": reader,
                    **read_in_process(file, reader),
                }
                for reader in readers_of(file, args.readers)
            ]
    report(rows)
    seconds = max((row["seconds"] for row in rows), default=0)
    memory = max((row["mebibytes"] for row in rows), default=0)
    files = len({row["file"] for row in rows})
    print(
        f"{len(rows)} readings of {files} files in {time.monotonic() - start:.0f} s; at most "
        f"{seconds:.1f} s and {memory:.0f} MiB"
    )
    write_results(args.json, "Files that other packages test their readers with", rows)
    sys.exit(any(row["end"] not in ("read", "refused") for row in rows))


def load_libraries() -> None:
    """Import libraries before processes are forked, so that their memory is not counted."""
    for name in ("PIL.Image", "nibabel", "pydicom", "pydicom.pixels", "cv2", "SimpleITK", "wfdb"):
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            __import__(name)
    from PIL import Image

    Image.init()
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (8, 8)).save(Path(folder, "a.png"))
        convnd.io.read(Path(folder, "a.png"))


def readers_of(file: Path, usual: list[str]) -> list[str]:
    """Return the suffixes to read a file under; ``series`` is a folder with only this file."""
    lowered = file.name.lower()
    matches = [suffix for suffix in convnd.io.suffixes() if lowered.endswith(suffix)]
    with file.open("rb") as stream:
        packed = stream.read(2) == GZIP
    others = [f"{suffix}.gz" if suffix == ".nii" and packed else suffix for suffix in usual]
    return list(dict.fromkeys([*sorted(matches, key=len)[-1:], *others]))


def read_in_process(file: Path, reader: str) -> dict[str, Any]:
    """How a reading ends; it runs in a process that is killed if it takes too long."""
    with tempfile.TemporaryDirectory(prefix="convnd-malformed-") as work:
        if reader == SERIES:
            path = Path(work, SERIES)
            path.mkdir()
            shutil.copyfile(file, path / "1.dcm")
        else:
            path = Path(work, f"a{reader}")
            shutil.copyfile(file, path)
        before = sorted(Path(work).rglob("*"))
        pipe, writer = os.pipe()
        printed_to = Path(work).with_suffix(".printed")
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            inside(path, printed_to, writer)
        os.close(writer)
        text, late = b"", False
        while not late:
            late = not select.select([pipe], [], [], SECONDS)[0]
            part = b"" if late else os.read(pipe, 2**16)
            text += part
            if not part:
                break
        os.close(pipe)
        if late:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - start
        printed = printed_to.read_text(errors="replace")[:2000]
        printed_to.unlink()
        has_left_files = sorted(Path(work).rglob("*")) != before
    outcome = {"end": "crashed", "why": f"status {status}", "mebibytes": 0.0, "compared": ""}
    if late:
        outcome["end"] = "hung"
    elif text:
        outcome = json.loads(text)
    if outcome["end"] in ("read", "refused") and (printed or has_left_files):
        outcome |= {"end": "printed" if printed else "wrote", "why": printed or "a file"}
    return {**outcome, "seconds": seconds}


def inside(path: Path, printed_to: Path, writer: int) -> None:
    """Read a file in this process, report how that ended, and exit."""
    import resource

    outcome: dict[str, Any] = {"why": "", "compared": ""}
    try:
        os.chdir(path.parent)
        output = os.open(printed_to, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resident_bytes = pages * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (resident_bytes + CEILING, resident_bytes + CEILING))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/clear_refs").write_text("5")
        before, size = resident(), 0
        try:
            grid = convnd.io.read(path)
            size = grid.values.numel()
            outcome["end"] = "read"
        except InputFileError as error:
            message = str(error)
            outcome |= {"end": "refused", "why": message}
            if not message.startswith("read ") or not message.isprintable() or len(message) > 700:
                outcome["end"] = "not one line"
        except BaseException as error:  # every kind of error is reported
            outcome |= {"end": type(error).__name__, "why": str(error)[:300]}
        outcome["mebibytes"] = resident() - before
        if outcome["end"] in ("read", "refused"):
            if outcome["mebibytes"] > MEBIBYTES + PER_VALUE * size / 2**20:
                outcome["end"] = "memory"
            elif outcome["end"] == "read":
                with silence_stderr():
                    outcome["compared"] = compare(path, grid)
        os.write(writer, json.dumps(outcome).encode())
    finally:
        os._exit(0)


def resident() -> float:
    """Largest resident memory of this process since the counter was last cleared, in MiB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def compare(path: Path, grid: Grid) -> str:
    """Whether a grid has the values that the format's own package reads from the file."""
    theirs: Callable[[Path, Grid], Found]
    if path.is_dir():
        theirs = pydicom_slice
    elif path.suffix in (".nii", ".gz"):
        theirs = nibabel
    elif grid.axes == ("y", "x"):
        theirs = pillow
    else:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, slack = theirs(path, grid)
    except BaseException as error:  # libraries raise anything
        return f"theirs failed: {type(error).__name__}: {str(error)[:100]}"
    ours = grid.values[0].double().numpy()
    if ours.shape != expected.shape:
        return f"differs: {ours.shape} against {expected.shape}"
    with np.errstate(invalid="ignore"):
        is_equal = (ours == expected) | (np.abs(ours - expected) <= slack)
    is_equal |= np.isnan(ours) & np.isnan(expected)
    return "same" if is_equal.all() else f"differs: at {(~is_equal).mean():.2%}"


def pillow(path: Path, grid: Grid) -> Found:
    """``(3, H, W)`` in ``[0, 1]``; Pillow has no colour of more than 8 bits."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        deep = grid.header["depth"] != 8
        if deep and upright.mode not in ("I;16", "I;16B", "I;16L", "F"):
            raise ValueError("no colour of more than 8 bits")
        if deep:
            codes = np.asarray(upright, np.float64) / (1 if upright.mode == "F" else 65535)
            return np.broadcast_to(codes, (3, *codes.shape)), 1e-6
        pixels = np.asarray(upright.convert("RGBA"), np.float64)[..., :3]
        return pixels.transpose(2, 0, 1) / 255, 1e-6


def nibabel(path: Path, _: Grid) -> Found:
    """``(C, I, J, K)``; differences by rounding to float32 are allowed."""
    import nibabel as nib

    image: Any = nib.loadsave.load(path)
    voxels = np.asarray(image.get_fdata(), np.float64)
    voxels = voxels.reshape(*voxels.shape[:3], *[1] * (3 - voxels.ndim), -1)
    expected = np.moveaxis(voxels, -1, 0)
    return expected, float(1e-6 * np.nanmax(np.abs(expected), initial=0))


def pydicom_slice(path: Path, _: Grid) -> Found:
    """``(1, columns, rows, 1)`` after slope and intercept."""
    import pydicom

    data = pydicom.dcmread(path / "1.dcm")
    slope = float(data.get("RescaleSlope", 1) or 1)
    values = data.pixel_array * slope + float(data.get("RescaleIntercept", 0) or 0)
    return values.T[None, ..., None].astype(np.float64), 1e-3


def report(rows: list[dict[str, Any]]) -> None:
    """The table, the readings that break a rule, and the differences from the other packages."""
    for folder in dict.fromkeys(row["folder"] for row in rows):
        for reader in dict.fromkeys(row["reader"] for row in rows if row["folder"] == folder):
            ends: Counter[str] = Counter()
            for row in rows:
                if (row["folder"], row["reader"]) == (folder, reader):
                    ends[row["end"]] += 1
                    ends[row["compared"].partition(":")[0]] += row["compared"] != ""
            counts = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
            print(f"{folder} as {reader}: {counts}")
    for row in rows:
        if row["end"] not in ("read", "refused") or row["compared"] not in ("", "same"):
            print(f"{row['file']} as {row['reader']}: {row['end']} {row['why']} {row['compared']}")


if __name__ == "__main__":
    main()
