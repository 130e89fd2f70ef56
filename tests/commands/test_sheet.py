"""Sheets of small results, folders of styles, and results that are picked from a sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.pipeline.sheet import pick_cell, sheet_path
from convnd_tasks.pipeline.sheet_cells import parse_variations
from error_fields import check_error, raises
from PIL import Image

import convnd
import convnd.io
from convnd.errors import InputFileError, OutputFileError, UsageError
from convnd.grid import Grid

FAST = ("--backbone", "compact", "--steps", "2", "--scales", "1")


@pytest.fixture
def folder(tmp_path: Path, rng: Any) -> Path:
    (tmp_path / "art").mkdir()
    for name in ("photo.png", "art/ink.png", "art/oil.jpg"):
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((60, 40), Image.Resampling.BICUBIC)
        picture.save(tmp_path / name)
    (tmp_path / "art" / "notes.txt").write_text("not a style")
    return tmp_path


def test_a_sheet_and_a_result_of_it(run: Run, folder: Path) -> None:
    code, out, err = run("stylize", "photo.png", "art", "--sheet", "--size", "32", *FAST)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("photo_sheet.png  ")
    assert "6 results" in out
    with Image.open(folder / "photo_sheet.png") as sheet:
        size = sheet.size
    # Three strengths and the style in a row; a row for each style.
    assert size[0] > size[1] > 2 * 21
    code, out, err = run("rerun", "photo_sheet.png", "--pick", "5", "--size", "48")
    assert (code, err) == (0, "")
    picked = convnd.io.read_provenance(folder / "photo_sheet-5.png")
    options = ("--strength", "0.7", "--size", "48", *FAST)
    assert run("stylize", "photo.png", "art/oil.jpg", *options, "-o", "own.png")[0] == 0
    own = convnd.io.read_provenance(folder / "own.png")
    assert picked["convnd:strength"] == own["convnd:strength"] == "0.7"
    assert json.loads(picked["convnd:inputs"]) == json.loads(own["convnd:inputs"])
    assert picked["convnd:command"] == own["convnd:command"]
    values = [convnd.io.read(folder / name).values for name in ("photo_sheet-5.png", "own.png")]
    assert values[0].equal(values[1])


def test_a_sheet_is_made_again(run: Run, folder: Path) -> None:
    options = ("--size", "24", "--vary", "style-scale=0.5,1 colors=match", *FAST)
    assert run("stylize", "photo.png", "art/ink.png", "--sheet", *options, "-o", "s.png")[0] == 0
    code, out, _ = run("rerun", "s.png", "--inputs", "art")
    assert code == 0
    assert "the same bytes" in out
    cells = json.loads(convnd.io.read_provenance(folder / "s.png")["convnd:cells"])
    assert len(cells) == 2
    assert [next(word for word in cell["command"] if "scale=" in word) for cell in cells] == [
        "--style-scale=0.5",
        "--style-scale=1.0",
    ]
    # The size of the previews is not that of the results.
    assert all("--size=512" in cell["command"] for cell in cells)


def test_sheets_of_textures_signals_and_arrays(run: Run, folder: Path, rng: Any) -> None:
    assert run("stylize", "--texture", "art", "--sheet", "--size", "32", *FAST)[0] == 0
    assert (folder / "art_sheet.png").exists() or (folder / "ink_sheet.png").exists()
    np.save(folder / "wave.npy", rng.normal(size=(2, 200)).astype(np.float32))
    code, out, _ = run(
        "stylize", "--dim", "1", "wave.npy", "waves", "cells", "--rate", "100", "--sheet",
        "--vary", "strength=0.5,1", *FAST,
    )  # fmt: skip
    assert (code, "4 results" in out) == (0, True)
    np.save(folder / "box.npy", rng.normal(size=(1, 16, 18, 20)).astype(np.float32))
    code, out, _ = run(
        "stylize", "--dim", "3", "box.npy", "cells", "--sheet", "--vary", "strength=1",
        "--style-layers", "relu1_1", "--content-layers", "relu1_1", *FAST,
    )  # fmt: skip
    assert (code, "1 result" in out) == (0, True)
    for name in ("wave_sheet.png", "box_sheet.png"):
        with Image.open(folder / name) as sheet:
            assert np.asarray(sheet).std() > 5
    assert run("rerun", "wave_sheet.png", "--pick", "2")[0] == 0
    assert (folder / "wave_sheet-2.npy").exists()


def test_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    options = {"backbone": "compact", "steps": 1, "scales": 1, "size": 24, "sheet": True}
    sheet = convnd.stylize("photo.png", ["art/ink.png", "waves"], vary="strength=0.5,1", **options)
    assert isinstance(sheet.result, Grid)
    assert sheet.result.channels == ("R", "G", "B")
    assert sheet.path is None
    written = convnd.stylize("photo.png", "waves", out="x.png", vary="strength=1", **options)
    assert written.path == Path("x.png")
    assert "convnd:cells" in convnd.io.read_provenance(Path("x.png"))
    with raises(UsageError, operation="sheet", got="data in memory"):
        convnd.stylize(np.zeros((24, 24)), np.ones((24, 24)), **options)


def test_each_style_of_a_folder_gives_a_result(run: Run, folder: Path) -> None:
    code, _out, err = run("stylize", "photo.png", "art", "waves", "--size", "24", *FAST)
    assert (code, err) == (0, "")
    names = sorted(path.name for path in (folder / "photo_stylized").iterdir())
    assert names == ["photo_ink.png", "photo_oil.png", "photo_waves.png"]
    record = convnd.io.read_provenance(folder / "photo_stylized" / "photo_oil.png")
    assert [entry["name"] for entry in json.loads(record["convnd:inputs"])] == [
        "photo.png",
        "oil.jpg",
    ]
    (folder / "art" / "bad.png").write_bytes(b"no picture")
    code, _, err = run("stylize", "photo.png", "art", "--size", "24", "-o", "new", *FAST)
    assert (code, "bad.png" in err, "1 of 3 failed" in err) == (1, True, True)
    assert len([*(folder / "new").iterdir()]) == 2
    check_error(run("stylize", "photo.png", "art", "-o", "x.png")[2], operation="x.png", got="file")


def test_a_dry_run_counts_each_style(run: Run, folder: Path) -> None:
    code, out, _ = run("stylize", "photo.png", "art", "--size", "24", "--dry-run", *FAST)
    assert (code, "2 files, estimated from the first" in out) == (0, True)
    assert "photo_ink.png" in out
    assert "photo_oil.png" in out
    assert not (folder / "photo_stylized").exists()


def test_styles_of_the_same_name_give_results_of_different_names(folder: Path) -> None:
    (folder / "art" / "ink.jpg").write_bytes((folder / "art" / "oil.jpg").read_bytes())
    spec = resolve([str(folder / "photo.png"), str(folder / "art")])
    assert len({path.name for path in spec.outputs}) == len(spec.styles) == 3
    assert spec.shard(2, 2).styles == spec.styles[1::2]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("--vary", "strength=1"), {"operation": "--vary", "expected": "--sheet"}),
        (("--sheet", "--vary", "swirl=1"), {"operation": "--vary", "got": "swirl=1"}),
        (("--sheet", "--vary", "strength"), {"operation": "--vary", "got": "'strength'"}),
        (("--sheet", "--vary", "strength=a"), {"operation": "--vary", "got": "'a'"}),
        (("--sheet", "--vary", "strength=2"), {"operation": "strength", "got": "2"}),
        (("--sheet", "--vary", "strength=1", "--strength", "1"), {"operation": "--vary"}),
        (("--sheet", "--vary", "style-weights=1,2"), {"operation": "--vary"}),
        (("--sheet", "-o", "x.csv"), {"operation": "x.csv", "expected": "picture"}),
    ],
)
def test_wrong_options(
    run: Run, folder: Path, words: tuple[str, ...], fields: dict[str, str]
) -> None:
    code, out, err = run("stylize", "photo.png", "art/ink.png", *words)
    assert (code != 0, out) == (True, "")
    check_error(err, **fields)


def test_what_does_not_apply_to_sheets(run: Run, folder: Path) -> None:
    for words in (("--report", "r.html"), ("--save-every", "2"), ("--dry-run",)):
        code, _, err = run("stylize", "photo.png", "art", "--sheet", *words)
        assert (code, "--sheet" in err) == (2, True)
    code, _, err = run("stylize", "art", "waves", "--sheet")
    check_error(err, operation="--sheet", got="folder")
    many = " ".join(
        ["strength=0.5,0.6,0.7,0.8,0.9,1", "style-scale=1,2,3,4", "tv-weight=0,1,2,3,4"]
    )
    code, _, err = run("stylize", "photo.png", "waves", "--sheet", "--vary", many)
    check_error(err, operation="--sheet", got="120")


def test_numbers_and_records_that_are_wrong(run: Run, folder: Path) -> None:
    run("stylize", "photo.png", "waves", "--sheet", "--vary", "strength=1", "--size", "24", *FAST)
    sheet = Path("photo_sheet.png")
    check_error(run("rerun", str(sheet), "--pick", "2")[2], operation="--pick", got="2")
    record = convnd.io.read_provenance(folder / sheet)
    with raises(InputFileError, operation="--pick", got="without cells"):
        pick_cell(sheet, {"convnd:record": "2"}, 1)
    cell = json.loads(record["convnd:cells"])[0]
    for changed in ({"suffix": ".exe"}, {"suffix": 3}, {"command": None}):
        cells = json.dumps([{**cell, **changed}])
        if "command" in changed:
            cells = json.dumps([{"suffix": ".png"}])
        with raises(InputFileError, operation="--pick"):
            pick_cell(sheet, {**record, "convnd:cells": cells}, 1)
    evil = {**cell, "command": [*cell["command"], "--output=/etc/passwd"]}
    grid = convnd.io.read(folder / sheet)
    convnd.io.write(
        folder / "evil.png", grid, provenance={**record, "convnd:cells": json.dumps([evil])}
    )
    check_error(run("rerun", "evil.png", "--pick", "1")[2], operation="rerun", got="--output")


def test_parsing() -> None:
    spec = resolve(["town", "waves"])
    assert parse_variations("strength=0.5,1 steps=3 --colors=match,style", spec) == {
        "strength": [0.5, 1.0],
        "steps": [3],
        "colors": ["match", "style"],
    }
    assert sheet_path("a/b.tar.gz", None) == Path("b_sheet.png")
    with raises(OutputFileError, operation="sheet"):
        sheet_path("a", "sheet")
