from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from error_fields import raises

import convnd.io
from convnd.errors import (
    InputFileError,
    OutputExistsError,
    OutputFileError,
    ResourceError,
    ShapeError,
    UsageError,
)
from convnd.grid import Grid
from convnd.io import registry
from convnd.io.reading import check_positions, translate_errors
from convnd.io.registry import Format, register

GRIDS = {
    1: Grid(values=torch.rand(1, 2, 9)),
    2: Grid(values=torch.rand(1, 3, 4, 5)),
    3: Grid(values=torch.rand(1, 1, 3, 4, 5)),
    4: Grid(values=torch.rand(1, 2, 3, 2, 2, 2)),
}


def test_importing_is_light() -> None:
    code = (
        "import sys, convnd.io; convnd.io.spatial_dims('a.png');"
        "print([m for m in ('torch', 'numpy', 'PIL', 'cv2', 'nibabel') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("a.png", 2),
        ("A.JPG", 2),
        ("a.b.tiff", 2),
        ("a.gif", 2),
        ("scan.nii", 3),
        ("scan.NII.GZ", 3),
        ("a.npy", None),
        ("folder.png/a.npz", None),
    ],
)
def test_rank_is_told_by_the_suffix_alone(name: str, dims: int | None) -> None:
    assert convnd.io.spatial_dims(name) == dims


def test_unknown_suffixes_are_answered_with_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.odt").touch()
    for read in (convnd.io.spatial_dims, convnd.io.read):
        with raises(InputFileError, expected=".png, ", got="'a.odt'", remedy="convert the file"):
            read(tmp_path / "a.odt")
    (tmp_path / "a.odt").unlink()
    for name in ("a.heic", "a.gif", "png", "a"):
        with raises(UsageError, expected="name ending in .png"):
            convnd.io.check_output(tmp_path / name)
        with pytest.raises(UsageError) as refused:
            convnd.io.check_output(tmp_path / name, spatial_dims=2)
        assert {".png", ".npy"} < set(re.findall(r"\.\w+", refused.value.expected))
        assert not {".nii", ".csv"} & set(re.findall(r"\.\w+", refused.value.expected))
        with raises(UsageError, expected="name ending in .png"):
            convnd.io.write(tmp_path / name, GRIDS[2])
    assert ".gif" in convnd.io.suffixes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy", ".npz", ".nii", ".nii.gz"])
def test_inputs_that_are_no_readable_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"

    def refused(message: str, name: str | Path = path) -> None:
        with pytest.raises(InputFileError, match=message) as caught:
            convnd.io.read(name)
        assert "\n" not in str(caught.value)

    refused(r"^read .*: expected an existing file, got none; check the spelling$")
    refused("expected a file that can be opened, got '.*embedded null", f"a\0{suffix}")
    refused("expected a file that can be opened, got 'File name too long'", "x" * 300 + suffix)
    path.touch()
    refused("expected content, got an empty file; save it again")
    path.write_text("some text, long enough for any header " * 20)
    refused("^read ")
    path.unlink()
    path.mkdir()
    refused("expected a folder of DICOM images, got none .*; name a file in it")
    path.rmdir()
    os.mkfifo(path)
    refused("expected an ordinary file, got a device or pipe; save to a file first")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("x")

    def refuse(*_: object) -> None:  # root may read anything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with raises(InputFileError, operation="a.png", got="'permission denied'"):
        convnd.io.read(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("ndim", GRIDS)
def test_arrays_of_every_rank_come_back(tmp_path: Path, suffix: str, ndim: Any) -> None:
    convnd.io.write(tmp_path / f"a{suffix}", GRIDS[ndim])
    back = convnd.io.read(tmp_path / f"a{suffix}")
    torch.testing.assert_close(back.values, GRIDS[ndim].values, rtol=0, atol=0)


def test_writing_never_replaces_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    for act in (convnd.io.check_output, lambda name: convnd.io.write(name, GRIDS[2])):
        with raises(
            OutputExistsError, operation="a.png", got="one that exists", remedy="--overwrite"
        ):
            act(path)
    assert path.read_text() == "old"
    convnd.io.check_output(path, overwrite=True)
    convnd.io.write(path, GRIDS[2], overwrite=True)
    assert convnd.io.read(path).shape == (4, 5)


@pytest.mark.parametrize("ndim", [1, 3, 4])
def test_the_rank_must_be_the_formats(tmp_path: Path, ndim: int) -> None:
    message = f"expected 2 spatial dims for PNG, got {ndim} .*; choose a suffix that holds them"
    with pytest.raises(ShapeError, match=message):
        convnd.io.write(tmp_path / "a.png", GRIDS[ndim])


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_is_a_percentage(tmp_path: Path, quality: int) -> None:
    with raises(UsageError, expected="quality from 1 to 100", got=f"{quality}"):
        convnd.io.write(tmp_path / "a.png", GRIDS[2], quality=quality)


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (MemoryError(), ResourceError, "expected memory to encode the result, got none"),
        (OSError(errno.ENOSPC, "No space left on device"), OutputFileError, "'No space left on"),
        (ValueError("too\nwide"), OutputFileError, "got 'too wide'; choose another"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (AttributeError("a bug of ours"), AttributeError, "a bug of ours"),
    ],
)
def test_a_writer_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Any, error: Any, message: str
) -> None:
    def fail(path: Path, *_: Any, **__: Any) -> None:
        path.write_text("half")
        raise raised

    entry = Format(name="x", suffixes=(".x",), spatial_dims=None, read=fail, write=fail)  # type: ignore[arg-type]
    monkeypatch.setitem(registry._BY_SUFFIX, ".x", entry)
    with pytest.raises(error, match=message):
        convnd.io.write(tmp_path / "a.x", GRIDS[2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (MemoryError(), ResourceError, "read a: expected memory for the whole of a picture"),
        (SyntaxError("not\na TIFF"), InputFileError, r"unsupported file \('not a TIFF'\); save it"),
        (KeyError(), InputFileError, r"unsupported file \('KeyError'\)"),
        (ShapeError("Grid: no"), InputFileError, r"unsupported file \('Grid: no'\)"),
        (InputFileError("ours"), InputFileError, "^ours$"),
    ],
)
def test_whatever_a_decoder_raises_becomes_one_line(raised: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught, translate_errors(Path("a"), "a picture"):
        raise raised
    assert "\n" not in str(caught.value)


def test_sizes_are_judged() -> None:
    check_positions(Path("a"), (2, 3), 6)
    with raises(InputFileError, operation="read a", expected="5 pixels", got="2 × 3 = 6"):
        check_positions(Path("a"), (2, 3), 5)
    with raises(InputFileError, operation="read a", got="2 × 0"):
        check_positions(Path("a"), (2, 0), 5)


def test_the_longest_suffix_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for dims, suffix in ((1, ".x"), (3, ".y.x")):
        entry = Format(name=suffix, suffixes=(suffix,), spatial_dims=dims, read=None, write=None)  # type: ignore[arg-type]
        monkeypatch.setitem(registry._BY_SUFFIX, suffix, entry)
    assert convnd.io.spatial_dims("a.y.x") == 3
    assert convnd.io.spatial_dims("a.x") == 1


def test_formats_are_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BY_SUFFIX", dict(registry._BY_SUFFIX))
    taken = Format(name="y", suffixes=(".png",), spatial_dims=2, read=None, write=None)  # type: ignore[arg-type]
    with raises(UsageError, operation="file format y", got="'.png', which PNG has"):
        register(taken)
    taken = Format(name="PNG", suffixes=(".y",), spatial_dims=2, read=None, write=None)  # type: ignore[arg-type]
    with raises(UsageError, operation="file format", got="'PNG'"):
        register(taken)
    assert ".y" not in convnd.io.suffixes()


def test_a_dry_run_names_the_output_and_not_its_trial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Grid(values=torch.rand(1, 3, 8, 8))
    with pytest.raises(ShapeError) as caught:
        convnd.io.dry_run_write("x.nii", picture)
    assert "write x.nii:" in str(caught.value)
    assert not list(tmp_path.iterdir())
