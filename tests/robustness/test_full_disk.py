"""Disks that are full, quotas, and two writers of one file: for every format that is written."""

from __future__ import annotations

import dataclasses
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from error_fields import raises
from PIL import Image

from convnd import io
from convnd.errors import OutputExistsError, OutputFileError
from convnd.grid import Grid
from convnd.io import atomic, files, locks
from convnd.io.registry import find_format
from convnd.io.signals.signal import Annotation, Signal
from convnd.io.video.codecs import CONTAINERS, Encoding
from convnd.optimize import save_checkpoint

SMALL = 2**14  # bytes that the disk has; every file below is larger
OLD = b"what was there before" * 50


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _grid(suffix: str) -> Grid:
    dims = io.spatial_dims(f"a{suffix}")
    if dims == 1:
        return Grid(values=noise(1, 2, 5_000), spacing=(0.01,), units=("s",), channels=("I", "II"))
    if dims in (None, 3):
        return Grid(values=noise(1, 1, 26, 26, 26), spacing=(1.0,) * 3, units=("mm",) * 3)
    return Grid(values=noise(1, 3, 200, 200), channels=("R", "G", "B"))


class _Film:
    """A clip of noise, which no codec makes small."""

    info = io.VideoInfo(
        path=Path("noise"), size=(96, 96), time_base=Fraction(1, 25), rate=Fraction(25)
    )


def _clip(path: Path) -> None:
    frames = (io.VideoFrame(n, noise(1, 3, 96, 96).roll(7 * n, 3), "") for n in range(4))
    io.write_video(
        path,
        _Film.info,
        frames,
        overwrite=True,
        encoding=Encoding(crf=0 if path.suffix not in (".gif", ".apng", ".webp") else None),
    )


def _checkpoint(path: Path) -> None:
    save_checkpoint(path, {"values": noise(80, 80)}, "mark")


def _write_grid(suffix: str, path: Path) -> None:
    io.write(path, _grid(suffix), overwrite=True)


CLIPS = sorted(CONTAINERS)
GRIDS = [
    suffix for suffix in sorted(io.suffixes()) if suffix not in CLIPS and io.is_written(suffix)
]
# Ogg draws a serial number, and Excel keeps the time: their bytes and sizes differ each time.
VARYING = (".oga", ".ogg", ".xlsx")
WRITERS: dict[str, Callable[[Path], None]] = {
    **{suffix: partial(_write_grid, suffix) for suffix in GRIDS},
    **dict.fromkeys(CLIPS, _clip),
    ".checkpoint": _checkpoint,
}


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may become larger, as under a quota; the system refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python does not notice that a module's bytecode was cut, and cannot read it afterwards.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = writes_bytecode


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own, where this process may mount one."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _refused(folder: Path, suffix: str) -> None:
    """The writer fails with one line, and everything is as it was."""
    for path in folder.iterdir():
        path.unlink()
    target = folder / f"a{suffix}"
    target.write_bytes(OLD)
    target.chmod(0o640)
    with pytest.raises(OutputFileError) as failed:
        WRITERS[suffix](target)
    assert str(failed.value).isprintable()
    assert target.read_bytes() == OLD
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in folder.iterdir()] == [target.name]


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix not in VARYING])
def test_a_full_disk(suffix: str, small_disk: Path) -> None:
    _refused(small_disk, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix not in VARYING])
def test_a_quota_that_is_one_byte_short(suffix: str, tmp_path: Path) -> None:
    WRITERS[suffix](tmp_path / f"a{suffix}")
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    assert size > SMALL
    with file_limit(size - 1):
        _refused(tmp_path, suffix)


def _marked(suffix: str, text: str) -> Grid:
    """A grid with an annotation, where the format has them, or with none."""
    grid = _grid(suffix)
    if suffix != ".hea":
        return grid.with_values(grid.values + len(text))
    marks = (Annotation(seconds=1.0, text=text),) if text else ()
    signal = Signal(units=("mV", "mV"), annotations=marks)
    return dataclasses.replace(grid, values=grid.values + len(text), header={"signal": signal})


def _several(suffix: str) -> bool:
    """Whether a result is several files, a record beside it included."""
    format = find_format(f"a{suffix}")
    assert format is not None
    return bool(format.companions) or format.read_provenance is None


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "suffix", [suffix for suffix in WRITERS if suffix in GRIDS and suffix not in VARYING]
)
def test_two_writers_of_one_file(
    suffix: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one comes first when all of ours is on the disk and has no name yet."""
    # Results of several files wait for their turn; the others are synced last.
    owner, name = (files, "folder_lock") if _several(suffix) else (atomic, "sync")
    other, ours = tmp_path / "other", tmp_path / "ours"
    for folder in (other, ours):
        folder.mkdir()
    target = ours / f"a{suffix}"
    # Of a WFDB record, ours alone has a file for annotations, which nobody has made before.
    mine, theirs = _marked(suffix, "a"), _grid(suffix)
    theirs = theirs.with_values(theirs.values.flip(2))
    io.write(other / target.name, theirs)
    true = getattr(owner, name)

    def late(path: Path) -> Any:
        monkeypatch.setattr(owner, name, true)
        io.write(target, theirs)
        return true(path)

    monkeypatch.setattr(owner, name, late)
    if overwrite:
        io.write(target, mine, overwrite=True)
        for entry in other.iterdir():
            entry.unlink()
        io.write(other / target.name, mine)
    else:
        with raises(OutputExistsError, got="one made meanwhile by someone else"):
            io.write(target, mine)
    left = {entry.name: entry.read_bytes() for entry in ours.iterdir()}
    assert left == {entry.name: entry.read_bytes() for entry in other.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "texts"),
    [(".hea", pair) for pair in (("a", "abc"), ("", "abc"), ("a", ""))]
    + [
        (suffix, ("a", "abc"))
        for suffix in GRIDS
        if _several(suffix) and suffix not in (".hea", *VARYING)
    ],
)
def test_no_mix_of_two_writers_stays(
    suffix: str, texts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one begins when the first of our files has its place and the second has not."""
    target = tmp_path / f"a{suffix}"
    jobs = [
        partial(
            io.write, overwrite=True, grid=_marked(suffix, text), provenance={"convnd:mark": text}
        )
        for text in (*texts, "older still")
    ]
    jobs[2](target)
    other = threading.Thread(target=jobs[1], args=(target,))
    true = atomic._move_into_place

    def place(*arguments: Any, **named: Any) -> None:
        true(*arguments, **named)
        if threading.current_thread() is threading.main_thread() and other.ident is None:
            other.start()
            other.join(0.1)

    monkeypatch.setattr(atomic, "_move_into_place", place)
    jobs[0](target)
    other.join()
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "alone").mkdir()
    jobs[1](tmp_path / "alone" / target.name)
    assert left == {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}


def test_one_who_never_ends_his_turn_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_LOCK_TIMEOUT", 0.1)
    with (
        locks.folder_lock(tmp_path),
        raises(OutputFileError, got="none that did in 0.1 s"),
    ):
        io.write(tmp_path / "a.csv", _grid(".csv"))
    assert not list(tmp_path.iterdir())
    io.write(tmp_path / "a.csv", _grid(".csv"))


FAST = ["--backbone", "compact", "--steps", "1", "--scales", "1", "-q"]
TASKS = {
    "picture": ["stylize", "a.png", "waves", *FAST, "--size", "64"],
    "signal": ["stylize", "a.csv", "a.csv", "--rate", "100", *FAST],
    "volume": ["stylize-volume", "a.nii", "--style", "a.nii", "--steps", "1", "-q"],
    "clip": ["stylize-video", "frames", "waves", *FAST, "--size", "64", "-o", "o.mp4"],
    "patches": ["patches", "a.png", "--layer", "relu1_1", "--units", "0-3", "-q"],
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_so_and_leaves_nothing(task: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    pixels = (noise(64, 64, 3) * 255).byte().numpy()
    for name in ("a.png", "frames/1.png", "frames/2.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    scan = noise(18, 17, 16).numpy()
    nib.Nifti1Image(scan, np.eye(4)).to_filename(tmp_path / "a.nii")
    (tmp_path / "a.csv").write_text(
        "I (mV)\n" + "\n".join(f"{value:.6g}" for value in scan.flat[:1500])
    )
    before = sorted(tmp_path.rglob("*"))
    with file_limit(8000):
        code, out, err = run(*TASKS[task])
    assert (code, out) == (4, ""), err
    *remarks, last = err.splitlines()
    assert last.startswith("convnd: write ")
    assert not any(remark.startswith("convnd: ") for remark in remarks)
    assert sorted(tmp_path.rglob("*")) == before
